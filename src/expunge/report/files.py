"""The files of a finished table: Markdown, CSV, JSON and a figure, written whole."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from expunge.disk.whole import written_whole
from expunge.report.data_files import findings_csv, scores_csv, to_csv, to_json
from expunge.report.markdown import items, to_markdown
from expunge.report.places import TABLES, check_folder
from expunge.report.score_tables import score_tables


def write_tables(
    frame: pd.DataFrame,
    out: Path,
    *,
    figure: Callable[[pd.DataFrame, Path], tuple[Path, Path]],
    scores: pd.DataFrame | None = None,
    findings: pd.DataFrame | None = None,
    explanation: Sequence[str] = (),
    overwrite: bool = False,
) -> list[Path]:
    """Write table.md, table.csv, table.json, scores.csv (long form), figure.png and figure.svg; and
    findings.csv where there are any.

    scores: the frame with what its rows were measured under, as scores.csv has it; by default `frame`.
    findings: of a study's audits.
    Returns the paths. The folder appears under its name only when all of it is there.
    """
    check_folder(out, overwrite=overwrite)
    tables = score_tables(frame, findings)
    with written_whole(out, overwrite=overwrite) as folder:
        text = f"{to_markdown(tables)}\n{items(explanation)}"
        (folder / "table.md").write_text(text, encoding="utf-8")
        (folder / "table.csv").write_text(to_csv(tables), encoding="utf-8")
        (folder / TABLES).write_text(to_json(tables), encoding="utf-8")
        (folder / "scores.csv").write_text(
            scores_csv(frame if scores is None else scores), encoding="utf-8"
        )
        if tables.findings is not None:
            text = findings_csv(tables.findings)
            (folder / "findings.csv").write_text(text, encoding="utf-8")
        figure(frame, folder / "figure")
        names = sorted(file.name for file in folder.iterdir())
    return [out / name for name in names]
