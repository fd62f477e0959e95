"""Cleansing of model folders: what is asked for, what is known, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CPU, digits

from expunge import Recipe, UserError, load
from expunge.data.load import load_data
from expunge.data.poison import Poison
from expunge.data.poisoned import poison_samples
from expunge.data.samples import ResidentStore, Samples, row_ids
from expunge.data.triggers import Patch
from expunge.folders.audit import TypedBackdoor, audit_folder, audit_forgotten
from expunge.folders.cleanse import Cleansed, Known, cleanse_folder, cleansing_lines
from expunge.folders.make import train_folder
from expunge.methods import make_method

TRAINING = Recipe(epochs=12, lr=0.05, batch_size=32)
METHOD = make_method("finetune", {"epochs": 1, "batch_size": 32})
POISON = "patch:size=3,margin=0,colour=255,share=0.2,target=3"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bad` knows its poison; `elsewhere` learned from a file with the same poison in it."""
    folder = tmp_path_factory.mktemp("cleanse")
    train_folder(f"digits:300+{POISON}", "mlp", folder / "bad", recipe=TRAINING)
    clean = digits(300)
    poison = Poison(Patch((3, 3), margin=0, colour=(255,)), 0.2, "3")
    train, known = poison_samples(clean.train, poison, clean.classes)
    images, tested = train.store.whole(), clean.test.store.whole()
    assert images is not None and tested is not None
    names = np.array([f"scan-{name}" for name in train.ids])
    np.savez(
        folder / "scans.npz",
        x_train=images.numpy(),
        y_train=train.labels,
        id=names,
        x_test=tested.numpy(),
        y_test=clean.test.labels,
    )
    (folder / "found.txt").write_text("\n".join(sorted(f"scan-{name}" for name in known.ids)))
    (folder / "mixed.txt").write_text("\n".join(names[:40].tolist()))
    train_folder(str(folder / "scans.npz"), "mlp", folder / "elsewhere", recipe=TRAINING)
    return folder


def cleanse(work: Path, folder: str, out: str, **fields: Any) -> Cleansed:
    seed = fields.pop("forget_seed", 0)
    known = Known(fraction=fields.pop("known_fraction", None), **fields)
    return cleanse_folder(
        work / folder, METHOD, work / out, known=known, forget_seed=seed, place=CPU
    )


def asked(done: Cleansed) -> set[str]:
    return set(done.done.result.split.forget)


def test_all_of_it_by_default(work: Path) -> None:
    done = cleanse(work, "bad", "all")
    split = done.done.result.split
    assert len(done.poisoning.ids) == 60
    assert asked(done) == done.poisoning.ids - set(split.excluded)
    assert not done.poisoning.ids & {*split.retain, *split.validation}
    same = cleanse(
        work, "bad", "same", poison="patch:size=3x3,margin=0,colour=255,share=0.2,target=#3"
    )
    assert asked(same) == asked(done)
    with pytest.raises(UserError, match="struck before"):
        cleanse(work, "all", "x")


def test_a_share_and_then_the_rest(work: Path) -> None:
    whole = asked(cleanse(work, "bad", "whole", known_fraction=1.0))
    some = cleanse(work, "bad", "some", known_fraction=0.4, forget_seed=2)
    assert asked(some) < whole and len(asked(some)) == round(0.4 * len(whole))
    assert any("are not asked for" in note for note in some.notes)
    assert asked(cleanse(work, "bad", "again", known_fraction=0.4, forget_seed=2)) == asked(some)
    assert asked(cleanse(work, "bad", "other", known_fraction=0.4, forget_seed=3)) != asked(some)
    assert asked(cleanse(work, "some", "rest")) == whole - asked(some)


def test_a_wrong_trigger_supports_no_claim(work: Path) -> None:
    listed: dict[str, Any] = {"poison": f"ids:{work / 'found.txt'}"}
    right = cleanse(work, "elsewhere", "right", trigger=POISON.partition(",share")[0], **listed)
    assert right.poisoning.target == 3, "the label of all that were named"
    lines = cleansing_lines(audit_forgotten(right.done, place=CPU))
    assert [line.partition(":")[0] for line in lines[:3]] == ["ASR", "ASR_all", "SA"]
    assert lines[-1].startswith(("cleansed", "not cleansed", "weakened, not cleansed")), lines
    assert "no claim" not in lines[-1] and "SA" in lines[2]
    wrong = cleanse(work, "elsewhere", "wrong", trigger="patch:size=1,place=0x0", **listed)
    lines = cleansing_lines(audit_forgotten(wrong.done, place=CPU))
    assert lines[-1].startswith("no claim: the trigger worked on only")


