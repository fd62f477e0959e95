"""Cleansing a backdoored model, as people run it: the poison is made here, or came with a file."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from commands import expunge, refused
from PIL import Image
from thorough import THOROUGH

from expunge.advice import cleansing
from expunge.data.load import load_data
from expunge.data.poison import Poison
from expunge.data.poisoned import poison_samples
from expunge.data.triggers import Patch

POISON = "patch:size=3,margin=0,colour=255,share=0.1,target=3"
TRAINING = ["--model", "mlp", "--epochs", "12", "--lr", "0.05", "--batch-size", "64"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An original with a backdoor; another of a file that was poisoned elsewhere, with its ids."""
    folder = tmp_path_factory.mktemp("cleanse")
    expunge("train", "--data", f"digits+{POISON}", *TRAINING, "--out", "bad", cwd=folder)
    clean = load_data("digits")
    poison = Poison(Patch((3, 3), margin=0, colour=(255,)), 0.1, "3")
    train, known = poison_samples(clean.train, poison, clean.classes)
    images, tested = train.store.whole(), clean.test.store.whole()
    assert images is not None and tested is not None
    names = np.array([f"scan-{name}" for name in train.ids])
    np.savez(
        folder / "scans.npz",
        x_train=images.numpy(),
        y_train=train.labels,
        x_test=tested.numpy(),
        y_test=clean.test.labels,
        id=names,
    )
    (folder / "found.txt").write_text("\n".join(sorted(f"scan-{name}" for name in known.ids)))
    expunge("train", "--data", "scans.npz", *TRAINING, "--out", "elsewhere", cwd=folder)
    return folder


def scores_of(work: Path, *arguments: str) -> dict[str, dict[str, float]]:
    done = expunge("audit", *arguments, "--json", cwd=work)
    return {score["name"]: score for score in json.loads(done.stdout)["scores"]}


def test_cleansing_by_forgetting_all_of_it(work: Path) -> None:
    done = expunge(
        "cleanse", "bad", "--method", "retrain", "--out", "clean", "--report", "page", cwd=work
    )
    page = (work / "page/report.html").read_text(encoding="utf-8")
    assert "Attack success rate" in page and "The backdoor before and after" in page
    # one verdict, in the first line of both
    assert re.match(r"verdict: cleansed: the trigger worked on [\d.]+ % before", done.stdout)
    assert done.stdout.count("verdict:") == page.count('id="verdict"') == 1
    assert "<b>cleansed</b>" in page and page.index('id="verdict"') < page.index("What was asked")
    assert re.search(r"^ASR: .* before, .* after$", done.stdout, re.M)
    assert re.search(r"^SA: .* before, .* after$", done.stdout, re.M)
    assert "ASR_rest" not in done.stdout, "nothing is left of the poison"
    for text in ("poison: patch:size=3x3", "on 144 training samples", "class '3'"):
        assert text in done.stdout
    found = scores_of(work, "clean", "--original", "bad")
    assert found["ASR"]["detail"]["original"] > 90 and found["ASR"]["value"] < 20
    assert found["ASR"]["n"] < found["ASR_all"]["n"] == found["SA"]["n"] == 359
    assert found["SA"]["value"] > 90
    card = json.loads((work / "clean/model.json").read_text())
    assert card["data"]["spec"] == f"digits+{POISON}"


