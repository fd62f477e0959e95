"""Kills over whole runs from a request to its certificate: `scripts/kills requests`.

A run is a fork that does the commands of a small team one after another: a ledger is begun, requests
come in (each twice), are approved, forgotten in two batches and certified. It is killed before an event
of a file or a database, or at any moment; once, or several times as it is started again. Half of the
runs of one ledger have a second worker beside them, that nobody kills. In the end the commands are
started until all end well, and then

- whatever was committed before a kill, or a command had said, is there as it was;
- each request is there once and certified, each step done once, each model made once;
- the ledger and its certificates hold, the state is that of an undisturbed run, and nothing else lies
  about.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from databases import empty_schema, postgres_server
from kills import ENDED, SIGNALS, Blow, Moments, begun, broken, tree, warm_up
from ledger_rows import Rows, alike, doubled, lost, ranked, ranks_of, rows_of

LEDGER = "original-ledger"
SAMPLES = {"a": 2, "b": 1, "c": 1}
"""Requests by their key -> how many samples each names."""
MOST_STARTS = 3
"""How often the commands are started until they end well; the first must do it."""
WAYS = ("sqlite", "postgres", "two workers")


def _certificate(batch: int) -> tuple[str, ...]:
    file = f"{LEDGER}/certificates/batch-{batch:04d}.dsse.json"
    return ("certify", "verify", file, "--key", f"{LEDGER}/signing-key.pub.pem")


def _add(key: str) -> tuple[str, ...]:
    return ("request", "add", "--ids", f"{key}.txt", "--key", key, "--source", "mail")


TRAIN = ("--model", "mlp", "--epochs", "8", "--lr", "0.1", "--batch-size", "16")
ORIGINAL = ("train", "--data", "digits:60", *TRAIN, "--out", "original")
BATCH = ("batch", "run", "--device", "cpu")
WORK = (
    _add("a"),
    _add("a"),
    (*_add("b"), "--undecided"),
    (*_add("b"), "--undecided"),
    ("request", "approve", "2"),
    BATCH,
    _add("c"),
    BATCH,
)
SEEN = (_certificate(1), _certificate(2), ("release", "list"), ("ledger", "verify"))


PROMOTED = (*WORK[:-1], (*BATCH, "--no-promote"), ("release", "promote", "3"))
"""As `WORK`, but a person lets the second model serve. Two workers may need no second model."""
UNNUMBERED = (_add("a"), _add("a"), _add("b"), _add("b"), BATCH, _add("c"), _add("c"), BATCH)
"""PostgreSQL gives no number twice, also where nothing was committed: nobody knows the next one."""


def commands(database: str, way: str) -> list[tuple[str, ...]]:
    """The whole run, from nothing but a trained model."""
    begin = ("ledger", "init", "original", "--organisation", "us", "--database", database)
    work = {"postgres": UNNUMBERED, "two workers": WORK}.get(way, PROMOTED)
    return [begin, *work, *(SEEN[2:] if way == "postgres" else SEEN)]


@dataclass(frozen=True)
class Start:
    """What every run starts from, and what an undisturbed one leaves. rows: see `alike`."""

    folder: Path
    rows: dict[str, Any]
    files: list[str]
    moments: int
    seconds: float


@dataclass
class Outcome:
    """What came of one run. kills: by the command that was killed."""

    kills: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)


def watch(moments: Moments) -> None:
    """Count, beside file events, every statement to a database, and the end of each transaction."""
    from sqlalchemy import Engine, event
    from sqlalchemy.engine.default import DefaultDialect

    from expunge.requests import ledger

    event.listen(Engine, "before_cursor_execute", lambda *_: moments.passed())
    commit, prepared = DefaultDialect.do_commit, ledger._prepared

    def counted(self: DefaultDialect, connection: Any) -> None:
        moments.passed()
        commit(self, connection)
        moments.passed()

    def hasty(connection: Any, record: Any) -> None:
        prepared(connection, record)
        connection.execute("PRAGMA synchronous=OFF")  # the machine goes on, whatever we kill

    DefaultDialect.do_commit = counted  # type: ignore[method-assign]
    ledger._prepared = hasty
    os.fsync = lambda _: None  # type: ignore[assignment]


def committed(database: str, work: Path) -> Rows:
    """What a ledger holds now; SQLite's files are looked at in a copy, and not put right by the look."""
    if database != "sqlite":
        return rows_of(database)
    with tempfile.TemporaryDirectory(dir=work.parent) as aside:
        for file in (work / LEDGER).glob("ledger.db*"):
            if not file.name.endswith("-shm"):
                shutil.copy(file, aside)
        return rows_of(f"sqlite:///{aside}/ledger.db")