def test_ids_of_a_folder_that_knows_its_poison(work: Path) -> None:
    """The trigger is the data's; samples named by mistake are counted and forgotten too."""
    loaded = load(work / "bad")
    assert loaded.data.poison is not None
    poisoned = [name for name in loaded.split.retain if name in loaded.data.poison.ids]
    clean = [name for name in loaded.split.retain if name not in loaded.data.poison.ids]
    (work / "some.txt").write_text("\n".join([*poisoned[:7], *clean[:4]]))
    done = cleanse(work, "bad", "named", poison=f"ids:{work / 'some.txt'}")
    assert asked(done) == {*poisoned[:7], *clean[:4]}
    assert done.poisoning == loaded.data.poison
    assert "4 of the samples named are not poisoned; they are forgotten too" in done.notes


@pytest.mark.parametrize(
    ("folder", "fields", "message"),
    [
        ("elsewhere", {}, "name the samples that are poisoned with --poison ids:FILE"),
        ("elsewhere", {"poison": "patch"}, "so it never saw 'patch'"),
        ("elsewhere", {"trigger": "patch"}, "name the samples"),
        ("bad", {"poison": "patch"}, "not with patch:size=4x4.*leave --poison out"),
        ("bad", {"poison": "patch:sice=3"}, "did you mean 'size'"),
        ("bad", {"trigger": "patch"}, "leave --trigger and --target out"),
        ("bad", {"target": "3"}, "leave --trigger and --target out"),
        ("bad", {"known_fraction": 1.5}, "above 0, up to 1"),
        ("bad", {"known_fraction": 0.0}, "above 0, up to 1"),
        ("bad", {"known_fraction": 0.001}, "is none; ask for a larger one"),
        ("elsewhere", {"poison": "ids:none.txt"}, "cannot read ids"),
        ("bad", {"poison": "ids:found.txt"}, "'scan-.*' is not in the training data"),
        ("elsewhere", {"poison": "ids:found.txt", "trigger": "patch:size=9"}, "does not fit"),
        ("elsewhere", {"poison": "ids:found.txt", "trigger": "pach"}, "did you mean 'patch'"),
        ("elsewhere", {"poison": "ids:found.txt", "target": "cat"}, "no class 'cat'"),
        (
            "elsewhere",
            {"poison": "ids:found.txt", "trigger": "patch:size=3", "target": "5"},
            "all samples named are labelled '3'.*--target says '5'",
        ),
        (
            "elsewhere",
            {"poison": "ids:mixed.txt", "trigger": "patch:size=3"},
            "say it with --target",
        ),
    ],
)
def test_mistakes(
    work: Path, folder: str, fields: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work)
    with pytest.raises(UserError, match=message):
        cleanse(work, folder, "x", **fields)
    assert not (work / "x").exists()


def test_a_folder_that_is_there_is_refused_first(work: Path) -> None:
    with pytest.raises(UserError, match="exists"):
        cleanse(work, "bad", "bad")


def test_a_test_set_drawn_from_the_poisoned_file_does_not_judge_by_poison(work: Path) -> None:
    """One file, poison all over it: the person's whole list is right, and nobody is tested on it."""
    clean = load_data("digits")
    poison = Poison(Patch((3, 3), margin=0, colour=(255,)), 0.2, "3")
    images = [part.store.whole() for part in (clean.train, clean.test)]
    whole = Samples(
        row_ids(len(clean.train) + len(clean.test)),
        np.concatenate([clean.train.labels, clean.test.labels]),
        ResidentStore(torch.cat(images)),
        "print",
        True,  # type: ignore[arg-type]
    )
    samples, known = poison_samples(whole, poison, clean.classes)
    laid = samples.store.whole()
    assert laid is not None
    names = np.array([f"s{row}" for row in range(len(samples))])
    np.savez(work / "one.npz", x=laid.numpy(), y=samples.labels, id=names)
    (work / "all.txt").write_text("\n".join(f"s{name}" for name in known.ids))
    train_folder(str(work / "one.npz"), "mlp", work / "one", recipe=TRAINING)
    done = cleanse(
        work,
        "one",
        "one-clean",
        poison=f"ids:{work / 'all.txt'}",
        trigger=POISON.partition(",share")[0],
    )
    poisoned = {f"s{name}" for name in known.ids}
    tested = set(done.done.result.data.test.ids.tolist())
    assert tested and not tested & poisoned
    assert asked(done) <= poisoned
    assert any("are test samples; nothing is measured on them" in note for note in done.notes)
    report = audit_forgotten(done.done, place=CPU)
    assert {score.n for score in report.scores if score.name == "SA"} == {len(tested)}
    later = audit_folder(
        work / "one-clean", backdoor=TypedBackdoor(POISON.partition(",share")[0], "3"), place=CPU
    )
    assert "what is poisoned in it counts as clean" in later.notes[0], "ids were not named here"
