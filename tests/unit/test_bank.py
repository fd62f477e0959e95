"""A bank of shadow models: halves, folder, what audits see of it, what a purge takes out of it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import expunge
from torch import nn

from expunge.advice.duration import read_seconds
from expunge.api import audit, train, unlearn
from expunge.audits.beside import FurtherModels
from expunge.audits.log_odds import log_odds
from expunge.audits.shadows import Shadows
from expunge.audits.strength import Strength
from expunge.cli.bank import plan_line
from expunge.data.load import Data, load_data
from expunge.data.split import Split
from expunge.data.task import Classification
from expunge.disk import whole
from expunge.errors import ConfigError, DivergenceError, SplitError
from expunge.folders.deeper import Audited, Deeper
from expunge.methods import Sisa
from expunge.place import Place
from expunge.pruning import PRUNERS
from expunge.shadows import build as building
from expunge.shadows import making, purge
from expunge.shadows.bank import Bank, open_bank
from expunge.shadows.build import build, check_bank_room, renew
from expunge.shadows.card import common_to
from expunge.shadows.fits import check_bank
from expunge.shadows.folders import BankWanted, build_folder, found_bank, purge_folder
from expunge.shadows.halves import drawn_half
from expunge.shadows.making import shadow
from expunge.shadows.places import bank_beside, read_asked
from expunge.shadows.plan import BankPlan, models_within
from expunge.shadows.purge import Purged
from expunge.shadows.status import status_of
from expunge.shadows.way import read_way
from expunge.trained.trained import Trained
from expunge.training import crew as training_crew
from expunge.training.recipe import Recipe

RECIPE = Recipe(epochs=2, lr=0.1, batch_size=64)


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data("digits:300")


@pytest.fixture(scope="module")
def original(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    made = train(data, "mlp", recipe=RECIPE)
    return made.save(tmp_path_factory.mktemp("bank") / "original")


@pytest.fixture(scope="module")
def forgot(original: Trained) -> Trained:
    made = unlearn(original, "random:0.1", "gradient_ascent")
    return made.save(original.path.parent / "forgot") if original.path else made


@pytest.fixture(scope="module")
def built(original: Trained, forgot: Trained) -> Bank:
    assert original.path is not None and forgot.path is not None
    return build(original, bank_beside(original.path), models=4)


@pytest.fixture
def bank(built: Bank, tmp_path: Path) -> Bank:
    """A copy that may be changed."""
    return open_bank(shutil.copytree(built.folder, tmp_path / "copied-bank"))


def said(bank: Bank) -> np.ndarray[Any, Any]:
    """(K, n, classes): of a bank's pairs."""
    return np.stack([*bank.shadows.logits])


def all_logits(bank: Bank) -> list[bytes]:
    return [bank.read_logits(one)[0].tobytes() for one in bank.finished]


# --- halves


def test_every_sample_is_left_out_by_exactly_half() -> None:
    halves = np.stack([drawn_half(101, model) for model in range(8)])
    assert (halves.sum(axis=0) == 4).all()
    assert {51, 50} == set(halves.sum(axis=1).tolist())
    assert not np.array_equal(halves[0], halves[2])


def test_the_halves_of_a_bank_are_those_of_its_ids(built: Bank) -> None:
    learned = built.ids[: built.learned]
    assert [*learned] == sorted(learned), "so that a half does not depend on the order of the data"
    for model in range(4):
        assert np.array_equal(built.half(model)[: built.learned], drawn_half(built.learned, model))
        assert not built.half(model)[built.learned :].any()


# --- building


def test_a_bank_goes_on_and_serves_an_audit(original: Trained, forgot: Trained, bank: Bank) -> None:
    before = [bank.logits_file(one).read_bytes() for one in range(4)]
    longer = build(original, bank.folder, models=6)
    assert longer.finished == list(range(6))
    assert [bank.logits_file(one).read_bytes() for one in range(4)] == before
    shadows = longer.shadows
    assert shadows.learned.sum() == 3 * bank.learned
    assert shadows.never.sum() == len(bank.ids) - bank.learned
    strength = Strength(beside=FurtherModels(shadows=shadows))
    found = audit(forgot, also=["rmia"], strength=strength)["rmia"]
    assert 0 <= found.value <= 100
    assert set(found.per_sample) == set(forgot.split.forget)


