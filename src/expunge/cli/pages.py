"""`--report` and `--figures`: pages and pictures of what a command has done."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from expunge.errors import ConfigError
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


def check_places(figures: Path | None, report: Path | None, out: Path, overwrite: bool) -> None:
    """Raise ConfigError for folders that could not be written at the end of it all."""
    if figures is not None:
        check_folder(figures, overwrite=overwrite, mark=FIGURES)
        _check_apart("--figures", figures, out)
    if figures is not None and report is not None and figures.absolute() == report.absolute():
        raise ConfigError(f"--figures and --report both name {report}; choose two folders")
    if report is not None:
        check_folder(report, overwrite=overwrite, mark=PAGE)
        _check_apart("--report", report, out)


def _check_apart(option: str, folder: Path, out: Path) -> None:
    """Raise ConfigError for pictures or a page in a folder that a model is to be written to."""
    place = folder.absolute()
    models = [out.absolute(), reference_of(out.absolute())]
    for model in models:
        if place == model or model in place.parents:
            raise ConfigError(
                f"{option} {folder} lies in the model folder {model.name}, which is written whole; "
                "choose a folder of its own"
            )
