"""The one noun: what makes a `Trained`, what takes one, and what it remembers."""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import inspect
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import CPU, digits, original, random_mask, same_state
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import expunge
from expunge import (
    ConfigError,
    ModelError,
    Part,
    Place,
    Recipe,
    Split,
    SplitError,
    Trained,
    adopt,
    audit,
    load,
    load_data,
    prune,
    train,
    unlearn,
)
from expunge.audits.mia import Membership
from expunge.audits.relearn import RelearnTime
from expunge.data.batch import Batch
from expunge.data.view import DataView
from expunge.errors import DivergenceError, LogitsError, UserError
from expunge.methods.finetune import Finetune
from expunge.trained.card import FORMAT, read_card
from expunge.trained.files import write_files
from expunge.trained.papers import read_papers
from expunge.trained.recorded import record_of
from expunge.training.run import Run

RECIPE = Recipe(epochs=2, batch_size=64, lr=0.05, augmentation="none", precision="float32")
METHOD = Finetune(epochs=1, batch_size=64)


@functools.cache
def trained() -> Trained:
    return train(digits(), "cnn", recipe=RECIPE, place=CPU)


@functools.cache
def forgot() -> Trained:
    return unlearn(trained(), "class:3", METHOD, place=CPU)


# --- making one


def test_training_says_how_it_came_about() -> None:
    made = trained()
    assert [record.step for record in made.history] == ["train"]
    assert made.record.names == made.began == ("original", 0)
    assert made.architecture == "cnn" and made.seed == 0
    assert made.record.cost.threads == torch.get_num_threads(), "it changes the order of sums"
    assert made.mask is None and made.mask_saw_data is None
    assert repr(made) == "<Trained cnn on digits:300: train; 270 retained>"


def test_forgetting_goes_on_with_the_history() -> None:
    made = forgot()
    assert [record.step for record in made.history] == ["train", "finetune"]
    assert made.record.forgotten == len(made.split.forget) > 0
    assert made.record.split == made.split.digest
    assert made.data is trained().data and made.fresh is trained().fresh
    assert "3 forgotten" not in repr(made) and f"{len(made.split.forget)} forgotten" in repr(made)


def test_what_is_adopted_is_a_copy_and_forgets() -> None:
    module = original("mlp").train()
    mask = random_mask(module, kept=0.5)
    adopted = adopt(module, digits(), recipe=RECIPE, fresh="mlp", mask=mask)
    assert adopted.record.step == "import" and adopted.began is None
    assert len(adopted.split.retain) == len(digits().train), "it learned from everything"
    done = unlearn(adopted, "random:0.1", METHOD, place=CPU)
    assert module.training and same_state(module, original("mlp"))
    weights = dict(done.model.named_parameters())
    assert all((weights[name][~keep] == 0).all() for name, keep in mask.items())
    assert done.record.log["mask"]["saw_forget_set"] is None, "nobody knows how it was found"


def test_adopting_refuses_the_mask_of_another_model() -> None:
    with pytest.raises(ConfigError, match="the mask names 'fc'"):
        adopt(original("mlp"), digits(), mask={"fc": torch.ones(2).bool()})


def test_a_model_without_recipe_or_function_is_not_retrained() -> None:
    adopted = adopt(original("mlp"), digits())
    with pytest.raises(ConfigError, match="comes without a recipe"):
        unlearn(adopted, "class:3", "retrain", place=CPU)
    adopted = adopt(original("mlp"), digits(), recipe=RECIPE)
    with pytest.raises(ConfigError, match="nobody said how to make them"):
        unlearn(adopted, "class:3", "retrain", place=CPU)


def test_a_trained_model_is_cut_and_keeps_its_past() -> None:
    sparse = prune(trained(), "omp", recipe=RECIPE.but(epochs=1), place=CPU)
    assert [record.step for record in sparse.history] == ["train", "prune"]
    assert sparse.mask_saw_data is True and sparse.began is None
    assert sparse.recipe == trained().recipe and sparse.seed == trained().seed


# --- what is asked for


