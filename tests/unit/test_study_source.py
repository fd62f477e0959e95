"""Which files decide whether a cell is stale: a method's own, and all that it imports in its package."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from expunge.methods import METHODS, noise
from expunge.pruning import PRUNERS
from expunge.study import source
from expunge.study.cells import Cell, make_cell
from expunge.study.store import CellStore

FILES = {
    "__init__.py": "",
    "method.py": "def unlearn():\n    from .helper import go\n    return go\n",
    "helper.py": "import theirs.deep.more\nimport json\n",
    "deep/__init__.py": "from theirs import other\n",
    "deep/more.py": "from .. import table\nfrom . import leaf as l\n",
    "deep/leaf.py": "from theirs.method import unlearn\n",
    "table.py": "RATE = 1\n",
    "other.py": "nobody = 'names me'\n",
}


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of a third party, and a module of its own, neither of them loaded."""
    for name, text in FILES.items():
        file = tmp_path / "theirs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (tmp_path / "alone.py").write_text("import theirs.table\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    clear()
    yield tmp_path / "theirs"
    clear()


def clear() -> None:
    source.source_digest.cache_clear()
    source.own_file_digest.cache_clear()


def test_imports_are_followed_and_nothing_is_run(theirs: Path) -> None:
    assert set(source.sources_of("theirs.method")) == {
        "theirs.method",
        "theirs.helper",  # imported in a function
        "theirs.deep.more",
        "theirs.deep.leaf",  # which leads back
        "theirs.table",
    }
    assert set(source.sources_of("alone")) == {"alone"}, "no further than its own package"
    assert not [name for name in sys.modules if name.split(".")[0] in ("theirs", "alone")]


@pytest.mark.parametrize("name", ["method.py", "helper.py", "deep/leaf.py", "table.py"])
def test_a_change_of_what_is_imported_is_seen(theirs: Path, name: str) -> None:
    before = source.source_digest("theirs.method")
    clear()
    assert source.source_digest("theirs.method") == before
    with (theirs / name).open("a") as stream:
        stream.write("\n# changed\n")
    clear()
    assert source.source_digest("theirs.method") != before


def test_a_change_of_what_is_not_imported_is_none(theirs: Path) -> None:
    before = source.source_digest("theirs.method")
    (theirs / "other.py").write_text("changed = True\n")
    (theirs / "deep/__init__.py").write_text("")
    clear()
    assert source.source_digest("theirs.method") == before


def test_a_file_that_is_half_written_counts_as_it_is(theirs: Path) -> None:
    before = source.source_digest("theirs.method")
    (theirs / "helper.py").write_text("def (\n")
    clear()
    assert source.source_digest("theirs.method") != before


def test_a_class_without_a_file_is_never_stale() -> None:
    for module in ("no.such.module", "sys", "__main__.x", "expunge.methods.nothing"):
        assert source.source_digest(module) == "" and source.sources_of(module) == {}


def test_what_ships_is_followed_within_methods_and_pruning() -> None:
    """Trap: only the method's own file was looked at, so a change of the noise was not seen."""
    assert set(source.sources_of("expunge.methods.unsir")) == {
        "expunge.methods.unsir",
        "expunge.methods.noise",
        "expunge.methods.base",
    }
    assert source.sources_of("expunge.methods.unsir")["expunge.methods.noise"] == Path(
        noise.__file__
    )
    assert set(source.sources_of("expunge.pruning.imp")) == {
        "expunge.pruning.imp",
        "expunge.pruning.omp",
        "expunge.pruning.base",
    }
    for one in (*METHODS.values(), *PRUNERS.values()):
        found = source.sources_of(one.__module__)
        assert one.__module__ in found
        assert "expunge.methods" not in found, "the table would make each depend on all"


def cell_of(method: str) -> Cell:
    return make_cell("unlearn", {"method": method, "settings": {}}, (), 0)


def stale(folder: Path, cell: Cell, made_by: str) -> bool:
    store = CellStore(folder).prepare()
    content: dict[str, Any] = {"source": made_by, "made_from": {}}
    with store.writing(cell.key, content):
        pass
    return source.is_stale(cell, store)


def test_digests_of_earlier_versions_are_judged_by_their_own_rule(tmp_path: Path) -> None:
    """An upgrade alone makes no cell stale."""
    cell = cell_of("unsir")
    file = Path(source.sources_of("expunge.methods.unsir")["expunge.methods.unsir"])
    old = hashlib.sha256(file.read_bytes()).hexdigest()[:32]
    assert not stale(tmp_path, cell, old)
    assert stale(tmp_path, cell, old[::-1])
    new = source.source_of(cell)
    assert new.startswith("v2:") and len(new) == 35
    assert not stale(tmp_path, cell, new)
    assert stale(tmp_path, cell, f"v2:{old}")
    assert not stale(tmp_path, make_cell("unlearn", {}, (), 0), "")


def test_a_cell_whose_source_is_not_here_is_not_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record is looked at where a third party's method is not installed."""
    monkeypatch.setattr(source, "_file_of", lambda module: None)
    clear()
    assert not stale(tmp_path, cell_of("unsir"), "v2:" + "0" * 32)
    assert not stale(tmp_path, cell_of("unsir"), "0" * 32)
    clear()
