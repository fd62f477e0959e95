"""What the command line puts on the screen: tables and descriptions, made of rich's parts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group
from rich.markup import escape
from rich.table import Table

from expunge.scores.score import Score
from expunge.scores.table import score_info

if TYPE_CHECKING:
    import pandas as pd

    from expunge.audits.near_empty import SampleLoss
    from expunge.folders.audit import AuditReport
    from expunge.folders.make import Forgotten
    from expunge.pruning.original import Criteria
    from expunge.report.cells import TableCell
    from expunge.report.grid import Grid
    from expunge.training.cost import Cost


def scores_table(scores: Sequence[Score], title: str = "") -> Table:
    """One row per score: value, 95 % interval, original, retrained, gap."""
    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left")
    columns = ("score", "value", "95 % interval", "n", "original", "retrained", "gap", "what it is")
    for name in columns:
        table.add_column(name, justify="left" if name in ("score", "what it is") else "right")
    for score in scores:
        interval = "–" if score.low is None else f"{score.low:.1f} to {score.high:.1f}"
        before = score.detail.get("original")
        table.add_row(
            score.name,
            _value(score.value, score.unit),
            interval,
            str(score.n),
            "–" if before is None else _value(before, score.unit),
            "n/a" if score.reference is None else _value(score.reference, score.unit),
            "n/a"
            if score.gap is None or not math.isfinite(score.gap) or score.target != "retrained"
            else f"{score.gap:.2f}",
            score_info(score.name, score.unit, score.target).measures,
        )
    return table


def _value(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return "n/a"
    if unit == "steps":
        return f"{value:.0f} steps"
    return f"{value:.1f} s" if unit == "seconds" else f"{value:.2f}"


ONE_LINE, ALL_COLUMNS = 190, 110
"""Terminal widths from which a cell takes one line, and from which no column is left out."""
LEFT_OUT = ("seeds", "excess gap", "95 % interval", "RTE s")


def study_tables(frame: pd.DataFrame, width: int) -> Group:
    """The papers' table of a long frame, one for each scenario."""
    from expunge.report.score_tables import score_tables

    parts = []
    for part in score_tables(frame).scenarios:
        parts.append(_papers(part.papers, f"forget {part.scenario}", width))
        if part.further is not None:
            parts.append(_further(part.further, f"further scores, forget {part.scenario}"))
    return Group(*parts)