@pytest.mark.parametrize("kind", ["spec", "split", "ids", "array", "mask", "tensor", "list"])
def test_a_request_may_have_any_of_these_forms(kind: str) -> None:
    samples = trained().data.train
    wanted = Split.random(digits(), 0.2, base=trained().split)
    chosen = np.isin(samples.ids, wanted.forget)
    request: Any = {
        "spec": "random:0.2",
        "split": wanted,
        "ids": list(wanted.forget),
        "array": np.array(wanted.forget),
        "mask": chosen,
        "tensor": torch.from_numpy(chosen),
        "list": chosen.tolist(),
    }[kind]
    assert trained().asked(request) == wanted


def test_a_request_that_is_neither_is_refused() -> None:
    with pytest.raises(SplitError, match="neither an id nor a boolean"):
        trained().asked([1, 2, 3])
    for odd in (7, None, np.int64(3), np.array(5)):
        with pytest.raises(SplitError, match="neither an id nor a boolean"):
            trained().asked(odd)
    with pytest.raises(SplitError, match="give one boolean for each"):
        trained().asked(np.ones(7, dtype=bool))


@pytest.mark.parametrize("kind", ["spec", "split", "mask"])
def test_a_second_request_keeps_what_was_struck(kind: str) -> None:
    first = forgot()
    struck = set(first.split.forget)
    whole = Split.random(digits(), 0.2, base=trained().split)  # as if nothing had been forgotten
    request: Any = {
        "spec": "random:0.2",
        "split": whole,
        "mask": np.isin(digits().train.ids, sorted(set(whole.forget) - struck)),
    }[kind]
    second = unlearn(first, request, METHOD, place=CPU)
    assert struck <= set(second.split.excluded)
    assert not struck & {*second.split.retain, *second.split.forget}
    assert second.record.cost.reads["retain"] == len(second.split.retain)
    third = unlearn(second, "random:0.1", METHOD, place=CPU)
    assert struck | set(second.split.forget) <= set(third.split.excluded)


def test_what_was_struck_cannot_be_asked_for_again() -> None:
    with pytest.raises(SplitError, match="struck before"):
        forgot().asked(forgot().split)
    with pytest.raises(SplitError, match="struck"):
        forgot().asked("class:3")


def test_a_split_of_other_samples_is_refused() -> None:
    other = Split.random(digits(), 0.1)
    with pytest.raises(
        SplitError, match=r"never learned from \(\d+ such samples\); make it with base="
    ):
        trained().asked(replace(other, forget=("x1",), retain=other.retain))


class Spoiling(Finetune):
    """Divides by nothing."""

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        with torch.no_grad():
            next(model.parameters()).fill_(torch.nan)
        return model


def test_weights_that_are_not_finite_are_handed_to_nobody() -> None:
    with pytest.raises(DivergenceError, match=r"hold nan or inf at the end \(first in"):
        unlearn(trained(), "class:3", Spoiling(), place=CPU)


