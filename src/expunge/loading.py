"""Imports that take seconds, made a little shorter."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Around heavy imports: nobody looks for garbage among the objects that they make.

    These are some hundred thousand, and they stay; looking through them again and again takes a sixth
    of the time that torch and scikit-learn need to load.
    """
    at_work = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if at_work:
            gc.enable()
