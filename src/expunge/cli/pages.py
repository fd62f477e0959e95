"""`--report` and `--figures`: pages and pictures of what a command has done."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from expunge.folders.make import reference_of
from expunge.report.places import FIGURES, PAGE, check_folder

if TYPE_CHECKING:
    from expunge.audits.scores import Scores
    from expunge.folders.make import Forgotten

Page = Annotated[
    Path | None,
    typer.Option("--report", help="Folder for a page about this deletion, to read and to print."),
]


def write_page(
    done: Forgotten,
    audited: Scores,
    forget: str,
    out: Path,
    *,
    pictures: bool,
    overwrite: bool,
) -> None:
    """pictures: False for whoever keeps hashes of ids only: no samples are to be kept either."""
    from expunge.folders.page import deletion_report
    from expunge.report.page import write_report

    page = deletion_report(done, audited, forget, typed(sys.argv[1:]), pictures=pictures)
    write_report(page, out, overwrite=overwrite)


def typed(arguments: Iterable[str]) -> str:
    """A command as one types it."""
    return shlex.join(["expunge", *arguments])


def check_places(
    figures: Path | None, report: Path | None, out: Path, model_dir: Path, overwrite: bool
) -> None:
    """Raise ConfigError for folders that could not be written at the end of it all, or that would
    hold, or lie in, a folder of a model or each other: each is written whole, and replaced whole.
    """
    models = {
        "the model folder": model_dir,
        "the new model folder": out,
        "the model folder of its reference": reference_of(out),
    }
    if figures is not None:
        check_folder(figures, overwrite=overwrite, mark=FIGURES, apart=models)
        models["the folder of figures"] = figures
    if report is not None:
        check_folder(report, overwrite=overwrite, mark=PAGE, apart=models)