class Buffers(nn.Module):
    """Holds what is no weight: a mask of attention, an adjacency matrix, state that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)
        self.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
        self.register_buffer("edges", torch.eye(3).to_sparse())
        self.register_buffer("small", torch.ones(2).to(torch.float8_e4m3fn))

    def get_extra_state(self) -> dict[str, int]:
        return {"version": 1}

    def set_extra_state(self, state: dict[str, int]) -> None:
        assert state == {"version": 1}

    def forward(self, inputs: Tensor) -> Tensor:
        made: Tensor = self.head(inputs.flatten(1))
        return made


def test_what_is_no_weight_may_be_anything() -> None:
    with torch.random.fork_rng():
        module = Buffers()
    adopted = adopt(module, digits(), recipe=RECIPE, fresh=Buffers)
    assert unlearn(adopted, "class:3", METHOD, place=CPU).record.step == "finetune"


def test_a_fresh_model_with_a_lazy_layer_is_of_the_same_kind() -> None:
    def fresh() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(10))

    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    assert adopt(module, digits(), recipe=RECIPE, fresh=fresh).record.step == "import"
    with pytest.raises(ConfigError, match=r"they differ in '1\.weight'"):
        adopt(module, digits(), fresh=lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 9)))


def test_inputs_of_one_number_are_saved(tmp_path: Path) -> None:
    data = load_data((TensorDataset(torch.arange(90) % 8, torch.arange(90) % 3),) * 2)
    made = train(data, lambda: nn.Embedding(8, 3), recipe=RECIPE, place=CPU)
    assert made.save(tmp_path / "one").card().shape == ()


# --- scores


def test_a_model_that_learned_from_other_samples_is_no_reference() -> None:
    other = unlearn(trained(), "class:4", METHOD, place=CPU)
    with pytest.raises(SplitError, match="is no reference for it; retrain with the same"):
        audit(forgot(), retrained=other, place=CPU)
    with pytest.raises(SplitError, match="did not learn from the samples that"):
        audit(forgot(), original=other, place=CPU)


def test_a_reference_is_a_retrained_model_and_one_trained_as_the_original_was() -> None:
    """The same split is not enough: a model that was made to forget has it too."""
    with pytest.raises(SplitError, match="was made by finetune, which is no retraining"):
        audit(forgot(), retrained=forgot(), place=CPU)
    split = forgot().split.settled()  # what is to be forgotten is never read
    for changes, told in (
        ({"recipe": RECIPE.model_copy(update={"epochs": 3})}, "recipe's epochs is 3, not 2"),
        ({"model": "mlp"}, "architecture is 'mlp', not 'cnn'"),
    ):
        given = {"model": "cnn", "recipe": RECIPE, **changes}
        other = train(digits(), given["model"], recipe=given["recipe"], split=split, place=CPU)
        with pytest.raises(SplitError, match=re.escape(told)):
            audit(forgot(), retrained=other, place=CPU)
    once_more = train(digits(), "cnn", recipe=RECIPE, split=split, seed=5, place=CPU)
    assert audit(forgot(), retrained=once_more, place=CPU)["UA"].reference is not None
    brought = adopt(trained().model, digits(), split=split)  # whoever brings one says so
    assert audit(forgot(), retrained=brought, place=CPU)["UA"].gap == 0


def test_scores_are_a_table_a_frame_and_names() -> None:
    reference = unlearn(trained(), "class:3", "retrain", place=CPU)
    scores = audit(forgot(), original=trained(), retrained=reference, place=CPU)
    text = str(scores)
    assert "UA" in text and "retrained" in text and "\x1b" not in text
    frame = scores.frame()
    assert isinstance(frame, pd.DataFrame) and list(frame["score"]) == [s.name for s in scores]
    assert frame.set_index("score").loc["UA", "retrained"] == scores["UA"].reference == 100
    assert frame[["interval_low", "band_high"]].isna().all(axis=None), (
        "one retrained model: no spread"
    )
    assert scores["RTE"].value == forgot().record.cost.seconds
    assert "UA" in scores and "UB" not in scores and len(scores) == len(frame)
    with pytest.raises(ConfigError, match="no score 'MAI', did you mean 'MIA'"):
        scores["MAI"]


def test_an_audit_with_settings_takes_the_place_of_the_usual_one() -> None:
    scores = audit(forgot(), also=[Membership(features=("entropy",))], place=CPU)
    assert [s.name for s in scores] == ["UA", "RA", "TA", "TA_forget", "MIA-entropy", "RTE"]


def test_an_original_is_audited_on_what_it_would_be_asked_for() -> None:
    scores = audit(trained(), forget="class:3", place=CPU)
    assert scores["UA"].n == len(forgot().split.forget)
    assert not trained().split.forget
    nothing = audit(trained(), place=CPU)
    assert [s.name for s in nothing] == ["RA", "TA", "RTE"]


class Regression:
    """A task without classes: one number for each sample."""

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        assert batch.labels is not None
        return (model(batch.inputs)[:, 0] - batch.labels).square()

    def observe(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {"number": model(batch.inputs)[:, 0]}


def test_a_task_without_classes_is_judged_by_its_losses() -> None:
    data = load_data(digits(), task=Regression())
    first = train(data, "mlp", recipe=RECIPE.but(lr=0.001), place=CPU)
    done = unlearn(first, "random:0.2", METHOD.model_copy(update={"lr": 1e-4}), place=CPU)
    again = unlearn(first, "random:0.2", "retrain", place=CPU)
    scores = audit(done, original=first, retrained=again, place=CPU)
    assert [s.name for s in scores] == ["loss_forget", "loss_retain", "loss_test", "RTE"]
    assert "needs 'logits'" in scores.notes[0]
    with torch.no_grad():
        view = data.train.subset(done.split.rows(data.train, Part.FORGET))
        norm = data.normalisation
        assert norm is not None
        inputs = (view.store.whole().float() / 255 - norm.mean[0]) / norm.std[0]  # type: ignore[union-attr]
        wrong = done.model(inputs)[:, 0] - torch.from_numpy(view.labels)
    assert scores["loss_forget"].value == pytest.approx(float(wrong.square().mean()), rel=1e-4)
    assert scores["loss_forget"].reference is not None
    assert "original" in scores["loss_forget"].detail
    with pytest.raises(
        LogitsError, match="gives 'number', and what looks at classes needs 'logits'"
    ):
        audit(done, original=first, also=["relearn_time"], place=CPU)
    with pytest.raises(LogitsError):
        audit(done, original=first, also=f"{RelearnTime.__module__}:RelearnTime", place=CPU)
    with pytest.raises(ConfigError, match=r"^fisher needs classes, .* gives 'number'"):
        unlearn(first, "random:0.2", "fisher", place=CPU)


# --- folders


def test_saving_and_loading_keeps_everything(tmp_path: Path) -> None:
    saved = trained().save(tmp_path / "original")
    assert saved.path == tmp_path / "original" and saved.weights
    again = load(tmp_path / "original", place=CPU)
    assert same_state(again.model, trained().model)
    assert again.history == trained().history
    assert (again.recipe, again.split) == (trained().recipe, trained().split)
    done = unlearn(saved, "class:3", METHOD, place=CPU).save(tmp_path / "forgot")
    assert done.record.parent == saved.weights
    with pytest.raises(ModelError, match="exists; choose another folder"):
        done.save(tmp_path / "forgot")
    assert done.save(tmp_path / "forgot", overwrite=True).split == done.split


def test_artifacts_lie_beside_the_model(tmp_path: Path) -> None:
    noise = {"noise": torch.randn(2, 3), "classes": torch.tensor([1, 2])}
    replace(forgot(), artifacts=noise).save(tmp_path / "out")
    assert (tmp_path / "out/artifacts").is_dir()
    found = load(tmp_path / "out", place=CPU).artifacts
    assert all(torch.equal(found[name], value) for name, value in noise.items())
    assert not unlearn(
        replace(forgot(), artifacts=noise), "random:0.1", METHOD, place=CPU
    ).artifacts
    (tmp_path / "out/artifacts/tensors.safetensors").unlink()
    with pytest.raises(ModelError, match="has no artifacts/tensors"):
        load(tmp_path / "out", place=CPU)


# --- folders from elsewhere


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a mask and artifacts."""
    made = replace(forgot(), mask=random_mask(forgot().model), artifacts={"noise": torch.ones(2)})
    return made.save(tmp_path_factory.mktemp("kept") / "model").path  # type: ignore[return-value]


