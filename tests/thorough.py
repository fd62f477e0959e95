"""What `make test` leaves to `make thorough`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

THOROUGH = pytest.mark.thorough


def but_first(count: int, values: Iterable[Any]) -> list[Any]:
    """Values to parametrize with: the first so many always, the others where all is asked for.

    A tuple is the values of several names.
    """
    each = [one if isinstance(one, tuple) else (one,) for one in values]
    return [pytest.param(*one, marks=THOROUGH if n >= count else ()) for n, one in enumerate(each)]
