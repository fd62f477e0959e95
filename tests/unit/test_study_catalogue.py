"""Studies that come with the package, by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import expunge, refused

from expunge.errors import ConfigError
from expunge.study.catalogue import (
    cells_of,
    first_paragraph,
    shipped_files,
    shipped_studies,
    study_file,
)
from expunge.study.file import read_study
from expunge.study.packed import PACKED, read_packed

ROOT = Path(__file__).resolve().parents[2]


def test_every_shipped_study_is_listed_with_what_it_asks(tmp_path: Path) -> None:
    said = expunge("study", "list", cwd=tmp_path).stdout
    assert len(shipped_studies()) == len(shipped_files()) >= 10
    for one in shipped_studies():
        assert f" {one.name} " in said and all(word in said for word in one.asks.split())
        assert one.asks[-1] in "?." and len(one.asks) < 100


@pytest.mark.parametrize("name", sorted(set(shipped_files()) - {"smoke"}))
def test_the_number_of_cells_is_that_of_the_published_run(name: str) -> None:
    packed = read_packed(ROOT / "docs/results" / name / PACKED)
    record = read_study(ROOT / "docs/results" / name / "study.yaml")
    assert cells_of(record) == len(set(packed.cells) | set(packed.failures))
    assert cells_of(record) == next(s.cells for s in shipped_studies() if s.name == name)


def test_a_name_is_looked_up_where_no_such_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = study_file("smoke")
    assert shipped.is_file() and shipped != Path("smoke")
    (tmp_path / "smoke").mkdir()
    assert study_file("smoke") == shipped, "a folder is no study file"
    (tmp_path / "smoke").rmdir()
    (tmp_path / "smoke").write_text("name: mine")
    assert study_file("smoke") == Path("smoke")
    assert study_file("other.yaml") == Path("other.yaml"), "the reader says that it is not there"
    assert study_file("runs/smoke") == Path("runs/smoke")
    with pytest.raises(ConfigError, match=r"did you mean 'smoke'\?; there are: .*unsir"):
        study_file("smok")


def test_commands_take_names(tmp_path: Path) -> None:
    said = expunge("study", "status", "smoke", "--out", "out", cwd=tmp_path).stdout
    assert said.startswith("study smoke: 0 of 39 cells done")
    assert "did you mean 'smoke'" in refused("study", "run", "smoky", "--out", "out", cwd=tmp_path)


def test_the_first_paragraph_of_a_comment() -> None:
    assert first_paragraph("# Does it\n# work?\n#\n# More.\nname: x\n") == "Does it work?"
    assert first_paragraph("name: x\n# no\n") == ""
