"""A whole study on this machine: plan it, start workers, tell how far they are."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.audits import AUDITS, make_audit
from expunge.disk.reading import read_json, reading
from expunge.disk.whole import unwritable, write_file
from expunge.errors import ConfigError, UserError
from expunge.loading import loading
from expunge.place import HERE, Place
from expunge.progress import Reporter, Silent, Step
from expunge.study.bank_needs import check_foreign
from expunge.study.cells import Cell, Facts, Row, content_of, plan_cells
from expunge.study.check import check_consent, check_there
from expunge.study.file import FACTS, read_study
from expunge.study.schema import Study
from expunge.study.seeds import as_held
from expunge.study.store import CELLS, CellStore
from expunge.study.tuning import TuningSearch, check_tuned, chosen, searches
from expunge.study.written import check_sources, plain_sources

if TYPE_CHECKING:
    from expunge.study.crew import Orders
    from expunge.study.runner import Counts, Watch
    from expunge.study.work import Bench

POLL_SECONDS = 0.5
NAMED = 3
"""Running cells that are named."""
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
    searches: list[TuningSearch] = field(default_factory=list)
    tuned: bool = True

    @property
    def store(self) -> CellStore:
        """Where the cells lie."""
        return self.bench.store

    def counts(self, *, stale: bool = False) -> Counts:
        """How far it is. stale: count stale cells too, for which every finished one is read."""
        from expunge.study.runner import count

        return count(self.cells, self.store, stale=stale)


def planned(
    study: Study,
    out: str | Path,
    *,
    place: Place = HERE,
    recorded: bool = False,
) -> Planned:
    """Plan a study. Nothing is written: that is `run_study`'s.

    recorded: believe what the last run noted of the data and of files of ids, which then need not be
    there; for looking at results, which writes nothing. place.allow_code: whether `module:function` may
    be imported.
    Raises ConfigError for a folder that holds something else, or another scale.
    """
    folder = Path(out)
    if not recorded and (why := unwritable(folder / CELLS)) is not None:
        raise ConfigError(f"{folder} cannot be made ({why}); choose another folder")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; choose a folder with --out")
    file = folder / FILE
    # a run that was killed while it wrote its first file has left that file's temporary name
    others = folder.exists() and any(not f.name.startswith(f".{FILE}") for f in folder.iterdir())
    if others and not file.exists():
        raise ConfigError(
            f"{folder} exists and holds something else; choose another folder with --out"
        )
    held = read_study(file, recorded=file) if file.exists() else study
    if (held.name, held.scale) != (study.name, study.scale):
        raise ConfigError(
            f"{folder} holds the study {_told(held)}, not {_told(study)}; choose another folder "
            "with --out, or that study"
        )
    study = as_held(study, held)
    facts, contents = _read_sources(folder / FACTS) if recorded else ({}, {})
    believed = bool(facts) and facts.keys() >= set(study.specs)
    if not believed:
        check_consent(study.models, study.specs, study.further, allow_code=place.allow_code)
        for name in study.further:  # whatever it lacks is known before anything is trained
            audit = make_audit(name, allow_code=place.allow_code)
            if name not in AUDITS:
                check_foreign(audit, study.bank)
        unknown = [text for text in study.scenarios if text not in contents]
        try:
            check_there(study.specs, unknown, place.data_dir, allow_code=place.allow_code)
        except UserError:
            if recorded:  # nobody asked for the data, but for what came of them
                check_made(folder)
            raise
    with loading():
        from expunge.study.work import Bench

    bench = Bench(CellStore(folder), place, keep_all=study.keep_weights == "all")

    def content(scenario: str) -> str:
        return contents[scenario] if scenario in contents else content_of(scenario)

    return _plan(study, bench, facts.__getitem__ if believed else bench.facts, content)


def check_made(folder: Path) -> None:
    """Raise ConfigError for a folder of which there is no study to look at."""
    if not (folder / FILE).is_file():
        what = "is no folder of a study" if folder.exists() else "does not exist"
        raise ConfigError(f"{folder} {what}; make one with `expunge study run`")


def _told(study: Study) -> str:
    return f"{study.name} at scale {study.scale}" if study.scale else study.name


def _write(study: Planned) -> None:
    """Keep what the study says, with every default filled in, and what it found its data to be."""
    store, asked = study.store, study.study
    facts = {spec: study.bench.facts(spec) for spec in asked.specs}
    contents = {text: digest for text in asked.scenarios if (digest := content_of(text))}
    plain = json.dumps(plain_sources(facts, contents), indent=1, ensure_ascii=False)
    with reading(store.folder, "choose another folder with --out", ConfigError):
        store.folder.mkdir(parents=True, exist_ok=True)
        write_file(store.folder / FILE, asked.to_yaml())
        write_file(store.folder / FACTS, f"{plain}\n")
    store.prepare().check_locks()
    store.sweep()


def _read_sources(file: Path) -> tuple[dict[str, Facts], dict[str, str]]:
    """What the last run found its data and files of ids to be; nothing where there was none."""
    if not os.path.lexists(file):
        return {}, {}
    with reading(file, "delete it, and the data are looked at anew", ConfigError):
        return check_sources(read_json(file, within=file.parent))


def _plan(
    study: Study,
    bench: Bench,
    facts: Callable[[str], Facts],
    content: Callable[[str], str] = content_of,
) -> Planned:
    """Cells and rows, as far as tuning has come."""
    trials, found = searches(study, facts, bench.store, content)
    best = chosen(found)
    if best is None:
        return Planned(study, trials, [], bench, found, tuned=False)
    cells, rows = plan_cells(study, facts, best, content)
    return Planned(study, [*trials, *cells], rows, bench, found)


def run_study(
    study: Planned,
    *,
    workers: int | None = None,
    ray: str | None = None,
    renew: bool = False,
    progress: Reporter | None = None,
    beside: int = 0,
    finished: Callable[[Cell], None] = lambda cell: None,
) -> Planned:
    """Make all cells.

    What is finished stays; what failed is tried again, once. workers: processes of one thread each;
    None: one, which is this process, or on a cluster as many as it has room for. ray: address of a
    Ray cluster to work on. renew: make stale cells anew. beside: processes that work beside this one,
    where it works itself. finished: called with each cell that is made, soon after. Returns the study
    as it is then planned:
    tuning decides what comes after it. Failures stand in the store.

    Raises ConfigError for a folder whose file system honours no locks, for a finished cell that is
    damaged, and for a device or a cluster that is not there.
    """
    if workers is not None and workers < 1:
        raise ConfigError(f"{workers} workers can do nothing; give 1 or more")
    _check_machine(study, ray)
    _write(study)
    for cell in study.cells:
        if study.store.done(cell.key):
            study.store.read(cell.key)
    run = uuid.uuid4().hex
    how = _How(run, workers, ray, renew, progress or Silent(), beside, finished)
    while True:
        before = [cell.key for cell in study.cells]
        _run(study, how)
        # tuning decides what comes after it, and a trial that failed before may have changed its mind
        study = _plan(study.study, study.bench, study.bench.facts)
        if [cell.key for cell in study.cells] == before:
            check_tuned(study.searches, study.cells, study.store)
            return study


def _check_machine(study: Planned, ray: str | None) -> None:
    """Raise ConfigError, before anything is written, for a device or a cluster that is not there."""
    if ray is not None:
        from expunge.training.cluster import check_cluster

        check_cluster(ray)
        return
    from expunge.training.run import check_here

    check_here(study.bench.place.device)


@dataclass(frozen=True)
class _How:
    run: str
    workers: int | None
    ray: str | None
    renew: bool
    reporter: Reporter
    beside: int
    finished: Callable[[Cell], None]


def _run(study: Planned, how: _How) -> None:
    """Make the cells that are planned."""
    before = {cell.key for cell in study.cells if study.store.done(cell.key)}
    if len(before) == len(study.cells) and not how.renew:
        return
    label, total = f"study {study.study.name}", len(study.cells)
    with how.reporter.work(label, total, len(before), unit="cells") as bar:
        if how.ray is None and how.workers in (None, 1):
            whole = _here(study, how, bar)
            if not whole:  # what killed its process before does not get this one
                _several(study, replace(how, workers=1), bar)
        else:
            _several(study, how, bar)


def _here(study: Planned, how: _How, bar: Step) -> bool:
    """Work in this process, others beside it if asked; whether nothing is left."""
    from expunge.study.crew import follow
    from expunge.study.runner import Watch, Worker
    from expunge.training.processes import Processes, one_thread

    before = {cell.key for cell in study.cells if study.store.done(cell.key)}
    watch = Watch(study.cells, study.store, run=how.run, renew=how.renew) if how.beside else None
    crew = Processes(follow, _orders(study, how), how.beside) if how.beside else None
    failed: set[str] = set()

    def told(cell: Cell, what: str) -> None:
        if watch is not None:  # others finish cells too; alone, nobody need look at all of them
            _look(watch, study, how, bar)
            failed.update(watch.failed)
        elif what == "failed":
            failed.add(cell.key)
        elif what == "done":
            how.finished(cell)
        note = f"{len(failed)} failed" if failed else ""
        if watch is None and what != "running" and cell.key not in before:  # not one made anew
            bar.advance(note)
        else:
            bar.note(note)

    bench = replace(study.bench, place=replace(study.bench.place, progress=how.reporter))
    try:
        with one_thread():  # as every worker has, so that times can be compared
            worker = Worker(study.cells, bench, run=how.run, renew=how.renew, told=told)
            whole = worker.work(risky=False)
    finally:
        if crew is not None:
            killers = study.store.killers()
            crew.end()  # on purpose, so what they work on is to blame for nothing
            study.store.forget_attempts(but=killers)
    if watch is not None:
        _look(watch, study, how, bar)
    return whole


def _look(watch: Watch, study: Planned, how: _How, bar: Step) -> None:
    """Tell of the cells that are over since the last look, whoever made them."""
    over, made = len(watch.over), set(watch.done)
    watch.look()
    for _ in range(len(watch.over) - over):
        bar.advance()
    fresh = watch.done - made
    for cell in study.cells if fresh else ():
        if cell.key in fresh:
            how.finished(cell)


def _orders(study: Planned, how: _How) -> Orders:
    """What other processes are told."""
    from expunge.study.crew import Orders

    return Orders(
        study.cells,
        str(study.store.folder.resolve()),
        study.bench.place.for_others(),
        study.bench.keep_all,
        how.run,
        how.renew,
    )


def _several(study: Planned, how: _How, bar: Step) -> None:
    """Start workers and watch the store until they end."""
    from expunge.study.crew import follow
    from expunge.study.runner import Watch
    from expunge.training.crew import start_crew

    orders, device = _orders(study, how), study.bench.place.device
    bar.note(f"starting {how.workers} workers" if how.workers else "starting workers")
    # a worker that a cell killed is started again, as often as there are cells
    again = len(study.cells)
    crew = start_crew(follow, orders, how.workers, ray=how.ray, again=again, device=device)
    watch = Watch(study.cells, study.store, run=how.run, renew=how.renew)
    begun = watch.over
    try:
        alive = True
        while alive:
            time.sleep(POLL_SECONDS)
            alive = crew.alive()
            _look(watch, study, how, bar)  # after the last sign of life, so that nothing is missed
            if watch.running or watch.over != begun:  # else they are still starting
                bar.note(_at(watch))
            alive |= watch.more() and crew.replace(len(watch.killers))
    except BaseException:
        killers = study.store.killers()
        crew.end()  # on purpose, so what they work on is to blame for nothing
        study.store.forget_attempts(but=killers)
        raise
    crashed = crew.end()
    if (
        len(crashed) == crew.size and watch.more()
    ):  # else cells killed them, which say so themselves
        raise ConfigError(
            f"all {crew.size} workers ended early ({crashed[0]}); run the study again with "
            "--workers 1 to see why"
        )


def _at(watch: Watch) -> str:
    """What runners are at, in words."""
    told = [f"{len(watch.failed)} failed"] if watch.failed else []
    if watch.running:
        labels = [cell.label for cell in watch.running]
        more = f" and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
        told.append(f"{len(labels)} running: {' | '.join(labels[:NAMED])}{more}")
    return ", ".join(told)