def _further(grid: Grid, title: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for place, header in enumerate(grid.headers):
        table.add_column(header, justify="right" if place > grid.named else "left")
    for texts in grid.texts:
        table.add_row(*(escape(text) for text in texts))
    return table


def _papers(grid: Grid, title: str, width: int) -> Table:
    wrapped = width < ONE_LINE
    table = Table(
        box=box.SIMPLE_HEAD,
        title=title,
        title_justify="left",
        padding=0 if wrapped else (0, 1),
        pad_edge=False,
    )
    headers = grid.headers
    kept = [n for n, name in enumerate(headers) if width >= ALL_COLUMNS or name not in LEFT_OUT]
    for place in kept:
        header = headers[place]
        if wrapped:
            header = header.replace("TA_", "TA_\n").replace(" gap", "\ngap")
            header = header.replace(" interval", "\ninterval").replace(" retrain", "\nretrain")
        table.add_column(header, justify="right" if place > grid.named else "left", no_wrap=True)
    for line in grid.lines:
        texts = [_in_two_lines(line.cells[n]) if wrapped else line.texts[n] for n in kept]
        table.add_row(*(escape(text) for text in texts))
    return table


def _in_two_lines(cell: TableCell) -> str:
    """The rest of a cell below its main part; the name of a method breaks before its settings."""
    main = cell.main.replace(" (", "\n(")
    return f"{main}\n{cell.rest}" if cell.rest else main


FULL_THEORY, ALL_THEORY = 210, 140
"""Terminal widths from which a header takes one line, and from which no column is left out."""
LESS_THEORY = ("weight change", "product", "distance", "moved", "TA")


def theory_table(frame: pd.DataFrame, width: int) -> Table:
    """The theory check of sparsity, a row per sparsity."""
    from expunge.report.theory import theory_grid

    grid = theory_grid(frame)
    headers = grid.headers
    wrapped = width < FULL_THEORY
    table = Table(
        box=box.SIMPLE_HEAD,
        title="sparsity and proposition 2",
        title_justify="left",
        padding=0 if wrapped else (0, 1),
        pad_edge=False,
    )
    kept = [n for n, name in enumerate(headers) if width >= ALL_THEORY or name not in LESS_THEORY]
    for place in kept:
        header = "\n".join(headers[place].rsplit(" ", 1)) if wrapped else headers[place]
        table.add_column(header, justify="right", no_wrap=True)
    for line in grid.lines:
        texts = [_in_two_lines(line.cells[n]) if wrapped else line.texts[n] for n in kept]
        table.add_row(*(escape(text) for text in texts))
    return table


def losses_table(losses: Iterable[SampleLoss], classes: Sequence[str]) -> Table:
    """Loss of each forget sample, for requests too small for a verdict."""
    table = Table(box=box.SIMPLE_HEAD, title="losses of the forget samples", title_justify="left")
    for name in ("id", "label", "loss", "retrained"):
        table.add_column(name, justify="left" if name == "id" else "right")
    for row in losses:
        other = "n/a" if row.reference_loss is None else f"{row.reference_loss:.4f}"
        table.add_row(escape(row.id), escape(classes[row.label]), f"{row.loss:.4f}", other)
    return table


def cost_line(cost: Cost) -> str:
    """Seconds, reads and memory in one line."""
    reads = ", ".join(f"{count:,} of {part}" for part, count in cost.reads.items() if count)
    return (
        f"{cost.seconds:.1f} s on {cost.device}; read {reads or 'nothing'} "
        f"({cost.epoch_equivalents:.2f} epochs); peak memory "
        f"{cost.peak_memory_bytes / 2**20:,.0f} MiB ({cost.memory})"
    )


def sparsity_table(log: Mapping[str, Any]) -> Table:
    """Share of weights cut, by layer and in all, from the record of a pruning."""
    table = Table(box=box.SIMPLE_HEAD, show_footer=True)
    table.add_column("layer", footer="all prunable weights")
    table.add_column("sparsity %", footer=f"{100 * log['sparsity']:.2f}", justify="right")
    for name, share in log["layers"].items():
        table.add_row(escape(name), f"{100 * share:.2f}")
    return table


def criteria_lines(found: Criteria) -> list[str]:
    """The three criteria of a pruner as sentences."""
    return [
        f"overlap of this mask with one found without the request: {found.overlap:.3f} "
        "(1 = it does not depend on those samples)",
        f"test accuracy: {found.test_accuracy:.2f} %, dense {found.dense_test_accuracy:.2f} %: "
        f"{found.difference:+.2f} points",
        f"seconds to find the mask: {found.seconds:.1f}, to train the dense model: "
        f"{found.dense_seconds:.1f}",
    ]


def show_forgotten(done: Forgotten, screen: Console, messages: Console) -> None:
    """What was forgotten at what cost, and what to beware of."""
    for warning in done.result.record.warnings:
        messages.print(f"[yellow]warning:[/yellow] {escape(warning)}", soft_wrap=True)
    split = done.result.split
    screen.print(
        f"{done.result.record.step} forgot {len(split.forget):,} samples, "
        f"{len(split.retain):,} retained",
        markup=False,
    )
    screen.print(cost_line(done.result.record.cost), markup=False)
    mask = done.result.record.log.get("mask")
    if mask is not None:
        saw = {
            True: "with the forget set in sight, so the retrained reference inherits that much "
            "of it",
            False: "without any data",
            None: "nobody recorded how",
        }
        screen.print(
            f"{mask['sparsity']:.1%} of the prunable weights stay 0; the mask was found "
            f"{saw[mask['saw_forget_set']]}",
            markup=False,
        )


def show_report(report: AuditReport, screen: Console) -> None:
    """Scores, per-sample losses where there are few samples, and how far to trust them."""
    screen.print(scores_table(report.scores))
    if report.losses:
        screen.print(losses_table(report.losses, report.classes))
    for note in (*report.notes, *score_notes(report.scores)):
        screen.print(note, markup=False)
    if all(score.reference is None for score in report.scores):
        screen.print("Without a retrained model there is no gap: these numbers say little alone.")
    screen.print("Empirical evidence, no formal guarantee.", style="dim")


def score_notes(scores: Sequence[Score]) -> list[str]:
    """What a number alone would hide."""
    notes = []
    for score in scores:
        detail = score.detail
        if score.name == "relearn_time":
            for who, key in (("this model", ""), ("the retrained model", "retrained_")):
                if detail.get(f"{key}reached") is False:
                    notes.append(
                        f"relearn_time: {who} had not relearned after {detail[f'{key}steps']} steps"
                    )
        if score.name == "AIN" and not math.isfinite(score.value):
            notes.append(
                "AIN is undefined: the retrained model needs no step, or one of the two never "
                "relearned"
            )
        if score.name == "weight_distance" and detail.get("paired") is None:
            notes.append(
                "weight_distance: nobody knows whether the retrained model began with the original's "
                "initial weights; if not, this measures mostly these"
            )
        if score.name == "weight_distance" and detail.get("paired") is False:
            notes.append(
                "weight_distance: the retrained model began elsewhere, so this measures mostly the "
                "draw of initial weights; for another, unlearn with --with-reference --paired"
            )
    return notes
