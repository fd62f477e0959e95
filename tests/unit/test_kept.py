"""Methods that take part in training: what they keep, their folders, and who may forget from them."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from helpers import digits, same_state
from torch import nn

from expunge.api import train, unlearn
from expunge.data.parts import Part
from expunge.disk.whole import scratch_beside, sweep
from expunge.errors import ConfigError, ModelError
from expunge.folders.export import export_folder, told_inputs
from expunge.folders.make import Beside, train_folder, unlearn_folder
from expunge.folders.sparse import prune_folder
from expunge.methods import Method, make_method
from expunge.models.state import packed_state
from expunge.place import HERE, Place
from expunge.pruning import make_pruner
from expunge.pruning.original import prune
from expunge.trained.card import read_card
from expunge.trained.opening import load
from expunge.trained.trained import Trained
from expunge.training.kept import Kept
from expunge.training.recipe import Recipe

RECIPE = Recipe(epochs=1, batch_size=64, lr=0.05)
CODE = Place(allow_code=True)


class Pair(nn.Module):
    """Two models, of which the mean counts."""

    def __init__(self, one: nn.Module, other: nn.Module) -> None:
        super().__init__()
        self.members = nn.ModuleList([one, other])

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        one, other = self.members
        return (one(inputs) + other(inputs)) / 2


class Twice(Method):
    """Trains two models, and keeps the first of them twice."""

    name: ClassVar[str] = "twice"
    paper: ClassVar[str] = "none"
    reads: ClassVar[Part] = Part.RETAIN
    takes_part: ClassVar[bool] = True
    rooms: ClassVar[list[Path | None]] = []

    lr: float = 0.05

    def built(self, fresh: Any) -> nn.Module:
        """See `Pair`."""
        return Pair(fresh(), fresh())

    def train(self, data: Any, run: Any) -> nn.Module:
        """See the class."""
        from expunge.training.fit import train_from

        run.tell("two models will be trained")
        Twice.rooms.append(run.kept.room)
        pair = Pair(run.fresh("one"), run.fresh("other"))
        train_from(pair, data, run, run.original_recipe().but(lr=self.lr))
        run.kept.write("first", packed_state(pair.members[0]))
        run.kept.write("secret", packed_state(pair.members[0]), private=True)
        return pair

    def unlearn(self, model: nn.Module, data: Any, run: Any) -> nn.Module:
        """Back to what was kept, and no more of the secret."""
        assert isinstance(model, Pair)
        model.members[0].load_state_dict(run.kept.read("secret"))
        run.kept.drop("secret")
        run.kept.write("again", run.kept.read("first"))
        return model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("twice") / "m"
    told: list[str] = []
    train_folder(
        "digits:300", "mlp", path, recipe=RECIPE, method=Twice(), place=Place(tell=told.append)
    )
    assert told == ["two models will be trained"]
    room = Twice.rooms[-1]  # beside the folder, so that memory does not hold what is kept
    assert room is not None and room.parent == path.parent and not room.exists()
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_groups_are_copied_in_and_out() -> None:
    kept, mine = Kept(), torch.ones(2)
    kept.write("a", {"x": mine})
    mine.zero_()
    kept.read("a")["x"].zero_()
    assert kept.read("a")["x"].tolist() == [1, 1]
    other = kept.copied(None)
    other.drop("a")
    other.write("b", {"x": mine})
    assert kept.names() == ("a",) and other.names() == ("b",)


@pytest.mark.parametrize("name", ["../a", "A", "", "a/b", "a" * 101])
def test_a_group_is_no_path(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be called"):
        Kept().write(name, {})
    with pytest.raises(ConfigError, match=r"nothing called .* is kept"):
        Kept().read(name)


def test_a_room_holds_what_is_written(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.write("a", {"x": torch.ones(3)})
    kept.write("a", {"x": torch.zeros(3)}, private=True)
    assert kept.names() == ("a",) and kept.is_private("a")
    assert kept.read("a")["x"].sum() == 0
    assert stat.S_IMODE(next(tmp_path.glob("private-*")).stat().st_mode) == 0o600


def test_a_folder_opens_as_the_module_that_was_trained(folder: Path) -> None:
    names = {"kept-first.safetensors", "private-secret.safetensors"}
    assert {path.name for path in (folder / "artifacts").iterdir()} == names
    modes = [stat.S_IMODE((folder / "artifacts" / one).stat().st_mode) for one in sorted(names)]
    assert modes[1] == 0o600 != modes[0]
    assert [one.name for one in folder.parent.iterdir()] == ["m"]  # no room is left
    opened = load(folder, place=CODE)
    assert isinstance(opened.model, Pair) and opened.trained_by == Twice()
    assert opened.kept.names() == ("first", "secret")
    first = opened.kept.read("first")
    assert all(
        torch.equal(one, first[k]) for k, one in packed_state(opened.model.members[0]).items()
    )


def test_code_of_a_method_needs_consent(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"trained_by: .*names code to run.*--allow-code"):
        load(folder)
    with pytest.raises(ModelError, match="names code to run"):
        export_folder(folder, tmp_path / "m.pt")
    assert load(folder, place=CODE).names_code


def test_nothing_kept_is_exported(folder: Path, tmp_path: Path) -> None:
    export_folder(folder, tmp_path / "m.safetensors", place=CODE)
    assert [one.name for one in tmp_path.iterdir()] == ["m.safetensors"]
    assert (tmp_path / "m.safetensors").stat().st_size < 2 * (
        folder / "model.safetensors"
    ).stat().st_size


def test_unlearning_writes_to_the_new_folder_alone(folder: Path, tmp_path: Path) -> None:
    before = contents(folder)
    done = unlearn_folder(
        folder,
        "random:0.02",
        Twice(),
        tmp_path / "n",
        place=CODE,
    )
    assert contents(folder) == before
    assert [one.name for one in tmp_path.iterdir()] == ["n"]
    opened = load(tmp_path / "n", place=CODE)
    assert opened.kept.names() == ("first", "again") == done.result.kept.names()
    assert opened.record.names == opened.history[0].names
    own = (tmp_path / "n" / "artifacts" / "kept-first.safetensors").stat()
    assert (
        own.st_nlink == 1
        and own.st_ino != (folder / "artifacts" / "kept-first.safetensors").stat().st_ino
    )


def test_a_reference_is_trained_by_the_same_method(folder: Path, tmp_path: Path) -> None:
    done = unlearn_folder(
        folder, "random:0.02", Twice(), tmp_path / "n", beside=Beside(reference=True), place=CODE
    )
    assert done.reference is not None
    opened = load(tmp_path / "n-retrained", place=CODE)
    assert isinstance(opened.model, Pair) and opened.kept.names() == ("first", "secret")
    paired = unlearn(load(folder, place=CODE), done.result.split, "retrain:paired")
    split = done.result.split
    direct = train(digits(), "mlp", recipe=RECIPE, split=split.settled(), method=Twice())
    assert same_state(paired.model, direct.model)


def test_others_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trained by twice, and finetune would change weights"):
        unlearn_folder(
            folder,
            "random:0.1",
            make_method("finetune", allow_code=True),
            tmp_path / "n",
            place=CODE,
        )
    with pytest.raises(ConfigError, match=r"with lr 0.05, not 0.1"):
        unlearn_folder(folder, "random:0.1", Twice(lr=0.1), tmp_path / "n", place=CODE)
    with pytest.raises(ConfigError, match="trained by twice, and what that kept"):
        prune(load(folder, place=CODE), "omp")
    with pytest.raises(ConfigError, match=r"^finetune takes no part.*finetune to unlearn"):
        train(digits(), "mlp", method="finetune")
    plain = train(digits(), "mlp", recipe=RECIPE)
    with pytest.raises(ConfigError, match="trained without a method; train it by twice"):
        unlearn(plain, "random:0.1", Twice())
    assert not list(tmp_path.iterdir())


def test_a_lost_file_is_missed_where_it_is_needed(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "m"))
    (copy / "artifacts" / "private-secret.safetensors").unlink()
    opened = load(copy, place=CODE)  # it can still be looked at
    with pytest.raises(
        ModelError, match=r"secret.safetensors is not there, .*1 of 2.*, or retrain$"
    ):
        unlearn(opened, "random:0.1", Twice())
    shutil.rmtree(copy / "artifacts")
    with pytest.raises(ModelError, match=r"2 of 2 files are missing"):
        unlearn(load(copy, place=CODE), "random:0.1", Twice())
    assert unlearn(load(copy, place=CODE), "random:0.1", "retrain").kept.names() == (
        "first",
        "secret",
    )


def test_a_damaged_file_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "m"))
    file = copy / "artifacts" / "private-secret.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelError, match="digest differs"):
        unlearn(load(copy, place=CODE), "random:0.1", Twice())


def hostile(card: dict[str, Any], kind: str) -> None:
    if kind == "unknown":
        card["trained_by"] = {"name": "nobody", "settings": {}}
    if kind == "ordinary":
        card["trained_by"] = {"name": "finetune", "settings": {}}
    if kind == "setting":
        card["trained_by"]["settings"]["more"] = 1
    if kind == "none":
        card["trained_by"] = None
    if kind == "path":
        card["kept"]["../../x"] = {"digest": "0" * 64, "private": False}
    if kind == "left":
        del card["kept"]["first"]


@pytest.mark.parametrize("kind", ["unknown", "ordinary", "setting", "none", "path", "left"])
def test_a_foreign_card_is_refused(folder: Path, tmp_path: Path, kind: str) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "m"))
    card = json.loads((copy / "model.json").read_text())
    hostile(card, kind)
    (copy / "model.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match=r"model\.json"):
        load(copy, place=CODE)


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "m"))
    file = copy / "artifacts" / "private-secret.safetensors"
    file.unlink()
    os.symlink(folder / "artifacts" / "private-secret.safetensors", file)
    with pytest.raises(ModelError, match="leads out of its folder"):
        unlearn(load(copy, place=CODE), "random:0.1", Twice())


def test_damage_of_a_group_that_is_not_asked_for_is_found_before_the_work(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be found where the new folder is written, when all is done."""
    monkeypatch.setattr(Twice, "unlearn", lambda *_: pytest.fail("begun on a damaged folder"))
    kinds = {
        "digest differs": lambda file: file.write_bytes(file.read_bytes()[:-1] + b"x"),
        "would be many": lambda file: os.truncate(file, 2**40),
        "it is no regular file": lambda file: (file.unlink(), os.mkfifo(file)),
        "it is a folder": lambda file: (file.unlink(), file.mkdir()),
    }
    for number, (told, damage) in enumerate(kinds.items()):
        copy = Path(shutil.copytree(folder, tmp_path / str(number)))
        damage(copy / "artifacts" / "kept-first.safetensors")
        with pytest.raises(ModelError, match=told):
            unlearn(load(copy, place=CODE), "random:0.1", Twice())


