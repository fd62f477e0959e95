"""Four methods of machine unlearning for expunge, as a third party writes them."""
