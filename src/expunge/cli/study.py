"""`study`: run what a file describes, see how far it is, read what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from expunge.cli.options import AllowCode, DataDir, Device, Overwrite
from expunge.cli.pages import typed
from expunge.cli.screen import consoles, working
from expunge.cli.show import study_tables
from expunge.errors import ConfigError
from expunge.progress import Reporter
from expunge.report.places import PAGE, check_folder
from expunge.study.file import read_study
from expunge.study.launch import FILE, planned, run_study
from expunge.study.records import check_absent, write_records

if TYPE_CHECKING:
    from rich.console import Console

    from expunge.study.launch import Planned

StudyFile = Annotated[
    Path, typer.Argument(metavar="STUDY.yaml", help="A study file.", show_default=False)
]
Folder = Annotated[
    Path, typer.Option("--out", help="Folder of the study's cells.", show_default=False)
]
Scale = Annotated[
    str | None,
    typer.Option("--scale", help="Which of the file's scales; the first.", show_default=False),
]


def run(
    file: StudyFile,
    out: Folder,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            show_default="1, or as many as the cluster has room for",
            help="Processes, of one thread each; they share the GPUs.",
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            help="Work on a Ray cluster whose machines all see OUT: HOST:PORT, `auto`, or `local`.",
            show_default=False,
        ),
    ] = None,
    rerun_stale: Annotated[
        bool,
        typer.Option("--rerun-stale", help="Make cells anew whose method's source has changed."),
    ] = False,
    scale: Scale = None,
    data_dir: DataDir = None,
    device: Device = None,
    allow_code: AllowCode = False,
) -> None:
    """Make what is missing: finished cells stay, failed ones are tried again."""
    screen, _ = consoles()
    with working("study run") as bars:
        study = _planned(file, out, scale, data_dir, device, allow_code=allow_code, progress=bars)
        study = run_study(study, workers=workers, ray=ray, renew=rerun_stale, progress=bars)
    _show_status(study, screen)
    _show_results(study, out, screen)
    # a stale cell that could not be made anew is still there, and its failure with it
    lost = any(study.store.failure(cell.key) for cell in study.cells if study.store.done(cell.key))
    if lost or not study.tuned or not all(study.store.done(row.cell) for row in study.rows):
        raise typer.Exit(1)


def status(file: StudyFile, out: Folder, scale: Scale = None, data_dir: DataDir = None) -> None:
    """How many cells are done, running, failed, and why these failed."""
    screen, _ = consoles()
    _show_status(_planned(file, out, scale, data_dir, None, recorded=True), screen)


def results(file: StudyFile, out: Folder, scale: Scale = None, data_dir: DataDir = None) -> None:
    """The papers' tables with intervals, floor and claims, on the screen and in OUT/results."""
    screen, _ = consoles()
    _show_results(_planned(file, out, scale, data_dir, None, recorded=True), out, screen)


def report(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of a study.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write.", show_default="DIR/report")
    ] = None,
    overwrite: Overwrite = False,
    data_dir: DataDir = None,
) -> None:
    """One page to read and to print, with tables and figures as files beside it.

    Pictures of forgotten samples are on it as far as the data are found; it needs nothing else.
    """
    if out is not None:
        check_folder(out, overwrite=overwrite, mark=PAGE)
    recorded = _recorded(folder, data_dir)
    from expunge.report.page import write_report
    from expunge.study.page import study_report

    screen, _ = consoles()
    found = study_report(recorded, typed(["study", "report", str(folder)]))
    target = out or folder / "report"
    # what stands in the study's own folder was made from it, and can be made again
    write_report(found, target, overwrite=overwrite or out is None)
    screen.print(f"written: {target / 'report.html'}", markup=False)


def records(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of a study.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write.", show_default=False)],
) -> None:
    """Copy what was found, without weights: to publish it, or to go on from it elsewhere."""
    check_absent(out)
    screen, _ = consoles()
    number = write_records(_recorded(folder, None), out)
    screen.print(f"written: {out}, {number} cells", markup=False)


def _recorded(folder: Path, data_dir: Path | None) -> Planned:
    """A study from its own folder."""
    if not (folder / FILE).is_file():
        raise ConfigError(f"{folder} is no folder of a study; make one with `expunge study run`")
    return planned(
        read_study(folder / FILE, recorded=folder / FILE),
        folder,
        data_dir=data_dir,
        recorded=True,
        allow_code=False,
    )


def _planned(
    file: Path,
    out: Path,
    scale: str | None,
    data_dir: Path | None,
    device: str | None,
    *,
    recorded: bool = False,
    allow_code: bool = False,
    progress: Reporter | None = None,
) -> Planned:

    return planned(
        read_study(
            file, scale=scale, allow_code=allow_code, recorded=out / FILE if recorded else None
        ),
        out,
        data_dir=data_dir,
        device=device,
        recorded=recorded,
        allow_code=allow_code,
        progress=progress,
    )


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
        markup=False,
    )
    for cell in study.cells:
        failure = study.store.failure(cell.key)
        if failure is not None:
            reason = " ".join(failure.message.split())
            what = "failed to be renewed" if study.store.done(cell.key) else "failed"
            screen.print(f"{what}: {cell.label}: {failure.error}: {reason}", markup=False)


def _show_results(study: Planned, out: Path, screen: Console) -> None:
    from expunge.report.figures import gap_figure
    from expunge.report.files import write_tables
    from expunge.report.tables import note
    from expunge.study.claims import parse_claim
    from expunge.study.results import for_tables
    from expunge.study.results import results as frame_of
    from expunge.study.tuning import sentences
    from expunge.study.verdicts import judge, sentence

    frame = frame_of(study.rows, study.store)
    if not len(frame):
        screen.print("no row is finished yet; go on with `expunge study run`", markup=False)
        return
    table = for_tables(frame)
    screen.print(study_tables(table, screen.width))
    screen.print(note(table), style="dim", markup=False)
    tuned = sentences(study.study, study.searches)
    claims = [sentence(judge(parse_claim(text), frame)) for text in study.study.claims]
    said = [*tuned, *claims]
    for line in said:
        screen.print(f"• {line}", markup=False)
    write_tables(table, out / "results", figure=gap_figure, explanation=said, overwrite=True)
    screen.print(f"written: {out / 'results'}", markup=False)
