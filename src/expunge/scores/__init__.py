"""Numbers that judge a model, and what is said of them: no torch here."""
