"""`gate`: fix the checks that a model must pass, and qualify a method by them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from expunge.cli.arguments import read_pairs
from expunge.cli.ledgers import LedgerDir, opened
from expunge.cli.options import SetFields
from expunge.cli.place import placed
from expunge.cli.screen import consoles, working
from expunge.errors import ConfigError
from expunge.names.code import TYPED
from expunge.place import Place

if TYPE_CHECKING:
    from expunge.requests.judging import MethodVerdict
    from expunge.requests.qualifying import Qualified

KINDS = ("random", "class")


def define(
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from", help="YAML file: scores, margins, models.", show_default="the stated margins"
        ),
    ] = None,
    ledger: LedgerDir = None,
) -> None:
    """Fix the gate that holds from now on, before anything is measured; an earlier one stays."""
    from expunge.requests.gate_file import define as fix
    from expunge.requests.gate_file import read_gate

    screen, _ = consoles()
    gate = read_gate(from_)
    digest = fix(opened(ledger), gate)
    margins = ", ".join(f"{name} {margin:g}" for name, margin in gate.scores.items())
    more = ", ".join(f"{name} {margin:g}" for name, margin in gate.whole_classes.items())
    screen.print(f"gate {digest}", soft_wrap=True)
    screen.print(f"margins: {margins}; for whole classes besides: {more or 'none'}", soft_wrap=True)
    screen.print("next: expunge gate run --method NAME --size SAMPLES")


@placed("data_dir", "device", "allow_code")
def run(
    method: Annotated[
        str, typer.Option("--method", help="See `expunge list methods`.", show_default=False)
    ],
    settings: SetFields = None,
    size: Annotated[
        int | None,
        typer.Option("--size", help="Samples of a batch, at most.", show_default="a class's own"),
    ] = None,
    kind: Annotated[str, typer.Option("--kind", help="`random`, or `class`: one whole one.")] = (
        "random"
    ),
    ledger: LedgerDir = None,
    *,
    place: Place,
) -> None:
    """Qualify a method for the live model: several models that it made, beside several retrained ones.

    Killed anywhere, the same command goes on where it was.
    """
    from dataclasses import replace

    from expunge.methods import make_method
    from expunge.requests.qualifying import qualify

    if kind not in KINDS:
        raise ConfigError(f"--kind {kind!r:.50}: there are {' and '.join(KINDS)}")
    made = make_method(method, read_pairs(settings), allow_code=TYPED)
    screen, _ = consoles()
    with working("gate run") as bars:
        found = qualify(
            opened(ledger),
            made,
            kind="class" if kind == "class" else "random",
            size=size,
            place=replace(place, progress=bars),
        )
    if found.judged is None:
        screen.print(f"qualification {found.number}: another worker is at a part of it")
        return
    screen.print(table_of(found.judged))
    for line in lines_of(found, found.judged):
        screen.print(line, soft_wrap=True)


def table_of(judged: MethodVerdict) -> Table:
    """The required scores, a line each."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("score")
    for heading in ("difference", "90 % interval", "margin"):
        table.add_column(heading, justify="right")
    for heading in ("found", "doing nothing"):
        table.add_column(heading)
    nothing = {one.name: one.word for one in judged.original}
    for one in judged.lines:
        ends = f"{one.low:+.2f} to {one.high:+.2f}" if math.isfinite(one.low) else "-"
        apart = f"{one.apart:+.2f}" if math.isfinite(one.apart) else "-"
        table.add_row(one.name, apart, ends, f"{one.margin:.3g}", one.word, nothing[one.name])
    return table


def lines_of(found: Qualified, judged: MethodVerdict) -> list[str]:
    """What else a person is told; the verdict last."""
    from expunge.requests.gate_bank import bank_in_words

    told = [f"retrained models were measured {bank_in_words(found.shadows)}"]
    if judged.rate is not None:
        told.append(str(judged.rate))
        inside, k = judged.held_out
        told.append(f"{inside} of {k} retrained models lie inside what the others predict")
    about = found.subject
    what = f"{about.size:,} samples" if about.kind == "random" else "one whole class"
    told.append(
        f"qualification {found.number}, {about.method} for {what}: {judged.verdict}, because "
        f"{judged.reason}"
    )
    return told
