"""Progress, reported through one place: bars on a terminal, lines in a log, or nothing."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Protocol

from expunge.names.text import clean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

LINE, LABEL = 160, 60
"""Characters of a line in a log, and of one label in it, at most."""


class Step(Protocol):
    """A running piece of work."""

    def advance(self, note: str = "") -> None:
        """One more step is done; `note` is shown beside the bar, in place of the last one."""
        ...

    def note(self, text: str) -> None:
        """Show this beside the bar; no step is done."""
        ...


class Reporter(Protocol):
    """Where progress is shown."""

    def work(
        self, label: str, steps: int = 1, done: int = 0, unit: str = "steps"
    ) -> AbstractContextManager[Step]:
        """A context manager around a piece of work of so many steps, some of them done before.

        unit: what the steps are, in the plural. A single step is not counted.
        """
        ...


def _redraws(console: Console) -> bool:
    """Whether lines can be drawn over. FORCE_COLOR makes rich say so of a log too, which is to have
    colours alone.
    """
    if not console.is_terminal or console.is_dumb_terminal:
        return False
    return console.file.isatty() or not os.environ.get("FORCE_COLOR")


class Silent:
    """Shows nothing: the default in Python."""

    def advance(self, note: str = "") -> None:
        """Nothing to show."""

    def note(self, text: str) -> None:
        """Nothing to show."""

    @contextmanager
    def work(
        self, label: str, steps: int = 1, done: int = 0, unit: str = "steps"
    ) -> Iterator[Step]:
        """Nothing to show."""
        yield self


class Bars:
    """Bars with the time left on a terminal; elsewhere a line now and then, long steps or not.

    every_seconds: between two lines. first_seconds: until the first one; shorter work prints none.
    Both are for logs, where one line tells all works that are nested at that moment. Works must end
    in the thread that began them, the last one first. A quiet console shows nothing.
    """

    def __init__(
        self, console: Console, every_seconds: float = 10.0, first_seconds: float = 2.0
    ) -> None:
        self.console = console
        self.every_seconds = every_seconds
        self.first_seconds = first_seconds
        self._view: _Screen | _Log | None = None

    @contextmanager
    def work(
        self, label: str, steps: int = 1, done: int = 0, unit: str = "steps"
    ) -> Iterator[Step]:
        """One piece of work, shown inside those that are going on.

        An outermost work of a single step stands for a whole command: lines tell it only while
        nothing is inside it.
        """
        if self.console.quiet:
            yield Silent()
            return
        outermost = self._view is None
        view = self._view = self._view or self._open()
        work = Work(label, steps, done, unit, view.changed)
        view.begin(work)
        whole = False
        try:
            yield work
            whole = True
        finally:
            if outermost:
                self._view = None
                view.close(work, whole=whole)
            else:
                view.end(work)

    def _open(self) -> _Screen | _Log:
        if _redraws(self.console):
            return _Screen(self.console)
        return _Log(self.console, self.first_seconds, self.every_seconds)


class Work:
    """How far a piece of work is. changed: called with it whenever there is something to tell."""

    def __init__(
        self, label: str, steps: int, done: int, unit: str, changed: Callable[[Work], None]
    ) -> None:
        self.label, self.steps, self.unit, self.changed = label, steps, unit, changed
        self.before = self.done = done
        self.start = self.last = time.monotonic()
        self.noted = ""

    def advance(self, note: str = "") -> None:
        """One more step is done."""
        self.done, self.last, self.noted = self.done + 1, time.monotonic(), note
        self.changed(self)

    def note(self, text: str) -> None:
        """Something new to tell, no step."""
        self.noted = text
        self.changed(self)

    @property
    def far(self) -> str:
        """As in "3 of 22 cells"; empty for a single step."""
        return "" if self.steps == 1 else f"{self.done:,} of {self.steps:,} {self.unit}"

    def left(self, now: float) -> float | None:
        """Seconds for the steps that are left, at the pace of those done in this run.

        A step that takes longer than those before it slows the pace down. None: nobody knows yet.
        """
        made, left = self.done - self.before, self.steps - self.done
        if self.steps == 1 or made < 1 or left < 1:
            return None
        each = (self.last - self.start) / made  # what was done before took no time
        slower = (now - self.start) / (made + 1)
        return max(each * left - (now - self.last), slower * (left - 1))


def line(works: Sequence[Work], now: float) -> str:
    """One line for nested works, the outermost first: how far, how long already, how long still."""
    shown = works[1:] if len(works) > 1 and works[0].steps == 1 else works
    told = "; ".join(_told(work) for work in shown)
    times = f"{duration(now - works[0].start)} so far"
    for number, work in enumerate(shown):
        seconds = work.left(now)
        if seconds is not None:
            if seconds >= 1:
                counted = any(outer.steps > 1 for outer in shown[:number])
                times += f", about {duration(seconds)} left"
                times += f" of {_cut(work.label, LABEL)}" if counted else ""
            break
    return f"{_cut(told, LINE - len(times) - 2)}; {times}"


def _told(work: Work) -> str:
    more = ", ".join(part for part in (work.far, work.noted) if part)
    return f"{_cut(work.label, LABEL)}{': ' if more else ''}{more}"


def _cut(text: str, length: int) -> str:
    text = clean(" ".join(text.split()))
    return text if len(text) <= length else f"{text[: length - 4]} ..."


def duration(seconds: float) -> str:
    """As in "40 s", "12 min" or "3.5 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 120 * 60 else f"{seconds / 3600:.1f} h"


