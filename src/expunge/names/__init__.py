"""Names: seeds that hash from them, tables of them, what other packages add, and code by them."""
