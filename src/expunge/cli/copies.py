"""`request copies` and `request decide`: copies of a request's samples, and whose they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from expunge.cli.ledgers import LedgerDir, opened
from expunge.cli.place import placed
from expunge.cli.request import Number
from expunge.cli.screen import consoles, working
from expunge.place import Place

if TYPE_CHECKING:
    from expunge.requests.copies import CopySearch
    from expunge.requests.copy_layers import LayerSearch

MOST_ROWS = 100


@placed("data_dir", "device", "allow_code")
def copies(
    number: Number,
    one_in: Annotated[
        int,
        typer.Option(
            "--one-in", min=10, max=1_000_000, help="Random pairs that may give a false alarm."
        ),
    ] = 10_000,
    pictures: Annotated[
        Path | None,
        typer.Option(
            "--pictures",
            metavar="FILE.png",
            help="Also write the pairs as pictures, on one sheet.",
            show_default=False,
        ),
    ] = None,
    ledger: LedgerDir = None,
    *,
    place: Place,
) -> None:
    """Look for copies of a request's samples under other ids; they are proposed, and stay as they are.

    Copies are equal samples, pictures that look alike, and samples that the live model sees alike. A
    person decides: `expunge request decide`.
    """
    from expunge.requests.copies import look_for_copies
    from expunge.requests.copy_sheet import check_sheet, write_sheet
    from expunge.requests.release import live_folder

    screen, _ = consoles()
    shown = 0
    with working("request copies") as bars:
        from expunge.trained.opening import load

        place = replace(place, progress=bars)
        found = opened(ledger)
        if pictures is not None:
            check_sheet(pictures)
        model = load(live_folder(found), place=place)
        search = look_for_copies(found, number, model, one_in=one_in, place=place)
        if pictures is not None:
            shown = write_sheet(pictures, model.data, search.proposals)
    for line in _lines(number, search):
        screen.print(line, soft_wrap=True)
    if search.proposals:
        screen.print(_table(search))
        if len(search.proposals) > MOST_ROWS:
            screen.print(f"and {len(search.proposals) - MOST_ROWS:,} more")
    if pictures is not None:
        told = f"written: {pictures}, {shown} pairs" if shown else "no copy waits: no pictures"
        screen.print(told, soft_wrap=True)
    if any(one.decision == "open" for one in search.proposals):
        screen.print(
            f"next: expunge request decide {number} --copy ID --as same-person|another|unclear",
            soft_wrap=True,
        )


def _lines(number: int, search: CopySearch) -> Iterator[str]:
    for layer in search.layers:
        yield f"{layer.layer}: {_told(layer)}"
    yield f"request {number}: {search.new:,} new of {len(search.proposals):,} proposed copies"


def _told(layer: LayerSearch) -> str:
    """How a layer looked, and how many copies it found."""
    if layer.why:
        return f"not looked for: {layer.why}"
    found = f"{len(layer.copies):,} found"
    if layer.threshold is None:
        along = f"; {layer.along:,} equal rows are struck with them" if layer.along else ""
        return f"{found}, of equal content{along}"
    near = (
        f"at most {layer.threshold:.0f} of 64 bits differ"
        if layer.layer == "perceptual"
        else f"cosine above {layer.threshold:.4f}"
    )
    return (
        f"{found}, {near}: so near are {layer.alarms:,} of {layer.pairs:,} random pairs, 1 in "
        f"{layer.one_in:,} at most; of {layer.compared:,} compared up to {layer.by_chance:,} by chance"
    )


def _table(search: CopySearch) -> Table:
    from expunge.requests.copies import IN_WORDS

    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("copy", "looks like", "layer", "score", "decision"):
        table.add_column(heading)
    for one in search.proposals[:MOST_ROWS]:
        table.add_row(one.copy, one.like, one.layer, one.told, IN_WORDS[one.decision])
    return table


@placed("data_dir", "allow_code")
def decide(
    number: Number,
    copy: Annotated[
        list[str],
        typer.Option(
            "--copy",
            metavar="ID",
            help="A proposed copy; give it again for more.",
            show_default=False,
        ),
    ],
    answer: Annotated[
        str,
        typer.Option(
            "--as",
            help="Whose it is: `same-person` (forgotten too), `another` or `unclear` (both stay, and "
            "certificates tell of them).",
            show_default=False,
        ),
    ],
    reason: Annotated[str, typer.Option("--reason", help="Why.", show_default=False)] = "",
    ledger: LedgerDir = None,
    *,
    place: Place,
) -> None:
    """Say whose proposed copies are; the same person's join the request, and are struck as it is."""
    from expunge.requests.copy_decisions import decide_copies

    screen, _ = consoles()
    with working("request decide"):
        done = decide_copies(opened(ledger), number, copy, answer, reason, place=place)
    screen.print(f"request {number}: {done:,} cop{'y' if done == 1 else 'ies'} noted as {answer}")
