"""Tables and figures from a table of scores; nothing here needs torch."""