@pytest.fixture
def stranger(kept: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(kept, tmp_path / "model"))


def changed(folder: Path, name: str, **fields: Any) -> None:
    """Replace fields of a JSON file; a dotted one lies deeper; None in place of ... takes it away."""
    content = json.loads((folder / name).read_text(encoding="utf-8"))
    for field, value in fields.items():
        *path, last = field.split("__")
        part = content
        for step in path:
            part = part[int(step)] if step.isdigit() else part[step]
        part[last] = value
        if value is ...:
            del part[last]
    (folder / name).write_text(json.dumps(content), encoding="utf-8")


DEEP = "[" * 100_000 + "]" * 100_000
ODD_CARDS: list[dict[str, Any]] = [
    {"format": [1]},
    {"format": True},
    {"format": 99},
    {"shape": [10**13, 1000]},
    {"shape": [2**20, 2**20]},
    {"shape": [-1, 8, 8]},
    {"shape": [1] * 99},
    {"shape": ["a"] * 10_000},
    {"shape": {}},
    {"classes": []},
    {"classes": [1, 2]},
    {"classes": ["a"] * 100_000},
    {"mean": [float("nan")]},
    {"mean": [1e999]},
    {"mean": ...},
    {"std": [0.0]},
    {"std": [-1.0]},
    {"std": ["x"] * 10_000},
    {"std": [0.5] * 7, "mean": [0.5] * 7},
    {"recipe": []},
    {"recipe": {"epochs": "many"}},
    {"recipe": {"epochs": {"a": ["b"] * 1000}}},
    {"recipe": {"self": 1}},
    {"recipe": {f"k{n}": n for n in range(20_000)}},
    {"lineage": []},
    {"lineage": [3]},
    {"lineage": [{"step": "x"}] * 2000},
    {"lineage__0__cost": "dear"},
    {"lineage__0__cost": {"reads": {"retain": "x"}}},
    {"lineage__0__cost": {"reads": {f"k{n}": "x" for n in range(20_000)}}},
    {"lineage__0__names": [[1]]},
    {"lineage__0__log": 1},
    {"architecture": 3},
    {"architecture": "x" * 1000},
    {"architecture": "no such model"},
    {"data": None},
    {"data__spec": 3},
    {"data__spec": "no-such-data"},
    {"data__fingerprint": "other"},
    {"seed": "one"},
    {"weights": ""},
    {"weights": "0"},
    {"weights": "0" * 64},
    {"weights": "../x"},
    {"mask": ""},
    {"mask": "0" * 64},
    {"artifacts": ""},
    {"odd": 1},
    {f"odd{n}": 1 for n in range(20_000)},
]


