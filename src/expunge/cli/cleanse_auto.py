"""`cleanse --auto`: try ways to cleanse a model, show all of them, keep the best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from expunge.advice.duration import in_seconds
from expunge.cli.screen import working
from expunge.errors import ConfigError
from expunge.place import Place

if TYPE_CHECKING:
    from expunge.advice.cleansing import ChosenWay, Outcome
    from expunge.folders.cleanse import Cleansed, Known
    from expunge.folders.make import Beside


@dataclass(frozen=True)
class Draws:
    """Seeds: of the runs, and of the draw of a known fraction."""

    seed: int = 0
    forget_seed: int = 0


def cleanse_by_trying(
    model_dir: Path,
    out: Path,
    known: Known,
    budget: float,
    draws: Draws,
    *,
    beside: Beside,
    data: str | None,
    tell: Callable[[str], object],
    place: Place,
) -> tuple[Cleansed | None, ChosenWay]:
    """Try, and write the folder of the best, None where nothing passes; and what came of the tries.

    budget: seconds of all tries. The rest as `cleanse_folder` takes it.
    """
    from expunge.folders.clean_alone import check_clean_alone
    from expunge.folders.cleanse import Cleansed, prepare
    from expunge.folders.make import unlearn_folder
    from expunge.loading import loading
    from expunge.trained.card import check_target

    check_target(out, overwrite=place.overwrite)
    with working("cleanse") as bars:
        here = replace(place, progress=bars)
        found = prepare(
            model_dir, known, forget_seed=draws.forget_seed, data=data, tell=tell, place=here
        )
        if found.asked is None:
            check_clean_alone(None, beside)
        elif found.poisoning.clean_label:
            raise ConfigError(
                "this poison has its right labels, so that known samples cannot tell what is left of "
                "the backdoor; choose a method with --method, and look at ASR"
            )
        with loading():
            from expunge.advice.cleansing import choose_way
        chosen = choose_way(
            found.original,
            found.asked,
            budget=budget,
            known=found.known,
            seed=draws.seed,
            place=here,
            tell=tell,
        )
        best = chosen.best
        done = None
        if best is not None and best.way is not None:
            start = best.way.start(chosen.ground, chosen.split, here)
            done = unlearn_folder(
                start,
                chosen.asked,
                best.way.method,
                out,
                seed=draws.seed,
                beside=beside,
                tell=tell,
                place=here,
            )
    if done is None:
        return None, chosen
    return Cleansed(replace(done, original=chosen.ground), found.poisoning, found.notes), chosen


def show_none_passed(chosen: ChosenWay, screen: Console) -> None:
    """That, in the first line, and what was tried."""
    screen.print(f"verdict: not cleansed: {chosen.why()}; nothing was written", soft_wrap=True)
    show_tries(chosen, screen)


def show_tries(chosen: ChosenWay, screen: Console) -> None:
    """Every try with what it came to, doing nothing among them, and why the best is that."""
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"tried, judged on clean validation samples and {chosen.judged_by}",
        title_justify="left",
        pad_edge=False,
    )
    table.add_column("way")
    for name in ("took", "accuracy lost", "backdoor left"):
        table.add_column(name, justify="right")
    table.add_column("passes")
    for one in (chosen.before, *chosen.outcomes):
        table.add_row(*_row(one, best=one is chosen.best))
    screen.print(table)
    for one in chosen.outcomes:
        if one.failed:
            screen.print(f"failed: {one.way}: {one.failed}", soft_wrap=True)
    if chosen.untried:
        screen.print(f"not tried, for the budget: {', '.join(chosen.untried)}", soft_wrap=True)
    if chosen.best is not None:
        screen.print(chosen.why(), soft_wrap=True)


def _row(one: Outcome, *, best: bool) -> tuple[str, ...]:
    name = "nothing done" if one.way is None else str(one.way)
    if one.failed:
        return (name, "", "", "", "failed")
    passes = "yes, the best" if best else "yes" if one.passes else "no"
    took = "" if one.way is None else in_seconds(one.seconds)
    return (name, took, f"{max(0.0, one.lost):.1f}", f"{one.left:.1f} %", passes)
