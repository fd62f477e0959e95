"""Which tests to run for what has changed since the last commit: those that import it, nearest first.

Prints test files, one a line; what else there would be to run, and why it was left out, goes to
standard error. A file's seconds are those of tests/seconds.json; --seconds bounds their sum.
"""

from __future__ import annotations

import argparse
import ast
import json
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UNKNOWN_SECONDS = 2.0


def changed() -> set[Path]:
    """Files that differ from the last commit, new ones among them."""
    listed: set[Path] = set()
    for command in (
        ["diff", "--name-only", "HEAD"],
        ["ls-files", "--others", "--exclude-standard"],
    ):
        done = subprocess.run(
            ["git", *command], cwd=ROOT, capture_output=True, text=True, check=True
        )
        listed |= {ROOT / line for line in done.stdout.splitlines()}
    return listed


def modules() -> dict[str, Path]:
    """Name -> file of every module of the package, of the tests' helpers and of the tests."""
    named = {}
    for base in (ROOT / "src", ROOT / "tests"):
        for path in base.rglob("*.py"):
            parts = path.relative_to(base).with_suffix("").parts
            named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


def imports(path: Path, known: dict[str, Path]) -> Iterator[Path]:
    """Files that a module imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        yield from (known[name] for name in names if name in known)


def distances(start: set[Path], known: dict[str, Path]) -> dict[Path, int]:
    """How many imports lie between each file and the nearest that changed."""
    importers: dict[Path, set[Path]] = {}
    for path in known.values():
        for target in imports(path, known):
            importers.setdefault(target, set()).add(path)
    found = dict.fromkeys(start, 0)
    queue = deque(start)
    while queue:
        path = queue.popleft()
        for other in importers.get(path, ()):
            if other not in found:
                found[other] = found[path] + 1
                queue.append(other)
    return found


def main() -> None:
    """Choose, and say what was left out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=50.0, help="sum of all files' seconds")
    allowed = parser.parse_args().seconds
    spent = json.loads((ROOT / "tests/seconds.json").read_text())["files"]
    found = distances(changed(), modules())
    tests = [path for path in found if path.name.startswith("test_") and path.exists()]
    names = {path: path.relative_to(ROOT).as_posix() for path in tests}
    costs = {path: spent.get(names[path], UNKNOWN_SECONDS) for path in tests}
    left = []
    for path in sorted(tests, key=lambda path: (found[path], costs[path])):
        if costs[path] <= allowed or not found[path]:
            allowed -= costs[path]
            print(names[path])
        else:
            left.append(names[path])
    if left:
        seconds = sum(spent.get(name, UNKNOWN_SECONDS) for name in left)
        print(
            f"left to `scripts/check`: {len(left)} files of {seconds:.0f} s that import it from "
            f"further off, such as {left[0]}", file=sys.stderr,
        )  # fmt: skip


if __name__ == "__main__":
    main()
