"""`unlearn` and `audit`: forget, and measure whether it did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.arguments import read_pairs
from expunge.cli.options import (
    MODEL_DIR,
    AllowCode,
    Also,
    DataDir,
    Device,
    Forget,
    ForgetSeed,
    OtherData,
    Out,
    Overwrite,
    Seed,
    Settings,
    names,
)
from expunge.cli.pages import Page, check_places, write_page
from expunge.cli.screen import consoles, working
from expunge.cli.show import show_forgotten, show_report
from expunge.folders.audit import audit_folder, audit_forgotten
from expunge.folders.make import Forgotten, unlearn_folder
from expunge.methods import make_method
from expunge.scores.table import FEATURES, check_extra

WithReference = Annotated[
    bool,
    typer.Option("--with-reference", help="Also retrain without the data, and audit against it."),
]
Paired = Annotated[
    bool,
    typer.Option(
        "--paired", help="The reference begins with the original's initial weights and order."
    ),
]
Figures = Annotated[
    Path | None, typer.Option("--figures", help="Folder for pictures of what has changed.")
]
Redact = Annotated[
    bool, typer.Option("--redact-ids", help="Keep salted hashes of ids in the new folder.")
]


def unlearn(
    model_dir: Annotated[Path, MODEL_DIR],
    forget: Forget,
    method: Annotated[
        str, typer.Option("--method", help="See `expunge list methods`.", show_default=False)
    ],
    out: Out,
    settings: Settings = None,
    seed: Seed = 0,
    forget_seed: ForgetSeed = 0,
    with_reference: WithReference = False,
    paired: Paired = False,
    also: Also = None,
    figures: Figures = None,
    report: Page = None,
    redact_ids: Redact = False,
    data: OtherData = None,
    data_dir: DataDir = None,
    device: Device = None,
    overwrite: Overwrite = False,
    allow_code: AllowCode = False,
) -> None:
    """Make a model forget: write a new model folder, leave the old one as it is."""
    screen, messages = consoles()
    further = names(also)
    check_extra(further, original=True, retrained=with_reference)
    check_places(figures, report, out, overwrite)
    with working("unlearn") as bars:
        done = unlearn_folder(
            model_dir,
            forget,
            make_method(method, read_pairs(settings)),
            out,
            seed=seed,
            forget_seed=forget_seed,
            with_reference=with_reference,
            paired=paired,
            data=data,
            data_dir=data_dir,
            device=device,
            progress=bars,
            overwrite=overwrite,
            redact_ids=redact_ids,
            allow_code=allow_code,
        )
    show_forgotten(done, screen, messages)
    # said before anything else may fail, for it is there
    screen.print(f"written: {out}", markup=False)
    if done.reference_path is not None:
        screen.print(f"retrained reference: {done.reference_path}", markup=False)
    if figures is not None:
        for path in _drawn(done, figures, device, overwrite):
            screen.print(f"drawn: {path}", markup=False)
    if done.reference is None and not further and report is None:
        extra = " --allow-code" if allow_code else ""
        command = f"expunge audit {out} --original {model_dir}{extra}"
        screen.print(f"next: {command}", markup=False, soft_wrap=True)
        return
    with working("unlearn, audit") as bars:
        audited = audit_forgotten(done, also=further, device=device, progress=bars)
    show_report(audited, screen)
    if report is not None and audited.panel.run.rank == 0:
        write_page(done, audited, forget, report, pictures=not redact_ids, overwrite=overwrite)
        screen.print(f"report: {report / 'report.html'}", markup=False)


def _drawn(done: Forgotten, figures: Path, device: str | None, overwrite: bool) -> list[Path]:
    with working("unlearn, figures") as bars, bars.work("drawing figures"):
        from expunge.folders.pictures import draw_forgotten

        return draw_forgotten(done, figures, device=device, overwrite=overwrite)


def audit(
    model_dir: Annotated[Path, MODEL_DIR],
    original: Annotated[
        Path | None, typer.Option("--original", help="The folder before forgetting.")
    ] = None,
    retrained: Annotated[
        Path | None, typer.Option("--retrained", help="A folder retrained without the data.")
    ] = None,
    forget: Annotated[
        str | None, typer.Option("--forget", help="For an original, or where ids are redacted.")
    ] = None,
    forget_seed: ForgetSeed = 0,
    features: Annotated[
        str, typer.Option("--features", help="Of the membership attack, comma-separated, or all.")
    ] = "confidence",
    also: Also = None,
    trigger: Annotated[
        str | None,
        typer.Option(
            "--trigger",
            help="Of a backdoor from elsewhere, as `cleanse` takes it: attack success is scored too.",
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", help="The class that the trigger calls.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Scores as JSON.")] = False,
    data: OtherData = None,
    data_dir: DataDir = None,
    device: Device = None,
    allow_code: AllowCode = False,
) -> None:
    """Score a model: what it still knows of the forgotten, the retained and the unseen."""
    screen, _ = consoles()
    chosen = list(FEATURES) if features == "all" else names(features)
    with working("audit") as bars:
        report = audit_folder(
            model_dir,
            original=original,
            retrained=retrained,
            forget=forget,
            forget_seed=forget_seed,
            features=chosen,
            also=names(also),
            trigger=trigger,
            target=target,
            data=data,
            data_dir=data_dir,
            device=device,
            progress=bars,
            allow_code=allow_code,
        )
    if as_json and screen.quiet:  # another process of this run says it
        return
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=1, ensure_ascii=False))
        return
    show_report(report, screen)
