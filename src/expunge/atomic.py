"""Folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def unwritable(target: Path) -> Path | None:
    """What stands in the way of a new folder: something above it that is no folder to write to."""
    above = next(folder for folder in target.absolute().parents if folder.exists())
    return None if above.is_dir() and os.access(above, os.W_OK) else above


@contextmanager
def written_whole(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its name at the end, or disappears.

    Files are flushed to the disk before the rename. With `overwrite`, a folder in the way is moved
    aside by rename first and deleted last.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield folder
        for path in (*folder.rglob("*"), folder):
            path.chmod((0o777 if path.is_dir() else 0o666) & ~_umask())
            flush(path)
        if overwrite and target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
            try:
                os.replace(target, old / "folder")
                os.replace(folder, target)
            finally:
                if not target.exists():
                    os.replace(old / "folder", target)
                shutil.rmtree(old)
        else:
            os.rename(folder, target)
        flush(target.parent)
    finally:
        if folder.exists():
            shutil.rmtree(folder)


def _umask() -> int:
    """The rights that new files are not to have; temporary ones are made for their owner alone."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def flush(path: Path) -> None:
    """Make sure that a file or a folder's entries are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
