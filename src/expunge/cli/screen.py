"""Where commands write: results to standard output, progress and messages to standard error."""

from __future__ import annotations

import copy
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.measure import Measurement
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from expunge.errors import DataWarning, told
from expunge.names.text import clean
from expunge.progress import Bars

LEAST_TEXT, WIDEST = 24, 10_000
"""Letters of a line that a text beside numbers gets, or it is left out; and more than any line has."""
PLAIN_SIGNS = str.maketrans(
    {"–": "-", "−": "-", "±": "+-", "≥": ">=", "≤": "<=", "×": "x", "•": "*", "…": "...", "‖": "||"}
)
"""What stands for our own signs where an encoding has them not; anything else is escaped."""


def fitted(text: str, encoding: str) -> str:
    """A text cleaned, and written in the signs that an encoding has."""
    text = clean(text)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        plain = text.translate(PLAIN_SIGNS)
        return plain.encode(encoding, "backslashreplace").decode(encoding)
    return text


class PlainConsole(Console):
    """Shows texts as they stand: a name is never markup or an emoji, nor does it move the cursor, and
    what the output's encoding has not is escaped, so that two names stay two.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        """As rich has it, of the text fitted: so its width is known before it is laid out."""
        return super().render_str(fitted(text, self.encoding), **settings)

    def print(self, *objects: Any, **settings: Any) -> None:
        """As rich has it, but what is longer than a line is left to the terminal to break."""
        super().print(*objects, **{"crop": False, **settings})

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """As rich has it, whatever made the texts; of a table no number is cut."""
        if isinstance(renderable, Table):
            options = options or self.options
            renderable = with_whole_numbers(renderable, self, options)
            least = width_needed(renderable, self, options)
            options = options.update(width=max(options.max_width, least))
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else fitted(text, self.encoding), style, control)


def with_whole_numbers(table: Table, console: Console, options: ConsoleOptions) -> Table:
    """A table whose columns of numbers, set to the right, keep their width; texts are broken instead. A
    text that comes last, and would get a few letters a line, is left out.
    """
    made = copy.copy(table)
    made.columns = [
        replace(one, no_wrap=one.no_wrap or one.justify == "right", overflow="fold")
        for one in table.columns
    ]
    numbers = any(one.justify == "right" for one in made.columns)
    if numbers and made.columns[-1].justify != "right":
        fewer = copy.copy(made)
        fewer.columns = made.columns[:-1]
        if width_needed(fewer, console, options) + LEAST_TEXT > options.max_width:
            return fewer
    return made


def width_needed(table: Table, console: Console, options: ConsoleOptions) -> int:
    """Letters of a line in which no column that is not to be broken is cut, and no word of another."""
    wide = options.update(width=WIDEST)
    more = 0
    for column in (one for one in table.columns if one.no_wrap):
        cells = [column.header, *column.cells, *([column.footer] if table.show_footer else [])]
        sizes = [Measurement.get(console, wide, cell) for cell in cells]
        more += max(one.maximum for one in sizes) - max(one.minimum for one in sizes)
    return Measurement.get(console, wide, table).minimum + more


def consoles() -> tuple[Console, Console]:
    """Screen and messages; silent in all processes but the first."""
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    screen = PlainConsole(width=None if known else 190)
    messages = PlainConsole(stderr=True)
    if os.environ.get("RANK", "0") != "0":
        screen.quiet = messages.quiet = True
    return screen, messages


def teller(messages: Console) -> tuple[Callable[[str], None], list[str]]:
    """What tells of a result before the work that follows, and the lines that are still to be shown.

    On a terminal a line is among the messages at once, for the bars must know of it; else it waits to
    stand among the results, for a screen that is gone must not cost the work.
    """
    waiting: list[str] = []
    if messages.is_terminal:
        return partial(messages.print, soft_wrap=True), waiting
    return waiting.append, waiting


def at_once(messages: Console) -> Callable[[str], None]:
    """What tells of the cost of some work among the messages before it begins, in a log too."""

    def tell(line: str) -> None:
        with suppress(OSError, ValueError):  # a screen that is gone must not cost the work
            messages.print(line, soft_wrap=True)

    return tell


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
