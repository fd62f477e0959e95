"""Forgetting a class without its samples, with further scores and pictures, as people run it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from commands import RECORDS, expunge, refused

EXTRA = "relearn_time,weight_distance,prediction_distribution"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an original on digits."""
    folder = tmp_path_factory.mktemp("forgetting")
    expunge(
        "train",
        "--data",
        "digits:400",
        "--model",
        "cnn",
        "--epochs",
        "8",
        "--lr",
        "0.05",
        "--batch-size",
        "64",
        "--out",
        "original",
        cwd=folder,
    )
    return folder


def test_a_class_with_reference_scores_and_pictures(work: Path) -> None:
    done = expunge(
        "unlearn",
        "original",
        "--forget",
        "class:3,5",
        "--method",
        "unsir:notebook",
        "--set",
        "noise_batch=8",
        "--with-reference",
        "--paired",
        "--also",
        EXTRA,
        "--figures",
        "pictures",
        "--out",
        "forgot",
        cwd=work,
    )
    for word in ("relearn_time", "AIN", "weight_distance", "prediction_distribution", "steps"):
        assert word in done.stdout
    assert "began elsewhere" not in done.stdout
    step = json.loads((work / "forgot/model.json").read_text())["lineage"][-1]
    assert step["step"] == "unsir"
    assert step["settings"]["noise_used"] == 3 and step["settings"]["noise_batch"] == 8
    assert step["cost"]["reads"]["forget"] == 0
    assert step["cost"]["reads"]["forget_labels"] > 0
    assert set(step["log"]["seconds"]) == {"noise", "impair", "repair"}
    names = {file.name for file in (work / "pictures").iterdir()}
    for picture in ("noise", "accuracy_by_class", "weight_distance"):
        assert {f"{picture}.png", f"{picture}.svg"} <= names
        assert f"pictures/{picture}.png" in done.stdout
    table = pd.read_csv(work / "pictures/accuracy_by_class.csv")
    assert table.loc[table["forgotten"], "class"].tolist() == [3, 5]
    assert (table.loc[table["forgotten"], "retrained"] == 0).all()
    distance = pd.read_csv(work / "pictures/weight_distance.csv")
    assert list(distance.columns) == ["layer", "from_original", "from_retrained", "floor"]
    assert (distance["floor"] > 0).all()
    assert "its floor is" in done.stdout

    audited = expunge(
        "audit",
        "forgot",
        "--original",
        "original",
        "--retrained",
        "forgot-retrained",
        "--also",
        EXTRA,
        "--json",
        cwd=work,
    )
    scores = {score["name"]: score for score in json.loads(audited.stdout)["scores"]}
    assert scores["weight_distance"]["detail"]["paired"] == "batches"
    assert scores["relearn_time"]["unit"] == "steps"
    assert len(scores["prediction_distribution"]["detail"]["distribution"]) == 10


def test_a_reference_that_began_elsewhere_is_told_apart(work: Path) -> None:
    done = expunge(
        "unlearn",
        "original",
        "--forget",
        "class:1",
        "--method",
        "finetune",
        "--set",
        "epochs=1",
        "--with-reference",
        "--also",
        "weight_distance",
        "--out",
        "other",
        cwd=work,
    )
    assert "began elsewhere" in done.stdout


def test_further_scores_without_a_reference(work: Path) -> None:
    done = expunge(
        "unlearn",
        "original",
        "--forget",
        "class:1",
        "--method",
        "finetune",
        "--set",
        "epochs=1",
        "--also",
        "relearn_time",
        "--out",
        "alone",
        cwd=work,
    )
    assert "relearn_time" in done.stdout
    assert "AIN" not in done.stdout
    message = refused(
        "unlearn",
        "original",
        "--forget",
        "class:1",
        "--method",
        "finetune",
        "--also",
        "weight_distance",
        "--out",
        "x",
        cwd=work,
    )
    assert "--with-reference" in message
    assert not (work / "x").exists()


def test_anything_but_whole_classes_is_refused(work: Path) -> None:
    message = refused(
        "unlearn", "original", "--forget", "random:0.1", "--method", "unsir", "--out", "x", cwd=work
    )
    assert "unsir forgets whole classes only" in message
    assert "finetune" in message and "neggrad_plus" in message
    assert not (work / "x").exists()


def test_mistakes_with_pictures_and_pairs(work: Path) -> None:
    request = ["unlearn", "original", "--forget", "class:3", "--method", "unsir"]
    assert "--with-reference" in refused(*request, "--paired", "--out", "x", cwd=work)
    (work / "mine").mkdir()
    (work / "mine/thesis.txt").write_text("mine")
    for extra in ([], ["--overwrite"]):
        message = refused(*request, "--figures", "mine", *extra, "--out", "x", cwd=work)
        assert "mine" in message
    assert (work / "mine/thesis.txt").read_text() == "mine"
    for place in ("x", "x/pictures", "x-retrained"):
        message = refused(*request, "--figures", place, "--out", "x", cwd=work)
        assert "model folder" in message
    assert "notebook" in refused(*request[:-1], "unsir:notebok", "--out", "x", cwd=work)
    assert not (work / "x").exists()


def test_the_samples_of_the_class_may_be_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a trained folder to a new one, with every image of the class deleted before."""
    (tmp_path / "mine.py").write_text(RECORDS)
    expunge(
        "train",
        "--data",
        "mine:load",
        "--model",
        "mine:build",
        "--epochs",
        "3",
        "--lr",
        "0.1",
        "--out",
        "original",
        cwd=tmp_path,
    )
    monkeypatch.setenv("GONE", "4")
    expunge(
        "unlearn",
        "original",
        "--forget",
        "class:4",
        "--method",
        "unsir",
        "--allow-code",
        "--out",
        "forgot",
        cwd=tmp_path,
    )
    step = json.loads((tmp_path / "forgot/model.json").read_text())["lineage"][-1]
    assert step["forgotten"] > 20
    assert step["cost"]["reads"]["forget"] == 0
    message = refused(
        "unlearn",
        "original",
        "--forget",
        "class:4",
        "--method",
        "gradient_ascent",
        "--allow-code",
        "--out",
        "x",
        cwd=tmp_path,
    )
    assert "was deleted" in message


def test_the_list_shows_presets_and_the_limit(tmp_path: Path) -> None:
    text = expunge("list", "methods", "unsir", cwd=tmp_path).stdout
    assert expunge("list", "methods", "unsir:notebook", cwd=tmp_path).stdout == text
    for word in (
        "unsir:notebook",
        "unsir:text",
        "unsir:mnist_mlp",
        "whole classes only",
        "noise_steps",
    ):
        assert word in text
