"""Folders and studies that earlier versions wrote: they load, are audited, and are forgotten from.

`fixtures/format1.zip` was written by the last commit before format 2 (b274b82): a model of 10 kB
on 120 digits, trained, pruned, imported, made to forget in the open and redacted, and a study. What
is written now is format 2.
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest
from commands import expunge
from helpers import CPU

from expunge import ModelError, load
from expunge.folders.audit import audit_folder
from expunge.folders.make import unlearn_folder
from expunge.methods import make_method
from expunge.place import Place
from expunge.study.file import read_study
from expunge.study.launch import planned, run_study
from expunge.study.results import results

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "format1.zip"
HERE = Place(device="cpu", allow_code=True)
METHOD = make_method("finetune", {"epochs": 1, "batch_size": 32})


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the earlier version worked in, where `tiny:build` can be imported."""
    with zipfile.ZipFile(FIXTURE) as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tiny", raising=False)
    return tmp_path


@pytest.mark.parametrize("name", ["original", "forgot", "sparse", "imported", "redacted"])
def test_a_folder_loads_and_forgets(old: Path, name: str) -> None:
    before = load(old / name, place=HERE)
    assert before.record.version
    assert before.redacted == (name == "redacted")
    assert (before.mask is not None) == (name == "sparse")
    done = unlearn_folder(old / name, "random:0.2", METHOD, old / "new", place=HERE)
    split = done.result.split
    assert set(before.split.forget) <= set(split.excluded), "what was struck stays struck"
    again = load(old / "new", place=HERE)
    assert again.split.forget == split.forget or again.redacted
    assert [one.step for one in again.history] == [
        *(one.step for one in before.history),
        "finetune",
    ]
    assert again.record.parent == before.weights
    assert json.loads((old / "new" / "model.json").read_text())["format"] == 2


def test_an_audit_finds_what_it_found_then(old: Path) -> None:
    found = audit_folder(
        old / "forgot", original=old / "original", retrained=old / "forgot-retrained", place=HERE
    )
    told = json.loads((old / "audit.json").read_text())["scores"]
    assert [score.name for score in found] == [one["name"] for one in told]
    for score, one in zip(found, told, strict=True):
        if score.name != "RTE":
            assert score.value == pytest.approx(one["value"], abs=2), "one sample of 50 at most"
            assert score.reference == pytest.approx(one["reference"], abs=2)


def test_a_study_goes_on(old: Path) -> None:
    study = read_study(old / "study/study.yaml", allow_code=True)
    before = planned(study, old / "study", place=HERE)
    assert before.counts().done == len(before.cells), "the cells have the same keys"
    frame = results(before.rows, before.store)
    more = study.model_copy(update={"also": ("weight_distance",)})
    made = run_study(planned(more, old / "study", place=HERE))
    assert made.counts().done == len(made.cells), [made.store.failure(c.key) for c in made.cells]
    after = results(made.rows, made.store)
    usual = after[after["score"].isin(set(frame["score"]) - {"RTE"})]
    for name in ("finetune", "original"):
        ours, theirs = (
            f[(f["method"] == name) & (f["score"] == "TA")]["value"].tolist()
            for f in (usual, frame)
        )
        assert ours == pytest.approx(theirs, abs=9), "two samples of 24 at most, on any processor"
    assert set(after[after["score"] == "weight_distance"]["method"]) == {"original", "finetune"}


def test_a_cell_that_keeps_weights_is_a_model_folder(old: Path) -> None:
    study = read_study(old / "study.yaml", allow_code=True)
    made = run_study(planned(study, old / "fresh", place=HERE))
    row = next(row for row in made.rows if row.method == "retrain")
    original, retrained = (made.store.path(key) for key in (row.base, row.retrain))
    assert load(original, place=HERE).record.step == "train"
    scores = audit_folder(retrained, original=original, place=HERE)
    cell = {one["name"]: one["value"] for one in made.store.read(row.retrain)["scores"]}
    assert {s.name: s.value for s in scores if s.name != "RTE"} == cell
    said = expunge(
        "audit", str(retrained), "--original", str(original), "--allow-code", cwd=old
    ).stdout
    assert "UA" in said
    done = unlearn_folder(retrained, "random:0.1", METHOD, old / "further", place=HERE)
    assert set(load(retrained, place=HERE).split.forget) <= set(done.result.split.excluded)


def test_a_format_of_the_future_is_refused(old: Path) -> None:
    card = old / "original" / "model.json"
    card.write_text(card.read_text().replace('"format": 1', '"format": 3'))
    with pytest.raises(ModelError, match="has format 3, this version reads up to 2"):
        load(old / "original", place=CPU)
