"""What papers' public programs do, in our own words, each beside what this package does: one a file.

A file has `CASES`. `beside.py` measures them; it says what a case is worth.
"""
