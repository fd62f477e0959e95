"""The one folder of what is kept to save time: what lies in it, how large it may become, its purge.

Digests of files lie in `fingerprints.json`, decoded images in `images/ENTRY/`, the row numbers that
deletions struck in `struck/`. All but the last can be made again. Nothing else is ever removed.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.disk.reading import read_json
from expunge.disk.whole import sweep
from expunge.errors import ConfigError, nearest

CARD, PIXELS, ROWS = "card.json", "pixels.npy", "rows.npy"
"""The files of an entry: what it is, the images, and their row numbers in the files of the data."""
ENTRY = re.compile(r"[0-9a-f]{16}")
UNNAMED = re.compile(ENTRY.pattern + r"\.unnamed-[0-9a-f]{8}")
"""An entry that was written whole and could not take its name."""
STRUCK = re.compile(r"[0-9a-f]{32}\.(npy|unfinished)")
GB = 10**9
LIMIT_GB = 5.0
"""Of decoded images, unless EXPUNGE_CACHE_GB says otherwise."""
DAY = 86_400


@dataclass(frozen=True)
class Cached:
    """Something that is kept. used: seconds since 1970; of_data: which data it is of, in words."""

    name: str
    what: str
    of_data: str
    bytes: int
    used: float

    @property
    def is_images(self) -> bool:
        """Whether it counts against the limit."""
        return ENTRY.fullmatch(self.name) is not None

    @property
    def words(self) -> str:
        """What it is, and of which data."""
        return f"{self.what} of {self.of_data}" if self.of_data else self.what


def cache_folder() -> Path:
    """Where everything is kept: `expunge` under XDG_CACHE_HOME, by default `~/.cache`."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "expunge"
    except RuntimeError:  # nobody's home is known: where nothing can lie, so nothing is kept
        return Path(os.devnull) / "expunge"


def fingerprints_file() -> Path:
    """Digests of files."""
    return cache_folder() / "fingerprints.json"


def images_folder() -> Path:
    """Decoded images; a folder for each entry."""
    return cache_folder() / "images"


def struck_folder() -> Path:
    """Row numbers that deletions struck; a file for each fingerprint of data."""
    return cache_folder() / "struck"


def limit_bytes() -> int:
    """How much decoded images may take. Raises ConfigError for a setting that is no number."""
    text = os.environ.get("EXPUNGE_CACHE_GB", str(LIMIT_GB))
    with suppress(ValueError, OverflowError):
        if (limit := int(float(text) * GB)) >= 0:
            return limit
    raise ConfigError(
        f"EXPUNGE_CACHE_GB is {text!r:.50}; write gigabytes as a number, such as 2.5; 0 keeps nothing"
    )


def entries() -> Iterator[Path]:
    """Folders of decoded images."""
    yield from _folders(ENTRY)


def tidy() -> None:
    """Remove what killed processes, and entries that could not take their name, left behind; for
    whoever holds the lock. Raises OSError.
    """
    for folder in (struck_folder(), images_folder(), *entries()):
        sweep(folder)
    for folder in _folders(UNNAMED):
        remove_entry(folder)


def holds_images() -> bool:
    """Whether any decoded images are kept, under whatever name."""
    return any(True for name in (ENTRY, UNNAMED) for _ in _folders(name))


def cached() -> list[Cached]:
    """All that is kept, the longest unused first."""
    found = [
        Cached(one.name, "decoded images", _told(one), _size(one), _used(one)) for one in entries()
    ]
    file = fingerprints_file()
    if file.is_file():
        found.append(Cached("fingerprints", "digests of files", "", _size(file), _used(file)))
    if struck := _struck_files():
        used = max(_used(one) for one in struck)
        size = sum(_size(one) for one in struck)
        found.append(Cached("struck", "row numbers that deletions struck", "", size, used))
    return sorted(found, key=lambda one: one.used)


def purge(names: Sequence[str], older_than_days: float = 0.0) -> list[Cached]:
    """Remove what is kept, all or some of it, that was not used for so many days; returns what went.

    What deletions struck goes only by its name, `struck`: without it these images would be kept again.
    Raises ConfigError for a name that is none.
    """
    there = {one.name: one for one in cached()}
    for name in names:
        if name not in there:
            raise ConfigError(
                f"nothing called {name!r:.80} is kept{nearest(name, there)}; see `expunge cache list`"
            )
    wanted = set(names) or there.keys() - {"struck"}
    latest = time.time() - older_than_days * DAY
    gone: list[Cached] = []
    if not there and not images_folder().is_dir():
        return gone
    with locked():
        tidy()
        for one in there.values():
            if one.name in wanted and one.used <= latest and _remove(one.name):
                gone.append(one)
    return gone


def kept_bytes() -> int:
    """How much decoded images take now."""
    return sum(_size(one) for one in entries())


def make_room(needed_bytes: int) -> None:
    """Remove the decoded images that were unused longest until so many bytes more may be kept."""
    found = sorted(entries(), key=_used)
    total = sum(_size(one) for one in found)
    for one in found:
        if total + needed_bytes <= limit_bytes():
            return
        total -= _size(one)
        remove_entry(one)


def remove_entry(folder: Path) -> None:
    """Remove decoded images, and what a kill left of their card; what else lies there stays. Raises
    OSError.
    """
    sweep(folder)
    for name in (CARD, PIXELS, ROWS):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # something of somebody else's
        folder.rmdir()


@contextmanager
def locked() -> Iterator[None]:
    """Only one process at a time changes what is kept, where the file system knows locks.

    Raises OSError where nothing can be written.
    """
    cache_folder().mkdir(parents=True, exist_ok=True)
    handle = os.open(cache_folder() / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _folders(name: re.Pattern[str]) -> Iterator[Path]:
    """Folders of such a name among the images."""
    with suppress(OSError):
        for path in sorted(images_folder().iterdir()):
            if name.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                yield path


def _remove(name: str) -> bool:
    """Remove what is kept under a name; whether there was something of ours."""
    if name == "fingerprints":
        fingerprints_file().unlink(missing_ok=True)
    elif name == "struck":
        for file in _struck_files():
            file.unlink(missing_ok=True)
    else:
        folder = images_folder() / name
        ours = not _only_foreign(folder)
        remove_entry(folder)
        return ours
    return True


def _only_foreign(folder: Path) -> bool:
    """Whether an entry holds files of somebody else, and none of ours."""
    try:
        left = os.listdir(folder)
    except OSError:
        return False
    return bool(left) and not any(name in (CARD, PIXELS, ROWS) for name in left)


def _struck_files() -> list[Path]:
    try:
        found = sorted(struck_folder().iterdir())
    except OSError:
        return []
    return [one for one in found if STRUCK.fullmatch(one.name) and one.is_file()]


def _told(folder: Path) -> str:
    """Which data an entry is of, in words."""
    try:
        card: Any = read_json(folder / CARD, within=folder)
        return f"{card['of']}, {card['count']:,} images"
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        if _only_foreign(folder):
            return "none: only files that Expunge did not write, which are yours to remove"
        return "unreadable"


def _size(path: Path) -> int:
    """Bytes of a file, or of the files of an entry."""
    try:
        files = [path / name for name in (CARD, PIXELS, ROWS)] if path.is_dir() else [path]
        return sum(file.stat().st_size for file in files if file.is_file())
    except OSError:
        return 0


def _used(path: Path) -> float:
    """When it was used last, seconds since 1970."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
