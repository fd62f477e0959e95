"""A part as a process of its own: it can be cut, and what it breaks on the device is gone with it."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gpu.parts import FailedError, LeftOutError, told
from gpu.record import Outcome, plain, write_whole

SCRIPT = Path(__file__).resolve().parents[1] / "gpu_check.py"
TAIL = 15
"""Last lines of a part's output that are kept where it ended without a word of its own."""

Tell = Callable[[Mapping[str, Any]], None]
"""Keeps the figures that a part has so far."""


@dataclass(frozen=True)
class Asked:
    """What a part is asked for. seconds: until it is cut, from `start` on (`time.monotonic`)."""

    device: str
    scale: str
    seconds: float
    data_dir: str | None = None
    start: float = field(default_factory=time.monotonic)

    @property
    def tiny(self) -> bool:
        """Whether only the machinery is tried."""
        return self.scale == "tiny"

    def left(self) -> float:
        """Seconds that may be planned with: some are kept back for ending in good order."""
        return 0.95 * self.seconds - 1 - (time.monotonic() - self.start)

    def cifar10(self) -> Path | None:
        """The folder of CIFAR-10, if there is one."""
        base = self.data_dir or os.environ.get("EXPUNGE_DATA")
        folder = Path(base).expanduser() / "cifar10" if base else None
        return folder if folder is not None and folder.is_dir() else None


def in_a_process(name: str, asked: Asked) -> Outcome:
    """Run a part in a process of its own, and cut it when its time is over."""
    with tempfile.TemporaryDirectory(prefix="gpu-check-", ignore_cleanup_errors=True) as folder:
        file, output = Path(folder) / "part.json", Path(folder) / "output"
        order = json.dumps({**asdict(asked), "name": name, "file": str(file)})
        with output.open("wb") as stream:
            code = cut(
                [sys.executable, str(SCRIPT), "--part", order],
                asked.seconds,
                stream,
                # a part that is cut cannot tidy up after itself
                env={**os.environ, "TMPDIR": folder},
            )
        return _outcome(file, code, output.read_text(encoding="utf-8", errors="replace"), asked)


def cut(
    command: Sequence[str], seconds: float, stream: Any, *, alone: bool = True, **options: Any
) -> int | None:
    """Exit code of a command, or None if it was ended when time was over.

    alone: in a session of its own, and then all that it started ends with it. A part leaves its own
    processes in its session, so that they end when it is ended itself.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=stream,
        stderr=subprocess.STDOUT,
        start_new_session=alone,
        **options,
    )
    try:
        return process.wait(timeout=max(0.1, seconds))
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if alone:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
        process.wait()


def _outcome(file: Path, code: int | None, output: str, asked: Asked) -> Outcome:
    """What a part wrote, or why it could not."""
    content = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    figures = content.get("figures", {})
    if content.get("status") in ("passed", "failed", "left out"):
        return Outcome(
            content["status"],
            reason=content.get("reason", ""),
            error=content.get("error", ""),
            figures=figures,
        )
    if code is None:
        return Outcome("left out", reason=f"time: cut after {asked.seconds:.0f} s", figures=figures)
    end = "\n".join(output.strip().splitlines()[-TAIL:])
    return Outcome("failed", error=f"ended early with exit code {code}\n\n{end}", figures=figures)


def serve(order: str) -> None:
    """What the process of a part does: run it and write what became of it."""
    content = json.loads(order)
    name, file = content.pop("name"), Path(content.pop("file"))
    asked = Asked(**content)
    found: dict[str, Any] = {"status": "running", "figures": {}}

    def tell(figures: Mapping[str, Any]) -> None:
        found["figures"] |= figures
        write_whole(file, json.dumps(plain(found)))

    tell({})
    try:
        importlib.import_module(f"gpu.{name}").run(asked, tell)
        found["status"] = "passed"
    except LeftOutError as error:
        found |= {"status": "left out", "reason": str(error)}
    except FailedError as error:
        found |= {"status": "failed", "error": str(error)}
    except Exception as error:
        found |= {"status": "failed", "error": told(error)}
    tell({})
