"""Where a command works, and what it may do there: the same few answers for every call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from expunge.progress import Reporter, Silent


@dataclass(frozen=True)
class Place:
    """What no result depends on, but every call needs to know.

    Attributes:
        data_dir: folder that holds `cifar10/` and `mnist/`; None: the environment's EXPUNGE_DATA.
        device: "cpu", "cuda", ...; None for the best there is.
        progress: where it is shown; in Python nowhere unless asked.
        overwrite: replace folders that exist.
        allow_code: run code that a file from elsewhere names (`module:function`).
        strike: what `unlearn` forgets also goes from the cache of decoded images; False for trials,
            which are no deletions, and whose costs are compared: they keep no statistics of a model.
        tell: called with each line that a person should read before the work begins.
        room: a folder for temporary files of what a method keeps while it trains; None: memory.
    """

    data_dir: str | Path | None = None
    device: str | None = None
    progress: Reporter = field(default_factory=Silent)
    overwrite: bool = False
    allow_code: bool = False
    strike: bool = True
    tell: Callable[[str], object] = str
    room: Path | None = None

    def for_others(self) -> Place:
        """The place as a process that starts elsewhere finds it; it says nothing, and shows nothing."""
        where = None if self.data_dir is None else str(Path(self.data_dir).resolve())
        return replace(self, data_dir=where, progress=Silent(), tell=str)


HERE = Place()
"""The best device, no progress on the screen, nothing overwritten, no foreign code."""
