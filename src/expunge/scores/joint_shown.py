"""What several audits found, as one table by family and a few lines below it."""

from __future__ import annotations

from collections.abc import Iterator

from rich import box
from rich.table import Table

from expunge.scores.joint import Joint, JudgedScore, joint_level
from expunge.scores.score import Score
from expunge.scores.shown import TEXT_WIDTH, shown_value

FAMILIES = ("outputs", "representation", "reversal")
"""In the order in which the table has them."""
RETRAINED, ANOTHER, NONE = "retrained", "one more retrain", "–"
BEYOND = " (beyond)"
ROOM, LITTLE = 120, 100
"""Characters of a line from which on all columns are shown, and those of a narrow one with `ANOTHER`."""
NARROW = ("score", "finding", "value", "original", RETRAINED)


def joint_table(found: Joint, width: int = TEXT_WIDTH) -> Table:
    """One row per score, by family, and the columns of `joint_grid` that there is room for."""
    headers, rows = joint_grid(found)
    kept = list(range(len(headers)))
    if width < ROOM:
        heads = [name.partition(" (")[0] for name in headers]
        shown = NARROW if width < LITTLE else (*NARROW, ANOTHER)
        kept = [heads.index(name) for name in shown if name in heads]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in (headers[n] for n in kept):
        number = name in ("value", "original", ANOTHER) or name.startswith(RETRAINED)
        heading = "one more\nretrain" if name == ANOTHER else name.replace(" (", "\n(")
        table.add_column(heading, justify="right" if number else "left", no_wrap=name != "why")
    before: tuple[str, ...] = ("", "")
    for row in rows:
        family = "" if row[0] == before[0] else row[0]
        cells = (family, "" if row[:2] == before[:2] else row[1], *row[2:])
        if family and width < ROOM:
            table.add_row(family, style="bold")
        table.add_row(*(cells[n].replace(BEYOND, f"\n{BEYOND.strip()}") for n in kept))
        before = row
    return table


def joint_grid(found: Joint) -> tuple[list[str], list[tuple[str, ...]]]:
    """Headers, and a row per score, by family. What no score has is left out: the original's value, that
    of retrained models, their mean where there are several, the interval of one more, and what was found
    and why.
    """
    judged = by_family(found)
    many = found.references > 1
    headers = ["looks at", "audit", "score", "value", "original"]
    headers += [
        f"{RETRAINED} (mean of {found.references})" if many else RETRAINED,
        ANOTHER,
        "finding",
        "why",
    ]
    rows = [(one.family, one.audit, *_cells(one.score)) for one in judged]
    kept = [
        n for n in range(len(headers)) if n < 4 or any(row[n] not in ("", NONE) for row in rows)
    ]
    return [headers[n] for n in kept], [tuple(row[n] for n in kept) for row in rows]


def by_family(found: Joint) -> list[JudgedScore]:
    """The scores, those of one family together; a family of somebody else's comes last."""
    order = {name: place for place, name in enumerate(FAMILIES)}
    return sorted(found.judged, key=lambda one: order.get(one.family, len(order)))


def _cells(score: Score) -> tuple[str, ...]:
    """Score, value, original, retrained, one more retrain, finding and why."""
    before, mean, finding = score.detail.get("original"), score.retrained_mean, score.finding
    return (
        score.name,
        shown_value(score.value, score.unit, score.bound),
        NONE if before is None else shown_value(before, score.unit),
        NONE if mean is None else shown_value(mean, score.unit, score.reference_bound),
        _another(score),
        NONE if finding is None else finding.word,
        "" if finding is None else finding.why,
    )


def _another(score: Score) -> str:
    """Where one more retrained model would lie, and whether the model lies beyond that."""
    finding = score.finding
    if finding is None or finding.interval is None:
        return NONE
    low, high = (shown_value(end, score.unit) for end in finding.interval)
    return f"{low.partition(' ')[0]} – {high}{BEYOND if finding.beyond else ''}"


def joint_lines(found: Joint) -> Iterator[str]:
    """The sentence in all, what it rests on, and what was left out."""
    yield str(found)
    if found.tests > 1 and found.references:
        yield (
            f"A true retraining is outside in any of these {found.tests} scores "
            f"{joint_level(found.references)}."
        )
    yield from (f"{line}." for line in found.method)
    for line in found.left_out:
        yield f"left out: {line}"
