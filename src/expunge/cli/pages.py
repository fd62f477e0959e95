"""`--report` and `--figures`: pages and pictures of what a command has done."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from expunge.cli.options import typed
from expunge.report.places import FIGURES, PAGE, check_folder
from expunge.trained.telling import tells

if TYPE_CHECKING:
    from expunge.audits.scores import Scores

REQUESTS = ("--forget", "--poison")
"""Options that say which samples."""
TOLD = ("--method", "--set", "--seed", "--also", "--device", "--request-id")
"""Options whose values are told where ids are redacted."""
Page = Annotated[
    Path | None,
    typer.Option("--report", help="Folder for a page about this deletion, to read and to print."),
]


def write_page(audited: Scores, forget: str | None, out: Path, *, overwrite: bool) -> None:
    """Write the page of one deletion, by one process of several.

    forget: the request, as typed or told, as `deletion_report` takes it.
    """
    made = audited.panel.subject
    if audited.panel.run.rank != 0:
        return
    from expunge.folders.page import deletion_report
    from expunge.report.page import write_report

    words = sys.argv[1:]
    if made.redacted:
        words = without_request(words, made.record.request, made.ids, made.private)
    page = deletion_report(audited, forget, typed(words))
    write_report(page, out, overwrite=overwrite)


def without_request(
    words: Sequence[str], request: str, ids: Collection[str], private: Collection[str] = ()
) -> list[str]:
    """A command as it may be told where ids are redacted: its request by name, and of the rest, such as
    paths and seeds that would give the request away, what can name nobody.
    """
    kept: list[str] = []
    for place, word in enumerate(words):
        option, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
        whose = option or (kept[-1] if place and kept[-1].startswith("--") else "")
        if whose in REQUESTS:
            value = request
        elif place and (whose not in TOLD or "/" in value or tells(value, ids, private)):
            value = "..."
        kept.append(f"{option}{equals}{value if equals or not option else ''}")
    return kept


def models_of(model_dir: Path, out: Path) -> dict[str, Path]:
    """The folders that making a model forget reads and writes, by what they are."""
    from expunge.folders.make import floor_of, reference_of

    return {
        "the model folder": model_dir,
        "the new model folder": out,
        "the model folder of its reference": reference_of(out),
        "the second one of these": floor_of(out),
    }


def check_places(
    figures: Path | None,
    report: Path | None,
    models: Mapping[str, Path],
    *,
    overwrite: bool,
    mark: str = FIGURES,
) -> None:
    """Raise ConfigError for folders that could not be written at the end of it all, or that would
    hold, or lie in, a folder of a model or each other: each is written whole, and replaced whole.

    models: the folders of models, by what they are. mark: of the kind of pictures.
    """
    apart = dict(models)
    if figures is not None:
        check_folder(figures, overwrite=overwrite, mark=mark, apart=apart)
        apart["the folder of figures"] = figures
    if report is not None:
        check_folder(report, overwrite=overwrite, mark=PAGE, apart=apart)