def files_of(work: Path, rows: Rows) -> list[str]:
    """What lies about, without names that are drawn at random, and SQLite's own."""
    ranks = ranks_of(rows)
    names = (re.sub(r"(ledger|signing)-[0-9a-f]{16}", r"\1-KEY", name) for name in tree(work))
    names = (ranked(ranks, name) for name in names)
    return sorted(name for name in names if not re.search(r"ledger\.db(-wal|-shm)?$", name))


def undisturbed(folder: Path, database: str, way: str) -> Start:
    """Make what runs start from, and let one run end."""
    start = folder / "start"
    if not start.exists():
        for part in (".cache", ".data", ".tmp"):
            (start / part).mkdir(parents=True)
        _ended_well(begun([ORIGINAL], start).over()[0], folder / "start.log")
        ids = json.loads((start / "original/split.json").read_text())["retain"]
        for key, number in SAMPLES.items():
            own, ids = ids[:number], ids[number:]
            (start / f"{key}.txt").write_text("".join(f"{one}\n" for one in own))
    work = folder / "undisturbed"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(start, work)
    code, moments, seconds = begun(commands(database, way), work, watch=watch).over()
    _ended_well(code, folder / "undisturbed.log")
    rows = committed(database, work)
    wrong = list(doubled(rows, [*SAMPLES], sum(SAMPLES.values())))
    if wrong:
        raise SystemExit(f"an undisturbed run: {wrong}")
    return Start(start, alike(rows, work), files_of(work, rows), moments, seconds)


def _ended_well(code: int, log: Path) -> None:
    if code:
        raise SystemExit(f"ended with {code}:\n{log.read_text()[-3000:]}")


def blow_of(chance: random.Random, start: Start) -> Blow:
    """Some moment of the whole run; three of four are SIGKILL."""
    number = SIGNALS[0] if chance.random() < 0.75 else chance.choice(SIGNALS[1:])
    if chance.random() < 0.6:
        return Blow(number, chance.randint(1, start.moments))
    return Blow(number, None, chance.uniform(0.0, start.seconds))


def one_run(way: str, database: str, start: Start, folder: Path, chance: random.Random) -> Outcome:
    """Kill one run, once or up to three times, let it end, and look at what there is."""
    work, log = folder / "work", folder / "work.log"
    shutil.copytree(start.folder, work)
    outcome, told = Outcome(), list[str]()
    whole = commands(database, way)
    if way == "two workers":
        _ended_well(begun(whole[:1], work).over()[0], log)
    blows = [blow_of(chance, start) for _ in range(chance.choice((1, 1, 1, 2, 3)))]
    for blow in blows:
        other = begun(WORK, work, watch=watch) if way == "two workers" else None
        code = begun(WORK if other else whole, work, blow, watch).over()[0]
        if other is not None and (own := other.over()[0]):
            outcome.faults.append(f"the other worker ended with {own}")
        if code not in (0, -blow.number, ENDED.get(blow.number)):
            outcome.faults.append(f"it ended with {code}")
        outcome.kills[_at(log) if code else "ended before"] += 1
        told += [f"{blow} ({_at(log)})"]
        outcome.faults += broken(work)
    before, made = committed(database, work), _models(work)
    for turn in range(MOST_STARTS):
        code = begun(whole, work, watch=watch).over()[0]
        if not code:
            break
        outcome.faults.append(f"started again ({turn + 1}), it ended with {code}")
    after = committed(database, work)
    outcome.faults += lost(before, after)
    outcome.faults += doubled(after, [*SAMPLES], sum(SAMPLES.values())) if not code else ()
    outcome.faults += [f"{name} was made twice" for name in made.items() - _models(work).items()]
    outcome.faults += broken(work)
    if not code:
        outcome.faults += _said(log, after)
        outcome.faults += _other(way, start, after, work)
    if outcome.faults:
        about = f"{way}: {', '.join(told)}"
        outcome.faults = [f"{about}: {one}" for one in outcome.faults] + [log.read_text()[-2500:]]
    return outcome


def _at(log: Path) -> str:
    """The command that was begun last."""
    if not log.exists():  # killed so early
        return "before any"
    found = re.findall(r"^\$ (\w+ \w+)", log.read_text(errors="replace"), re.MULTILINE)
    return found[-1] if found else "before any"