def test_a_share_of_it_known_and_a_reference(work: Path) -> None:
    done = expunge(
        "cleanse",
        "bad",
        "--poison",
        f"+{POISON}",
        "--method",
        "neggrad_plus",
        "--set",
        "epochs=2",
        "--known-fraction",
        "0.5",
        "--with-reference",
        "--out",
        "half",
        "--report",
        "half-page",
        cwd=work,
    )
    rest = re.search(r"(\d+) poisoned samples are not asked for and stay", done.stdout)
    split = json.loads((work / "half/split.json").read_text())
    assert rest is not None
    assert abs(int(rest[1]) - len(split["forget"])) <= 1
    assert re.search(r"^ASR_rest: .* before, .* after$", done.stdout, re.M)
    # retraining keeps the backdoor too, so the four scores are near: the trigger decides
    left = r"the retrained model has ASR [\d.]+ too: poison is left in the data"
    assert re.match(rf"verdict: not cleansed: .*; {left}", done.stdout)
    assert "an exact model lies in" not in done.stdout, "it has the backdoor too"
    page = (work / "half-page/report.html").read_text(encoding="utf-8")
    assert "<b>not cleansed</b>: " in page and re.search(left, page)
    assert "The verdict goes before this distance." in page
    found = scores_of(work, "half", "--original", "bad", "--retrained", "half-retrained")
    assert 0 < found["ASR_rest"]["n"] <= int(rest[1])
    assert found["ASR_rest"]["reference"] > 50, "half of the poison is enough for a backdoor"


def test_a_file_poisoned_elsewhere(work: Path) -> None:
    request = ["cleanse", "elsewhere", "--poison", "ids:found.txt", "--method", "retrain"]
    done = expunge(
        *request,
        "--trigger",
        "patch:size=3,margin=0,colour=255",
        "--target",
        "3",
        "--out",
        "found",
        cwd=work,
    )
    assert done.stdout.startswith("verdict: cleansed: ")
    attack = ["--trigger", "patch:size=3,margin=0,colour=255", "--target", "3"]
    later = scores_of(work, "found", "--original", "elsewhere", *attack)["ASR"]
    said = re.search(r"^ASR: ([\d.]+) %.* before, ([\d.]+) %.* after$", done.stdout, re.M)
    assert said is not None
    assert [float(said[1]), float(said[2])] == pytest.approx(
        [later["detail"]["original"], later["value"]], abs=0.05
    )
    assert "ASR" not in scores_of(work, "found")
    blind = expunge(*request, "--known-fraction", "0.4", "--out", "blind", cwd=work)
    assert "labelled as class '3'" in blind.stdout, "the label of all that were named"
    assert "verdict: cannot tell: attack success was not measured; say the trigger" in blind.stdout
    assert not re.search(r"^ASR: ", blind.stdout, re.M)
    assert re.search(r"^ASR_rest: ", blind.stdout, re.M)


def test_poison_that_nobody_knows_of_is_found(work: Path) -> None:
    done = expunge(
        "inspect", "bad", "--picture", "triggers.png", "--suspects", "named.txt", cwd=work
    )
    assert "this takes: trigger inversion about" in done.stderr
    said = done.stdout.strip().splitlines()[0]
    assert said.startswith("suspect: a backdoor seems to lead into class '3', by activation clus")
    assert "every class has too few training or clean samples" in done.stdout, "of spectral scores"
    assert "strip was left out: there are no inputs to judge" in done.stdout
    with Image.open(work / "triggers.png") as sheet:
        assert sheet.format == "PNG" and sheet.width > 4 * 80
    poison = load_data(f"digits+{POISON}").poison
    assert poison is not None
    named = (work / "named.txt").read_text().split()
    assert len(poison.ids.intersection(named)) > 0.8 * len(named) > 50
    assert "exists; name another" in refused("inspect", "bad", "--picture", "named.txt", cwd=work)


