"""Deletion requests: received, decided, struck, forgotten, checked, released and certified.

One ledger holds what became of each; killed anywhere, it goes on. The rest of Expunge is used through
its public calls alone.
"""
