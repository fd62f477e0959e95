"""`expunge` itself, where no command is named."""

from __future__ import annotations

from typing import Annotated

import typer

from expunge.version import VERSION


def root(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Make a trained PyTorch model forget part of its training data, and measure whether it did."""
    if version:
        typer.echo(f"expunge {VERSION}")
        raise typer.Exit
