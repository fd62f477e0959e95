"""Folders that reports write: each kind holds one file that shows who wrote it."""

from __future__ import annotations

from pathlib import Path

from expunge.disk.whole import unwritable
from expunge.errors import ConfigError

TABLES, FIGURES, PAGE = "table.json", "accuracy_by_class.csv", "report.html"
"""Marks: a folder without its kind's file was not written here, and is never replaced."""


def check_folder(out: Path, *, overwrite: bool, mark: str = TABLES) -> None:
    """Raise ConfigError early if the folder could not be written later.

    `mark` names the file that shows who wrote a folder; one without it is never replaced.
    """
    if (why := unwritable(out)) is not None:
        raise ConfigError(f"{out} cannot be written ({why}); choose another folder")
    if not out.exists():
        return
    if not overwrite:
        raise ConfigError(f"{out} exists; choose another folder, or pass --overwrite")
    if not out.is_dir() or (any(out.iterdir()) and not (out / mark).is_file()):
        raise ConfigError(f"{out} exists and holds something else; choose another folder")