def _models(work: Path) -> dict[str, int]:
    """Folders of models -> which folder that is."""
    return {
        one.name: one.stat().st_ino
        for one in work.glob(f"{LEDGER}/models/*")
        if not one.name.startswith(".")
    }


def _said(log: Path, rows: Rows) -> Iterator[str]:
    """Requests that a command said it has, and that are not there."""
    there = {row["id"] for row in rows["requests"]}
    for number in {*re.findall(r"^request (\d+)(?:: | is )", log.read_text(), re.MULTILINE)}:
        if int(number) not in there:
            yield f"request {number} was received, and is lost"


def _other(way: str, start: Start, rows: Rows, work: Path) -> Iterator[str]:
    """In what it is another than an undisturbed run."""
    files, odd = files_of(work, rows), list[str]()
    if way == "two workers":  # what is forgotten by which batch depends on who was quicker
        names = {Path(row["folder"]).name for row in rows["models"]} - {"original"}
        if names != set(_models(work)):
            yield f"models {sorted(_models(work))}, and known are {sorted(names)}"
        odd = [one for one in files if one not in start.files]
    else:
        odd = sorted((Counter(files) - Counter(start.files)).elements())
        odd += sorted((Counter(start.files) - Counter(files)).elements())
        told = alike(rows, work)
        for table, own in start.rows.items():
            if told[table] != own:
                differ = [
                    one for one in (*told[table], *own) if (one in own) != (one in told[table])
                ]
                yield f"{table} is not what an undisturbed run leaves: {differ or told[table]}"
    if odd:
        yield f"left behind or missing: {odd[:5]}"


# --- many of them


@dataclass
class Tally:
    """All runs so far. begun: the number of the next run. counts: kills by way and by command."""

    begun: int = 0
    runs: int = 0
    seconds: float = 0.0
    kills: Counter[str] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.kills.values())

    def add(self, way: str, outcome: Outcome) -> None:
        self.runs += 1
        done = Counter(outcome.kills)
        done.pop("ended before", None)
        self.kills[way] += sum(done.values())
        self.commands.update(done)
        self.faults += outcome.faults

    def write(self, out: Path, seed: int) -> None:
        """The counts as JSON, whole or not at all, with what was noted by hand beside them."""
        from expunge.disk.whole import write_file
        from expunge.hardware import machine_name
        from expunge.version import VERSION

        there = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
        content = {
            **there,
            "what": "kills over whole runs from a request to its certificate, at events of files and "
            "databases and at random moments: scripts/kills requests",
            "command": f"scripts/kills requests --n {self.total} --seed {seed}",
            "expunge": VERSION,
            "machine": machine_name("cpu"),
            "seed": seed,
            "kills": self.total,
            "faults": len(self.faults),
            "runs": self.runs,
            "begun": self.begun,
            "seconds": round(self.seconds),
            "by_way": dict(sorted(self.kills.items())),
            "by_command": dict(self.commands.most_common()),
            "faults_found": self.faults,
        }
        write_file(out, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, out: Path) -> Tally:
        told = json.loads(out.read_text(encoding="utf-8"))
        counts = Counter(told["by_way"]), Counter(told["by_command"])
        return cls(told["begun"], told["runs"], told["seconds"], *counts, told["faults_found"])


def way_of(number: int, ways: Sequence[str]) -> str:
    """Of the nth run: of ten, seven are in SQLite, one in PostgreSQL, two have two workers."""
    way = {0: "postgres", 1: "two workers", 5: "two workers"}.get(number % 10, "sqlite")
    return way if way in ways else ways[0]


