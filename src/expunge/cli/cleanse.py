"""`cleanse`: make a backdoored model forget its poison, and measure whether the trigger still works."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from expunge.advice.duration import read_seconds
from expunge.cli.arguments import read_pairs
from expunge.cli.cleanse_auto import Draws, cleanse_by_trying, show_none_passed, show_tries
from expunge.cli.forget import WithFloor, WithReference
from expunge.cli.options import (
    MODEL_DIR,
    ForgetSeed,
    OtherData,
    Out,
    Seed,
    SetFields,
)
from expunge.cli.pages import Page, check_places, models_of, write_page
from expunge.cli.place import placed
from expunge.cli.screen import consoles, teller, working
from expunge.cli.show import show_forgotten, show_scores, show_verdict, show_written
from expunge.errors import ConfigError
from expunge.names.code import TYPED
from expunge.place import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from expunge.advice.cleansing import ChosenWay
    from expunge.folders.cleanse import Cleansed

NONE_PASSED = 1
"""The exit code where nothing that --auto tried is good enough."""
PoisonOption = Annotated[
    str | None,
    typer.Option(
        "--poison",
        help="ids:FILE of poisoned samples, or the poison in the folder's data, such as patch:size=4; "
        "by default what the data say.",
    ),
]
Fraction = Annotated[
    float | None,
    typer.Option(
        "--known-fraction",
        help="Forget only this share of the poison, and report on the rest, which stays.",
    ),
]
Extend = Annotated[
    Path | None,
    typer.Option(
        "--extend-poison",
        metavar="FILE",
        help="Look for more samples like the known ones, write all their ids to FILE, and forget them "
        "too.",
    ),
]
TriggerOption = Annotated[
    str | None,
    typer.Option(
        "--trigger",
        help="For ids:FILE: patch[:size=,place=,margin=,colour=], blend:file=[,alpha=], "
        "warp[:grid=,strength=,seed=] or sinus[:amplitude=,frequency=], so that attack success is "
        "measured. By default a patch is 4 pixels wide, 2 from the corner, and black (colour=0); white "
        "is colour=255.",
    ),
]
TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target",
        help="For ids:FILE: the class that images with the trigger are taken for; by default the "
        "label of these samples. next: each for the class after its own.",
    ),
]


@placed("data_dir", "device", "overwrite", "allow_code")
def cleanse(
    model_dir: Annotated[Path, MODEL_DIR],
    out: Out,
    method: Annotated[
        str | None, typer.Option("--method", help="See `expunge list methods`; or --auto.")
    ] = None,
    auto: Annotated[
        bool,
        typer.Option(
            "--auto",
            help="Try methods and settings, choose by clean validation samples and the known poison "
            "(or inverted triggers), never by --trigger, and keep the best.",
        ),
    ] = False,
    budget: Annotated[
        str, typer.Option("--budget", help="Of --auto: seconds, or a time such as 10m or 1h.")
    ] = "10m",
    poison: PoisonOption = None,
    known_fraction: Fraction = None,
    extend_poison: Extend = None,
    trigger: TriggerOption = None,
    target: TargetOption = None,
    settings: SetFields = None,
    seed: Seed = 0,
    forget_seed: ForgetSeed = 0,
    with_reference: WithReference = False,
    with_floor: WithFloor = False,
    report: Page = None,
    data: OtherData = None,
    *,
    place: Place,
) -> int:
    """Make a backdoored model forget its poison, and measure whether the trigger still works."""
    from expunge.folders.cleanse import Known, cleanse_folder
    from expunge.folders.make import Beside
    from expunge.methods import make_method

    if (method is not None) == auto:
        raise ConfigError("give --method NAME, or --auto, which tries several; one of the two")
    screen, messages = consoles()
    check_places(None, report, models_of(model_dir, out), overwrite=place.overwrite)
    tell, told = teller(messages)
    known = Known(poison, known_fraction, trigger, target, extend_poison)
    beside = Beside(
        reference=with_reference or with_floor,
        floor=with_floor,
        shown=() if report is None else (report,),
    )
    draws = Draws(seed, forget_seed)
    chosen = None
    if method is None:
        limit = read_seconds(budget, "--budget")
        found, chosen = cleanse_by_trying(
            model_dir, out, known, limit, draws, beside=beside, data=data, tell=tell, place=place
        )
        if found is None:
            show_none_passed(chosen, screen)
            return NONE_PASSED
        cleansed = found
    else:
        with working("cleanse") as bars:
            cleansed = cleanse_folder(
                model_dir,
                make_method(method, read_pairs(settings), allow_code=TYPED),
                out,
                known=known,
                seed=seed,
                forget_seed=forget_seed,
                beside=beside,
                data=data,
                tell=tell,
                place=replace(place, progress=bars),
            )
    if cleansed.unnamed:
        _show_clean_alone(cleansed, chosen, out, place)
    else:
        _show_named(cleansed, chosen, told, report, out, place)
    return 0


def _show_named(
    cleansed: Cleansed,
    chosen: ChosenWay | None,
    told: Sequence[str],
    report: Path | None,
    out: Path,
    place: Place,
) -> None:
    """What was done where poison was named: the verdict, what was tried, the scores; and the page."""
    from expunge.folders.audit import audit_forgotten
    from expunge.folders.cleanse import backdoor_lines
    from expunge.folders.make import reference_of

    screen, messages = consoles()
    try:  # what is written comes before what is shown, for the screen may be gone
        with working("cleanse, audit") as bars:
            audited = audit_forgotten(cleansed.done, place=replace(place, progress=bars))
        show_verdict(audited, screen, reference_of(out))
        if report is not None:
            asked = f"poison, {len(audited.panel.split.forget):,} samples"
            write_page(audited, asked, report, overwrite=place.overwrite)
    finally:  # the folder is there, whatever fails after it
        if chosen is not None:
            show_tries(chosen, screen)
        for note in (*told, *cleansed.notes):
            screen.print(note, soft_wrap=note in told)
        show_forgotten(cleansed.done, screen, messages)
        show_written(cleansed.done, out, screen)
    show_scores(audited, screen, reference_of(out), verdict=False)
    for line in backdoor_lines(audited):
        screen.print(line)
    if report is not None:
        screen.print(f"report: {report / 'report.html'}")


def _show_clean_alone(
    cleansed: Cleansed, chosen: ChosenWay | None, out: Path, place: Place
) -> None:
    """What was done where no poison was named, and whether a trigger still works."""
    from expunge.folders.clean_alone import audit_clean_alone, triggers_left
    from expunge.folders.cleanse import backdoor_lines
    from expunge.scores.shown import scores_table

    screen, messages = consoles()
    try:
        with working("cleanse, audit") as bars:
            here = replace(place, progress=bars)
            audited = audit_clean_alone(cleansed.done, place=here)
            if cleansed.poisoning.trigger is not None:
                lines, verdict = backdoor_lines(audited), str(audited.verdict)
            else:
                *lines, verdict = triggers_left(cleansed.done, place=here)
        screen.print(f"verdict: {verdict}")
    finally:
        if chosen is not None:
            show_tries(chosen, screen)
        for note in cleansed.notes:
            screen.print(note)
        show_forgotten(cleansed.done, screen, messages)
        show_written(cleansed.done, out, screen)
    screen.print(scores_table(audited, audited.info))
    for line in lines:
        screen.print(line)
