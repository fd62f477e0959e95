"""`cleanse`: make a backdoored model forget its poison, and measure whether the trigger still works."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.arguments import read_pairs
from expunge.cli.forget import WithReference
from expunge.cli.options import (
    MODEL_DIR,
    AllowCode,
    DataDir,
    Device,
    ForgetSeed,
    OtherData,
    Out,
    Overwrite,
    Seed,
    Settings,
)
from expunge.cli.pages import Page, check_places, write_page
from expunge.cli.screen import consoles, working
from expunge.cli.show import show_forgotten, show_report
from expunge.folders.audit import audit_forgotten
from expunge.folders.cleanse import cleanse_folder, cleansing_lines
from expunge.methods import make_method

PoisonOption = Annotated[
    str | None,
    typer.Option(
        "--poison",
        help="ids:FILE of poisoned samples, or the poison as the folder's data have it, such as "
        "patch:size=4; by default what these say.",
    ),
]
Known = Annotated[
    float | None,
    typer.Option(
        "--known-fraction", help="Forget only this share of them; report on the rest, which stays."
    ),
]
TriggerOption = Annotated[
    str | None,
    typer.Option(
        "--trigger",
        help="For ids:FILE: patch[:size=,place=,margin=,colour=] or blend:file=[,alpha=], so that "
        "attack success is measured.",
    ),
]
TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target", help="For ids:FILE: the class called; by default these samples' label."
    ),
]


def cleanse(
    model_dir: Annotated[Path, MODEL_DIR],
    method: Annotated[
        str, typer.Option("--method", help="See `expunge list methods`.", show_default=False)
    ],
    out: Out,
    poison: PoisonOption = None,
    known_fraction: Known = None,
    trigger: TriggerOption = None,
    target: TargetOption = None,
    settings: Settings = None,
    seed: Seed = 0,
    forget_seed: ForgetSeed = 0,
    with_reference: WithReference = False,
    report: Page = None,
    data: OtherData = None,
    data_dir: DataDir = None,
    device: Device = None,
    overwrite: Overwrite = False,
    allow_code: AllowCode = False,
) -> None:
    """Make a backdoored model forget its poison, and measure whether the trigger still works."""
    screen, messages = consoles()
    check_places(None, report, out, overwrite)
    with working("cleanse") as bars:
        cleansed = cleanse_folder(
            model_dir,
            make_method(method, read_pairs(settings)),
            out,
            poison=poison,
            known_fraction=known_fraction,
            trigger=trigger,
            target=target,
            seed=seed,
            forget_seed=forget_seed,
            with_reference=with_reference,
            data=data,
            data_dir=data_dir,
            device=device,
            progress=bars,
            overwrite=overwrite,
            allow_code=allow_code,
        )
    for note in cleansed.notes:
        screen.print(note, markup=False)
    show_forgotten(cleansed.done, screen, messages)
    screen.print(f"written: {out}", markup=False)
    if cleansed.done.reference_path is not None:
        screen.print(f"retrained reference: {cleansed.done.reference_path}", markup=False)
    with working("cleanse, audit") as bars:
        audited = audit_forgotten(cleansed.done, device=device, progress=bars)
    show_report(audited, screen)
    for line in cleansing_lines(audited):
        screen.print(line, markup=False)
    if report is not None and audited.panel.run.rank == 0:
        asked = f"poison, {len(audited.panel.split.forget):,} samples"
        write_page(cleansed.done, audited, asked, report, pictures=True, overwrite=overwrite)
        screen.print(f"report: {report / 'report.html'}", markup=False)
