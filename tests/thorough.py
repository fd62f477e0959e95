"""What `make test` leaves to `make thorough`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

THOROUGH = pytest.mark.thorough


def but_first(count: int, values: Iterable[Any]) -> list[Any]:
    """Values to parametrize with: the first so many always, the others where all is asked for."""
    return [one if n < count else pytest.param(one, marks=THOROUGH) for n, one in enumerate(values)]
