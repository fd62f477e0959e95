"""The command line as people run it, for the tests.

`expunge` calls it inside this process, with its own folder, arguments and streams: what a command
says and writes is the same, without the seconds that a new process takes to import everything.
Figures are not drawn there, which takes long, unless a test looks at them: `drawn`.
`process` starts one, where the process itself is the point: signals, workers, code of a user's own;
it is a fork of one that has imported everything (`forks`), and begins at once. `started` is how it is
started, for tests that talk to it meanwhile. `afresh`: Python itself starts, which takes seconds.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import io
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

from undrawn import undrawn

from expunge import cli

ENVIRONMENT = {"OMP_NUM_THREADS": "1", "COLUMNS": "160"}
PROGRESS = re.compile(r"; \d+ (s|min) so far|; done in \d+ (s|min)$")
Done = subprocess.CompletedProcess[str]


def expunge(*arguments: str, cwd: Path, ok: bool | None = True, drawn: bool = False) -> Done:
    """A command inside this process; pytest makes its warnings errors. ok: None for either."""
    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with (
        _alone(cwd),
        contextlib.nullcontext() if drawn else undrawn(),
        mock.patch.object(sys, "argv", ["expunge", *arguments]),
        mock.patch.dict(os.environ, ENVIRONMENT),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code
    done = Done(["expunge", *arguments], int(str(code or 0)), out.getvalue(), err.getvalue())
    return _checked(done, ok)


AFRESH = (sys.executable, "-W", "error", "-m", "expunge")
FORKS = Path(__file__).with_name("forks.py")


@functools.cache
def started(*, strict: bool = True) -> tuple[str, ...]:
    """Words that a command is started with; strict: its warnings are errors."""
    if not hasattr(os, "fork"):
        return AFRESH if strict else (sys.executable, "-m", "expunge")
    return (sys.executable, "-I", "-S", str(FORKS), _server(), str(int(strict)))


@functools.cache
def _server() -> str:
    """The socket of a server of forks, which ends with this process."""
    path = Path(tempfile.mkdtemp(prefix="expunge-forks-")) / "socket"
    environment = {
        **os.environ,
        **ENVIRONMENT,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    server = subprocess.Popen(
        [sys.executable, "-W", "error", FORKS, path], stdin=subprocess.PIPE, env=environment
    )
    assert server.stdin is not None
    atexit.register(server.communicate)
    end = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < end and server.poll() is None, "no server of forks"
        time.sleep(0.02)
    return str(path)


def process(*arguments: str, cwd: Path, ok: bool | None = True, afresh: bool = False) -> Done:
    """A command as a process of its own, its warnings errors. ok: None for either."""
    done = subprocess.run(
        [*(AFRESH if afresh else started()), *arguments],
        cwd=cwd,
        text=True,
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        timeout=300,
    )
    return _checked(done, ok)


def refused(*arguments: str, cwd: Path) -> str:
    """A user's mistake: exit code 2, and one line, after those of progress on a slow machine."""
    done = expunge(*arguments, cwd=cwd, ok=False)
    assert done.returncode == 2
    lines = without_progress(done.stderr)
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    return lines[0]


def train_digits(folder: Path) -> None:
    """A cnn on all digits, in `folder/original`; for the fixture `shared`."""
    expunge(
        "train",
        "--data",
        "digits",
        "--model",
        "cnn",
        "--epochs",
        "4",
        "--lr",
        "0.05",
        "--batch-size",
        "128",
        "--out",
        "original",
        cwd=folder,
    )


def without_progress(errors: str) -> list[str]:
    """Lines of standard error but those that a slow machine is told how far a command is by."""
    return [line for line in errors.strip().splitlines() if not PROGRESS.search(line)]


def _checked(done: Done, ok: bool | None) -> Done:
    assert ok in (None, done.returncode == 0), done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done


@contextlib.contextmanager
def _alone(cwd: Path) -> Iterator[None]:
    """In a folder, whose modules can be imported and are forgotten afterwards."""
    path, modules = list(sys.path), set(sys.modules)
    importlib.invalidate_caches()
    try:
        with contextlib.chdir(cwd):
            yield
    finally:
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            file = getattr(sys.modules[name], "__file__", None)
            if file is not None and Path(file).is_relative_to(cwd):
                del sys.modules[name]


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