def test_a_model_alone_and_a_checkpoint_from_elsewhere_are_inspected(work: Path) -> None:
    names = np.load(work / "scans.npz")
    np.savez(work / "clean.npz", x_train=names["x_test"], y_train=names["y_test"])
    (work / "scans.npz").rename(work / "away.npz")
    try:
        few = ["--data", "clean.npz", "--only", "strip,spectral", "--inputs", "clean.npz"]
        done = expunge("inspect", "elsewhere", *few, "--json", cwd=work)
        found = json.loads(done.stdout)
        assert found["word"] == "nothing found" and list(found["skipped"]) == ["spectral"]
        assert "no proof that there is nothing" in found["sentence"]
        assert "cannot be read" in found["notes"][0] and "scans.npz" in found["notes"][0]
        assert "scans.npz" in refused("inspect", "elsewhere", cwd=work)
    finally:
        (work / "away.npz").rename(work / "scans.npz")
    expunge("export", "elsewhere", "--to", "net.pt", cwd=work)
    card = json.loads((work / "elsewhere/model.json").read_text())
    scale = ["--mean", str(card["mean"][0]), "--std", str(card["std"][0])]
    outside = ["inspect", "--model", "mlp", "--weights", "net.pt", "--data", "clean.npz", *scale]
    training = ["--training", "scans.npz", "--only", "activation_clustering", "--json"]
    found = json.loads(expunge(*outside, *training, cwd=work).stdout)
    assert found["detections"][0]["suspects"] == [3]


def test_what_cannot_be_inspected_costs_one_line(work: Path) -> None:
    assert "name one model" in refused("inspect", cwd=work)
    assert "name one model" in refused("inspect", "bad", "--model", "mlp", cwd=work)
    assert "--weights is of a model" in refused("inspect", "bad", "--weights", "a.pt", cwd=work)
    message = refused("inspect", "bad", "--only", "stripe", cwd=work)
    assert "did you mean 'strip'" in message
    message = refused("inspect", "--model", "mlp", "--weights", "net.pt", cwd=work)
    assert "clean ones with --data" in message
    assert "'nowhere.npz'" in refused("inspect", "bad", "--data", "nowhere.npz", cwd=work)


def test_mistakes_cost_one_line(work: Path) -> None:
    request = ["cleanse", "--method", "finetune", "--out", "x"]
    message = refused(*request, "elsewhere", "--poison", "patch", cwd=work)
    assert "name the samples" in message
    message = refused(*request, "bad", "--poison", "patch:sice=3", cwd=work)
    assert "did you mean 'size'" in message
    message = refused(
        *request, "elsewhere", "--poison", "ids:found.txt", "--target", "cat", cwd=work
    )
    assert "no class 'cat'" in message
    audit = ["audit", "elsewhere", "--forget", "ids:found.txt"]
    assert "give both or neither" in refused(*audit, "--trigger", "patch", cwd=work)
    assert "give both or neither" in refused(*audit, "--target", "3", cwd=work)
    message = refused(*audit, "--trigger", "patch:size=9", "--target", "3", cwd=work)
    assert "does not fit images of 8x8 pixels" in message
    message = refused(*audit, "--trigger", "patch", "--target", "cat", cwd=work)
    assert "no class 'cat'" in message
    message = refused(
        "audit", "bad", "--forget", "poison", "--trigger", "patch", "--target", "3", cwd=work
    )
    assert "leave --trigger and --target out" in message
    assert not (work / "x").exists()


def test_help_and_list(tmp_path: Path) -> None:
    text = expunge("cleanse", "--help", cwd=tmp_path).stdout
    for word in ("--known-fraction", "--trigger", "--poison", "Example: expunge cleanse"):
        assert word in text
    assert "called the target" in expunge("list", "audits", "ASR", cwd=tmp_path).stdout
    assert "+patch" in expunge("list", "datasets", cwd=tmp_path).stdout


def test_suspects_are_written_and_forgotten_too(work: Path) -> None:
    known = (work / "found.txt").read_text().split()
    (work / "part.txt").write_text("\n".join(known[::3]))
    request = ["cleanse", "elsewhere", "--poison", "ids:part.txt", "--extend-poison", "all.txt"]
    rest = ["--method", "finetune", "--set", "epochs=1", "--out", "longer"]
    done = expunge(*request, *rest, cwd=work)
    said = re.search(r"(\d+) known samples and (\d+) suspects: all.txt", done.stdout)
    assert said is not None and "estimated precision" in done.stdout
    listed = (work / "all.txt").read_text().split()
    split = json.loads((work / "longer/split.json").read_text())
    assert sorted(listed) == sorted(split["forget"]) and len(listed) == int(said[1]) + int(said[2])
    learned = set(known).intersection((*split["retain"], *split["forget"]))
    assert len(learned.intersection(listed)) > 0.7 * len(learned), "most of the rest is found"
    assert len(set(listed) - set(known)) < 0.2 * len(listed)
    assert "all.txt exists" in refused(*request, *rest[:-1], "x", cwd=work)