def campaign(tally: Tally, given: argparse.Namespace, server: str | None) -> Iterator[None]:
    """Kill until there are enough kills; yields after each run."""
    ways = [one for one in WAYS if one in given.ways and (one != "postgres" or server)]
    running: dict[int, tuple[str, Path]] = {}
    with tempfile.TemporaryDirectory(prefix="expunge-request-kills-") as top:
        starts = {}
        for way in ways:
            database = empty_schema(server) if way == "postgres" and server else "sqlite"
            starts[way] = undisturbed(Path(top), database, way)
            print(f"{way}: {starts[way].moments} moments, {starts[way].seconds:.1f} s", flush=True)
        while running or tally.total < given.n:
            if tally.total + len(running) < given.n and len(running) < given.jobs:
                number, tally.begun = tally.begun, tally.begun + 1
                way, folder = way_of(number, ways), Path(top, f"run{number}")
                folder.mkdir()
                process = os.fork()
                if process == 0:
                    chance = random.Random(f"{given.seed} {number}")
                    _be_run(way, server, starts[way], folder, chance)
                running[process] = way, folder
                continue
            process, status = os.wait()
            way, folder = running.pop(process)
            outcome = _outcome(folder, status)
            number = folder.name.removeprefix("run")
            outcome.faults = [f"run {number}: {one}" for one in outcome.faults]
            tally.add(way, outcome)
            if outcome.faults and given.keep:
                shutil.copytree(folder, given.keep / folder.name, dirs_exist_ok=True)
            shutil.rmtree(folder)
            yield


def _outcome(folder: Path, status: int) -> Outcome:
    if status:
        return Outcome(faults=[f"the run itself ended with {status}"])
    told = json.loads((folder / "outcome.json").read_text())
    return Outcome(Counter(told["kills"]), told["faults"])


def _be_run(
    way: str, server: str | None, start: Start, folder: Path, chance: random.Random
) -> None:
    code = 1
    try:
        database = empty_schema(server) if way == "postgres" and server else "sqlite"
        outcome = one_run(way, database, start, folder, chance)
        (folder / "outcome.json").write_text(json.dumps(vars(outcome)))
        code = 0
    except BaseException as error:
        print(f"{way}: {error!r}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


LATE = (
    *("alembic", "alembic.autogenerate.api", "alembic.autogenerate.compare", "alembic.command"),
    *(
        "alembic.runtime.environment",
        "alembic.script",
        "cryptography.hazmat.primitives.asymmetric.ed25519",
    ),
    *("expunge.audits.svm", "expunge.data.contents", "expunge.data.digits", "expunge.models.mlp"),
    *("expunge.requests.beginning", "expunge.requests.checking", "expunge.requests.finding"),
    *("expunge.requests.overview", "expunge.requests.running", "expunge.requests.verify"),
    *(
        "holidays",
        "pygments.formatters.html",
        "pygments.lexers.python",
        "sqlalchemy.dialects.sqlite",
    ),
)
"""What the commands of a ledger import besides."""


def warm_up_requests() -> None:
    """Import that too, and read the digits once for all."""
    import sklearn.datasets

    sklearn.datasets.load_digits = functools.cache(sklearn.datasets.load_digits)
    sklearn.datasets.load_digits()
    for name in LATE:
        importlib.import_module(name)
    warm_up()


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="scripts/kills requests", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--n", type=int, default=100, help="kills in all (100)")
    parser.add_argument("--out", type=Path, help="file for the tally, JSON, after every run")
    parser.add_argument("--resume", action="store_true", help="go on with the tally of --out")
    parser.add_argument("--jobs", type=int, default=2, help="runs at once (2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first run (0)")
    parser.add_argument("--keep", type=Path, help="folder for what runs with faults left")
    parser.add_argument(
        "--ways", type=lambda text: text.split(","), default=list(WAYS), help=", ".join(WAYS)
    )
    given = parser.parse_args(words)
    if unknown := set(given.ways) - set(WAYS):
        parser.error(f"no way {', '.join(sorted(unknown))}")
    if given.resume and given.out is None:
        parser.error("--resume goes on with a file; name it with --out")
    resumed = given.resume and given.out.exists()
    tally = Tally.read(given.out) if resumed else Tally(begun=given.first)
    for name in ("EXPUNGE_LEDGER", "EXPUNGE_KEYS"):
        os.environ.pop(name, None)
    warm_up_requests()
    began, before, kills = time.perf_counter(), tally.seconds, tally.total
    with contextlib.ExitStack() as stack:
        server = None
        if "postgres" in given.ways:
            with contextlib.suppress(ModuleNotFoundError):
                server = stack.enter_context(postgres_server())
        for _ in campaign(tally, given, server):
            spent = time.perf_counter() - began
            tally.seconds = before + spent
            if given.out:
                tally.write(given.out, given.seed)
            left = spent / max(1, tally.total - kills) * max(0, given.n - tally.total)
            print(
                f"{tally.total} of {given.n} kills, {len(tally.faults)} faults; "
                f"about {left / 60:.0f} min left",
                flush=True,
            )
    for fault in tally.faults[:20]:
        print(fault)
    return 1 if tally.faults else 0
