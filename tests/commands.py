"""The command line as people run it, for the tests: a process each."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

PROGRESS = re.compile(r"; \d+ (s|min) so far|; done in \d+ (s|min)$")


def expunge(*arguments: str, cwd: Path, ok: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "expunge", *arguments],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done


def refused(*arguments: str, cwd: Path) -> str:
    """A user's mistake: exit code 2, and one line, after those of progress on a slow machine."""
    done = expunge(*arguments, cwd=cwd, ok=False)
    assert done.returncode == 2
    lines = without_progress(done.stderr)
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    return lines[0]


def without_progress(errors: str) -> list[str]:
    """Lines of standard error but those that a slow machine is told how far a command is by."""
    return [line for line in errors.strip().splitlines() if not PROGRESS.search(line)]


RECORDS = '''
"""A model and data of a user's own; no wrapper. GONE: a class whose inputs were deleted."""
import os
import numpy as np
import torch
from sklearn.datasets import load_digits


class Records(torch.utils.data.Dataset):
    """Map-style, ids as strings, inputs read one by one."""

    def __init__(self, start, stop):
        digits = load_digits()
        self.images = digits.images[start:stop].astype(np.float32) / 16
        self.labels = digits.target[start:stop]
        self.ids = [f"patient-{row}" for row in range(start, stop)]
        self.gone = os.environ.get("GONE")

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, row):
        if self.gone is not None and self.labels[row] == int(self.gone):
            raise FileNotFoundError(f"{self.ids[row]} was deleted")
        return torch.from_numpy(self.images[row]).flatten(), int(self.labels[row])


def load():
    return Records(0, 500), Records(500, 700)


def build():
    return torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
'''
