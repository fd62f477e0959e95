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
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from expunge.methods import METHODS
from expunge.pruning import PRUNERS
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


def is_stale(cell: Cell, store: CellStore) -> bool:
    """Whether a finished cell was made by another source than there is now, or from a cell that has
    been made anew since.
    """
    content: Mapping[str, Any] = store.read(cell.key)
    made_by = str(content.get("source", ""))
    if made_by and made_by != _source_now(cell, made_by):
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
        return PRUNERS[density["pruner"]].__module__ if density else ""
    name = "retrain" if cell.kind == "retrain" else cell.config.get("method", "")
    return METHODS[name].__module__ if name else ""


@functools.cache
def source_digest(module: str) -> str:
    """`v2:` and 32 hexadecimal digits, of a module that is loaded and of what it imports.

    Empty for one that has no file, such as a class typed at a prompt: it is never called stale.
    """
    sources = sources_of(module)
    if not sources:
        return ""
    digest = hashlib.sha256()
    for name in sorted(sources):
        text = sources[name].read_bytes()
        digest.update(f"{name} {len(text)}\n".encode())
        digest.update(text)
    return KIND + digest.hexdigest()[:32]


@functools.cache
def own_file_digest(module: str) -> str:
    """32 hexadecimal digits of a module's own file: the rule of earlier versions."""
    file = _own_file(module)
    if file is None:
        return ""
    # as `inspect.getsource` gave it
    return hashlib.sha256(file.read_text(encoding="utf-8").encode()).hexdigest()[:32]


def sources_of(module: str) -> dict[str, Path]:
    """Name -> file of a loaded module and of all that it imports within its package.

    Packages on the way to a module are left out unless something names them: a table of all methods
    would else make each depend on every other.
    """
    own = _own_file(module)
    if own is None:
        return {}
    top = module.partition(".")[0]
    rooms = ROOMS if module.startswith(tuple(f"{room}." for room in ROOMS)) else (top,)
    found: dict[str, Path] = {}
    left = [(module, own)]
    while left:
        name, file = left.pop()
        if name in found:
            continue
        found[name] = file
        for other in _imported(name, file):
            within = any(f"{other}.".startswith(f"{room}.") for room in rooms)
            if within and (path := _file_of(other, top)) is not None:
                left.append((other, path))
    return found


def _imported(name: str, file: Path) -> Iterator[str]:
    """Absolute names that a file may import; `from a import b` gives both a.b and, for what is no
    module of its own, a.
    """
    package = name.split(".") if file.name == "__init__.py" else name.split(".")[:-1]
    try:
        tree = ast.parse(file.read_bytes())
    except SyntaxError:  # it is being changed; its own text counts, and that is another one already
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package[: len(package) + 1 - node.level] if node.level else []
            base = ".".join([*up, *([node.module] if node.module else [])])
            top = base.partition(".")[0]
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield inner if _file_of(inner, top) is not None else base


def _own_file(module: str) -> Path | None:
    """The source of a loaded module; None for one without."""
    name = getattr(sys.modules.get(module), "__file__", None)
    return Path(name) if name and Path(name).suffix == ".py" and Path(name).is_file() else None


def _file_of(module: str, top: str) -> Path | None:
    """The source of a module by name, below its loaded top package; None where there is none."""
    if module == top:
        return _own_file(top)
    for folder in getattr(sys.modules.get(top), "__path__", ()):
        path = Path(folder, *module.split(".")[1:])
        for file in (path / "__init__.py", path.with_name(f"{path.name}.py")):
            if file.is_file():
                return file
    return None
