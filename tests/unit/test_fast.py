"""Which tests `scripts/check --fast` chooses."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def fast() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fast", ROOT / "scripts/fast.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_imports_are_followed_backwards_the_nearest_first(fast: ModuleType) -> None:
    known = fast.modules()
    start = known["expunge.methods.unsir"]
    found = fast.distances({start}, known)
    assert found[start] == 0
    assert found[known["expunge.methods"]] == found[ROOT / "tests/unit/test_unsir.py"] == 1
    assert found[known["expunge.api"]] > 1
    assert known["expunge.errors"] not in found, "what it imports has not changed"


@pytest.mark.parametrize(
    ("changed", "chosen"),
    [
        ("src/expunge/models/cnn.py", "tests/unit/test_models.py"),  # imported by its name's text
        ("src/expunge/scores/__init__.py", "tests/unit/test_audits_gaps.py"),
        ("src/expunge/audits/score.py", "tests/unit/test_old.py"),  # is gone
        ("tests/conftest.py", "tests/unit/test_mask.py"),
        ("README.md", "tests/unit/test_docs.py"),
        ("src/expunge/study/shipped/smoke.yaml", "tests/e2e/test_smoke_study.py"),
        ("benchmarks/gpu/parts.py", "tests/unit/test_gpu_check.py"),
    ],
)
def test_nothing_that_matters_is_missed(
    fast: ModuleType,
    changed: str,
    chosen: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    for name in ("src", "tests", "scripts"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "tests/unit/test_old.py").write_text("from expunge.audits.score import Score\n")
    monkeypatch.setattr(fast, "ROOT", root)
    monkeypatch.setattr(fast, "changed", lambda: {root / changed})
    monkeypatch.setattr("sys.argv", ["fast.py", "--seconds", "1e9"])
    fast.main()
    assert chosen in capsys.readouterr().out.split()


def test_what_the_seconds_allow_is_chosen(
    fast: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = {
        ROOT / "src/expunge/methods/unsir.py",
        ROOT / "tests/unit/test_mask.py",
        ROOT / "gone.py",
        ROOT / "README.md",
    }
    monkeypatch.setattr(fast, "changed", lambda: changed)
    monkeypatch.setattr("sys.argv", ["fast.py", "--seconds", "0"])
    fast.main()
    told = capsys.readouterr()
    assert told.out.split() == ["tests/unit/test_mask.py"], "what has changed itself is always run"
    assert "further off" in told.err
    monkeypatch.setattr("sys.argv", ["fast.py", "--seconds", "1e9"])
    fast.main()
    chosen = capsys.readouterr().out.split()
    assert "tests/unit/test_unsir.py" in chosen and len(chosen) == len(set(chosen)) > 20
    assert all((ROOT / name).exists() for name in chosen)
