"""Kills and signals at every file event of the commands that write, and at random moments.

Each run of a command is a fork of this process, which has imported everything. What it does to files is
counted by an audit hook (https://docs.python.org/3/library/audit_events.html); at the event that is its
turn it gets SIGKILL, SIGTERM, SIGHUP or SIGINT, before the event happens. Then:

- every folder that is there is whole, and one that was to be replaced is there, old or new;
- the same command, started again, ends well;
- then nothing lies about that an undisturbed run does not leave.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

STUDY = """\
name: killed
data: ["digits:90"]
models: [mlp]
recipes:
  quick: {epochs: 1, lr: 0.05, batch_size: 32}
scenarios: [class]
controls: false
class_also: []
methods:
  finetune: {epochs: 1}
seeds: [0]
"""
POISON = "+patch:share=0.2,target=3"
TRAIN = ("--model", "mlp", "--epochs", "1", "--batch-size", "32")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
ENDED = {signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGINT: 130}
CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate")


@dataclass(frozen=True)
class Case:
    """A command to be killed.

    Attributes:
        name: of the case.
        arguments: of the command; `--overwrite` is added where it knows it.
        before: commands that make what it starts from.
        replaces: folders that are there before and after, old or new.
        together: folders that are both old or both new after the next start.
        same: folders whose files are in the end those of an undisturbed run, byte by byte.
    overwrite: whether the command knows that option.
        long: it takes seconds; a fifth of the random kills is for it.
    """

    name: str
    arguments: tuple[str, ...]
    before: tuple[tuple[str, ...], ...] = ()
    replaces: tuple[str, ...] = ()
    together: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    overwrite: bool = True
    long: bool = False


def _cases() -> list[Case]:
    original = ("train", "--data", "digits:90", *TRAIN, "--out", "original")
    poisoned = ("train", "--data", f"digits:120{POISON}", *TRAIN, "--out", "original")
    forget = ("unlearn", "original", "--forget", "class:3", "--method", "finetune")
    forget = (*forget, "--set", "epochs=1", "--out", "new")
    paged = (*forget, "--with-reference", "--report", "page")
    prune = ("prune", "original", "--pruner", "omp", "--sparsity", "0.5", "--out", "new")
    cleanse = ("cleanse", "original", "--method", "finetune", "--set", "epochs=1", "--out", "new")
    study = ("study", "run", "study.yaml", "--out", "study")
    results = ("study", "results", "study.yaml", "--out", "study")
    report = ("study", "report", "study", "--out", "page")
    bank = ("bank", "build", "original", "--models", "4")
    purge = ("bank", "purge", "new", "--renew")
    weights = ("original-bank/models",)
    pair = ("new", "new-retrained")
    return [
        Case("train", (*original[:-1], "new")),
        Case("train over", (*original[:-1], "new"), ((*original[:-1], "new"),), ("new",)),
        Case("unlearn", paged, (original,), together=pair, long=True),
        Case("unlearn over", paged, (original, paged), (*pair, "page"), pair, long=True),
        Case("prune", prune, (original,)),
        Case("prune over", prune, (original, prune), ("new",)),
        Case("cleanse over", cleanse, (poisoned, cleanse), ("new",)),
        Case("study run", study, overwrite=False, long=True),
        Case(
            "study results over", results, (study,), ("study/results",), overwrite=False, long=True
        ),
        Case("study report over", report, (study, report), ("page",), long=True),
        Case("bank build", bank, (original,), same=weights, overwrite=False),
        Case("bank purge", purge, (original, forget, bank), same=weights, overwrite=False),
    ]


@dataclass
class Found:
    """What came of the kills of one case. kills: by signal."""

    case: str
    events: int
    kills: Counter[str] = field(default_factory=Counter)
    ended_before: int = 0
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Blow:
    """When a run is hit: before its nth file event, or after some seconds."""

    number: signal.Signals
    event: int | None = None
    seconds: float = 0.0

    def __str__(self) -> str:
        when = f"after {self.seconds:.3f} s" if self.event is None else f"at event {self.event}"
        return f"{self.number.name} {when}"


@dataclass
class Moments:
    """Counts what a run does, and hits it when it is its turn, before that happens."""

    blow: Blow | None
    count: int = 0

    def passed(self) -> None:
        self.count += 1
        if self.blow is not None and self.blow.event == self.count:
            os.kill(os.getpid(), self.blow.number)


Watch = Callable[[Moments], None]


@dataclass(frozen=True)
class Running:
    """Commands that a fork does, one after another. tally: where it says how many moments it had."""

    process: int
    tally: Path
    blow: Blow | None
    began: float

    def over(self) -> tuple[int, int, float]:
        """Wait for it: its exit code (negative: the signal that ended it), the number of its moments,
        and its seconds.
        """
        if self.blow is not None and self.blow.event is None:
            time.sleep(max(0.0, self.began + self.blow.seconds - time.perf_counter()))
            os.kill(self.process, self.blow.number)
        code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        moments = int(self.tally.read_text()) if self.tally.exists() else 0
        self.tally.unlink(missing_ok=True)
        return code, moments, time.perf_counter() - self.began


def begun(
    commands: Sequence[Sequence[str]],
    work: Path,
    blow: Blow | None = None,
    watch: Watch | None = None,
) -> Running:
    """Begin some commands in a fork, up to the first that does not end well.

    watch: looks at other things than file events in the fork, and counts them.
    """
    tally = work.parent / f"{work.name}{'' if blow is None else '.hit'}.events"
    start = time.perf_counter()
    signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGINT}
    )  # until the fork has a handler of its own
    process = os.fork()
    if process == 0:
        _be_commands(commands, work, Moments(blow), watch, tally)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    return Running(process, tally, blow, start)


def run(arguments: Sequence[str], work: Path, blow: Blow | None = None) -> tuple[int, int, float]:
    """Run one command in a fork, and wait for it; see `Running.over`."""
    return begun([arguments], work, blow).over()


def _be_commands(
    commands: Sequence[Sequence[str]],
    work: Path,
    moments: Moments,
    watch: Watch | None,
    tally: Path,
) -> None:
    """What the fork does; it never returns."""
    code = 1
    try:
        signal.signal(
            signal.SIGINT, signal.SIG_DFL
        )  # one before the command has begun just ends it
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        os.chdir(work)
        log = os.open(work.parent / f"{work.name}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ |= {
            "XDG_CACHE_HOME": str(work / ".cache"),
            "XDG_DATA_HOME": str(work / ".data"),
            "TMPDIR": str(work / ".tmp"),
        }
        tempfile.tempdir = str(work / ".tmp")

        def hook(event: str, given: tuple[object, ...]) -> None:
            if _changes(event, given, str(work)):
                moments.passed()

        sys.addaudithook(hook)
        if watch is not None:
            watch(moments)
        from expunge import cli

        signal.signal(signal.SIGINT, signal.default_int_handler)
        for arguments in commands:
            os.write(1, f"$ {' '.join(arguments)}\n".encode())
            sys.argv = ["expunge", *arguments]
            try:
                cli.main()
                code = 0
            except SystemExit as stop:
                code = int(str(stop.code or 0))
            sys.stdout.flush()  # what it has said stays said
            if code:
                break
        if moments.blow is None:
            tally.write_text(str(moments.count))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _changes(event: str, given: tuple[object, ...], work: str) -> bool:
    """Whether an event is about to change a file of the working folder."""
    if event == "open":
        path, mode, flags = (*given, None, None)[:3]
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        written = isinstance(mode, str) and any(sign in mode for sign in "wax+")
        if not (writes or written):
            return False
    elif event in CHANGES:
        path = given[0]
    else:
        return False
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if not isinstance(path, str | os.PathLike):
        return event != "open"  # by a handle, as rmtree does it
    return os.path.abspath(path).startswith(f"{work}/")


def tree(work: Path) -> dict[str, str]:
    """Files and empty folders of a working folder: path -> digest."""
    found = {}
    for where, folders, files in os.walk(work):
        for name in files:
            path = Path(where, name)
            found[path.relative_to(work).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
        for name in folders:
            if not any(Path(where, name).iterdir()):
                found[f"{Path(where, name).relative_to(work).as_posix()}/"] = ""
    return found


def part(files: dict[str, str], folder: str) -> dict[str, str]:
    """What lies in one folder."""
    return {name: digest for name, digest in files.items() if name.startswith(f"{folder}/")}


def broken(work: Path) -> Iterator[str]:
    """What is not whole, but for temporary names."""
    from expunge.trained.card import ARTIFACTS, CARD, MASK, WEIGHTS, digest_file, read_card
    from expunge.trained.papers import read_papers

    for path in sorted(work.rglob("*")):
        if any(".expunge-" in step for step in path.relative_to(work).parts) or path.is_dir():
            continue
        try:
            if path.name == CARD:
                card = read_card(path.parent)
                read_papers(path.parent)
                for name, digest in (
                    (WEIGHTS, card.weights),
                    (MASK, card.mask),
                    (ARTIFACTS, card.artifacts),
                ):
                    if digest and digest_file(path.parent / name) != digest:
                        yield f"{path.parent / name} is damaged"
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".html" and not path.read_text().rstrip().endswith("</html>"):
                yield f"{path} is cut short"
        except Exception as error:
            yield f"{path}: {error}"


@dataclass(frozen=True)
class Bench:
    """A case made ready: what it starts from, and what an undisturbed run leaves."""

    case: Case
    start: Path
    before: dict[str, str]
    after: dict[str, str]
    events: int
    seconds: float

    @property
    def again(self) -> tuple[str, ...]:
        """The command as it is started, first and again."""
        return (*self.case.arguments, *(["--overwrite"] if self.case.overwrite else []))


def made(commands: Sequence[tuple[str, ...]], folder: Path) -> Path:
    """A folder that these commands have made; what begins alike is made once in `folder`."""
    name = hashlib.sha256(repr(commands).encode()).hexdigest()[:16]
    if (folder / name).exists():
        return folder / name
    work = folder / f"{name}.{os.getpid()}"
    if commands:
        shutil.copytree(made(commands[:-1], folder), work)
        _ended_well(run(commands[-1], work), commands[-1], folder / f"{work.name}.log")
    else:
        for part_ in (".cache", ".data", ".tmp"):
            (work / part_).mkdir(parents=True)
        (work / "study.yaml").write_text(STUDY)
    with contextlib.suppress(OSError):  # another case has made it meanwhile
        work.rename(folder / name)
    return folder / name


def prepare(case: Case, folder: Path) -> Bench:
    """Make what a case starts from, and run it undisturbed."""
    start = folder / "start"
    shutil.copytree(made(case.before, folder.parent / "made"), start)
    work = folder / "undisturbed"
    shutil.copytree(start, work)
    bench = Bench(case, start, tree(start), {}, 0, 0.0)
    done = run(bench.again, work)
    _ended_well(done, bench.again, folder / "undisturbed.log")
    if not case.replaces:
        # once more: what stands there when it is started a second time
        _ended_well(run(bench.again, work), bench.again, folder / "undisturbed.log")
    return Bench(case, start, bench.before, tree(work), done[1], done[2])


def _ended_well(done: tuple[int, int, float], command: Sequence[str], log: Path) -> None:
    if done[0] != 0:
        raise SystemExit(f"{' '.join(command)} ended with {done[0]}:\n{log.read_text()}")


def strike(bench: Bench, blow: Blow, folder: Path) -> tuple[int, list[str]]:
    """Hit a run, and look at what is left: its exit code, and what was wrong."""
    from expunge.disk.whole import recover

    case = bench.case
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(bench.start, work)
    (folder / "work.log").unlink(missing_ok=True)
    code, _, _ = run(bench.again, work, blow)
    for name in case.replaces:
        recover(work / name)  # where two renames were needed, as whoever reads it does
    faults = list(broken(work))
    if code not in (0, -blow.number, ENDED.get(blow.number)):
        faults.append(f"it ended with {code}")
    now = tree(work)
    for name in case.replaces:
        own = part(now, name)
        if own != part(bench.before, name) and own.keys() != part(bench.after, name).keys():
            faults.append(f"{name} is neither the old one nor whole: {sorted(own)}")
    again = run(bench.again, work)[0]
    if again != 0:
        faults.append(f"started again, it ended with {again}")
    faults += broken(work)
    left = tree(work)
    if left.keys() != bench.after.keys():
        odd = sorted(left.keys() ^ bench.after.keys())
        faults.append(f"left behind or missing after the next start: {odd[:5]}")
    for name in case.same:
        if part(left, name) != part(bench.after, name):
            faults.append(f"{name} is not what an undisturbed run makes")
    if faults:
        log = (folder / "work.log").read_text()[-2000:]
        faults = [f"{case.name}, {blow}: {fault}" for fault in faults] + [log]
    return code, faults


def pair_faults(bench: Bench, blow: Blow, folder: Path) -> list[str]:
    """Whether folders that appear together do so after the next start, of whatever command."""
    from expunge.disk.whole import sweep

    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(bench.start, work)
    run(bench.again, work, blow)
    sweep(work)
    now = tree(work)
    old = [part(now, name) == part(bench.before, name) for name in bench.case.together]
    if len(set(old)) > 1:
        return [f"{bench.case.name}, {blow}: of {bench.case.together}, old: {old}"]
    return []


def campaign(
    case: Case, folder: Path, *, every: int, at_random: int, chance: random.Random
) -> Found:
    """Kill one case: at every `every`-th file event, and so many times at random."""
    bench = prepare(case, folder)
    found = Found(case.name, bench.events)
    first = chance.randrange(every)
    blows = [
        # SIGKILL at each event; of the others one in four
        Blow(SIGNALS[0] if chance.random() < 0.75 else chance.choice(SIGNALS[1:]), event)
        for event in range(1 + first, bench.events + 1, every)
    ]
    blows += [
        Blow(chance.choice(SIGNALS), None, chance.uniform(0.0, 0.8 * bench.seconds))
        for _ in range(-(-at_random // 5) if case.long else at_random)
    ]
    for blow in blows:
        code, faults = strike(bench, blow, folder)
        if code == 0:
            found.ended_before += 1
        else:
            found.kills[blow.number.name] += 1
        found.faults += faults
        if case.together and blow.number is signal.SIGKILL:
            found.faults += pair_faults(bench, blow, folder)
            found.kills["SIGKILL"] += code != 0
    return found


def campaigns(cases: Sequence[Case], given: argparse.Namespace) -> Iterator[Found]:
    """What came of each case, as they end; so many at once, each a process of its own."""
    waiting = list(cases)[::-1]
    running: dict[int, Path] = {}
    with tempfile.TemporaryDirectory(prefix="expunge-kills-") as top:
        while waiting or running:
            if waiting and len(running) < given.jobs:
                number = len(cases) - len(waiting)
                case = waiting.pop()
                folder = Path(top, f"case{len(waiting)}")
                folder.mkdir()
                process = os.fork()
                if process == 0:
                    _be_campaign(case, folder, given, number)
                running[process] = folder
                continue
            process, status = os.wait()
            folder = running.pop(process)
            if status:
                raise SystemExit(f"a campaign ended with {status}")
            content = json.loads((folder / "found.json").read_text())
            yield Found(**{**content, "kills": Counter(content["kills"])})
            shutil.rmtree(folder)


def _be_campaign(case: Case, folder: Path, given: argparse.Namespace, number: int) -> None:
    code = 1
    try:
        chance = random.Random(f"{given.seed} {case.name}")
        every, at_random = given.every[number], given.random[number]
        found = campaign(case, folder, every=every, at_random=at_random, chance=chance)
        (folder / "found.json").write_text(json.dumps(vars(found)))
        code = 0
    except BaseException as error:
        print(f"{case.name}: {error!r}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)


WARM = (
    *("accelerate", "torch._dynamo", "sklearn.datasets", "sklearn.svm"),
    *("expunge.report.figures", "expunge.report.page", "expunge.folders.page", "expunge.api"),
    *("expunge.pruning.original", "expunge.study.page", "expunge.study.work"),
    *("expunge.shadows.crew", "expunge.shadows.purge", "expunge.shadows.status"),
    *("expunge.folders.audit", "expunge.folders.cleanse", "expunge.folders.elsewhere"),
    *("expunge.folders.export", "expunge.folders.sparse", "expunge.advice.folder"),
    *("expunge.shadows.folders", "expunge.study.catalogue", "expunge.study.publish"),
    *("matplotlib.backends.backend_pdf", "matplotlib.backends.backend_svg"),
)
"""What commands import, and torch's optimisers with them."""


