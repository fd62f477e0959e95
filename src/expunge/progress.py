"""Progress, reported through one place: bars on a terminal, lines in a log, or nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

log = logging.getLogger("expunge")


class Step(Protocol):
    """A running piece of work."""

    def advance(self, note: str = "") -> None:
        """One more step is done; `note` is shown beside the bar."""
        ...


class Reporter(Protocol):
    """Where progress is shown."""

    def work(self, label: str, steps: int, done: int = 0) -> AbstractContextManager[Step]:
        """A context manager around a piece of work of so many steps, some of them done before."""
        ...


class Silent:
    """Shows nothing: the default in Python."""

    def advance(self, note: str = "") -> None:
        """Nothing to show."""

    @contextmanager
    def work(self, label: str, steps: int, done: int = 0) -> Iterator[Step]:
        """Nothing to show."""
        yield self


class Bars:
    """Bars with the time left on a terminal; elsewhere a line every few seconds."""

    def __init__(self, console: Console, every_seconds: float = 10.0) -> None:
        self.console = console
        self.every_seconds = every_seconds
        self._bars: Progress | None = None

    @contextmanager
    def work(self, label: str, steps: int, done: int = 0) -> Iterator[Step]:
        """A bar (or lines) for one piece of work; bars of nested work stand below one another."""
        if not self.console.is_terminal:
            yield _Lines(self.console, label, steps, self.every_seconds, done)
            return
        outermost = self._bars is None
        if self._bars is None:
            self._bars = Progress(
                TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(),
                TextColumn("[dim]{task.fields[note]}"), TimeElapsedColumn(), TextColumn("left"),
                TimeRemainingColumn(), console=self.console, transient=True,
            )  # fmt: skip
            self._bars.start()
        task = self._bars.add_task(label, total=steps, completed=done, note="")
        try:
            yield _Bar(self._bars, task)
        finally:
            self._bars.remove_task(task)
            if outermost:
                self._bars.stop()
                self._bars = None


class _Bar:
    def __init__(self, bars: Progress, task: TaskID) -> None:
        self.bars = bars
        self.task = task

    def advance(self, note: str = "") -> None:
        self.bars.update(self.task, advance=1, note=note)


class _Lines:
    def __init__(
        self, console: Console, label: str, steps: int, every_seconds: float, done: int
    ) -> None:
        self.console = console
        self.label = label
        self.steps = steps
        self.every_seconds = every_seconds
        self.before = self.done = done
        self.start = self.last = time.monotonic()

    def advance(self, note: str = "") -> None:
        self.done += 1
        now = time.monotonic()
        if now - self.last < self.every_seconds:
            return
        self.last = now
        each = (now - self.start) / (self.done - self.before)  # what was done before took no time
        left = each * max(0, self.steps - self.done)
        self.console.print(
            f"{self.label}: {self.done} of {self.steps}{f', {note}' if note else ''}, "
            f"{left:.0f} s left", highlight=False, markup=False,
        )  # fmt: skip
