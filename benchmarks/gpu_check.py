"""What a GPU must show, in one command and 9 minutes: scripts/gpu-check --out DIR.

A part that fails is recorded, and the others go on; one that time does not allow, or that has nothing to
work on, is left out and never counted as passed. DIR gets gpu-check.json and summary.md, rewritten after
each part, so that a kill loses nothing.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import shlex
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent))  # the parts are processes of this file

from gpu.child import Asked, in_a_process, serve
from gpu.parts import Clock, Part, exit_code, run_all
from gpu.record import JSON, PAGE, Outcome, Record, RefusedError, open_folder

PARTS = (
    Part("tests", "a part of the tests, on the device", 0.30, 20),
    Part("training", "seconds per epoch, float32 against bfloat16", 0.24, 20),
    Part("per_sample", "per-sample work, fast against one by one", 0.16, 15),
    Part("shadows", "stacked shadow training", 0.10, 5),
    Part("study", "one study, dense against sparse", 1.0, 30),
)
NEEDED = (
    "torch",
    "numpy",
    "accelerate",
    "safetensors",
    "sklearn",
    "scipy",
    "pydantic",
    "yaml",
    "typer",
    "rich",
    "pyarrow",
    "PIL",
    "pandas",
    "matplotlib",
    "jinja2",
    "psutil",
)

EPILOG = """\
parts: tests, training, per_sample, shadows, study; --only names some of them
exit codes:
  0  something passed and nothing failed (see the summary for what was left out)
  1  something failed, or nothing could be run
  2  a wrong call: options, a folder that holds something else, a package that is missing
  3  there is no GPU here
  130, 143  interrupted; what was found until then is in DIR
examples:
  scripts/gpu-check --out runs/gpu --data-dir DATA
  scripts/gpu-check --out runs/try --device cpu     # the machinery, on a processor, in a minute or two
"""


def main(arguments: list[str] | None = None) -> int:
    """See the module; the exit code."""
    options = parser().parse_args(arguments)
    if options.part:
        serve(options.part)
        return 0
    say(f"up to {options.minutes:g} minutes; what is found is written to {options.out}")
    try:
        open_folder(options.out)
    except RefusedError as error:
        say(str(error))
        return 2
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        say(
            f"not installed for {sys.executable}: {', '.join(missing)}; install them, or name a "
            "folder that holds them in PYTHONPATH"
        )
        return 2
    clock = Clock(60 * options.minutes)
    parts = [part for part in PARTS if not options.only or part.name in options.only]
    record = begin(options, parts)
    if record.exit_code is None:
        with_signals(record, clock, parts, options)
        record.exit_code = exit_code(record)
    record.seconds = clock.spent()
    record.write()
    say(f"written: {options.out / PAGE}, {options.out / JSON}; exit code {record.exit_code}")
    return record.exit_code


def begin(options: argparse.Namespace, parts: list[Part]) -> Record:
    """The record before the first part; with exit code 3 where there is no GPU."""
    from machine import machine, no_gpu

    from expunge.version import VERSION

    why = no_gpu() if options.device == "cuda" else ""
    about: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["scripts/gpu-check", *options.given]),
        "version": VERSION,
        "device": options.device,
        "scale": options.scale,
        "minutes": options.minutes,
        "machine": machine("cpu" if why else options.device),
    }
    record = Record(options.out, about, {part.name: Outcome() for part in parts})
    if why:
        line = (
            f"no GPU here: {why}; --device cpu tries the machinery on a processor, at a tiny scale"
        )
        about["no_gpu"] = line
        record.parts = {part.name: Outcome("left out", reason="no GPU here") for part in parts}
        record.exit_code = 3
        say(line)
    else:
        say(", ".join(f"{key} {value}" for key, value in about["machine"].items()))
    record.write()
    return record


def with_signals(
    record: Record, clock: Clock, parts: list[Part], options: argparse.Namespace
) -> None:
    """Run the parts; an interruption ends the part under way, and leaves a record that says so."""

    def end(number: int, _: object) -> NoReturn:
        raise SystemExit(128 + number)

    def work(part: Part, seconds: float) -> Outcome:
        return in_a_process(
            part.name, Asked(options.device, options.scale, seconds, options.data_dir)
        )

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    try:
        run_all(parts, record, clock, work, say)
    except SystemExit as stop:
        for name, outcome in record.parts.items():
            if outcome.status in ("waiting", "running"):
                record.parts[name] = Outcome("left out", reason="interrupted")
        record.exit_code = int(stop.code or 1)
        record.seconds = clock.spent()
        record.write()
        raise


def say(text: str) -> None:
    """One line of progress."""
    print(f"gpu-check: {text}", flush=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = Parser(
        prog="gpu-check",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = found.add_argument
    add("--out", type=Path, metavar="DIR", help="folder to write; new, or an earlier check's")
    add("--data-dir", metavar="DATA", help="folder that holds cifar10/; else EXPUNGE_DATA")
    add("--device", choices=["cuda", "cpu"], default="cuda", help="default cuda")
    add(
        "--scale",
        choices=["full", "tiny"],
        help="tiny tries the machinery alone; by default full on a GPU, tiny on a processor",
    )
    add("--minutes", type=float, default=9.0, help="the whole ends within (default 9)")
    add("--only", nargs="+", choices=[part.name for part in PARTS], help="some parts alone")
    add("--part", help=argparse.SUPPRESS)  # a part's own process: its order, as JSON
    return found


class Parser(argparse.ArgumentParser):
    """Fills in what depends on other options, and refuses what fits none."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """The options, with `given` as they were typed."""
        options = super().parse_args(args, namespace)
        options.given = list(sys.argv[1:] if args is None else args)
        if options.part is None and options.out is None:
            self.error("name a folder to write: --out DIR")
        if not 0 < options.minutes <= 24 * 60:
            self.error(f"--minutes {options.minutes:g}: give a time above 0")
        options.scale = options.scale or ("full" if options.device == "cuda" else "tiny")
        return options


if __name__ == "__main__":
    sys.exit(main())
