"""A strength: which audits it chooses, what it says before and after, in Python and as a command."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands import expunge, refused
from markupsafe import escape
from rich.console import Console
from torch import nn

from expunge.api import audit, train, unlearn
from expunge.audits import AUDITS, there
from expunge.audits.costs import COSTS, NONE, AuditSizes, AuditWork, cost_lines
from expunge.audits.strength import (
    GIVE,
    QUICK,
    SAYS,
    STANDARD,
    STRENGTHS,
    THOROUGH,
    Strength,
    choose_audits,
)
from expunge.cli.listing import BESIDE, listing
from expunge.data.load import load_data
from expunge.errors import ConfigError
from expunge.folders.page import deletion_report
from expunge.place import Place
from expunge.report.page import render
from expunge.scores.joint import FORGOT
from expunge.scores.joint_shown import joint_lines
from expunge.scores.margins import STATED, Margins
from expunge.scores.words import CANNOT_TELL, NOT_FORGOTTEN
from expunge.shadows.build import build
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe

CLASS = "class:3"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("strength")


@pytest.fixture(scope="module")
def original(folder: Path) -> Trained:
    made = train(load_data("digits:600"), "mlp", recipe=Recipe(epochs=5, lr=0.1, batch_size=64))
    made.save(folder / "original")
    return made


@pytest.fixture(scope="module")
def retrained(original: Trained, folder: Path) -> list[Trained]:
    made = [unlearn(original, CLASS, "retrain", seed=seed) for seed in range(3)]
    made[0].save(folder / "retrained")
    return made


@pytest.fixture(scope="module")
def forgot(original: Trained, folder: Path) -> Trained:
    made = unlearn(original, CLASS, "gradient_ascent")
    made.save(folder / "forgot")
    build(original, folder / "original-bank", models=2, keep=False)
    return made


def test_each_word_holds_the_last_one() -> None:
    assert set(QUICK) < set(STANDARD) < set(THOROUGH)
    assert set(STRENGTHS) == set(SAYS)
    usual = {name for name, one in AUDITS.items() if one.usual}
    for word, names in (("quick", QUICK), ("standard", STANDARD), ("thorough", THOROUGH)):
        assert set(STRENGTHS[word]) == (usual | set(names)) & set(AUDITS)
    assert set(COSTS) <= {"accuracy", *THOROUGH}


def test_the_list_says_what_makes_an_audit_and_what_it_needs() -> None:
    screen = Console(file=io.StringIO(), width=80)
    screen.print(listing("audits", None))
    lines = screen.file.getvalue().splitlines()
    told = {line.split()[0]: line for line in lines if line[2:3].strip()}
    for name, *words in (
        ("accuracy", "always"),
        ("zrf", "quick"),
        ("relearn_held_out", "standard", "original,"),
        ("u_lira", "thorough", "bank,", "its", "weights"),
        ("weight_distance", "--also", "retrained"),
    ):
        assert told[name].split()[1 : 1 + len(words)] == words
    assert all(len(line) <= 80 for line in lines)
    assert set(BESIDE) == set(GIVE)


def test_what_does_not_fit_is_left_out_with_what_to_give() -> None:
    alone = choose_audits("standard", there(), whole_classes=True)
    assert "linear_probe" in alone.names
    assert "rmia" not in alone.names
    (rmia,) = [line for line in alone.left_out if line.startswith("rmia:")]
    assert "expunge bank build" in rmia
    everything = set(GIVE)
    fits = choose_audits("standard", everything, whole_classes=True)
    assert fits.names == STRENGTHS["standard"]
    assert not fits.left_out
    assert choose_audits(None, everything, whole_classes=True).names == ()
    with pytest.raises(ConfigError, match="unknown strength 'standart', did you mean 'standard'"):
        choose_audits("standart", everything, whole_classes=True)
    with pytest.raises(ConfigError, match="unknown strength 'standart', did you mean 'standard'"):
        Strength("standart")


def test_what_all_needs_are_called() -> None:
    needs = {need for one in AUDITS.values() for need in one.needs} - {"outputs", "model"}
    assert needs <= set(GIVE)


def test_costs_are_sums_of_work() -> None:
    sizes = AuditSizes(forget=10, test=20, all=100, models=3, shadows=4, training=7.0, method=2.0)
    assert AuditWork(passes=100, learned=10).seconds(sizes, 0.5) == 0.5 * (100 + 3 * 10)
    assert COSTS["swap"](sizes).seconds(sizes, 1.0) == 3 * 7 + 2 * 2
    assert COSTS["u_lira"](sizes) == AuditWork(passes=400, forgettings=4)
    assert NONE.seconds(sizes, 1.0) == 0
    audits = [AUDITS[name]() for name in ("accuracy", "membership", "linear_probe")]
    first, probe, idle, total = cost_lines(audits, sizes, 0.1)
    assert first == "  accuracy: 300 passes, about 30 s"
    assert probe == "  linear_probe: 60 passes, about 6 s"
    assert idle == "  no passes of their own: membership"
    assert total == "in all about 36 s (1e+05 µs a pass)"
    unknown = AuditSizes(10, 20, 100, 3)
    assert "nobody knows" in "\n".join(cost_lines(audits, unknown, float("nan")))


def test_a_strength_tells_its_cost_first_and_finds_one_word(
    original: Trained, retrained: list[Trained], forgot: Trained
) -> None:
    lines: list[str] = []
    place = Place(tell=lines.append)
    lost = audit(forgot, original=original, retrained=retrained[:2], strength="quick", place=place)
    assert lines[0].startswith("quick: ")
    assert any(line.startswith("in all ") for line in lines)
    assert lost.joint is not None
    assert lost.joint.word == NOT_FORGOTTEN
    assert "UA" in lost.joint.reason
    assert str(lost.joint) in str(lost)
    assert lost.to_dict()["joint"]["word"] == NOT_FORGOTTEN
    true = audit(retrained[2], original=original, retrained=retrained[:2], strength="quick")
    assert true.joint is not None
    assert true.joint.word in (FORGOT, CANNOT_TELL)
    wide = Strength("quick", margins=Margins({**STATED.by_score, "UA": 100.0}), seed=3)
    other = audit(forgot, original=original, retrained=retrained[:2], strength=wide)
    assert other.joint is not None and [s.name for s in other] == [s.name for s in lost]
    assert lost["UA"].finding is not None and lost["UA"].finding.word == "outside"
    assert other["UA"].finding is not None and other["UA"].finding.word != "outside"
    assert other.panel.seed == 3 and lost.panel.seed == 0
    plain = audit(forgot, original=original, retrained=retrained[:2])
    assert plain.joint is None
    assert "joint" not in plain.to_dict()
    assert "finding" not in str(plain)
    joint = replace(lost.joint, method=("the method, 6 models beside 6", "a rate of <5 %"))
    page = render(deletion_report(replace(lost, joint=joint), "", "expunge audit"))
    for line in (*joint_lines(joint), f"Margins: {lost.margins}.", f"Deletion: {CLASS}"):
        assert escape(line) in page
    labels = deletion_report(true, None, "").frame["method"].unique()
    assert [*labels] == ["original", "retrain", "floor", "retrain, audited"]


def test_the_page_of_an_original_says_that_nothing_was_done(
    original: Trained, retrained: list[Trained]
) -> None:
    asked = audit(original, forget=CLASS, original=original, retrained=retrained[0])
    report = deletion_report(asked, CLASS, "")
    assert [*report.frame["method"].unique()] == ["original", "retrain"]
    page = render(report)
    assert "Nothing yet on the model mlp" in page
    assert "Requests to this model so far" not in page


def test_no_model_is_changed(original: Trained, retrained: list[Trained], forgot: Trained) -> None:
    def weights(one: nn.Module) -> torch.Tensor:
        return torch.cat([p.detach().flatten() for p in one.parameters()])

    before = [weights(one.model).clone() for one in (forgot, original, retrained[0])]
    audit(forgot, original=original, retrained=retrained[:1], strength="standard")
    after = [weights(one.model) for one in (forgot, original, retrained[0])]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_command(
    folder: Path, original: Trained, retrained: list[Trained], forgot: Trained
) -> None:
    beside = ("--original", "original", "--retrained", "retrained")
    done = expunge("audit", "forgot", *beside, "--strength", "standard", cwd=folder)
    assert "bank: original-bank, 2 models" in done.stderr
    assert "in all " in done.stderr
    assert "1 retrained model: nothing can be found within; 5 are needed" in done.stderr
    assert "not forgotten: " in done.stdout
    assert "rmia" in done.stdout
    assert "digest" in done.stdout
    (folder / "margins.yaml").write_text("UA: 100\n", encoding="utf-8")
    wide = expunge(
        *("audit", "forgot", *beside, "--strength", "quick", "--margins", "margins.yaml"),
        *("--figures", "pictures", "--report", "about", "--json"),
        cwd=folder,
    )
    told = json.loads(wide.stdout)
    found = {one["name"]: one["finding"] for one in told["scores"]}
    assert found["UA"]["word"] != "outside"
    assert "margin 100" in found["UA"]["why"]
    assert told["joint"]["word"] == NOT_FORGOTTEN
    names = {path.name for path in (folder / "pictures").iterdir()}
    assert {"roc.svg", "exposed.pdf", "captions.txt", "membership.csv"} <= names
    page = (folder / "about" / "report.html").read_text(encoding="utf-8")
    assert "Margins: 100 points of UA" in page
    assert "--report about" in page
    assert (folder / "about" / "figures" / "00-roc.svg").is_file()
    assert "exists" in refused("audit", "forgot", "--figures", "pictures", cwd=folder)
    assert "unknown strength" in refused("audit", "forgot", "--strength", "all", cwd=folder)
    assert "no-bank does not exist" in refused(
        "audit", "forgot", *beside, "--also", "rmia", "--bank", "no-bank", cwd=folder
    )
    assert "--sibling retrained was made by retrain" in refused(
        "audit", "forgot", *beside, "--sibling", "retrained", cwd=folder
    )


def test_a_deletion_and_its_page(folder: Path, original: Trained, forgot: Trained) -> None:
    done = expunge(
        *("unlearn", "original", "--forget", CLASS, "--method", "head_zeroed", "--out", "zeroed"),
        *("--strength", "standard", "--report", "page", "--redact-ids"),
        cwd=folder,
    )
    assert "cannot tell: without a retrained model nothing is compared" in done.stdout
    page = (folder / "page" / "report.html").read_text(encoding="utf-8")
    assert 'id="together"' in page
    assert "cannot tell: without a retrained model" in page
    names = {path.name for path in (folder / "page" / "figures").iterdir()}
    assert {"00-roc.svg", "00-exposed.pdf", "00-before-after.svg"} <= names
    assert "Their ids are not shown" in page
    assert "is redacted, and a bank knows samples by their ids" in done.stderr


def test_a_bank_serves_an_audit_that_is_asked_for_by_name(
    folder: Path, original: Trained, forgot: Trained
) -> None:
    done = expunge("audit", "forgot", "--original", "original", "--also", "rmia", cwd=folder)
    assert "bank: original-bank" in done.stderr
    quiet = expunge("audit", "forgot", "--original", "original", cwd=folder)
    assert "bank" not in quiet.stderr
    other = train(load_data("digits:500"), "mlp", recipe=Recipe(epochs=1, lr=0.1, batch_size=64))
    build(other, folder / "other", models=2, keep=False)
    wrong = ("--also", "rmia", "--bank", "other")
    assert "is a bank of other training data" in refused("audit", "forgot", *wrong, cwd=folder)