def test_a_model_is_what_retraining_on_its_half_gives(original: Trained, built: Bank) -> None:
    half = set(learns_of(built, 1))
    rest = tuple(name for name in original.split.retain if name not in half)
    split = Split(tuple(learns_of(built, 1)), rest, original.split.validation)
    again = unlearn(original, split, "retrain", names=("bank", 0, 1))
    kept = shadow(original, built, 1)
    for name, value in again.model.state_dict().items():
        torch.testing.assert_close(kept.model.state_dict()[name], value)
    assert kept.split.retain == split.retain and not kept.split.forget
    rows = original.data.train.rows_of(built.ids[: built.learned])
    with torch.no_grad():
        said = kept.model(inputs(original.data, rows))
    np.testing.assert_allclose(built.read_logits(1)[0][: built.learned], said, rtol=1e-4, atol=1e-5)


def learns_of(bank: Bank, model: int) -> list[str]:
    return [name for name, one in zip(bank.ids, bank.half(model), strict=True) if one]


def inputs(data: Data, rows: Any) -> torch.Tensor:
    tensor = data.train.store.tensor[rows]  # type: ignore[attr-defined]
    normal = data.normalisation
    x = tensor.float() / (255 if tensor.dtype == torch.uint8 else 1)
    return x if normal is None else (x - torch.tensor(normal.mean)) / torch.tensor(normal.std)


