"""Datasets with stable ids, splits into retain and forget, and the contract by which methods read."""