def test_clean_data_alone(work: Path) -> None:
    """Nothing is named: a method that reads what is retained works on that, and no other one."""
    done = expunge(
        *("cleanse", "elsewhere", "--method", "ibau", "--set", "epochs=1", "--set", "steps=2"),
        *("--out", "blank", "--trigger", "patch:size=3,margin=0,colour=255", "--target", "3"),
        cwd=work,
    )
    assert "no poison is named" in done.stdout and "ibau cleansed by" in done.stdout
    assert re.search(r"^ASR: .* before, .* after$", done.stdout, re.M)
    card = json.loads((work / "blank/model.json").read_text())
    assert card["lineage"][-1]["forgotten"] == 0 and card["lineage"][-1]["step"] == "ibau"
    message = refused("cleanse", "elsewhere", "--method", "ssd", "--out", "x", cwd=work)
    assert "no poison is named" in message and "anp, ibau" in message
    message = refused(
        "cleanse", "elsewhere", "--method", "anp", "--out", "x", "--trigger", "patch", cwd=work
    )
    assert "belong together" in message
    again = expunge(
        "unlearn",
        "blank",
        "--forget",
        "random:0.1",
        "--method",
        "finetune",
        "--set",
        "epochs=1",
        "--out",
        "after",
        cwd=work,
    )
    assert "written: after" in again.stdout


@THOROUGH
def test_ways_are_tried_and_the_best_is_written(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = {"finetune": ({"epochs": 1},), "retrain": ({},)}
    monkeypatch.setattr(cleansing, "NAMED", ways)
    monkeypatch.setattr(cleansing, "UNNAMED", {"finetune": ({"epochs": 1},)})
    request = ["cleanse", "elsewhere", "--auto", "--budget", "1m"]
    done = expunge(*request, "--poison", "ids:found.txt", "--out", "best", cwd=work)
    assert done.stdout.startswith("verdict: ")
    assert "trying for 60 s at most; one try takes: finetune" in done.stdout
    assert re.search(r"^ nothing done .* 100.0 % +no", done.stdout, re.M)
    assert re.search(r"^ retrain .*yes, the best", done.stdout, re.M)
    assert "chosen: retrain, with the fewest points of 2 tries" in done.stdout
    card = json.loads((work / "best/model.json").read_text())
    assert [step["step"] for step in card["lineage"]] == ["train", "retrain"]
    blank = expunge(*request, "--out", "none", ok=False, cwd=work)
    assert blank.stdout.startswith("verdict: not cleansed: nothing that was tried breaks")
    assert not (work / "none").exists()
    assert "inverted for class" in " ".join(blank.stdout.split())
    for wrong, told in (
        (["--method", "anp"], "one of the two"),
        (["--budget", "soon"], "write seconds, or a time"),
    ):
        assert told in refused(*request, *wrong, "--out", "none", cwd=work)


def test_without_a_trigger_the_best_said_is_that_none_is_found(work: Path) -> None:
    done = expunge(
        *("cleanse", "elsewhere", "--method", "finetune", "--set", "epochs=1", "--out", "tuned"),
        cwd=work,
    )
    assert (
        "inspected before: " in done.stdout and "trigger inverted before for class" in done.stdout
    )
    best = r"verdict: (not cleansed|cannot tell|no trigger that inspect finds)"
    assert re.match(best, done.stdout) and "verdict: cleansed" not in done.stdout
