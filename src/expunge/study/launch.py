"""A whole study on this machine: plan it, start workers, tell how far they are."""

from __future__ import annotations

import multiprocessing
import os
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from expunge.errors import ConfigError
from expunge.progress import Reporter, Silent
from expunge.study.cells import Cell, Row, plan
from expunge.study.runner import Counts, Worker, count
from expunge.study.schema import Study
from expunge.study.store import Store
from expunge.study.tuning import Search, chosen, searches
from expunge.study.work import Bench

POLL_SECONDS = 0.5
FILE = "study.yaml"


@dataclass(frozen=True)
class Planned:
    """A study with its cells, its rows and the folder that holds them.

    tuned: whether all fields are chosen; if not, the cells are tuning's, and there are no rows yet.
    """

    study: Study
    cells: list[Cell]
    rows: list[Row]
    bench: Bench
    searches: list[Search] = field(default_factory=list)
    tuned: bool = True

    @property
    def store(self) -> Store:
        """Where the cells lie."""
        return self.bench.store

    def counts(self) -> Counts:
        """How far it is."""
        return count(self.cells, self.store)


def planned(
    study: Study, out: str | Path, *, data_dir: str | Path | None = None, device: str | None = None
) -> Planned:
    """Plan a study. Raises ConfigError for a folder that holds something else."""
    folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; choose a folder with --out")
    strange = folder.exists() and any(folder.iterdir()) and not (folder / FILE).exists()
    if strange:
        raise ConfigError(
            f"{folder} exists and holds something else; choose another folder with --out"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / FILE).exists() or (folder / FILE).read_text("utf-8") != study.to_yaml():
        part = folder / f".{FILE}.{os.getpid()}"
        part.write_text(study.to_yaml(), encoding="utf-8")
        os.replace(part, folder / FILE)
    bench = Bench(
        Store(folder), str(data_dir) if data_dir is not None else None, device,
        keep_all=study.keep_weights == "all",
    )  # fmt: skip
    return _plan(study, bench)


def _plan(study: Study, bench: Bench) -> Planned:
    """Cells and rows, as far as tuning has come."""
    trials, found = searches(study, bench.data, bench.store)
    best = chosen(found)
    if best is None:
        return Planned(study, trials, [], bench, found, tuned=False)
    cells, rows = plan(study, bench.data, best)
    return Planned(study, [*trials, *cells], rows, bench, found)


def run_study(
    study: Planned, *, workers: int = 1, renew: bool = False, progress: Reporter | None = None
) -> Planned:
    """Make all cells, by so many processes of one thread each; one worker is this process.

    What is finished stays; what failed is tried again, once. renew: make stale cells anew.
    Returns the study as it is then planned: tuning decides what comes after it. Failures stand in
    the store.
    """
    if workers < 1:
        raise ConfigError(f"{workers} workers can do nothing; give 1 or more")
    run = uuid.uuid4().hex
    while not study.tuned:
        before = len(study.cells)
        _run(study, run, workers, renew, progress or Silent())
        study = _plan(study.study, study.bench)
        if not study.tuned and len(study.cells) == before:
            return study  # what tuning needs has failed
    _run(study, run, workers, renew, progress or Silent())
    return study


def _run(study: Planned, run: str, workers: int, renew: bool, reporter: Reporter) -> None:
    """Make the cells that are planned."""
    left = [cell for cell in study.cells if not study.store.done(cell.key)]
    with reporter.work(f"study {study.study.name}", len(study.cells)) as bar:
        for _ in range(len(study.cells) - len(left)):
            bar.advance()
        if workers == 1:

            def told(cell: Cell, what: str) -> None:
                if what != "running":
                    bar.advance(cell.label if what == "done" else f"{cell.label} failed")

            Worker(study.cells, study.bench, run=run, renew=renew, told=told).work()
        else:
            _several(study, run, workers, renew, bar)


def _several(study: Planned, run: str, workers: int, renew: bool, bar: Any) -> None:
    """Start processes and watch the store until they end."""
    context = multiprocessing.get_context("spawn")
    cards = torch.cuda.device_count()
    started = []
    for number in range(workers):
        given = (study.cells, str(study.store.folder), study.bench.data_dir, study.bench.device,
                 study.bench.keep_all, run, renew, number % cards if cards else None)  # fmt: skip
        process = context.Process(target=_worker, args=given, daemon=True)
        process.start()
        started.append(process)
    seen = study.counts().done
    try:
        while any(process.is_alive() for process in started):
            time.sleep(POLL_SECONDS)
            now = study.counts()
            for _ in range(now.done + now.failed - seen):
                bar.advance(f"{now.running} running, {now.failed} failed")
            seen = max(seen, now.done + now.failed)
    finally:
        for process in started:
            process.terminate()
            process.join()
    crashed = [process.exitcode for process in started if process.exitcode]
    if len(crashed) == len(started):
        raise ConfigError(
            f"all {workers} workers ended with exit code {crashed[0]}; run the study again with "
            "--workers 1 to see why"
        )


def _worker(
    cells: list[Cell], folder: str, data_dir: str | None, device: str | None, keep_all: bool,
    run: str, renew: bool, card: int | None,
) -> None:  # fmt: skip
    """What a worker process does: one thread, one card."""
    torch.set_num_threads(1)
    if card is not None:
        torch.cuda.set_device(card)
    bench = Bench(Store(folder), data_dir, device, keep_all)
    Worker(cells, bench, run=run, renew=renew).work()
