"""`--report` and `--figures`: pages and pictures of what a command has done."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from expunge.cli.options import typed
from expunge.folders.make import floor_of, reference_of
from expunge.report.places import FIGURES, PAGE, check_folder
from expunge.trained.record import names_any

if TYPE_CHECKING:
    from expunge.audits.scores import Scores
    from expunge.folders.make import Forgotten

REQUESTS = ("--forget", "--forget-seed", "--poison", "--known-fraction")
"""Options that say which samples."""
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
    overwrite: bool,
) -> None:
    """Write the page of one deletion. forget: the request, as typed or told."""
    from expunge.folders.page import deletion_report
    from expunge.report.page import write_report

    words = sys.argv[1:]
    if done.redacted:
        words = without_request(words, done.result.ids)
    page = deletion_report(done, audited, forget, typed(words))
    write_report(page, out, overwrite=overwrite)


def without_request(words: Sequence[str], ids: Collection[str]) -> list[str]:
    """A command as it may be told where ids are redacted: without the request, which seeds may give
    away too, and without words that name a sample.
    """
    kept: list[str] = []
    for word in words:
        option = word.partition("=")[0]
        after = bool(kept) and kept[-1] in REQUESTS
        if option in REQUESTS and option != word:
            kept.append(f"{option}=...")
        else:
            number = word.replace(".", "", 1).isdigit()
            kept.append("..." if after or (names_any(word, ids) and not number) else word)
    return kept


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
        "the second one of these": floor_of(out),
    }
    if figures is not None:
        check_folder(figures, overwrite=overwrite, mark=FIGURES, apart=models)
        models["the folder of figures"] = figures
    if report is not None:
        check_folder(report, overwrite=overwrite, mark=PAGE, apart=models)
