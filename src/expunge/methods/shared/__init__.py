"""What several methods are made of, and what would make the file of one too long: one idea a file."""