def test_neither_order_nor_process_changes_a_model(
    original: Trained, built: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crew's work is done here, in one process after the other."""
    build(original, tmp_path / "b", models=4, numbers=[3, 1])

    class Here:
        def __init__(self, work: Callable[[Any], None], orders: Any, workers: int) -> None:
            self.size = workers
            for _ in range(workers):
                work(orders)

        def alive(self) -> bool:
            return False

        def end(self) -> list[str]:
            return ["exit code -9"] * 2

    monkeypatch.setattr(training_crew, "Processes", Here)
    assert original.path is not None
    told: list[BankPlan] = []
    lines: list[str] = []
    made = build_folder(
        original.path,
        tmp_path / "b",
        wanted=BankWanted(models=4),
        workers=2,
        tell=told.append,
        place=Place(tell=lines.append),
    )
    way = read_way(made)
    assert way is not None
    ended = "2 of 2 workers ended early (exit code -9)"
    assert lines == [way.sentence, ended]
    assert all_logits(made) == all_logits(built)
    weights = [one.weights_file(2).read_bytes() for one in (made, built)]
    assert weights[0] == weights[1]
    assert [(one.models, one.finished, one.workers) for one in told] == [(4, 2, 2)]


def test_a_claimed_model_is_left_to_its_process(
    original: Trained, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    monkeypatch.setattr(making, "WAIT_SECONDS", 0.0)
    with bank.claim(5) as free:
        assert free and bank.claimed(5)
        # asked before, of 4, after the first pass, and after another process has ended 5
        lacks = iter([[4, 5], [4], [5], []])
        told: list[int] = []
        making.make_all(
            [4, 5], lambda _: next(lacks), bank.claim, made.append, lambda: told.append(0)
        )
    assert made == [4] and len(told) == 2 and not bank.claimed(5)


def test_a_model_that_diverges_is_told_after_the_others(bank: Bank) -> None:
    made: list[int] = []

    def make(model: int) -> None:
        if model == 4:
            raise DivergenceError("the loss is nan")
        made.append(model)

    with pytest.raises(DivergenceError, match="nan"):
        making.make_all(
            [4, 5], lambda left: [one for one in left if one not in made], bank.claim, make
        )
    assert made == [5]


def test_the_rest_is_made_where_the_first_diverges(
    original: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = making.trained_half

    def diverging(*given: Any) -> Any:
        if given[2] == 0:
            raise DivergenceError("the loss is nan")
        return trained(*given)

    monkeypatch.setattr(making, "trained_half", diverging)
    assert original.path is not None
    with pytest.raises(DivergenceError, match="nan"):
        build_folder(original.path, tmp_path / "b", wanted=BankWanted(models=4))
    assert open_bank(tmp_path / "b").finished == [1, 2, 3]


def test_a_strength_leaves_a_bank_out_that_cannot_be_read(
    original: Trained, forgot: Trained, bank: Bank
) -> None:
    said: list[str] = []
    place = Place(tell=said.append)
    audited = Audited(forgot, original, None)
    content = bank.logits_file(2).read_bytes()
    bank.logits_file(2).write_bytes(content[:200])
    assert Deeper("standard").open(audited, bank.folder, place).shadows is None
    for model in (1, 2, 3):
        bank.logits_file(model).unlink()
    assert Deeper("standard").open(audited, bank.folder, place).shadows is None
    assert [line[:8] for line in said] == ["left out"] * 2
    assert "0002.safetensors" in said[0] and "1 finished model and no pair" in said[1]
    with pytest.raises(ConfigError, match="no pair"):
        Deeper("standard", bank.folder).open(audited, bank.folder, place)


@dataclass
class Weighted(Classification):
    """A task with a setting."""

    weight: Any = 1.0


def test_a_bank_is_of_one_task_and_one_code(original: Trained, bank: Bank) -> None:
    check_bank(bank, original)
    tasks = {
        common_to(of_task(original, Weighted(weight)), RECIPE)["task"] for weight in (1.0, 2.0)
    }
    assert len({*tasks, bank.card.task}) == 3
    with pytest.raises(ConfigError, match="a bank of another task"):
        check_bank(bank, of_task(original, Weighted()))
    with pytest.raises(ConfigError, match="nobody can tell the task"):
        check_bank(bank, of_task(original, Weighted(object())))


def of_task(original: Trained, task: Classification) -> Trained:
    return replace(original, data=replace(original.data, task=task))


class Own(nn.Linear):
    """A layer of somebody's own."""


def test_a_change_of_a_models_code_changes_the_bank_it_has(
    original: Trained, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert common_to(original, RECIPE)["code"] == ()
    made = replace(original, model=nn.Sequential(nn.Flatten(), Own(64, 10)))
    before = common_to(made, RECIPE)["code"]
    changed = tmp_path / "changed.py"
    changed.write_text("class Own: ...")
    monkeypatch.setattr(sys.modules[__name__], "__file__", str(changed))
    assert common_to(made, RECIPE)["code"] not in ((), before)
    monkeypatch.setattr(sys.modules[__name__], "__file__", None)
    with pytest.raises(ConfigError, match="is in no file"):
        common_to(made, RECIPE)


def test_a_damaged_bank_is_mended_and_keeps_what_is_whole(original: Trained, bank: Bank) -> None:
    purge.purge_bank(bank, bank.ids[:3])
    samples, whole = told_ids(bank), all_logits(bank)
    bank.logits_file(2).write_bytes(b"x" * 200)
    bank.logits_file(3).rename(bank.folder / "logits/99999999999.safetensors")
    (bank.folder / "samples.json").unlink()
    (bank.folder / "bank.json").unlink()
    with pytest.raises(ConfigError, match="exists and is no bank"):
        building.begun(original, bank.folder)
    (bank.folder / "samples.json").write_text(samples)
    said: list[str] = []
    made = build(original, bank.folder, models=4, numbers=[2], place=Place(tell=said.append))
    assert len(said) == 1 and "made again" in said[0] and "0002.safetensors" in said[0]
    assert made.finished == [0, 1, 2] and made.struck.sum() == 3
    assert [made.read_logits(one)[0].tobytes() for one in (0, 1)] == whole[:2]
    (bank.folder / "samples.json").unlink()
    building.begun(original, bank.folder)
    assert told_ids(bank) == samples, "what was struck stays away"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda told: told["ids"].__setitem__(1, told["ids"][0]), "does not fit itself"),
        (lambda told: told["labels"].__setitem__(1, -5), "does not fit itself"),
        (lambda told: told["labels"].__setitem__(1, 10**30), "a number of 31 digits"),
        (lambda told: told["labels"].__setitem__(1, 11), "fewer classes"),
        (lambda told: told.pop("tested"), "lists no samples"),
    ],
)
def test_samples_that_cannot_be_are_told(change: Any, why: str, bank: Bank) -> None:
    told = json.loads(told_ids(bank))
    change(told)
    (bank.folder / "samples.json").write_text(json.dumps(told))
    with pytest.raises(ConfigError, match=why):
        _ = open_bank(bank.folder).shadows


def test_a_model_that_does_not_say_how_long_it_took_is_told(bank: Bank) -> None:
    bank.write_logits(1, bank.read_logits(1)[0], {})
    with pytest.raises(ConfigError, match=r"0001\.safetensors"):
        status_of(bank)


def test_unlearn_says_that_a_bank_still_holds_what_was_forgotten(
    original: Trained, built: Bank, tmp_path: Path
) -> None:
    assert original.path is not None
    words = ["unlearn", str(original.path), "--forget", "random:0.1", "--method", "gradient_ascent"]
    said = expunge(*words, "--out", str(tmp_path / "new"), cwd=tmp_path)
    (line,) = [line for line in said.stdout.splitlines() if "still holds" in line]
    assert line.startswith(str(built.folder))
    assert f"expunge bank purge {tmp_path / 'new'} --bank {built.folder}" in line


def test_what_a_purge_cannot_remove_is_told(
    forgot: Trained, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bank.folder / "forgot/key").mkdir(parents=True)
    monkeypatch.setattr(purge, "remove", lambda folder: None)
    with pytest.raises(ConfigError, match=r"forgot could not be removed.*purge again"):
        purge.purge_bank(bank, forgot.split.forget)


def test_the_status_of_models_made_at_once_and_of_another_original(
    original: Trained, bank: Bank, tmp_path: Path
) -> None:
    bank.logits_file(3).unlink()
    with bank.claim(0, "block-"):
        assert status_of(bank).making == 1
    assert original.path is not None
    other = tmp_path / "other"
    shutil.copytree(original.path, other)
    card = json.loads((other / "model.json").read_text())
    card["recipe"]["epochs"] = 7
    (other / "model.json").write_text(json.dumps(card))
    shutil.copytree(bank.folder, bank_beside(other))
    with pytest.raises(ConfigError, match="the bank of another original than"):
        found_bank(other)


def test_a_half_made_pair_is_left_out(built: Bank, bank: Bank) -> None:
    bank.logits_file(1).unlink()
    assert len(bank.shadows) == 2
    np.testing.assert_array_equal(said(bank), said(built)[2:])
    bank.logits_file(2).unlink()
    with pytest.raises(ConfigError, match="no pair"):
        _ = open_bank(bank.folder).shadows


def test_weights_are_kept_if_asked(original: Trained, tmp_path: Path) -> None:
    assert original.path is not None
    wanted = BankWanted(models=2, weights=False)
    made = build_folder(original.path, tmp_path / "b", wanted=wanted)
    assert made.finished == [0, 1] and made.weighed == []
    with pytest.raises(ConfigError, match=r"models/0000\.safetensors"):
        shadow(original, made, 0)
    before = all_logits(made)
    made = build_folder(original.path, tmp_path / "b")
    assert made.weighed == [], "as when it was last built"
    made = build_folder(original.path, tmp_path / "b", wanted=BankWanted(weights=True))
    assert made.weighed == [0, 1] and all_logits(made) == before


def test_how_many_fit_a_budget() -> None:
    assert models_within(60, 10, 1) == 6
    assert models_within(69, 10, 1) == 6
    assert models_within(60, 10, 2) == 10  # one, and five times two; eleven is odd
    assert models_within(5, 10, 2) == 2
    assert models_within(60, 1, 1, 8) == 56 and models_within(60, 1, 2, 8) == 8 * (1 + 6 * 2)
    assert models_within(5, 1, 2, 8) == 4, "fewer at once, where the budget is that small"
    assert BankPlan(24, 8, 1.0, 2, 8).seconds == 8 and BankPlan(24, 8, 1.0, 1, 8).seconds == 16
    for budget, each, workers in ((100, 3, 1), (1000, 7, 3), (50, 0.4, 2)):
        models = models_within(budget, each, workers)
        assert models % 2 == 0
        took = each + BankPlan(models, 1, each, workers).seconds
        more = each + BankPlan(models + 2, 1, each, workers).seconds
        assert took <= budget < more
    assert [read_seconds(text, "--budget") for text in ("90", "20m", "1.5h")] == [90, 1200, 5400]
    for text in ("0", "-1", "soon", "1d", ""):
        with pytest.raises(ConfigError, match="--budget"):
            read_seconds(text, "--budget")
    assert plan_line(BankPlan(16, 1, 12.0, 2)) == (
        "16 models, 1 of them finished, about 12 s each: 96 s for the rest with 2 workers"
    )


# --- what a bank is of


def test_a_bank_is_of_one_original(
    original: Trained, forgot: Trained, bank: Bank, data: Data, tmp_path: Path
) -> None:
    for model in (original, forgot, unlearn(forgot, "class:3", "finetune")):
        check_bank(bank, model)
    for other, why in (
        (replace(original, recipe=RECIPE.but(epochs=3)), "another recipe"),
        (replace(original, architecture="cnn"), "another architecture"),
        (replace(original, data=load_data("digits:310")), "other training data"),
        (replace(original, mask={"w": torch.ones(2, dtype=torch.bool)}), "another pruning mask"),
    ):
        with pytest.raises(ConfigError, match=why):
            check_bank(bank, other)
    whole_ = train(data, "mlp", recipe=RECIPE, split=Split.whole(data, validation=0.2))
    with pytest.raises(ConfigError, match="bank of another original"):
        build(whole_, bank.folder, models=2)
    fewer = train(data, "mlp", recipe=RECIPE, split=Split.whole(data, validation=0.0))
    with pytest.raises(ConfigError, match="not drawn from"):
        check_bank(bank, fewer)
    with pytest.raises(ConfigError, match="another seed"):
        build(original, bank.folder, models=2, seed=1)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").touch()
    with pytest.raises(ConfigError, match="is no bank"):
        build(original, tmp_path / "mine", models=2)


def test_models_that_no_bank_is_made_for(
    original: Trained, forgot: Trained, data: Data, tmp_path: Path
) -> None:
    assert forgot.path is not None
    with pytest.raises(ConfigError, match="has forgotten"):
        build_folder(forgot.path, tmp_path / "b")
    redacted = original.save(tmp_path / "redacted", redact_ids=True)
    with pytest.raises(ConfigError, match="is redacted"):
        build_folder(tmp_path / "redacted", tmp_path / "b")
    with pytest.raises(ConfigError, match="is redacted"):
        build(redacted, tmp_path / "b")
    with pytest.raises(ConfigError, match="--recipe"):
        build(replace(original, recipe=None), tmp_path / "b")
    with pytest.raises(ConfigError, match="trained by sisa"):
        build(replace(original, trained_by=Sisa()), tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_the_models_of_a_sparse_original_hold_its_mask(data: Data, tmp_path: Path) -> None:
    sparse = train(data, "mlp", recipe=RECIPE, pruner=PRUNERS["omp"](sparsity=0.9))
    made = build(sparse, tmp_path / "b", models=2)
    assert sparse.mask
    weights = shadow(sparse, made, 0).model.state_dict()
    assert not any(weights[name][~kept].any() for name, kept in sparse.mask.items())
    assert any(weights[name][kept].any() for name, kept in sparse.mask.items())


def test_room_is_looked_for_before(
    original: Trained, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        building, "short_of", lambda _, needed: asked.append(needed) or "1.0 MiB are free"
    )
    for models, keep in ((6, True), (6, False), (104, False)):
        with pytest.raises(ConfigError, match="no room"):
            check_bank_room(original, bank, models, keep=keep)
    weights, logits = asked[0] - asked[1], (asked[2] - asked[1]) / 98
    assert weights == 2 * sum(one.nbytes for one in original.model.parameters())
    assert logits == len(bank.ids) * 41


# --- purging


def told_ids(bank: Bank) -> str:
    return (bank.folder / "samples.json").read_text()


def test_a_purge_takes_out_what_was_deleted(original: Trained, forgot: Trained, bank: Bank) -> None:
    gone = set(forgot.split.forget)
    rows = np.array([name in gone for name in bank.ids])
    # a model that happened to learn from none of them keeps its weights, and is not marked
    lucky = bank.half(0) & ~rows
    bank.rewrite(0, bank.read_logits(0)[0], lucky, bank.facts(0))
    before, they_said = bank.shadows, said(bank)
    found = purge.purge_bank(bank, [*gone, "nobody"])
    assert found == Purged(len(gone), 4, 3, 3, 4)
    bank = open_bank(bank.folder)
    assert not gone & {*bank.ids} and bank.weighed == [0]
    assert all(f'"{name}"' not in told_ids(bank) for name in gone)
    for model in range(4):
        logits, facts = bank.read_logits(model)
        assert np.isnan(logits[rows]).all() and float(facts["seconds"]) > 0
        np.testing.assert_array_equal(logits[~rows], they_said[model][~rows])
    assert (bank.labels[rows] == -1).all()
    after = bank.shadows
    assert not gone & {*after.ids.tolist()} and np.isfinite(said(bank)).all()
    assert after.never.sum() == before.never.sum(), "what is struck is not what nobody learned"
    with pytest.raises(ConfigError, match=f"purged of {len(gone)} samples"):
        check_bank(bank, forgot)
    check_bank(bank, unlearn(forgot, "class:3", "finetune"))  # of what came after, it can tell
    assert status_of(bank).marked == 3 and status_of(bank).struck == len(gone)
    assert purge.purge_bank(bank, gone) == Purged(0, 0, 0, 3, 4), "there is nothing left to do"
    build(original, bank.folder, models=4)
    assert status_of(bank).marked == 3 and bank.weighed == [0], "building renews nothing"

    made = renew(forgot, bank.folder)
    assert status_of(made).marked == 0 and made.weighed == [0, 1, 2, 3]
    half = tuple(name for name in learns_of(bank, 1) if name)
    split = replace(
        original.split,
        retain=half,
        forget=tuple(name for name in original.split.retain if name not in {*half}),
    )
    again = unlearn(original, split, "retrain", names=("bank", 0, 1))
    for name, value in shadow(original, made, 1).model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], value)


