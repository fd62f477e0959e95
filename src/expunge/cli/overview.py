"""`demo` and `list`: what this is, and what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.options import Out
from expunge.cli.place import placed
from expunge.cli.screen import consoles, working
from expunge.place import Place


@placed("overwrite")
def demo(out: Out = Path("expunge-demo"), *, place: Place) -> None:
    """Forget on handwritten digits by several methods, beside retraining, and explain the table."""
    from expunge.cli.show import study_tables
    from expunge.hardware import cores
    from expunge.report.places import check_folder

    check_folder(out, overwrite=place.overwrite)
    screen, messages = consoles()
    messages.print("Training originals and retrained models on digits, 3 seeds; forgetting ...")
    with working("demo") as bars:
        from expunge.report.figures import gap_figure
        from expunge.report.files import write_tables
        from expunge.report.tables import note
        from expunge.study.demo import DEMO_METHODS, PASTE, meaning, run_demo
        from expunge.study.results import for_tables

        scores, seconds = run_demo(
            bars, lambda line: bars.console.print(line, style="dim"), workers=cores()
        )
    frame = for_tables(scores)
    written = write_tables(
        frame,
        out,
        figure=gap_figure,
        scores=scores,
        explanation=meaning(frame),
        overwrite=place.overwrite,
    )
    screen.print(study_tables(frame, screen.width))
    screen.print(note(frame) + "\n", style="dim")
    for sentence in meaning(frame):
        screen.print(f"• {sentence}")
    changed = "; ".join(
        f"{name}: {', '.join(f'{k}={v}' for k, v in values.items())}"
        for name, values in DEMO_METHODS.items()
        if values
    )
    screen.print(f"\nSettings that differ from the methods' defaults: {changed}.", style="dim")
    screen.print(f"{seconds:.0f} s. Written: {', '.join(str(path) for path in written)}")
    screen.print("\nNow with a model folder of your own:\n")
    screen.print(f"  {PASTE}", soft_wrap=True)


def list_(
    kind: Annotated[
        str | None,
        typer.Argument(help="methods, pruners, datasets, models, audits, scores or recipe."),
    ] = None,
    name: Annotated[str | None, typer.Argument(help="One of them, in full.")] = None,
) -> None:
    """Show what there is: what it does and reads, its parameters, where it was published."""
    from expunge.cli.listing import listing

    consoles()[0].print(listing(kind, name))
