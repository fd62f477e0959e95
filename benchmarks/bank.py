"""What a bank of shadow models takes: the command `expunge bank build`, timed as one types it.

The digits CNN (the aim: 3 minutes on two cores), and the small CNN on 5,000 pictures of CIFAR-10 (the
aim: an hour), 16 models each. Where other programs
work beside it, the processor time of the command and its workers says more than the clock.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from machine import cpu_seconds, machine, save, share_of_others

from expunge.shadows.bank import open_bank
from expunge.shadows.places import bank_beside
from expunge.shadows.status import status_of

EXAMPLES = """\
examples (EXPUNGE_DATA names the folder that holds cifar10/):
  python benchmarks/bank.py digits --json benchmarks/results/bank-cpu.json
  ATEN_CPU_CAPABILITY=avx2 python benchmarks/bank.py digits cifar
"""
CASES: dict[str, tuple[list[str], int]] = {
    "digits": (
        ["--data", "digits", "--epochs", "20", "--lr", "0.05", "--batch-size", "128"],
        16,
    ),
    "cifar": (
        ["--data", "cifar10:5000", "--epochs", "20", "--lr", "0.05", "--batch-size", "128"],
        16,
    ),
}
"""Of each case, how its original is trained, a `cnn`, and how many models are made."""
IN_ALL = 16
"""Models of a bank, for which seconds are told."""


def main() -> int:
    options = arguments().parse_args()
    about = machine("cpu") | {"instructions": torch.backends.cpu.get_cpu_capability()}
    print(", ".join(f"{key} {value}" for key, value in about.items()), flush=True)
    for name in options.cases or list(CASES):
        row = measured(name, options.workers)
        if options.json is not None:
            command = " ".join(["python", *sys.argv])
            content = {"machine": about, "command": command, **row}
            save(options.json, f"{name}, {about['instructions']}", content)
    return 0


def measured(name: str, workers: int) -> dict[str, Any]:
    """Train an original, build its bank, and say what both took."""
    recipe, models = CASES[name]
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top) / "original"
        training = seconds_of(["train", "--model", "cnn", *recipe, "--out", str(folder)])
        before, own = cpu_seconds(), own_seconds()
        took = seconds_of(
            ["bank", "build", str(folder), "--models", str(models), "--workers", str(workers)]
        )
        own, others = own_seconds() - own, share_of_others(before)
        found = status_of(open_bank(bank_beside(folder)))
    row = {
        "case": name,
        "models": models,
        "workers": workers,
        "training_command_seconds": round(training, 1),
        "seconds": round(took, 1),
        "seconds_a_model": round(found.seconds or 0.0, 2),
        "seconds_for_16": round(took * IN_ALL / models, 1),
        "processor_seconds": round(own, 1),
        "share_of_others": round(others, 2),
        "bytes": found.bytes,
        "accuracy_on_unseen": round(sum(found.accuracy) / len(found.accuracy), 2),
    }
    print(", ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    return row


def seconds_of(arguments: list[str]) -> float:
    """Of a command, from its start to its end."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "expunge", *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ,
    )
    return time.perf_counter() - start


def own_seconds() -> float:
    """Processor time of the commands that have ended, and of their workers."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="which; by default all")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the numbers there too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
