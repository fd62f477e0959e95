"""Values as people write them in YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def numbers(value: Any) -> Any:
    """The same with 1e-4 as a number, at any depth: YAML reads it as text, people mean a number."""
    if isinstance(value, Mapping):
        return {str(key): numbers(one) for key, one in value.items()}
    if isinstance(value, list):
        return [numbers(one) for one in value]
    if isinstance(value, str) and value[:1] in "+-.0123456789":
        try:
            return float(value)
        except ValueError:
            return value
    return value
