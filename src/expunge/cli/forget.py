"""`unlearn` and `audit`: forget, and measure whether it did."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from expunge.cli.arguments import read_pairs
from expunge.cli.bank import show_bank
from expunge.cli.options import (
    MODEL_DIR,
    Also,
    Forget,
    ForgetSeed,
    OtherData,
    Out,
    Seed,
    SetFields,
    StrengthWord,
    names,
    typed,
)
from expunge.cli.pages import Page, check_places, models_of, write_page
from expunge.cli.place import placed
from expunge.cli.screen import at_once, consoles, teller, working
from expunge.cli.show import show_forgotten, show_scores, show_written
from expunge.names.code import TYPED
from expunge.place import Place
from expunge.progress import Bars
from expunge.report.places import EXPOSURE
from expunge.scores.table import FEATURES, MOST_MEMBERS

if TYPE_CHECKING:
    from rich.console import Console

    from expunge.audits.scores import Scores
    from expunge.folders.make import Forgotten

WithReference = Annotated[
    bool,
    typer.Option("--with-reference", help="Also retrain without the data, and audit against it."),
]
WithFloor = Annotated[
    bool,
    typer.Option(
        "--with-floor",
        help="Retrain a second time from another seed too: so far two exact models are apart by chance.",
    ),
]
Paired = Annotated[
    bool,
    typer.Option(
        "--paired",
        help="The reference repeats the original's training, the forget set struck out of its batches. "
        "Trains twice: once more with nothing forgotten, for the floor of the distance.",
    ),
]
Figures = Annotated[
    Path | None, typer.Option("--figures", help="Folder for pictures of what has changed.")
]
Redact = Annotated[
    bool, typer.Option("--redact-ids", help="Keep pseudonyms of ids in the new folder.")
]
RequestId = Annotated[
    str | None,
    typer.Option(
        "--request-id",
        help="What to call this request in all that is written; else request-N, by its place.",
    ),
]


@placed("data_dir", "device", "overwrite", "allow_code")
def unlearn(
    model_dir: Annotated[Path, MODEL_DIR],
    forget: Forget,
    method: Annotated[
        str, typer.Option("--method", help="See `expunge list methods`.", show_default=False)
    ],
    out: Out,
    settings: SetFields = None,
    seed: Seed = 0,
    forget_seed: ForgetSeed = 0,
    with_reference: WithReference = False,
    with_floor: WithFloor = False,
    paired: Paired = False,
    also: Also = None,
    strength: StrengthWord = None,
    figures: Figures = None,
    report: Page = None,
    redact_ids: Redact = False,
    request_id: RequestId = None,
    data: OtherData = None,
    *,
    place: Place,
) -> None:
    """Make a model forget: write a new model folder, leave the old one as it is."""
    from expunge.audits import chosen_audits, there
    from expunge.folders.audit import audit_forgotten
    from expunge.folders.deeper import Deeper
    from expunge.folders.make import Beside, reference_of, unlearn_folder
    from expunge.methods import make_method

    screen, messages = consoles()
    further = names(also)
    deeper = Deeper(strength)
    deeper.check()
    beside = there(True, with_reference or with_floor or None)
    beside |= deeper.needs(deeper.bank_of(model_dir, further), model_dir)
    chosen_audits(further, beside=beside, allow_code=TYPED)
    check_places(figures, report, models_of(model_dir, out), overwrite=place.overwrite)
    tell, told = teller(messages)
    with working("unlearn") as bars:
        done = unlearn_folder(
            model_dir,
            forget,
            make_method(method, read_pairs(settings), allow_code=TYPED),
            out,
            seed=seed,
            forget_seed=forget_seed,
            beside=Beside(
                with_reference or with_floor,
                paired,
                with_floor,
                redact_ids,
                looks=bool(figures or report),
                request_id=request_id,
                shown=tuple(filter(None, (figures, report))),
            ),
            data=data,
            tell=tell,
            place=replace(place, progress=bars, tell=at_once(messages)),
        )
    drawn: list[Path] = []
    audited = None
    try:  # what is written comes before what is shown, for the screen may be gone
        if figures is not None:
            drawn = _drawn(done, figures, place)
        if done.reference is not None or further or strength or report is not None:
            with working("unlearn, audit") as bars:
                near = replace(place, progress=bars, tell=at_once(messages))
                audited = audit_forgotten(done, also=further, strength=strength, place=near)
        if report is not None and audited is not None:
            write_page(audited, forget, report, overwrite=place.overwrite)
    finally:  # the folder is there, whatever fails after it
        for line in told:
            screen.print(line, soft_wrap=True)
        show_forgotten(done, screen, messages)
        show_written(done, out, screen)
        show_bank(model_dir, out, screen)
    _show_drawn(done, drawn, screen)
    if audited is None:
        _show_next(done, model_dir, out, screen)
        return
    show_scores(audited, screen, reference_of(out))
    if report is not None:
        screen.print(f"report: {report / 'report.html'}")


def _show_next(done: Forgotten, model_dir: Path, out: Path, screen: Console) -> None:
    """The command that scores what was made."""
    command = ["audit", str(out)]
    if out.absolute() != model_dir.absolute():  # else the original is gone
        command += ["--original", str(model_dir)]
    command += ["--allow-code"] if done.result.names_code else []
    screen.print(f"next: {typed(command)}", soft_wrap=True)


def _show_drawn(done: Forgotten, drawn: Sequence[Path], screen: Console) -> None:
    for path in drawn:
        screen.print(f"drawn: {path}")
    if drawn and not len(done.result.data.test):
        screen.print("accuracy by class is not drawn: there is no test set")


def _drawn(done: Forgotten, figures: Path, place: Place) -> list[Path]:
    with working("unlearn, figures") as bars, bars.work("drawing figures"):
        from expunge.folders.pictures import draw_forgotten

        return draw_forgotten(done, figures, device=place.device, overwrite=place.overwrite)


@placed("data_dir", "device", "overwrite", "allow_code")
def audit(
    model_dir: Annotated[Path, MODEL_DIR],
    original: Annotated[
        Path | None, typer.Option("--original", help="The folder before forgetting.")
    ] = None,
    retrained: Annotated[
        list[Path] | None,
        typer.Option(
            "--retrained",
            help="A folder retrained without the data; again for others, from other seeds.",
            show_default=False,
        ),
    ] = None,
    with_floor: WithFloor = False,
    forget: Annotated[
        str | None,
        typer.Option(
            "--forget",
            help="What to ask of an original; of a redacted folder, to check that it was this.",
        ),
    ] = None,
    forget_seed: ForgetSeed = 0,
    all_forgotten: Annotated[
        bool,
        typer.Option(
            "--all-forgotten",
            help="Score all that all requests of a chain forgot; --original is then the first of all.",
        ),
    ] = False,
    features: Annotated[
        str,
        typer.Option(
            "--features", help="What the membership attack looks at, comma-separated; or all."
        ),
    ] = "confidence",
    mia_samples: Annotated[
        int,
        typer.Option(
            "--mia-samples",
            min=0,
            help="Members that the attack learns from, at most, and as many others; 0: all there are.",
        ),
    ] = MOST_MEMBERS,
    also: Also = None,
    strength: StrengthWord = None,
    bank: Annotated[
        Path | None,
        typer.Option(
            "--bank",
            help="A bank of shadow models (`expunge bank build`); else ORIGINAL-bank, where it is.",
        ),
    ] = None,
    sibling: Annotated[
        list[Path] | None,
        typer.Option(
            "--sibling",
            help="A folder that the same method made from another seed; again for more.",
            show_default=False,
        ),
    ] = None,
    margins: Annotated[
        Path | None,
        typer.Option(
            "--margins",
            help="YAML file, `UA: 3` a line: how far from retraining each score may lie.",
        ),
    ] = None,
    trigger: Annotated[
        str | None,
        typer.Option(
            "--trigger",
            help="The trigger of a backdoor, as `cleanse` takes it; attack success is then scored too.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            help="The class that images with the trigger are taken for; next: the one after their own.",
        ),
    ] = None,
    figures: Annotated[
        Path | None,
        typer.Option(
            "--figures", help="Folder for pictures of what is given away of single samples."
        ),
    ] = None,
    report: Page = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as JSON.")] = False,
    data: OtherData = None,
    *,
    place: Place,
) -> None:
    """Score a model: what it still knows of the forgotten, the retained and the unseen."""
    from expunge.audits.mia import Membership
    from expunge.folders.audit import Request, TypedBackdoor, audit_folder
    from expunge.folders.deeper import Deeper

    screen, messages = consoles()
    read = {"the model folder": model_dir}
    read |= {} if original is None else {"the original": original}
    read |= {f"retrained model {n}": one for n, one in enumerate(retrained or (), 1)}
    read |= {} if bank is None else {"the bank": bank}
    read |= {f"sibling {n}": one for n, one in enumerate(sibling or (), 1)}
    check_places(figures, report, read, overwrite=place.overwrite, mark=EXPOSURE)
    attacked = tuple(FEATURES) if features == "all" else tuple(names(features))
    membership = Membership(features=attacked, max_samples=mia_samples or None)
    with working("audit") as bars:
        scores = audit_folder(
            model_dir,
            original=original,
            retrained=retrained or (),
            floor=with_floor,
            forget=None if forget is None else Request(forget, forget_seed),
            all_forgotten=all_forgotten,
            also=[
                *(one for one in names(also) if one != Membership.name),
                *([] if membership == Membership() else [membership]),
            ],
            deeper=Deeper(strength, bank, tuple(sibling or ()), margins),
            backdoor=TypedBackdoor(trigger, target),
            data=data,
            place=replace(place, progress=bars, tell=at_once(messages)),
        )
        drawn = [] if figures is None else _exposed(scores, figures, bars, place)
        if report is not None:
            asked = None if all_forgotten else forget or ""
            write_page(scores, asked, report, overwrite=place.overwrite)
    if as_json and screen.quiet:  # another process of this run says it
        return
    if as_json:
        typer.echo(json.dumps(scores.to_dict(), indent=1))
        return
    show_scores(scores, screen)
    for path in drawn:
        screen.print(f"drawn: {path}")
    if report is not None:
        screen.print(f"report: {report / 'report.html'}")


def _exposed(scores: Scores, figures: Path, bars: Bars, place: Place) -> list[Path]:
    with bars.work("drawing figures"):
        from expunge.folders.exposure import draw_exposure

        return draw_exposure(scores, figures, overwrite=place.overwrite)
