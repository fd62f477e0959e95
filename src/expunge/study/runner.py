"""Workers that take whatever cell is ready and nobody else's; any number of them, from anywhere."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from expunge.study.cells import Cell
from expunge.study.source import is_stale
from expunge.study.store import KILLED, CellStore
from expunge.study.work import Bench, do_cell

WAIT_SECONDS = 0.2


@dataclass(frozen=True)
class Counts:
    """How far a study is. blocked: cells that need one which failed."""

    done: int
    running: int
    failed: int
    blocked: int
    waiting: int
    stale: int = 0

    @property
    def total(self) -> int:
        """All cells."""
        return self.done + self.running + self.failed + self.blocked + self.waiting


def count(
    cells: Sequence[Cell], store: CellStore, *, stale: bool = False, run: str | None = None
) -> Counts:
    """Look at the store.

    stale: count stale cells too, for which each finished one is read. run: count only that run's
    failures, for what failed before is tried again.
    """
    state: dict[str, str] = {}
    old = 0
    for cell in cells:  # what a cell needs stands before it
        if store.done(cell.key):
            state[cell.key] = "done"
            old += stale and is_stale(cell, store)
        elif store.claimed(cell.key):
            state[cell.key] = "running"
        elif any(state[need] in ("failed", "blocked") for need in cell.needs):
            state[cell.key] = "blocked"
        else:
            failure = store.failure(cell.key)
            failed = failure is not None and run in (None, failure.run)
            state[cell.key] = "failed" if failed else "waiting"
    found = list(state.values())
    return Counts(
        **{name: found.count(name) for name in ("done", "running", "failed", "blocked", "waiting")},
        stale=old,
    )


def made_again(cells: Sequence[Cell], store: CellStore, *, renew: bool = False) -> set[str]:
    """Keys of finished cells that a run makes a second time, for what others start from them.

    Records hold no weights: a cell that is missing there needs the model of one that is not, so that
    one is made again first. renew: stale cells are missing too.
    """
    missing: set[str] = set()
    for cell in cells:  # what a cell needs stands before it
        stale = renew and (bool(missing & {*cell.needs}) or is_stale(cell, store))
        if not store.done(cell.key) or stale:
            missing.add(cell.key)
    again: set[str] = set()
    for cell in reversed(cells):
        if cell.key in missing | again:
            again |= {n for n in cell.needs if store.done(n) and not store.has_weights(n)}
    return again


class Watch:
    """What the runners of one run are at, seen from outside; asked again and again.

    A cell that is over is not looked at again, nor is one before what it needs is there, and none is
    read, so a look costs little in a large study. run, renew: as the runners have them.
    """

    def __init__(
        self, cells: Sequence[Cell], store: CellStore, *, run: str, renew: bool = False
    ) -> None:
        self.store, self.run, self.renew = store, run, renew
        self._again = made_again(cells, store, renew=renew)
        self.done = {cell.key for cell in cells if store.done(cell.key)} - self._again
        self.failed: set[str] = set()
        self.killers: set[str] = set()
        self.running: list[Cell] = []
        self._left = [cell for cell in cells if renew or cell.key not in self.done]

    @property
    def over(self) -> set[str]:
        """Keys of the cells that are done, or failed in this run."""
        return self.done | self.failed

    def look(self) -> None:
        """Look at the store: `done`, `failed`, `killers` (those of the failed that killed their process)
        and `running` are then as they are now.
        """
        self.running = []
        left = []
        for cell in self._left:  # what a cell needs stands before it
            if self.done.issuperset(cell.needs) and self._is_over(cell):
                continue
            left.append(cell)
        self._left = left

    def more(self) -> bool:
        """Whether, as of the last look, anything is left that a worker could do."""
        lost, finished = set(self.failed), []
        for cell in self._left:  # what a cell needs stands before it
            if not lost.isdisjoint(cell.needs):
                lost.add(cell.key)
            elif cell.key in self.done:
                finished.append(cell)
            else:
                return True
        return any(is_stale(cell, self.store) for cell in finished)

    def _is_over(self, cell: Cell) -> bool:
        if self.store.claimed(cell.key):
            self.running.append(cell)
            return False
        failure = self.store.failure(cell.key)
        if failure is not None and failure.run == self.run:
            self.failed.add(cell.key)
            self.killers |= {cell.key} if failure.error == KILLED else set()
            return True
        if self.store.done(cell.key) and not self._lacks_weights(cell):
            self.done.add(cell.key)
            return not self.renew  # else it may be stale, and be made anew
        return False

    def _lacks_weights(self, cell: Cell) -> bool:
        return cell.key in self._again and not self.store.has_weights(cell.key)


Told = Callable[[Cell, str], None]


class Worker:
    """One process's way through the cells of a study.

    run: names this attempt: a cell that failed in an earlier one is tried again, once; one that killed
    its process then is tried when nothing else can be done. renew: make stale cells anew. told: called
    with a cell and "running", "done" or "failed".
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        bench: Bench,
        *,
        run: str = "",
        renew: bool = False,
        told: Told | None = None,
    ) -> None:
        self.cells = {cell.key: cell for cell in cells}
        self.bench, self.store = bench, bench.store
        self.run = run or uuid.uuid4().hex
        self.renew = renew
        self.tell: Told = told or (lambda *_: None)
        self._failed: set[str] = set()
        self._again = made_again(cells, self.store, renew=renew)

    def work(self, *, risky: bool = True) -> bool:
        """Make cells until each is done, failed in this run, or needs one that failed; whether each is.

        risky: do those too that killed their process in an earlier run; else these are left.
        """
        self.store.prepare().sweep()
        left = list(self.cells.values())
        while left:
            waiting = [cell for cell in left if self._is_deadly(cell) or not self._over(cell)]
            if len(waiting) == len(left):
                deadly = self._deadly_alone(left)
                if deadly and not risky:
                    return False
                if not any(self._over(cell) for cell in deadly):
                    time.sleep(WAIT_SECONDS)  # others are at the rest, or at what it needs
            left = waiting
        return True

    def _is_deadly(self, cell: Cell) -> bool:
        """Whether a cell killed its process in an earlier run."""
        failure = self.store.failure(cell.key)
        return failure is not None and failure.error == KILLED and failure.run != self.run

    def _deadly_alone(self, left: Sequence[Cell]) -> list[Cell]:
        """The deadly cells, if nothing else is left but what needs them; else none."""
        deadly = [cell for cell in left if self._is_deadly(cell)]
        reached = {cell.key for cell in deadly}
        for cell in left:  # what a cell needs stands before it
            reached |= {cell.key} if reached & {*cell.needs} else set()
        return deadly if len(reached) == len(left) else []

    def _over(self, cell: Cell) -> bool:
        """Make a cell if that can be done now; whether nothing is left to do about it."""
        if self._done(cell) or self._hopeless(cell):
            return True
        if not all(self._done(need) for need in cell.starts):
            return False
        with self.store.claim(cell.key) as mine:
            if not mine:
                return False
            if self._done(cell) or self._hopeless(cell):  # while we looked
                return True
            self.tell(cell, "running")
            try:
                with (
                    self.store.attempt(cell.key, self.run),
                    self.bench.place.progress.work(cell.label),
                ):
                    do_cell(cell, self.bench)
            # it belongs to the cell, and the others go on; somebody's code may even leave the program
            except (Exception, SystemExit) as error:
                self.store.fail(cell.key, error, self.run)
                self._failed.add(cell.key)  # another runner's record may replace this one
                self.tell(cell, "failed")
                return True
        self.tell(cell, "done")
        return True

    def _done(self, cell: Cell) -> bool:
        if not self.store.done(cell.key):
            return False
        if cell.key in self._again and not self.store.has_weights(cell.key):
            return False
        if not self.renew:
            return True
        fresh = all(self._done(need) for need in cell.starts)
        return fresh and not is_stale(cell, self.store)

    def _hopeless(self, cell: Cell) -> bool:
        """Whether it failed in this run, or needs one that did."""
        if self._done(cell):
            return False
        failure = self.store.failure(cell.key)
        failed = failure is not None and failure.run == self.run
        return (
            failed or cell.key in self._failed or any(self._hopeless(need) for need in cell.starts)
        )
