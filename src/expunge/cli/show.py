"""What the command line puts on the screen: tables and descriptions, made of rich's parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    import pandas as pd

    from expunge.audits.near_empty import SampleLoss
    from expunge.audits.scores import Scores
    from expunge.folders.make import Forgotten
    from expunge.pruning.criteria import Criteria
    from expunge.report.cells import TableCell
    from expunge.report.grid import Grid
    from expunge.training.cost import Cost


ONE_LINE, ALL_COLUMNS = 190, 110
"""Terminal widths from which a cell takes one line, and from which no column is left out."""
LEFT_OUT = ("seeds", "excess gap", "95 % interval", "RTE s")


def study_tables(frame: pd.DataFrame, width: int, findings: pd.DataFrame | None = None) -> Group:
    """The papers' table of a long frame, the further scores, and what the audits say together, for each
    scenario.
    """
    from expunge.report.score_tables import score_tables
    from expunge.report.together import TITLE

    parts: list[Table | Text] = []
    for part in score_tables(frame, findings).scenarios:
        parts.append(_papers(part.papers, f"forget {part.scenario}", width))
        if part.left:
            parts.append(Text(f"{part.left}\n", style="bold"))
        if part.further is not None:
            parts.append(_further(part.further, f"further scores, forget {part.scenario}"))
        if part.together is not None:
            title = f"{TITLE[:1].lower()}{TITLE[1:]}, forget {part.scenario}"
            parts.append(_further(part.together.grid, title))
            parts.append(Text(f"{part.together.note}\n", style="dim"))
    return Group(*parts)


def _further(grid: Grid, title: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    for header, numeric in zip(grid.headers, grid.numeric, strict=True):
        table.add_column(header, justify="right" if numeric else "left")
    for texts in grid.texts:
        table.add_row(*texts)
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
        table.add_column(header, justify="right" if place > grid.named else "left")
    for line in grid.lines:
        texts = [_in_two_lines(line.cells[n]) if wrapped else line.texts[n] for n in kept]
        table.add_row(*texts)
    return table


def _in_two_lines(cell: TableCell) -> str:
    """The rest of a cell below its main part; the name of a method breaks before its settings."""
    main = cell.main.replace(" (", "\n(")
    return f"{main}\n{cell.rest}" if cell.rest else main


FULL_THEORY, ALL_THEORY = 210, 140
"""Terminal widths from which a header takes one line, and from which no column is left out."""
LESS_THEORY = ("weight change", "product", "distance", "% of retrained", "moved", "TA")


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
        table.add_row(*texts)
    return table


def losses_table(losses: Iterable[SampleLoss], classes: Sequence[str]) -> Table:
    """Loss of each forget sample, for requests too small for a verdict."""
    table = Table(box=box.SIMPLE_HEAD, title="losses of the forget samples", title_justify="left")
    for name in ("id", "label", "loss", "retrained"):
        table.add_column(name, justify="left" if name == "id" else "right")
    for row in losses:
        other = "n/a" if row.reference_loss is None else f"{row.reference_loss:.4f}"
        table.add_row(row.id, classes[row.label], f"{row.loss:.4f}", other)
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
        table.add_row(name, f"{100 * share:.2f}")
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
    """What was forgotten at what cost, and every warning."""
    from expunge.trained.record import COPIES

    made = done.result
    for warning in made.record.warnings:
        messages.print(Text.assemble(("warning:", "yellow"), f" {warning}"), soft_wrap=True)
    for struck, kept in made.record.log.get(COPIES, []):
        messages.print(f"  {kept} is a copy of {struck}", soft_wrap=True)
    done_to = f"forgot {len(made.split.forget):,} samples, {len(made.split.retain):,} retained"
    if not made.split.forget:
        done_to = f"cleansed by {len(made.split.retain):,} samples"
    screen.print(f"{made.record.step} {done_to}")
    screen.print(cost_line(made.record.cost))
    for name, told in made.record.log.get("statistics", {}).items():
        screen.print(f"{name} of the weights: {told}")
    mask = made.record.log.get("mask")
    if mask is not None:
        saw = {
            True: "while the forgotten samples were there, and the retrained reference keeps that "
            "trace of them",
            False: "without any data",
            None: "nobody recorded how",
        }
        screen.print(
            f"{mask['sparsity']:.1%} of the prunable weights stay 0; the mask was found "
            f"{saw[mask['saw_forget_set']]}",
        )


def show_written(done: Forgotten, out: Path, screen: Console) -> None:
    """Where the new models lie."""
    from expunge.folders.make import floor_of, reference_of

    screen.print(f"written: {out}")
    if done.reference is not None:
        screen.print(f"retrained reference: {reference_of(out)}")
    if done.floor is not None:
        screen.print(f"second retrained model: {floor_of(out)}")


def show_verdict(scores: Scores, screen: Console, exact: Path | None = None) -> None:
    """The verdict, and what should be known beside it. exact: as `show_scores` takes it."""
    for line in scores.told(None if exact is None else str(exact)):
        screen.print(line, soft_wrap=True)


def show_scores(
    scores: Scores, screen: Console, exact: Path | None = None, *, verdict: bool = True
) -> None:
    """Scores, per-sample losses where there are few samples, and how far to trust them.

    exact: the folder of the retrained model, as it was typed. verdict: say that too, of a backdoor
    first of all.
    """
    from expunge.scores.shown import score_notes

    if verdict and scores.asked.poison:
        show_verdict(scores, screen, exact)
    screen.print(scores.table(screen.width))
    if scores.losses and not scores.panel.subject.redacted:
        screen.print(losses_table(scores.losses, scores.panel.subject.data.classes))
    for note in (*scores.notes, *score_notes(scores)):
        screen.print(note)
    if scores.joint is None and all(score.reference is None for score in scores):
        screen.print("Without a retrained model there is no gap: these numbers say little alone.")
    if verdict and not scores.asked.poison:
        show_verdict(scores, screen, exact)
    if scores.margins:
        screen.print(f"Margins: {scores.margins}.", style="dim")
    screen.print(scores.proof(), style="dim")
