"""Which tests to run for what has changed since the last commit: those that import it, nearest first.

Prints test files, one a line; what else there would be to run, and why it was left out, goes to
standard error. A file's seconds are those of tests/seconds.json; --seconds bounds their sum.
"""

from __future__ import annotations

import argparse
import ast
import functools
import json
import subprocess
import sys
from collections import deque
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UNKNOWN_SECONDS = 2.0
BY_NAME = {"expunge.models.table": "expunge.models.", "expunge.cli.tree": "expunge.cli."}
"""Modules that import others by a name made up at run time, and how these names begin."""
READERS = {
    "README.md": ["docs"],
    "docs/": ["docs"],
    "benchmarks/": ["campaign", "claims_page", "gpu_check", "ranking"],
    "src/expunge/study/shipped/": ["docs", "cli", "study_schema"],
    "scripts/fast.py": ["architecture"],
}
"""Of files that nobody imports: which tests read them."""
EVERYTHING = ("pyproject.toml", "constraints.txt", "Makefile", "scripts/check")


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


def modules(gone: set[Path] = frozenset()) -> dict[str, Path]:
    """Name -> file of every module of the package, of the tests' helpers and of the tests.

    gone: files that there were; what imports them is broken, and to be run.
    """
    named = {}
    for base in (ROOT / "src", ROOT / "tests"):
        for path in {*base.rglob("*.py"), *(one for one in gone if one.is_relative_to(base))}:
            parts = path.relative_to(base).with_suffix("").parts
            named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return named


@functools.cache
def named(text: str) -> tuple[str, ...]:
    """What a text imports, by name."""
    names: list[str] = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(names)


def imports(name: str, path: Path, known: dict[str, Path]) -> set[Path]:
    """Files that a module imports, anywhere in it, and the packages that they are in."""
    names = [other for other in known if name in BY_NAME and other.startswith(BY_NAME[name])]
    names += named(path.read_text(encoding="utf-8"))
    if path.name.startswith("test_"):
        names.append("conftest")
    found = set()
    for one in names:
        while "." in one:  # up to the package itself, which imports everything
            found.add(one)
            one = one.rpartition(".")[0]
        found.add(one if one != "expunge" else "")
    return {known[one] for one in found if one in known}


def distances(start: set[Path], known: dict[str, Path]) -> dict[Path, int]:
    """How many imports lie between each file and the nearest that changed."""
    importers: dict[Path, set[Path]] = {}
    for name, path in known.items():
        for target in imports(name, path, known) if path.exists() else ():
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


def readers(start: set[Path]) -> set[Path]:
    """Tests that read a file which changed and which nobody imports."""
    names = [path.relative_to(ROOT).as_posix() for path in start if path.is_relative_to(ROOT)]
    wanted = {
        one
        for begin, tests in READERS.items()
        for name in names
        if name.startswith(begin)
        for one in tests
    }
    return {path for one in wanted for path in (ROOT / "tests").rglob(f"test_{one}.py")}


def main() -> None:
    """Choose, and say what was left out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=50.0, help="sum of all files' seconds")
    allowed = parser.parse_args().seconds
    spent = json.loads((ROOT / "tests/seconds.json").read_text())["files"]
    begun = changed()
    found = distances(begun, modules({path for path in begun if not path.exists()}))
    found = {**dict.fromkeys(readers(begun), 1), **found}
    for name in EVERYTHING:
        if ROOT / name in begun:
            print(f"{name} has changed: only `scripts/check` says what that does", file=sys.stderr)
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
            f"further off, such as {left[0]}",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
