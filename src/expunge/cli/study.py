"""`study`: run what a file describes, see how far it is, read what came of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from expunge.cli.arguments import read_pairs
from expunge.cli.options import RayAddress, Workers, names, typed
from expunge.cli.place import placed
from expunge.cli.screen import consoles, working
from expunge.cli.show import study_tables
from expunge.disk.whole import unwritable
from expunge.errors import ConfigError
from expunge.place import Place
from expunge.report.places import PAGE, check_folder

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from expunge.study.launch import Planned
    from expunge.study.schema import Study

RESULTS = "results"
"""Folder of the tables, within a study's own."""

StudyFile = Annotated[
    Path,
    typer.Argument(
        metavar="STUDY",
        help="A study file, or a name of `expunge study list`.",
        show_default=False,
    ),
]
Folder = Annotated[
    Path, typer.Option("--out", help="Folder of the study's cells.", show_default=False)
]
Scale = Annotated[
    str | None,
    typer.Option(
        "--scale", help="One of the file's scales; by default the first.", show_default=False
    ),
]


Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Change what the file says, as in methods.finetune.lr=0.1 or seeds=[0,1]; again for more.",
        show_default=False,
    ),
]
MaxSeeds = Annotated[
    int | None,
    typer.Option("--max-seeds", help="Seeds of the last look.", show_default="20, or the file's"),
]


def list_() -> None:
    """The studies that come with the package: run one by its name."""
    from expunge.study.catalogue import shipped_studies

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("name", "what it asks", "data", "cells", "scales"):
        table.add_column(name, no_wrap=name == "name", overflow="fold")
    for one in shipped_studies():
        words = (one.name, one.asks, ", ".join(one.data), str(one.cells), ", ".join(one.scales))
        table.add_row(*words)
    consoles()[0].print(table)


@placed("data_dir", "device", "allow_code")
def run(
    file: StudyFile,
    out: Folder,
    workers: Workers = None,
    ray: RayAddress = None,
    rerun_stale: Annotated[
        bool,
        typer.Option(
            "--rerun-stale", help="Make stale cells anew: the source of their method has changed."
        ),
    ] = False,
    decided: Annotated[
        bool,
        typer.Option(
            "--until-decided",
            help="Add seeds until every claim is decided, by a boundary that allows for looking often.",
        ),
    ] = False,
    max_seeds: MaxSeeds = None,
    scale: Scale = None,
    changes: Changes = None,
    *,
    place: Place,
) -> None:
    """Make what is missing: finished cells stay, failed ones are tried again."""
    from expunge.study.launch import run_study
    from expunge.study.seeds import until_decided

    if max_seeds is not None and not decided:
        raise ConfigError("--max-seeds is about --until-decided; give that too")
    screen, _ = consoles()
    with working("study run") as bars:
        study = _planned(
            file,
            out,
            scale,
            changes,
            replace(place, progress=bars),
            change=(lambda one: until_decided(one, max_seeds)) if decided else None,
        )
        check_folder(out / RESULTS, overwrite=True)
        if study.study.until_decided is None:
            study = run_study(study, workers=workers, ray=ray, renew=rerun_stale, progress=bars)
        else:
            from expunge.study.decide import run_until_decided

            study = run_until_decided(
                study,
                workers=workers,
                ray=ray,
                renew=rerun_stale,
                progress=bars,
                tell=lambda line: bars.console.print(line, soft_wrap=True),
            )
    found = _written(study, out / RESULTS, overwrite=True)
    _show_status(study, screen)
    _show_results(found, screen)
    # a stale cell that could not be made anew is still there, and its failure with it
    lost = any(study.store.failure(cell.key) for cell in study.cells if study.store.done(cell.key))
    if lost or not study.tuned or not all(study.store.done(row.cell) for row in study.rows):
        raise typer.Exit(1)


@placed("data_dir")
def status(
    file: StudyFile, out: Folder, scale: Scale = None, changes: Changes = None, *, place: Place
) -> None:
    """How many cells are done, running, failed, and why these failed."""
    screen, _ = consoles()
    _show_status(_planned(file, out, scale, changes, place, recorded=True), screen)


