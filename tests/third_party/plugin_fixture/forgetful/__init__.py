"""A package that expunge does not know of: a method, a pruner and data, found by entry points."""