class _Log:
    """Lines, written by a thread of their own, for a step may last longer than anybody waits.

    What is nested deeper than anything told before gets its first line soon, too.
    """

    def __init__(self, console: Console, first: float, every: float) -> None:
        self.console, self.first, self.every = console, first, max(every, 0.01)
        self._works: list[Work] = []
        self._changed = threading.Condition()
        self._over = self._printed = False
        self._deepest = 0
        self._thread = threading.Thread(target=self._tick, name="expunge-progress", daemon=True)

    def begin(self, work: Work) -> None:
        with self._changed:
            self._works.append(work)
            self._changed.notify()
        if self._thread.ident is None:
            self._thread.start()

    def changed(self, work: Work) -> None:
        """Told with the next line."""

    def end(self, work: Work) -> None:
        with self._changed:
            self._works.remove(work)

    def close(self, work: Work, *, whole: bool) -> None:
        """Nothing is printed after this. whole: whether the outermost work came to its end."""
        with self._changed:
            self._over = True
            self._changed.notify()
        self._thread.join()
        if whole and self._printed:
            took = f"done in {duration(time.monotonic() - work.start)}"
            self._print(f"{_cut(_told(work), LINE - len(took) - 2)}; {took}")

    def _tick(self) -> None:
        due = self._works[0].start + self.first
        while (text := self._wait(due)) is not None:
            due = time.monotonic() + self.every
            if not self._print(text):
                return

    def _wait(self, due: float) -> str | None:
        """Wait until it is time for a line, and make it; None when all is over."""
        with self._changed:
            while not self._over:
                now = time.monotonic()
                new = len(self._works) > self._deepest
                soon = min(due, self._works[-1].start + self.first) if new else due
                if now >= soon:
                    self._deepest = max(self._deepest, len(self._works))
                    return line(self._works, now)
                self._changed.wait(soon - now)
        return None

    def _print(self, text: str) -> bool:
        """Write a line in one piece; whether that went well. A full disk must not end the work."""
        try:
            self.console.file.write(f"{text}\n")
            self.console.file.flush()
        except (OSError, ValueError):
            return False
        self._printed = True
        return True


class _Screen:
    """Bars of nested works below one another; their clocks go on by themselves."""

    def __init__(self, console: Console) -> None:
        from rich.progress import (
            BarColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        shown = partial(TextColumn, markup=False)
        self._bars = Progress(
            shown("{task.description}"),
            BarColumn(bar_width=24),
            shown("{task.fields[far]}"),
            shown("{task.fields[note]}", style="dim"),
            TimeElapsedColumn(),
            shown("{task.fields[left]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._tasks: dict[Work, TaskID] = {}
        self._bars.start()

    def begin(self, work: Work) -> None:
        self._tasks[work] = self._bars.add_task(
            # the bar of a single step moves to and fro
            _cut(work.label, LABEL),
            total=None if work.steps == 1 else work.steps,
            completed=work.done,
            far=work.far,
            note="",
            left="" if work.steps == 1 else "left",
        )

    def changed(self, work: Work) -> None:
        note = _cut(work.noted, LABEL)
        self._bars.update(self._tasks[work], completed=work.done, far=work.far, note=note)

    def end(self, work: Work) -> None:
        self._bars.remove_task(self._tasks.pop(work))

    def close(self, work: Work, *, whole: bool) -> None:
        self._bars.stop()