@placed("overwrite", "data_dir")
def results(
    file: StudyFile,
    out: Folder,
    scale: Scale = None,
    changes: Changes = None,
    tables: Annotated[
        Path | None,
        typer.Option("--tables", help="Folder for the tables.", show_default="OUT/results"),
    ] = None,
    *,
    place: Place,
) -> None:
    """The papers' tables with intervals, floor and claims, on the screen and as files."""
    if tables is not None:
        check_folder(tables, overwrite=place.overwrite)
    screen, _ = consoles()
    study = _planned(file, out, scale, changes, place, recorded=True)
    # what stands in the study's own folder was made from it, and can be made again
    overwrite = place.overwrite or tables is None
    why = unwritable(out / RESULTS) if tables is None else None
    _show_results(_written(study, tables or out / RESULTS, overwrite=overwrite, why=why), screen)


@placed("data_dir")
def power(
    file: StudyFile,
    out: Folder,
    difference: Annotated[
        float | None,
        typer.Option(
            "--difference",
            help="To be found, in the unit of each claim's score.",
            show_default="the study's margins: 1 point of percent",
        ),
    ] = None,
    max_seeds: MaxSeeds = None,
    scale: Scale = None,
    changes: Changes = None,
    *,
    place: Place,
) -> None:
    """How many seeds a difference needs, from the spread that the finished seeds show."""
    from expunge.study.power import HEADERS, power_row, study_power
    from expunge.study.schema import UntilDecided

    screen, _ = consoles()
    study = _planned(file, out, scale, changes, place, recorded=True)
    asked = study.study.until_decided or UntilDecided()
    plan = asked.plan if max_seeds is None else UntilDecided(max_seeds=max_seeds).plan
    table = Table(box=box.SIMPLE_HEAD, title="power", title_justify="left", pad_edge=False)
    for place_, header in enumerate(HEADERS):
        table.add_column(header, justify="right" if place_ else "left", overflow="fold")
    for one in study_power(study, plan, difference):
        table.add_row(*power_row(one))
    screen.print(table)
    screen.print(
        "spread: standard deviation of the claim's paired differences over seeds. seeds for 80 %: in a "
        f"single look at {100 * plan.alpha:g} % by the number of claims, and the same at the ends of "
        "the 95 % interval of the spread, which few seeds leave wide. found by the looks: share of "
        f"simulated studies that find it by {plan.max_seeds} seeds; after seeds: where they end, on "
        "average.",
        style="dim",
    )


@placed("overwrite", "data_dir")
def report(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of a study.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write.", show_default="DIR/report")
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            help="Of table.tex, comma-separated, such as 'UA,TA,avg gap'.",
            show_default="all",
        ),
    ] = None,
    short_captions: Annotated[
        bool, typer.Option("--short-captions", help="In table.tex, with the notes as comments.")
    ] = False,
    siunitx: Annotated[
        bool, typer.Option("--siunitx", help="Numbers of table.tex in S columns of siunitx.")
    ] = False,
    *,
    place: Place,
) -> None:
    """One page to read and to print, with tables and figures as files beside it.

    Pictures of forgotten samples are on it as far as the data are found; it needs nothing else.
    """
    if out is not None:
        check_folder(out, overwrite=place.overwrite, mark=PAGE)
    recorded = _recorded(folder, place)
    target = out or folder / "report"
    # what stands in the study's own folder was made from it, and can be made again
    overwrite = place.overwrite or out is None
    check_folder(target, overwrite=overwrite, mark=PAGE)
    from expunge.report.latex import LatexStyle
    from expunge.report.page import write_report
    from expunge.study.page import study_report

    screen, _ = consoles()
    found = study_report(recorded, typed(["study", "report", str(folder)]))
    style = LatexStyle(tuple(names(columns)), short_captions, siunitx)
    write_report(found, target, overwrite=overwrite, latex=style)
    screen.print(f"written: {target / 'report.html'}")


@placed("data_dir")
def records(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of a study.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write.", show_default=False)],
    *,
    place: Place,
) -> None:
    """Pack what was found, without weights, to publish it or to go on from it elsewhere.

    Cells lie in one file, with a table and a page beside it. Pictures of forgotten samples are on the
    page as far as the data are found.
    """
    from expunge.study.publish import check_absent, write_records

    check_absent(out)
    screen, _ = consoles()
    command = typed(["study", "records", str(folder), "--out", str(out)])
    number = write_records(_recorded(folder, place), out, command)
    screen.print(f"written: {out}, {number} cells")


