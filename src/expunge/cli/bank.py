"""`bank`: models trained as an original was, each on a half of its samples, kept for audits."""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from expunge.advice.duration import in_seconds, read_seconds
from expunge.cli.options import MODEL_DIR, ForgetSeed, OtherData, RayAddress, Workers, typed
from expunge.cli.place import placed
from expunge.cli.screen import at_once, consoles, working
from expunge.place import Place
from expunge.shadows.places import bank_beside, is_bank
from expunge.shadows.plan import BankPlan

if TYPE_CHECKING:
    from rich.console import Console

    from expunge.shadows.bank import Bank


@placed("data_dir", "device", "allow_code")
def build(
    model_dir: Annotated[Path, MODEL_DIR],
    models: Annotated[
        int | None,
        typer.Option(
            "--models", help="How many, an even number.", show_default="16, or as asked before"
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            metavar="TIME",
            help="As many as the whole bank takes no longer for: seconds, or such as 20m and 1h.",
            show_default=False,
        ),
    ] = None,
    workers: Workers = None,
    ray: RayAddress = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the halves and all trainings.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the bank.", show_default="MODEL_DIR-bank"),
    ] = None,
    weights: Annotated[
        bool | None,
        typer.Option(
            "--weights/--no-weights",
            help="Whether weights are kept, which audits by unlearning need.",
            show_default="kept, or as before",
        ),
    ] = None,
    data: OtherData = None,
    *,
    place: Place,
) -> None:
    """Train what is missing: finished models stay, and one bank serves every request to the model."""
    from expunge.shadows.folders import BankWanted, build_folder

    screen, messages = consoles()
    seconds = None if budget is None else read_seconds(budget, "--budget")
    say = at_once(messages)
    with working("bank build") as bars:
        bank = build_folder(
            model_dir,
            out,
            wanted=BankWanted(models, seconds, weights, seed),
            workers=workers,
            ray=ray,
            data=data,
            tell=lambda plan: say(plan_line(plan)),
            place=replace(place, progress=bars, tell=say),
        )
    _show_status(bank, screen)
    screen.print(f"written: {bank.folder}")


def plan_line(plan: BankPlan) -> str:
    """What building will take: `16 models, about 12 s each: 120 s with 2 workers`."""
    there = f", {plan.finished} of them finished" if plan.finished else ""
    about = "about " if plan.each >= 0.1 else ""
    line = f"{plan.models} models{there}, {about}{in_seconds(plan.each)} each"
    if plan.finished >= plan.models:
        return f"{line}: nothing is left to do"
    with_ = f" with {plan.workers} workers" if plan.workers > 1 else ""
    return f"{line}: {in_seconds(plan.seconds)}{' for the rest' if there else ''}{with_}"


def status(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL_DIR|BANK", help="A model folder, or a bank's.", show_default=False
        ),
    ],
) -> None:
    """How many models there are, what they take, and which of them learned from deleted samples."""
    from expunge.shadows.folders import found_bank

    screen, _ = consoles()
    _show_status(found_bank(folder), screen)


def _show_status(bank: Bank, screen: Console) -> None:
    from expunge.shadows.status import status_of

    found = status_of(bank)
    now = f", {found.making} being made" if found.making else ""
    screen.print(f"bank {bank.folder}: {found.finished} of {found.asked} models finished{now}")
    struck = f", {found.struck:,} of them struck since" if found.struck else ""
    screen.print(
        f"drawn from {found.samples:,} samples{struck}; {found.unseen:,} that no model learned from"
    )
    if found.seconds is not None:
        screen.print(
            f"{in_seconds(found.seconds)} a model; {found.bytes / 10**6:,.1f} MB, weights of "
            f"{found.weights} models"
        )
    if found.accuracy:
        mean, spread = statistics.fmean(found.accuracy), statistics.pstdev(found.accuracy)
        screen.print(f"accuracy on samples never seen: {mean:.2f} % (± {spread:.2f} over models)")
    if found.marked:
        screen.print(
            f"{found.marked} models learned from samples that were struck since; "
            "`expunge bank purge MODEL_DIR --renew` trains them again without",
            soft_wrap=True,
        )


def show_bank(original: Path, out: Path, screen: Console) -> None:
    """That the bank beside an original still holds what a model in `out` forgot, if there is one."""
    near = bank_beside(original)
    if is_bank(near):
        command = typed(["bank", "purge", str(out), "--bank", str(near)])
        screen.print(f"{near} still holds them; after all audits: {command}", soft_wrap=True)


@placed("data_dir", "device", "allow_code")
def purge(
    model_dir: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL_DIR",
            help="The folder of the model that forgot; with --forget the original's.",
            show_default=False,
        ),
    ],
    bank: Annotated[
        Path | None,
        typer.Option(
            "--bank", help="Folder of the bank.", show_default="the one that fits, beside MODEL_DIR"
        ),
    ] = None,
    forget: Annotated[
        str | None,
        typer.Option("--forget", help="What to strike, as `unlearn` takes it.", show_default=False),
    ] = None,
    forget_seed: ForgetSeed = 0,
    renew: Annotated[
        bool,
        typer.Option("--renew", help="Train models that learned from it again, without it."),
    ] = False,
    workers: Workers = None,
    ray: RayAddress = None,
    data: OtherData = None,
    *,
    place: Place,
) -> None:
    """Take what was deleted out of a bank: ids, labels, logits, and weights that learned from it.

    Audits of this deletion against the bank are over then, so audit before.
    """
    from expunge.shadows.folders import purge_folder

    screen, messages = consoles()
    with working("bank purge") as bars:
        done = purge_folder(
            model_dir,
            bank,
            forget=forget,
            forget_seed=forget_seed,
            renew=renew,
            workers=workers,
            ray=ray,
            data=data,
            place=replace(place, progress=bars, tell=at_once(messages)),
        )
    made = done.purged
    screen.print(
        f"purged: {made.samples:,} samples struck, logits of {made.logits} models, weights of "
        f"{made.weights}; {made.marked} of {made.finished} models had learned from struck samples"
    )
    if done.renewed:
        screen.print(f"renewed: {done.renewed} models, trained again without them")
    elif made.marked:
        again = ["bank", "purge", str(model_dir), "--bank", str(done.bank.folder)]
        again += [] if forget is None else ["--forget", forget, "--forget-seed", str(forget_seed)]
        screen.print(f"next: {typed([*again, '--renew'])}", soft_wrap=True)
    _show_status(done.bank, screen)
