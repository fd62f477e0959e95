"""A trained model with all that it came from, and the folder that it is kept in."""
