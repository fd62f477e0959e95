"""Studies: a file says what to compare; cells are run once each, whatever crashes in between."""
