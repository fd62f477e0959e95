"""The server of a ledger: requests come in and are decided through it; models are never touched here."""
