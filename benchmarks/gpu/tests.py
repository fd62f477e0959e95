"""The tests in tests/device, on the device: how many passed, and what those that failed say."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

from gpu.child import Asked, Tell, cut
from gpu.parts import FailedError, LeftOutError

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "tests/device"
NEEDED = ("pytest", "hypothesis")


def run(asked: Asked, tell: Tell) -> None:
    """Run them in a process of their own, which is cut in time for its output to be read."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise LeftOutError(f"the tests need {' and '.join(missing)}, which are not installed here")
    with tempfile.TemporaryDirectory(prefix="gpu-check-tests-") as folder:
        report, output = Path(folder) / "junit.xml", Path(folder) / "output"
        with output.open("wb") as stream:
            code = cut(
                command(report),
                asked.left(),
                stream,
                alone=False,
                cwd=ROOT,
                env={**os.environ, "EXPUNGE_TEST_DEVICE": asked.device},
            )
        text = output.read_text(encoding="utf-8", errors="replace")
        figures = read_report(report.read_text("utf-8")) if report.exists() else read_output(text)
    tell(figures)
    judge(figures, code, text)


def command(report: Path) -> list[str]:
    """pytest as it runs here: warnings of other versions of other packages are no errors."""
    return [
        sys.executable,
        "-m",
        "pytest",
        FOLDER,
        "-v",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        "-o",
        "addopts=--import-mode=importlib",
        "-W",
        "default",
        f"--junitxml={report}",
    ]


def read_report(text: str) -> dict[str, Any]:
    """Counts, failures with their first lines, and the slowest tests, of a JUnit file."""
    failures: list[dict[str, str]] = []
    skipped = 0
    cases = list(ElementTree.fromstring(text).iter("testcase"))
    for case in cases:
        skipped += case.find("skipped") is not None
        for kind in ("failure", "error"):
            if (found := case.find(kind)) is not None:
                failures.append({"test": _name(case), "says": _line(found.get("message") or "")})
                break
    slow = sorted(cases, key=lambda case: -float(case.get("time", 0)))[:5]
    return {
        "passed": len(cases) - skipped - len(failures),
        "failed": len(failures),
        "skipped": skipped,
        "slowest": [{"test": _name(c), "seconds": float(c.get("time", 0))} for c in slow],
        **({"failures": failures} if failures else {}),
    }


def read_output(text: str) -> dict[str, Any]:
    """As much of that as the lines of a run that was cut say."""
    words = re.findall(r"^(\S+::\S.*?) (PASSED|FAILED|ERROR|SKIPPED)\b", text, re.MULTILINE)
    failures = [{"test": name, "says": ""} for name, word in words if word in ("FAILED", "ERROR")]
    started = re.findall(r"^(\S+::\S+)", text, re.MULTILINE)
    return {
        "passed": sum(word == "PASSED" for _, word in words),
        "failed": len(failures),
        "skipped": sum(word == "SKIPPED" for _, word in words),
        **({"last_begun": started[-1]} if started else {}),
        **({"failures": failures} if failures else {}),
    }


def judge(figures: dict[str, Any], code: int | None, text: str) -> None:
    """Raise unless every test was run and passed."""
    if figures["failed"]:
        lines = [f"{one['test']}: {one['says']}" for one in figures.get("failures", [])]
        raise FailedError("\n".join([f"{figures['failed']} tests failed", *lines]))
    if code is None:
        where = figures.get("last_begun", "the start")
        raise LeftOutError(f"time: the tests were cut at {where}; {figures['passed']} had passed")
    if code != 0 or not figures["passed"]:
        end = "\n".join(text.strip().splitlines()[-15:])
        raise FailedError(f"pytest ended with exit code {code}\n\n{end}")


def _name(case: ElementTree.Element) -> str:
    return f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"


def _line(text: str) -> str:
    return next(iter(text.strip().splitlines()), "")
