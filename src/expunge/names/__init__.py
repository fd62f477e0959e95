"""Names: seeds that hash from them, tables of them, and code of a user's own by them."""
