"""`recommend`: which method to take for a request, what each would cost, and a trial of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from expunge.advice.duration import in_seconds
from expunge.cli.options import MODEL_DIR, Forget, ForgetSeed, OtherData, Seed, typed
from expunge.cli.place import placed
from expunge.cli.screen import consoles, teller, working
from expunge.cli.show import show_forgotten, show_written
from expunge.errors import ConfigError
from expunge.place import Place

if TYPE_CHECKING:
    from expunge.advice.recommend import Recommendation
    from expunge.advice.trials import Tried

NO_PROOF = (
    "Chosen without a retrained model: no proof that it forgot. An audit against one says more."
)
DOES_NOTHING = (
    "The model passes as it is, before anything is forgotten: here the criterion cannot tell whether "
    "the samples were learned, so passing says little."
)
CONTROL_PASSES = (
    "A control that forgets nothing passes too ({names}): these criteria cannot tell whether the best "
    "forgot more than that; relearn_time and linear_probe can."
)
UNTUNED = (
    "These commands use default settings, which are tuned to no model: one may end worse than doing "
    "nothing. --try --out FOLDER runs each with a few settings and judges them."
)
NONE_PASSED = 1
"""The exit code where nothing that was tried is good enough."""


@placed("data_dir", "device", "overwrite", "allow_code")
def recommend(
    model_dir: Annotated[Path, MODEL_DIR],
    forget: Forget,
    budget: Annotated[
        float | None,
        typer.Option("--budget", help="Seconds; what would take longer is left out."),
    ] = None,
    guarantee: Annotated[
        str,
        typer.Option(
            "--guarantee", help="What must be proved of the result: none, certified, exact."
        ),
    ] = "none",
    try_: Annotated[
        bool,
        typer.Option(
            "--try",
            help="Run them with a few settings, judge each on validation samples, without a retrained "
            "model, and write the best that passes to --out.",
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="With --try: the folder to write.")
    ] = None,
    seed: Seed = 0,
    forget_seed: ForgetSeed = 0,
    data: OtherData = None,
    *,
    place: Place,
) -> int:
    """Name methods for a request: what fits, what each would take on this model, and why."""
    from expunge.advice.folder import recommend_folder
    from expunge.advice.preference import LAST
    from expunge.folders.make import unlearn_folder

    if try_ and out is None:
        raise ConfigError("--try writes the best that passes; say where with --out FOLDER")
    if out is not None and not try_:
        raise ConfigError("--out is where --try writes its best; add --try, or leave --out out")
    screen, messages = consoles()
    tell, told = teller(messages)
    done = None
    with working("recommend") as bars:
        here = replace(place, progress=bars)
        advice = recommend_folder(
            model_dir,
            forget,
            budget=budget,
            guarantee=guarantee,
            out=out,
            seed=seed,
            forget_seed=forget_seed,
            data=data,
            tell=tell,
            place=here,
        )
        found, best = advice.recommendation, advice.tried and advice.tried.best
        if out is not None and best and best.method is not None:
            done = unlearn_folder(
                found.original, found.asked, best.method, out, seed=seed, place=here
            )
    for line in told:
        screen.print(line, soft_wrap=True)
    show_found(found, screen)
    words = [
        "unlearn",
        str(model_dir),
        "--forget",
        forget,
        *_typed_too(seed, forget_seed, data, place),
    ]
    if advice.tried is None:
        show_commands(found, words, f"{model_dir}-forgot", screen)
        return 0
    show_tried(advice.tried, screen)
    if done is None or out is None:
        _say_nothing_passed(found, [*words, "--method", LAST, "--out", str(out)], screen)
        return NONE_PASSED
    show_forgotten(done, screen, messages)
    show_written(done, out, screen)
    spent = f"trying took {in_seconds(advice.tried.seconds)} in all"
    if found.retrain is not None:
        spent += f"; retraining, which is exact, would have taken {found.retrain.expected}"
    screen.print(spent)
    screen.print(NO_PROOF)
    audit = ["audit", str(out), "--original", str(model_dir)]
    audit += ["--also", "relearn_time"] if advice.tried.equals else []
    audit += ["--allow-code"] if done.result.names_code else []
    screen.print(f"next: {typed(audit)}", soft_wrap=True)
    return 0


def _typed_too(seed: int, forget_seed: int, data: str | None, place: Place) -> list[str]:
    """Options that the command for a method must have as this one had them."""
    told = {
        "--seed": seed or None,
        "--forget-seed": forget_seed or None,
        "--data": data,
        "--data-dir": place.data_dir,
        "--device": place.device,
    }
    words = [word for name, one in told.items() if one is not None for word in (name, str(one))]
    return [*words, *(["--allow-code"] if place.allow_code else [])]


def show_found(found: Recommendation, screen: Console) -> None:
    """The methods that fit, what each would take, and why; and those that do not."""
    table = Table(box=box.SIMPLE_HEAD, title=found.headline, title_justify="left", pad_edge=False)
    table.add_column("method", no_wrap=True)
    table.add_column("would take", justify="right")
    table.add_column("guarantee", no_wrap=True)
    table.add_column("why")
    for one in (*found.candidates, *([found.retrain] if found.retrain else [])):
        table.add_row(one.name, str(one.expected), one.method.proves(), one.why)
    screen.print(table if table.rows else found.headline)
    for name, why in found.left_out.items():
        screen.print(f"left out: {why if why.startswith(name) else f'{name}: {why}'}")
    for note in found.notes:
        screen.print(note)


def show_commands(found: Recommendation, words: list[str], out: str, screen: Console) -> None:
    """How each is run, and when it is the right choice, as its card says."""
    if found.candidates:
        screen.print(UNTUNED)
    for one in (*found.candidates, *([found.retrain] if found.retrain else [])):
        screen.print()
        screen.print(one.name, style="bold")
        for told in filter(None, (one.use, one.avoid)):
            screen.print(told)
        screen.print(typed([*words, "--method", one.name, "--out", out]), soft_wrap=True)


def show_tried(tried: Tried, screen: Console) -> None:
    """Every attempt with its points, doing nothing among them."""
    table = Table(
        box=box.SIMPLE_HEAD,
        title="tried, judged on validation samples (points: 0 is best)",
        title_justify="left",
        pad_edge=False,
    )
    table.add_column("settings")
    table.add_column("took", justify="right")
    table.add_column("points", justify="right")
    table.add_column("passes")
    equal = ", ".join(str(one) for one in tried.equals)
    for one in (tried.before, *tried.controls, *tried.attempts):
        control = any(one is each for each in tried.controls)
        took = "" if one.method is None else in_seconds(one.seconds)
        points = "" if one.score is None else f"{one.score.value:.1f}"
        why = one.failed or "; ".join(one.beyond) or "yes"
        if one is tried.best:
            why += f", the best; {equal} passes too" if equal else ", the best"
        table.add_row(f"control: {one}" if control else str(one), took, points, why)
    screen.print(table)
    if tried.untried:
        screen.print(f"not tried, for the budget: {tried.untried} settings")
    if tried.before.passes:
        screen.print(DOES_NOTHING)
    if equal:
        screen.print(CONTROL_PASSES.format(names=equal))


def _say_nothing_passed(found: Recommendation, words: list[str], screen: Console) -> None:
    from expunge.advice.preference import LAST

    screen.print("Nothing that was tried passes, and nothing was written.", style="bold")
    if found.retrain is None:
        screen.print(f"This model cannot be retrained either: {found.left_out.get(LAST, '')}")
        return
    screen.print(f"Retraining is exact; expected time: {found.retrain.expected}")
    screen.print(typed(words), soft_wrap=True)
