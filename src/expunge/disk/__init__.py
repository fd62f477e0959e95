"""Folders that appear whole or not at all, and files from elsewhere, read with care."""