def test_artifacts_that_are_a_link_out_of_the_folder_are_refused(
    folder: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "m"))
    shutil.rmtree(copy / "artifacts")
    os.symlink(folder / "artifacts", copy / "artifacts")
    with pytest.raises(ModelError, match="leads out of its folder"):
        unlearn(load(copy, place=CODE), "random:0.1", Twice())


def test_a_folder_of_an_earlier_format_opens_as_before(tmp_path: Path) -> None:
    made: Trained = train(digits(), "mlp", recipe=RECIPE).save(tmp_path / "m")
    card = json.loads((tmp_path / "m" / "model.json").read_text())
    del card["kept"], card["trained_by"]
    card["format"] = 4
    (tmp_path / "m" / "model.json").write_text(json.dumps(card))
    opened = load(tmp_path / "m", data=digits(), place=HERE)
    assert opened.trained_by is None and same_state(opened.model, made.model)


def test_what_cannot_be_is_refused_before_data_are_read(folder: Path, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nothing.npz")
    (tmp_path / "nothing.npz").write_bytes(b"no data")
    sisa = make_method("sisa", {"slices": 9}, allow_code=False)
    pruner = make_pruner("omp", allow_code=False)
    with pytest.raises(ConfigError, match=r"^sisa: 9 slices share 3 epochs"):
        train_folder(nowhere, "mlp", tmp_path / "m", recipe=RECIPE.but(epochs=3), method=sisa)
    with pytest.raises(ConfigError, match=r"a pruner would cut that model"):
        train_folder(
            nowhere,
            "mlp",
            tmp_path / "m",
            method=Twice(),
            pruner=pruner,
        )
    with pytest.raises(ConfigError, match=r"twice, and what that kept is not of a pruned model"):
        prune_folder(folder, pruner, tmp_path / "m", data=nowhere, place=CODE)


def test_an_export_says_whose_module_it_is(folder: Path) -> None:
    assert "trained by" in next(told_inputs(read_card(folder)))


def test_a_disk_that_is_full_is_told_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(tmp_path)
    kept.expect(1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6, 5))
    with pytest.raises(ConfigError, match=r"has no room \(0\.0 MiB are free, and 9\.5 MiB"):
        kept.expect(10**7)
    Kept().expect(10**12)  # memory is not asked


def test_a_killed_training_leaves_nothing(tmp_path: Path) -> None:
    with scratch_beside(tmp_path / "m") as room:
        (room / "file").write_text("checkpoint")
        assert sweep(tmp_path) == 0  # who is at work on it is not disturbed
    assert not list(tmp_path.iterdir())
    left = tmp_path / ".m.expunge-new-0123abcd"  # what a kill leaves
    left.mkdir()
    (left / "file").write_text("checkpoint")
    with scratch_beside(tmp_path / "m"):
        assert not left.exists()