@placed("data_dir")
def publish(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of a study.", show_default=False)
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="mlflow:URI",
            help="An MLflow server or folder; `mlflow` alone takes MLFLOW_TRACKING_URI.",
            show_default=False,
        ),
    ],
    experiment: Annotated[
        str | None,
        typer.Option("--experiment", help="Its name there.", show_default="the study's name"),
    ] = None,
    *,
    place: Place,
) -> None:
    """Log every finished row as a run of MLflow: scores, settings, tags, and cell.json as a file.

    What is there already is not logged again, so it may be called after every run.
    """
    from expunge.study.launch import check_made
    from expunge.study.tracking import publish_runs, tracking_address

    check_made(folder)
    address = tracking_address(to)
    screen, _ = consoles()
    with working("study publish") as bars:
        made = publish_runs(_recorded(folder, replace(place, progress=bars)), address, experiment)
    screen.print(f"published: {made} new runs")


def _recorded(folder: Path, place: Place) -> Planned:
    """A study from its own folder."""
    from expunge.study.file import read_study
    from expunge.study.launch import FILE, check_made, planned

    check_made(folder)
    file = folder / FILE
    return planned(read_study(file, recorded=file), folder, place=place, recorded=True)


def _planned(
    file: Path,
    out: Path,
    scale: str | None,
    changes: list[str] | None,
    place: Place,
    *,
    recorded: bool = False,
    change: Callable[[Study], Study] | None = None,
) -> Planned:
    """changes: of what the file says, as typed. change: as other options have it."""
    from expunge.study.catalogue import study_file
    from expunge.study.file import read_study
    from expunge.study.launch import FILE, planned

    study = read_study(
        study_file(file),
        scale=scale,
        allow_code=place.allow_code,
        recorded=out / FILE if recorded else None,
        changes=read_pairs(changes),
    )
    if change is not None:
        study = change(study)
    return planned(study, out, place=place, recorded=recorded)


def _show_status(study: Planned, screen: Console) -> None:
    counts = study.counts(stale=True)
    parts = [
        f"{number} {name}"
        for name, number in (
            ("running", counts.running),
            ("failed", counts.failed),
            ("blocked", counts.blocked),
            ("waiting", counts.waiting),
            ("stale", counts.stale),
        )
        if number
    ]
    more = f"; {', '.join(parts)}" if parts else ""
    screen.print(
        f"study {study.study.name}: {counts.done} of {len(study.cells)} cells done{more}",
    )
    for line in study.study.left_out:
        screen.print(line, soft_wrap=True)
    for cell in study.cells:
        failure = study.store.failure(cell.key)
        if failure is not None:
            reason = " ".join(failure.message.split())
            what = "failed to be renewed" if study.store.done(cell.key) else "failed"
            screen.print(f"{what}: {cell.label}: {failure.error}: {reason}")


@dataclass(frozen=True)
class _Found:
    """What came of a study. table: of its finished rows, None without any. said: what tuning chose, and
    claims. written: where the files are, or why there are none. findings: of its audits.
    """

    table: pd.DataFrame | None
    said: list[str]
    written: str
    findings: pd.DataFrame | None = None


def _written(study: Planned, target: Path, *, overwrite: bool, why: str | None = None) -> _Found:
    """The results of a study, in files before anything is shown. why: they cannot be written."""
    from expunge.report.claims import sentence
    from expunge.report.figures import gap_figure
    from expunge.report.files import write_tables
    from expunge.study.findings import findings_of
    from expunge.study.results import for_tables, with_settings
    from expunge.study.results import results as frame_of
    from expunge.study.tuning import sentences
    from expunge.study.verdicts import by_chance, verdicts_of

    frame = frame_of(study.rows, study.store)
    if not len(frame):
        return _Found(None, [], "no row is finished yet; go on with `expunge study run`")
    table, findings = for_tables(frame), findings_of(study.rows, study.store, frame)
    tuned = sentences(study.study, study.searches)
    claims = [sentence(one) for one in verdicts_of(study, frame)]
    chance = "" if study.study.until_decided else by_chance(len(claims))
    said = [*tuned, *claims, *([chance] if chance else [])]
    if why is not None:
        told = f"the tables were not written ({why}); name a folder for them with --tables"
        return _Found(table, said, told, findings)
    write_tables(
        table,
        target,
        figure=gap_figure,
        scores=with_settings(frame, study.cells),
        findings=findings,
        explanation=said,
        overwrite=overwrite,
    )
    return _Found(table, said, f"written: {target}", findings)


def _show_results(found: _Found, screen: Console) -> None:
    from expunge.report.tables import note

    if found.table is not None:
        screen.print(study_tables(found.table, screen.width, found.findings))
        screen.print(note(found.table), style="dim")
    for line in found.said:
        screen.print(f"• {line}")
    screen.print(found.written)
