"""The bank: models trained as the original was, each on a half of its samples, kept for all audits."""
