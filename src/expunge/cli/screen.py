"""Where commands write: results to standard output, progress and messages to standard error."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from expunge.errors import DataWarning, told
from expunge.names.text import clean
from expunge.progress import Bars


class PlainConsole(Console):
    """Shows texts as they stand: a name is never markup or an emoji, nor does it move the cursor."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        """As rich has it, of the text cleaned: so its width is known before it is laid out."""
        return super().render_str(clean(text), **settings)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """As rich has it, whatever made the texts."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else clean(text), style, control)


def consoles() -> tuple[Console, Console]:
    """Screen and messages; silent in all processes but the first."""
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    screen = PlainConsole(width=None if known else 190)
    messages = PlainConsole(stderr=True)
    if os.environ.get("RANK", "0") != "0":
        screen.quiet = messages.quiet = True
    return screen, messages


def tolerate_signs() -> None:
    """Let the output write `?` for a sign that its encoding has not, as under LANG=C, and go on."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Show each warning about the data once, as a line among the messages; others as Python does."""
    shown = set()
    with warnings.catch_warnings():
        otherwise = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if not issubclass(category, DataWarning):
                otherwise(message, category, *place, **more)
            elif str(message) not in shown:
                shown.add(str(message))
                line = Text.assemble(("warning:", "yellow"), f" {told(message)}")
                consoles()[1].print(line, soft_wrap=True)

        warnings.showwarning = show
        yield


@contextmanager
def working(command: str) -> Iterator[Bars]:
    """Progress of a command, from its first second: what loads torch or reads data belongs inside.

    Results are printed outside, for bars and they would share a terminal.
    """
    bars = Bars(consoles()[1])
    with bars.work(f"expunge {command}"):
        yield bars
