"""Which source a cell was made by, so that a change of it can be seen.

A digest covers the file of the cell's method or pruner, and every file that it imports, directly or
through others, within the package it belongs to: for what ships with Expunge the rooms `methods` and
`pruning`, for a third party's the package of its own. Imports are read from the source, those inside
functions too; nothing is run.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from expunge.audits import ALL_AUDITS, AUDITS
from expunge.methods import ALL_METHODS
from expunge.names.code import module_file
from expunge.names.digests import same_digest
from expunge.pruning import ALL_PRUNERS
from expunge.study.cells import Cell
from expunge.study.store import CellStore

KIND = "v2:"
"""Before digests as this file makes them. Those without it are of earlier versions, and cover the
method's own file alone; they are judged so, for else every cell would be stale after an upgrade."""
ROOMS = ("expunge.methods", "expunge.pruning")
"""What is followed of Expunge itself."""


def source_of(cell: Cell) -> str:
    """Digest of the source of the method or pruner that a cell runs; empty where it runs none."""
    module = _module_of(cell)
    return source_digest(module) if module else ""


def audits_of(cell: Cell) -> dict[str, dict[str, str]]:
    """`audits`: digests of the source of other packages' audits that a cell makes; nothing without."""
    foreign = [name for name in cell.config.get("also", ()) if name not in AUDITS]
    found = {name: source_digest(ALL_AUDITS.module_of(name)) for name in foreign}
    return {"audits": found} if found else {}


def is_stale(cell: Cell, store: CellStore) -> bool:
    """Whether a finished cell was made by another source than there is now, or from a cell that has
    been made anew since.
    """
    content: Mapping[str, Any] = store.read(cell.key)
    made_by = str(content.get("source", ""))
    now = _source_now(cell, made_by) if made_by else ""
    if now and not same_digest(now, made_by):  # else its source is not here
        return True
    for name, digest in audits_of(cell).get("audits", {}).items():
        if digest and not same_digest(digest, content.get("audits", {}).get(name, "")):
            return True
    made_from: Mapping[str, str] = content.get("made_from", {})
    return any(store.done(key) and store.read(key)["date"] != made_from[key] for key in made_from)


def _source_now(cell: Cell, made_by: str) -> str:
    """What a cell's digest would be today, by the rule that the recorded one was made by."""
    if made_by.startswith(KIND):
        return source_of(cell)
    module = _module_of(cell)
    return own_file_digest(module) if module else ""


def _module_of(cell: Cell) -> str:
    """Name of the module of the method or pruner that a cell runs; empty where it runs none."""
    if cell.kind == "original":
        density = cell.config.get("density")
        return ALL_PRUNERS.module_of(density["pruner"]) if density else ""
    name = "retrain" if cell.kind == "retrain" else cell.config.get("method", "")
    return ALL_METHODS.module_of(name) if name else ""


@functools.cache
def source_digest(module: str) -> str:
    """`v2:` and 64 hexadecimal digits, of a module and of what it imports within its package.

    Empty for one without a file, such as a class typed at a prompt: its cells are never called stale.
    """
    sources = sources_of(module)
    if not sources:
        return ""
    digest = hashlib.sha256()
    for name in sorted(sources):
        text = sources[name].read_bytes()
        digest.update(f"{name} {len(text)}\n".encode())
        digest.update(text)
    return KIND + digest.hexdigest()


@functools.cache
def own_file_digest(module: str) -> str:
    """32 hexadecimal digits of a module's own file: the rule of earlier versions. Empty without one."""
    file = _file_of(module)
    if file is None:
        return ""
    # as `inspect.getsource` gave it
    return hashlib.sha256(file.read_text(encoding="utf-8").encode()).hexdigest()[:32]


def sources_of(module: str) -> dict[str, Path]:
    """Name -> file of a module and of all that it imports within its package; empty without a file.

    Packages on the way to a module are left out unless something names them: a table of all methods
    would else make each depend on every other.
    """
    ours = module.startswith(tuple(f"{room}." for room in ROOMS))
    rooms = ROOMS if ours else (module.partition(".")[0],)
    found: dict[str, Path] = {}
    left = [module]
    while left:
        name = left.pop()
        file = _file_of(name)
        if name in found or file is None:
            continue
        found[name] = file
        for candidates in _imported(name, file):
            within = (one for one in candidates if _is_within(one, rooms))
            left += [one for one in within if _file_of(one) is not None][:1]
    return found


def _is_within(module: str, rooms: tuple[str, ...]) -> bool:
    return f"{module}.".startswith(tuple(f"{room}." for room in rooms))


def _imported(name: str, file: Path) -> Iterator[tuple[str, ...]]:
    """Absolute names of what a file imports. `from a import b` gives a.b, and after it a, which is
    meant where a.b is no module.
    """
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # half written; its text counts, and that is another already
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name,) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*up, *([node.module] if node.module else [])])
            yield from ((f"{base}.{alias.name}", base) for alias in node.names)


def _file_of(module: str) -> Path | None:
    """The source of a module, found without running it or the packages around it."""
    file = module_file(module)
    return file if file is not None and file.suffix == ".py" else None
