"""Folders that reports write: each kind holds one file that shows who wrote it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from expunge.disk.ours import FolderKind, check_replaceable
from expunge.errors import ConfigError

TABLES, FIGURES, PAGE = "table.json", "accuracy_by_class.csv", "report.html"
EXPOSURE = "membership.csv"
"""Marks: a folder without its kind's file was not written here, and is never replaced."""
KINDS: Mapping[str, FolderKind] = {
    kind.mark: kind
    for kind in (
        FolderKind(
            "folder of tables",
            TABLES,
            re.compile(r"table\.(md|csv|json)|(scores|findings)\.csv|figure\.(png|svg|pdf)"),
        ),
        FolderKind(
            "folder of figures",
            FIGURES,
            re.compile(r"(accuracy_by_class|weight_distance)\.(png|svg|csv)|noise\.(png|svg)"),
        ),
        FolderKind(
            "folder of pictures of membership",
            EXPOSURE,
            re.compile(
                r"(roc|among_unseen|before_after|exposed)\.(svg|pdf)|captions\.txt|membership\.csv"
            ),
        ),
        FolderKind(
            "folder of a report",
            PAGE,
            re.compile(
                r"report\.html|table\.(md|csv|tex)|(scores|findings)\.csv"
                r"|figures/(\d\d-[a-z0-9-]+\.(svg|pdf))?"
            ),
        ),
    )
}


def check_folder(
    out: Path,
    *,
    overwrite: bool,
    mark: str = TABLES,
    apart: Mapping[str, Path] | None = None,
) -> None:
    """Raise ConfigError early if the folder could not be written later, or must not be replaced.

    mark: says of which kind it is. apart: folders, by what they are, that it must not be, hold or lie
    in. One that holds anything but what we write into that kind is never replaced.
    """
    check_replaceable(out, KINDS[mark], overwrite=overwrite, error=ConfigError, apart=apart)