def warm_up() -> None:
    """Import all that, so that forks begin at once; torch computes nothing before a fork."""
    from fonts import draw_before

    from expunge.cli.table import COMMANDS
    from expunge.cli.tree import work_of
    from expunge.loading import loading

    with loading():
        for path in COMMANDS:
            work_of(path)
        for name in WARM:
            importlib.import_module(name)
        draw_before()
    gc.collect()
    gc.freeze()


def numbers(text: str) -> list[int]:
    """Numbers between commas."""
    return [int(word) for word in text.split(",")]


def main() -> int:
    if sys.argv[1:2] == ["requests"]:
        import request_kills

        return request_kills.main(sys.argv[2:])
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [case.name for case in _cases()]
    parser.add_argument("--only", help=f"cases, comma-separated, of: {', '.join(names)}")
    each = "; one number for all cases, or one for each of --only"
    parser.add_argument(
        "--every", type=numbers, default=[1], help=f"hit every nth file event (1){each}"
    )
    parser.add_argument(
        "--random", type=numbers, default=[40], help=f"kills at random moments, a case (40){each}"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="cases at once")
    parser.add_argument(
        "--two-renames", action="store_true", help="as on a system that cannot exchange two names"
    )
    parser.add_argument(
        "--out", type=Path, help="file for the result, JSON; further runs add to it"
    )
    given = parser.parse_args()
    chosen = given.only.split(",") if given.only else names
    if unknown := set(chosen) - set(names):
        parser.error(f"no case {', '.join(sorted(unknown))}")
    for option in ("every", "random"):
        if len(getattr(given, option)) == 1:
            setattr(given, option, getattr(given, option) * len(chosen))
        elif len(getattr(given, option)) != len(chosen):
            parser.error(f"--{option} takes one number, or one for each case")
    warm_up()
    if given.two_renames:
        from expunge.disk import exchange

        exchange.system_call = lambda: None  # type: ignore[assignment]
    start = time.perf_counter()
    results = []
    cases = {case.name: case for case in _cases()}
    for found in campaigns([cases[name] for name in chosen], given):
        results.append(found)
        kills = ", ".join(f"{number} {name}" for name, number in sorted(found.kills.items()))
        print(
            f"{found.case}: {found.events} file events; {kills}; {found.ended_before} ended before; "
            f"{len(found.faults)} faults ({time.perf_counter() - start:.0f} s so far)",
            flush=True,
        )
        for fault in found.faults[:10]:
            print(f"  {fault}", flush=True)
    total = sum(sum(found.kills.values()) for found in results)
    lost = sum(len(found.faults) for found in results)
    print(f"{total} kills, {lost} faults, {time.perf_counter() - start:.0f} s")
    if given.out:
        write_result(given.out, results, given.seed)
    return 1 if lost else 0


def write_result(out: Path, results: Sequence[Found], seed: int) -> None:
    """The counts as JSON; a file that is there gets a further run."""
    from expunge.hardware import machine_name
    from expunge.version import VERSION

    there = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    runs = there.get("runs", [])
    cases = [
        {
            "case": found.case,
            "file_events": found.events,
            "kills": dict(sorted(found.kills.items())),
            "ended_before": found.ended_before,
            "faults": found.faults,
        }
        for found in results
    ]
    runs.append({"expunge": VERSION, "machine": machine_name("cpu"), "seed": seed, "cases": cases})
    every = [case for run in runs for case in run["cases"]]
    content = {
        **there,  # with what was noted by hand beside the counts
        "what": "kills of commands at each file event and at random moments: scripts/kills",
        "kills": sum(sum(case["kills"].values()) for case in every),
        "faults": sum(len(case["faults"]) for case in every),
        "runs": runs,
    }
    out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.modules["kills"] = sys.modules["__main__"]
    sys.exit(main())
