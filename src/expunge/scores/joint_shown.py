"""What several audits found, as one table by family and a few lines below it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from rich import box
from rich.table import Table

from expunge.scores.finding import ALPHA
from expunge.scores.joint import Joint, Judged
from expunge.scores.shown import shown_value

FAMILIES = ("outputs", "representation", "reversal")
"""In the order in which the table has them."""


def joint_table(found: Joint) -> Table:
    """One row per score, by family: audit, score, value, retrained, finding, why."""
    table = Table(box=box.SIMPLE_HEAD, title_justify="left")
    for name in ("family", "audit", "score", "value", "retrained", "finding", "why"):
        right = name in ("value", "retrained")
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "why")
    for family, rows in groupby(by_family(found), key=lambda one: one.family):
        said, last = family, ""
        for one in rows:
            table.add_row(said, one.audit if one.audit != last else "", *joint_cells(one))
            said, last = "", one.audit
    return table


def by_family(found: Joint) -> list[Judged]:
    """The scores, those of one family together; a family of somebody else's comes last."""
    order = {name: place for place, name in enumerate(FAMILIES)}
    return sorted(found.judged, key=lambda one: order.get(one.family, len(order)))


def joint_cells(one: Judged) -> tuple[str, str, str, str, str]:
    """Score, value, retrained, finding and why."""
    score = one.score
    known = score.reference
    return (
        score.name,
        shown_value(score.value, score.unit, score.bound),
        "n/a" if known is None else shown_value(known, score.unit, score.reference_bound),
        one.word or "–",
        "" if score.finding is None else score.finding.why,
    )


def joint_lines(found: Joint) -> Iterator[str]:
    """The sentence in all, what it rests on, and what was left out."""
    yield str(found)
    if found.tests > 1:
        yield (
            f"A true retraining is outside in any of these {found.tests} with a chance of "
            f"{100 * ALPHA:g} % at most (Holm)."
        )
    for line in found.left_out:
        yield f"left out: {line}"
