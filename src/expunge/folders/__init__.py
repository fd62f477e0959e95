"""The same calls on model folders: what lies on the disk is loaded, forgotten from, pruned, audited."""
