"""What this package is worth beside papers' public programs: the same work, in turns, in one process.

The reference structures are in reference/, written in our own words; README.md says how near they come
to the programs that they stand for. Each round calls the reference, then ours; the table has medians
of rounds, and the ratio of neighbours: above 1, ours is faster.

Seconds are of this process's own processor time with one thread, which other programs hardly move, and
of the clock with several; then a round in which others did more than `--others` of the computing is
taken again.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from machine import machine, save
from reference.case import Case, Work
from training import quiet_round, summary

from expunge import Data, UserError, load_data

FILES = ("finetune", "ascent", "influence", "fisher", "membership", "pruning")
"""Files of reference/, in the table's order."""

EXAMPLES = """\
examples (EXPUNGE_DATA names the folder that holds cifar10/, or use --data-dir):
  python benchmarks/beside.py
  python benchmarks/beside.py fisher influence --rounds 7
  python benchmarks/beside.py --threads 2 --json benchmarks/results/beside-avx2.json
"""


def main() -> int:
    options = arguments().parse_args()
    torch.set_num_threads(options.threads)
    alone = options.threads == 1
    clock = time.process_time if alone else time.perf_counter
    most = options.others if options.others is not None else 1.0 if alone else 0.05
    about = machine("cpu") | {"instructions": torch.backends.cpu.get_cpu_capability()}
    print(", ".join(f"{key} {value}" for key, value in about.items()), flush=True)
    try:
        data = load_data("cifar10", data_dir=options.data_dir)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{'work':50s} reference s   ours s   ratio (lowest, highest)   aim   others")
    rows = []
    for case in cases(options.files or list(FILES)):
        row = measured(case, data, options.rounds, clock, most)
        print(
            f"{case.name:50s} {row['reference_seconds']:11.2f} {row['our_seconds']:8.2f}   "
            + "{median:5.2f} ({min:.2f}, {max:.2f})".format(**row["ratio"]).ljust(23)
            + f"{case.aim:6.2f}   {row['others']:.0%}",
            flush=True,
        )
        rows.append(row)
    if options.json is not None:
        save(options.json, "beside", {"machine": about, "clock": clock.__name__, "cases": rows})
    return 0


def cases(files: list[str]) -> Iterator[Case]:
    """Of these files, one after another: a case's samples are made when its turn comes."""
    for name in files:
        yield from importlib.import_module(f"reference.{name}").CASES


def measured(
    case: Case, data: Data, rounds: int, clock: Callable[[], float], most: float
) -> dict[str, Any]:
    """Rounds of the reference, ours, the reference, ...; a ratio is of neighbours."""
    theirs, ours = case.set_up(data)
    both = {"reference": timed(theirs, clock), "ours": timed(ours, clock)}
    for call in both.values():
        call(0)  # threads started, modules imported, kernels chosen
    seconds: dict[str, list[float]] = {label: [] for label in both}
    shares = []
    for _ in range(rounds):
        found, others = quiet_round(both, 0, most)
        shares.append(others)
        for label, value in found.items():
            seconds[label].append(round(value, 4))
    ratios = [a / b for a, b in zip(seconds["reference"], seconds["ours"], strict=True)]
    return {
        "work": case.name,
        "aim": case.aim,
        "reference_seconds": statistics.median(seconds["reference"]),
        "our_seconds": statistics.median(seconds["ours"]),
        "ratio": summary(ratios),
        "rounds": seconds,
        "others": round(statistics.median(shares), 3),
    }


def timed(work: Work, clock: Callable[[], float]) -> Callable[[int], float]:
    """A function that does the work and returns its seconds; it takes and ignores a number of steps."""

    def call(_: int) -> float:
        start = clock()
        work()
        return clock() - start

    return call


def arguments() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=raw)
    add = parser.add_argument
    add("files", nargs="*", metavar="FILE", help=f"of {', '.join(FILES)}; by default all")
    add("--data-dir", help="folder that holds cifar10/; else EXPUNGE_DATA")
    add("--threads", type=int, default=1, help="of torch (default 1)")
    add("--rounds", type=int, default=5, help="default 5")
    add(
        "--others",
        type=float,
        metavar="SHARE",
        help="of the computing, above which a round is taken again (default 0.05; with one thread 1)",
    )
    add("--json", type=Path, metavar="FILE", help="write the results to FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