def test_a_purge_that_was_cut_off_is_ended_by_the_next(
    forgot: Trained, bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def write(file: Path, content: bytes, **more: Any) -> None:
        if len(written) == 2:  # the ids, and one model
            raise KeyboardInterrupt
        written.append(file)
        whole.write_file(file, content, **more)

    monkeypatch.setattr("expunge.shadows.bank.write_file", write)
    with pytest.raises(KeyboardInterrupt):
        purge.purge_bank(bank, forgot.split.forget)
    monkeypatch.undo()
    found = purge.purge_bank(open_bank(bank.folder), forgot.split.forget)
    assert (found.samples, found.logits) == (0, 3)
    assert all(np.isnan(bank.read_logits(one)[0]).any() for one in range(4))


def test_whoever_builds_or_purges_keeps_the_other_out(
    original: Trained, forgot: Trained, bank: Bank
) -> None:
    with bank.at_work(), bank.at_work(), pytest.raises(ConfigError, match="is being built"):
        purge.purge_bank(bank, forgot.split.forget)
    with bank.at_work(alone=True), pytest.raises(ConfigError, match="is being purged"):
        build(original, bank.folder, models=6)


class Idle:
    """A crew that does nothing."""

    def __init__(self, work: object, orders: object, workers: int) -> None:
        self.size = workers

    def alive(self) -> bool:
        return False

    def end(self) -> list[str]:
        return ["idle"]


def test_the_bank_of_a_deletion_is_found_beside_it(
    original: Trained,
    forgot: Trained,
    built: Bank,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for model in (original, forgot):
        assert model.path is not None
        shutil.copytree(model.path, tmp_path / model.path.name)
    with pytest.raises(ConfigError, match="beside it there is no bank"):
        purge_folder(tmp_path / "forgot")
    with pytest.raises(SplitError, match="has forgotten nothing"):
        purge_folder(tmp_path / "original")
    shutil.copytree(built.folder, tmp_path / "original-bank")
    redacted = forgot.save(tmp_path / "redacted", redact_ids=True)
    done = purge_folder(tmp_path / "redacted")
    assert done.purged.samples == len(forgot.split.forget) == len(redacted.split.forget)
    assert found_bank(tmp_path / "original").struck.sum() == done.purged.samples
    with monkeypatch.context() as other:
        other.setattr("expunge.shadows.fits.resolve_precision", lambda *_: "bfloat16")
        with pytest.raises(ConfigError, match="is trained in float32, and"):
            renew(original, tmp_path / "original-bank")
        with pytest.raises(ConfigError, match="take machines of one kind"):
            purge_folder(tmp_path / "original", forget="class:3", renew=True)
    assert found_bank(tmp_path / "original").struck.sum() == done.purged.samples
    monkeypatch.setattr(training_crew, "Processes", Idle)
    lines: list[str] = []
    more = purge_folder(
        tmp_path / "original",
        forget="class:3",
        renew=True,
        workers=2,
        place=Place(tell=lines.append),
    )
    assert lines == ["1 of 2 workers ended early (idle); what is missing is made here"]
    assert more.renewed == 4 and status_of(more.bank).marked == 0
    assert not (more.bank.labels == 3)[: more.bank.learned].any()
    shutil.copytree(tmp_path / "original-bank", tmp_path / "second-bank")
    with pytest.raises(ConfigError, match="both are bank"):
        purge_folder(tmp_path / "forgot")


# --- as a command


def test_the_commands(original: Trained, tmp_path: Path) -> None:
    assert original.path is not None
    shutil.copytree(original.path, tmp_path / "runs/o")
    done = expunge("bank", "build", "runs/o/", "--models", "2", cwd=tmp_path)
    assert "models are trained one after another, for so small a bank" in done.stderr
    assert "2 models, 1 of them finished" in done.stderr and "written: runs/o-bank" in done.stdout
    assert "2 of 2 models finished" in done.stdout
    done = expunge("bank", "build", "runs/o", "--budget", "0.001s", cwd=tmp_path)
    assert "nothing is left to do" in done.stderr
    asked = read_asked(tmp_path / "runs/o-bank")
    assert asked is not None and asked.models == 2
    assert (
        expunge("bank", "status", "runs/o-bank", cwd=tmp_path).stdout.splitlines()[1:]
        == (expunge("bank", "status", "runs/o", cwd=tmp_path).stdout.splitlines()[1:])
    )
    done = expunge("bank", "purge", "runs/o", "--forget", "class:1", cwd=tmp_path)
    assert "purged: " in done.stdout and "2 of 2 models had learned" in done.stdout
    (again,) = [line for line in done.stdout.splitlines() if line.startswith("next: expunge ")]
    done = expunge(*again.removeprefix("next: expunge ").split(), cwd=tmp_path)
    assert "renewed: 2 models" in done.stdout
    for arguments, why in (
        (("build", "runs/o", "--models", "3"), "an even number"),
        (("build", "runs/o", "--models", "4", "--budget", "1m"), "give one of them"),
        (("build", "runs/o", "--budget", "now"), "--budget 'now'"),
        (("build", "runs/o", "--models", "4", "--ray", "127.0.0.1:9"), "no Ray cluster answers"),
        (("status", "runs"), "is a bank"),
        (("build", "runs/o", "--models", "4", "--ray", "a..b:9"), "no Ray cluster answers"),
        (("purge", "runs/o"), "has forgotten nothing"),
        (("purge", "runs/o", "--forget", "class:2", "--workers", "2"), "belong to --renew"),
    ):
        found = expunge("bank", *arguments, cwd=tmp_path, ok=False)
        assert why in found.stderr and len(found.stderr.strip().splitlines()) <= 2, found.stderr


# --- what it says


def test_a_damaged_file_is_told(bank: Bank) -> None:
    file = bank.logits_file(2)
    content = bytearray(file.read_bytes())
    for broken in (content[:100], b"x" * 200, b""):
        file.write_bytes(bytes(broken))
        with pytest.raises(ConfigError, match=r"0002\.safetensors .*delete it, and build"):
            bank.read_logits(2)
    bank.rewrite(2, np.zeros((3, 10), np.float32), np.zeros(3, np.bool_), {"seconds": "1"})
    with pytest.raises(ConfigError, match="other samples"):
        bank.read_logits(2)
    (bank.folder / "samples.json").write_text(
        '{"ids": ["a"], "labels": [], "learned": 1, "tested": 0}'
    )
    with pytest.raises(ConfigError, match="does not fit itself"):
        open_bank(bank.folder)


def by_loop(logits: np.ndarray, labels: np.ndarray) -> list[float]:
    found = []
    for z, y in zip(logits.tolist(), labels.tolist(), strict=True):
        rest = [np.exp(value) for c, value in enumerate(z) if c != y]
        found.append(z[y] - np.log(sum(rest)))
    return found


def test_log_odds_are_the_formula() -> None:
    generator = np.random.default_rng(0)
    logits, labels = generator.normal(size=(20, 5)), generator.integers(0, 5, 20)
    np.testing.assert_allclose(log_odds(logits, labels), by_loop(logits, labels), rtol=1e-12)
    closed = np.array([[-np.inf, 0.0, 1.0], [0.0, -np.inf, -np.inf]])
    assert log_odds(closed, np.array([0, 0])).tolist() == [-100, 100]


def test_confidence_is_the_softmax() -> None:
    generator = np.random.default_rng(1)
    logits = generator.normal(size=(2, 6, 3)).astype(np.float32)
    labels = generator.integers(0, 3, 6)
    learned = np.zeros((2, 6), dtype=bool)
    shadows = Shadows(np.array(list("abcdef")), labels, logits, learned)
    p = np.exp(logits / 2.0)
    p /= p.sum(axis=2, keepdims=True)
    want = p[:, np.arange(6), labels]
    np.testing.assert_allclose(shadows.confidence(2.0), want, rtol=1e-5)
