"""The files of a finished table: Markdown, CSV, JSON and a figure, written whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from expunge.atomic import written_whole
from expunge.errors import ConfigError
from expunge.report.further import csv_with_further, further_markdown
from expunge.report.tables import to_json, to_markdown

MARK = "table.json"
"""A folder without this file was not written here, and is never replaced."""


def check_folder(out: Path, *, overwrite: bool, mark: str = MARK) -> None:
    """Raise ConfigError early if the folder could not be written later.

    `mark` names the file that shows who wrote a folder; one without it is never replaced.
    """
    if not out.exists():
        return
    if not overwrite:
        raise ConfigError(f"{out} exists; choose another folder, or pass --overwrite")
    if not out.is_dir() or (any(out.iterdir()) and not (out / mark).is_file()):
        raise ConfigError(f"{out} exists and holds something else; choose another folder")


def write_tables(
    frame: pd.DataFrame,
    out: Path,
    *,
    figure: Callable[[pd.DataFrame, Path], tuple[Path, Path]],
    explanation: Sequence[str] = (),
    overwrite: bool = False,
) -> list[Path]:
    """Write table.md, table.csv, table.json, scores.csv (long form), figure.png and figure.svg.

    Returns the paths. The folder appears under its name only when all of it is there.
    """
    check_folder(out, overwrite=overwrite)
    with written_whole(out, overwrite=overwrite) as folder:
        lines = "".join(f"- {sentence}\n" for sentence in explanation)
        text = f"{to_markdown(frame)}\n{further_markdown(frame)}\n{lines}"
        (folder / "table.md").write_text(text, encoding="utf-8")
        (folder / "table.csv").write_text(csv_with_further(frame), encoding="utf-8")
        (folder / MARK).write_text(to_json(frame), encoding="utf-8")
        frame.to_csv(folder / "scores.csv", index=False)
        figure(frame, folder / "figure")
        names = sorted(file.name for file in folder.iterdir())
    return [out / name for name in names]