@pytest.mark.parametrize("fields", ODD_CARDS, ids=lambda fields: str(fields)[:40])
def test_an_odd_card_costs_one_line(fields: dict[str, Any], stranger: Path) -> None:
    changed(stranger, "model.json", **fields)
    with pytest.raises(UserError) as caught:
        load(stranger, place=CPU)
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize(
    "fields",
    [
        {"retain": ...},
        {"retain": None},
        {"retain": "abc"},
        {"forget": [3]},
        {"forget": [["1"]]},
        {"forget": ["x" * 5000]},
        {"validation": {}},
        {"test": 3},
        {"test": [None]},
        {"digest": 3},
        {"digest": ...},
        {"digest": "0" * 32},
        {"salt": 3},
        {"more": []},
        {"salt": "0" * 32},
        {"pseudonyms": {}},
        {"excluded": ["1", "1"]},
        {"retain": ["no such id"]},
        {"retain": []},
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_an_odd_split_costs_one_line(fields: dict[str, Any], stranger: Path) -> None:
    changed(stranger, "split.json", **fields)
    with pytest.raises(UserError):
        load(stranger, place=CPU)


@pytest.mark.parametrize("name", ["model.json", "split.json"])
@pytest.mark.parametrize(
    "content",
    [b"", b"null", b"[]", b"3", b"{", b"\xff\xfe", DEEP.encode(), b'{"a": ' + b"9" * 5000 + b"}"],
    ids=lambda content: str(content[:9]),
)
def test_what_is_no_json_object_costs_one_line(name: str, content: bytes, stranger: Path) -> None:
    (stranger / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        load(stranger, place=CPU)


FILES = (
    "model.json",
    "split.json",
    "model.safetensors",
    "mask.safetensors",
    "artifacts/tensors.safetensors",
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["pipe", "device", "link", "folder", "missing", "sparse"])
def test_a_file_of_a_folder_is_a_regular_file_in_it(name: str, kind: str, stranger: Path) -> None:
    file = stranger / name
    file.rename(stranger.parent / "moved")
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    elif kind == "link":  # to the very file
        file.symlink_to(stranger.parent / "moved")
    elif kind == "folder":
        file.mkdir()
    elif kind == "sparse":
        with file.open("wb") as stream:
            stream.truncate(10**13)
    with pytest.raises((ModelError, SplitError)) as caught:
        load(stranger, place=CPU)
    assert name in str(caught.value)


@pytest.mark.parametrize("name", FILES[2:])
@pytest.mark.parametrize("content", [b"", b"\xff" * 64, (2**60).to_bytes(8, "little") + b"{}"])
def test_damaged_tensors_cost_one_line(name: str, content: bytes, stranger: Path) -> None:
    (stranger / name).write_bytes(content)
    field = {"mo": "weights", "ma": "mask", "ar": "artifacts"}[name[:2]]
    changed(stranger, "model.json", **{field: hashlib.sha256(content).hexdigest()})
    with pytest.raises(ModelError):
        load(stranger, place=CPU)


def test_a_mask_is_of_the_model_and_of_booleans(stranger: Path) -> None:
    for mask, told in (
        ({"x": torch.ones(2).bool()}, "names 'x'"),
        ({"x": torch.ones(2)}, "boolean"),
    ):
        save_file(mask, stranger / "mask.safetensors")
        digest = hashlib.sha256((stranger / "mask.safetensors").read_bytes()).hexdigest()
        changed(stranger, "model.json", mask=digest)
        with pytest.raises(ModelError, match=told):
            load(stranger, place=CPU)


def test_half_a_digest_of_earlier_cards_is_enough(stranger: Path) -> None:
    card = json.loads((stranger / "model.json").read_text(encoding="utf-8"))
    assert len(card["weights"]) == 64 and card["format"] == FORMAT
    halves = {name: card[name][:32] for name in ("weights", "mask", "artifacts")}
    changed(stranger, "model.json", format=2, **halves)
    assert load(stranger, place=CPU).mask is not None


def test_a_name_that_is_no_utf8_is_saved(tmp_path: Path) -> None:
    made = replace(trained(), data=replace(trained().data, spec="lone \udc80\x1b"))
    made.save(tmp_path / "out")
    assert read_card(tmp_path / "out").data.spec == "lone \\x80\\x1b"
    record = record_of("x", made.split, warnings=("\udc80",), settings={"a\udc80": "b\udc80"})
    replace(made, history=(record,)).save(tmp_path / "more")


def test_a_full_disk_is_an_error_of_the_system(tmp_path: Path, monkeypatch: Any) -> None:
    def full(*_: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left (os error 28)")

    monkeypatch.setattr("expunge.trained.files.save_file", full)
    card = trained().card()
    with pytest.raises(OSError, match="No space left") as caught:
        write_files(tmp_path, trained().model, card, {})
    assert caught.value.errno == errno.ENOSPC


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_card_or_split_is_read_or_refused(
    data: st.DataObject, kept: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "any"
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    name = data.draw(st.sampled_from(["model.json", "split.json"]))
    content = json.loads((folder / name).read_text(encoding="utf-8"))
    part: Any = content
    while data.draw(st.booleans()) and isinstance(part, dict | list) and part:
        keys = list(part) if isinstance(part, dict) else list(range(len(part)))[:20]
        key = data.draw(st.sampled_from(keys))
        if data.draw(st.booleans()):
            part[key] = data.draw(JSON)
            break
        part = part[key]
    else:
        content = data.draw(JSON)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    with contextlib.suppress(UserError):
        read_papers(folder)


def a_model_of_ones_own() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def test_a_function_is_named_in_the_folder_as_far_as_it_can_be_imported(tmp_path: Path) -> None:
    made = train(digits(), a_model_of_ones_own, recipe=RECIPE, place=CPU)
    assert made.architecture == f"{__name__}:a_model_of_ones_own"
    made.save(tmp_path / "named")
    with pytest.raises(ModelError, match="pass --allow-code"):
        load(tmp_path / "named")
    nameless = train(digits(), lambda: a_model_of_ones_own(), recipe=RECIPE, place=CPU)
    assert nameless.architecture is None
    nameless.save(tmp_path / "nameless")
    with pytest.raises(ModelError, match=r"load it there with fresh=\.\.\."):
        load(tmp_path / "nameless")
    again = load(tmp_path / "nameless", fresh=a_model_of_ones_own, place=CPU)
    assert same_state(again.model, nameless.model)


# --- the shape of the public calls


FOR_AUTHORS = {"fit", "constant_rate", "fisher_diagonal", "weighted_gradient"}
"""What methods are made of, not what people call."""


@pytest.mark.parametrize(
    "name",
    [
        n
        for n in expunge.__all__
        if inspect.isfunction(getattr(expunge, n)) and n not in FOR_AUTHORS
    ],
)
def test_public_calls_take_six_parameters_or_fewer_beside_place_and_consent(name: str) -> None:
    parameters = set(inspect.signature(getattr(expunge, name)).parameters)
    parameters -= {"place", "allow_code"}
    parameters -= {"method"} if "pruner" in parameters else set()  # they exclude each other
    assert len(parameters) <= 6, sorted(parameters)
    assert not parameters & {"device", "progress", "overwrite"}, "these travel as a Place"


def test_a_place_is_what_a_call_needs_to_know_of_the_machine() -> None:
    assert set(Place.__dataclass_fields__) == {
        "data_dir",
        "device",
        "progress",
        "overwrite",
        "allow_code",
        "strike",
        "tell",
        "room",
    }
