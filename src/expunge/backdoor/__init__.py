"""Backdoors whose trigger and poison nobody knows: whether there is one, and which samples made it."""
