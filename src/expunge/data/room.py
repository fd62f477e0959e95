"""Room in memory for large images that are decoded at a time, by however many threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from expunge.data.pixels import STRIP_PIXELS

MOST_PIXELS = 2**26
"""Of one image; and of all large ones that are being decoded at a time."""


class Room:
    """So many pixels may be decoded at a time."""

    def __init__(self, pixels: int) -> None:
        self.left = pixels
        self.changed = threading.Condition()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        """Wait for room, and give it back at the end."""
        if pixels <= STRIP_PIXELS:  # small ones are no matter
            yield
            return
        with self.changed:
            self.changed.wait_for(lambda: self.left >= pixels)
            self.left -= pixels
        try:
            yield
        finally:
            with self.changed:
                self.left += pixels
                self.changed.notify_all()


ROOM = Room(MOST_PIXELS)
