"""`demo` and `list`: what this is, and what there is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.options import (
    Out,
    Overwrite,
    consoles,
    working,
)


def demo(out: Out = Path("expunge-demo"), overwrite: Overwrite = False) -> None:
    """Forget on handwritten digits by several methods, beside retraining, and explain the table."""
    from expunge.report.files import check_folder, write_tables

    screen, messages = consoles()
    check_folder(out, overwrite=overwrite)
    messages.print("Training originals and retrained models on digits, 3 seeds; forgetting ...")
    with working("demo") as bars:
        from expunge.demo import PASTE, SETTINGS, meaning, run_demo
        from expunge.report.figures import gap_figure
        from expunge.report.tables import note
        from expunge.show import study_tables

        frame, seconds = run_demo(bars)
    screen.print(study_tables(frame, screen.width))
    screen.print(note(frame) + "\n", style="dim")
    for sentence in meaning(frame):
        screen.print(f"• {sentence}", markup=False)
    written = write_tables(
        frame, out, figure=gap_figure, explanation=meaning(frame), overwrite=overwrite
    )
    changed = "; ".join(
        f"{name}: {', '.join(f'{k}={v}' for k, v in values.items())}"
        for name, values in SETTINGS.items()
        if values
    )
    screen.print(f"\nSettings that differ from the methods' defaults: {changed}.", style="dim")
    screen.print(f"{seconds:.0f} s. Written: {', '.join(str(path) for path in written)}")
    screen.print("\nNow with a model folder of your own:\n")
    screen.print(f"  {PASTE}", markup=False, soft_wrap=True)


def list_(
    kind: Annotated[
        str | None, typer.Argument(help="methods, pruners, datasets, models, audits or recipe.")
    ] = None,
    name: Annotated[str | None, typer.Argument(help="One of them, in full.")] = None,
) -> None:
    """Show what there is: what it does and reads, its parameters, where it was published."""
    from expunge.show import listing

    consoles()[0].print(listing(kind, name))
