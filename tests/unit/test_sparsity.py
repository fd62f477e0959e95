"""`prune`: rewinding to the bit, fine-tuning, masks cut further, records."""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from helpers import (
    CPU,
    digits,
    global_randomness_stays,  # noqa: F401
    original,
    run_on_cpu,
    same_state,
    toy,
)
from sparse_helpers import (
    RECIPE,
    State,
    equal,
    is_within,
    made_sparse,
    pruned,
    quick,
    run_by_hand,
    state_of,
    trained_by_hand,
    under,
)
from thorough import THOROUGH, but_first
from torch import nn

from expunge.api import train, unlearn
from expunge.audits.observe import accuracy
from expunge.data.split import Split
from expunge.errors import ConfigError, DivergenceError, SplitError
from expunge.models.mask import Mask, keep_largest, overlap, prunable, sparsity_of
from expunge.pruning import search
from expunge.pruning.base import FINE_TUNING
from expunge.pruning.criteria import Criteria, pruning_criteria
from expunge.pruning.original import mask_in_other_order, mask_without
from expunge.pruning.random import Random
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe
from expunge.training.run import Run


@dataclass(frozen=True)
class Training:
    """What one training started from and came to."""

    start: State
    end: State
    first_epoch: int
    mask: Mask | None


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[Training]:
    """Every training of a search and of what follows it, in order."""
    found: list[Training] = []
    honest = search.train_from

    def spy(model: nn.Module, data: Any, run: Run, recipe: Recipe, **options: Any) -> Any:
        start = state_of(model)
        log = honest(model, data, run, recipe, **options)
        found.append(Training(start, state_of(model), options.get("first_epoch", 0), run.mask))
        return log

    monkeypatch.setattr(search, "train_from", spy)
    return found


# --- rewinding


@pytest.mark.parametrize("rewind_epoch", but_first(1, [1, None, 0, 2]))
def test_omp_starts_again_from_the_bits_of_an_early_epoch(
    rewind_epoch: int | None, trainings: list[Training]
) -> None:
    """Weights and BatchNorm buffers; the mask from the end of the dense training."""
    found = pruned(quick("omp", sparsity=0.8, rewind_epoch=rewind_epoch))
    epoch = 1 if rewind_epoch is None else rewind_epoch
    by_hand = trained_by_hand()
    dense, again = trainings
    assert dense.first_epoch == 0
    assert dense.mask is None
    assert equal(dense.start, by_hand[0])
    assert equal(dense.end, by_hand[3])
    assert found.dense is not None
    assert equal(found.dense.state_dict(), by_hand[3])

    ends = run_by_hand().fresh()
    ends.load_state_dict(by_hand[3])
    expected = keep_largest({key: p.detach().abs() for key, p in prunable(ends).items()}, 0.8)
    assert found.mask is not None
    assert equal(found.mask, expected)
    assert again.mask is not None
    assert equal(again.mask, expected)
    assert again.first_epoch == epoch
    assert equal(again.start, under(expected, by_hand[epoch]))
    assert found.early is not None
    assert equal(found.early, by_hand[epoch])
    statistics = [key for key in again.start if key.startswith("features.1.")]
    assert len(statistics) == 5, "weight, bias, mean, variance and the number of batches"
    assert int(again.start["features.1.num_batches_tracked"]) == epoch * 5
    finished = trained_by_hand(
        start=under(expected, by_hand[epoch]), mask=expected, first_epoch=epoch
    )
    assert equal(found.model.state_dict(), finished[3])


def test_imp_rewinds_every_round(trainings: list[Training]) -> None:
    pruner = quick("imp", sparsity=0.9, rate=0.5, rewind_epoch=1)
    assert pruner.cuts() == (0.5, 0.75, 0.875, 0.9)
    found = pruned(pruner)
    early = trained_by_hand()[1]
    assert len(trainings) == 5, "one before each cut, one after the last"
    assert [t.first_epoch for t in trainings] == [0, 1, 1, 1, 1]
    assert trainings[0].mask is None
    assert equal(trainings[0].start, trained_by_hand()[0])
    masks = [t.mask for t in trainings[1:]]
    before: Mask | None = None
    for mask, target, training, round_ in zip(
        masks, pruner.cuts(), trainings[1:], trainings, strict=False
    ):
        assert mask is not None
        total = sum(keep.numel() for keep in mask.values())
        assert sum(int(keep.sum()) for keep in mask.values()) == round((1 - target) * total)
        assert equal(training.start, under(mask, early))
        scores = {key: round_.end[key].abs() for key in mask}
        assert equal(mask, keep_largest(scores, target, before)), "cut by the round's own weights"
        assert before is None or is_within(mask, before)
        before = mask
    assert found.record.log["cuts"] == 4
    assert found.mask is not None
    assert equal(found.mask, before)


def test_every_cut_is_within_the_one_before() -> None:
    """Whatever a pruner goes by: imp's own scores of what is cut are 0, and would not tell."""
    given: list[Mask | None] = []

    class Rounds(Random):
        name = "rounds"

        def cuts(self) -> tuple[float, ...]:
            return (0.4, 0.6, self.sparsity)

        def mask(
            self, model: Any, data: Any, run: Run, *, sparsity: float, within: Any = None
        ) -> Mask:
            given.append(within)
            drawn = run.named(f"round {len(given)}")
            return super().mask(model, data, drawn, sparsity=sparsity, within=within)

    found = pruned(Rounds(sparsity=0.8), architecture="mlp")
    assert found.mask is not None
    assert given[0] is None
    masks = [mask for mask in (*given[1:], found.mask) if mask is not None]
    assert [sparsity_of(mask) for mask in masks] == pytest.approx([0.4, 0.6, 0.8], abs=1e-4)
    for wide, narrow in itertools.pairwise(masks):
        assert is_within(narrow, wide)


def test_default_rewinding_is_to_one_epoch_of_a_few() -> None:
    found = pruned("omp")
    assert found.record.log["first_epoch"] == 1
    assert found.record.log["start"] == "weights and buffers of epoch 1"
    assert sparsity_of(found.mask or {}) == pytest.approx(0.95, abs=1e-4)


@pytest.mark.parametrize("rewind_epoch", [3, 4, 99])
@pytest.mark.parametrize("name", ["omp", "imp"])
def test_rewinding_beyond_the_recipe_is_refused(name: str, rewind_epoch: int) -> None:
    told = rf"{name}: rewinding to epoch {rewind_epoch} leaves nothing of a recipe of 3 epochs; set"
    with pytest.raises(ConfigError, match=told):
        pruned(quick(name, rewind_epoch=rewind_epoch))
    with pytest.raises(ConfigError, match=told):
        pruned(
            name,
            trained=original("cnn"),
            rewind=state_of(original("cnn")),
            rewind_epoch=rewind_epoch,
        )


def test_a_recipe_of_one_epoch_rewinds_to_the_start() -> None:
    found = pruned("omp", recipe=RECIPE.but(epochs=1))
    assert found.record.log["start"] == "the initial weights"
    assert found.early is not None
    assert equal(found.early, trained_by_hand(RECIPE.but(epochs=1))[0])


@THOROUGH
@pytest.mark.parametrize("rewind_epoch", but_first(1, [1, 0, 2]))
@pytest.mark.parametrize("name", ["omp", "imp"])
def test_rewinding_without_a_cut_gives_the_dense_model_again(name: str, rewind_epoch: int) -> None:
    """Sparsity 0 and no momentum to lose: every bit, whatever the schedule."""
    for schedule in ("constant", "cosine"):
        recipe = RECIPE.but(momentum=0, schedule=schedule)
        pruner = quick(name, sparsity=0.0, rewind_epoch=rewind_epoch)
        found = pruned(pruner, recipe=recipe)
        plain = train(digits(), "cnn", recipe=recipe, place=CPU)
        assert found.dense is not None
        assert same_state(found.model, plain.model)
        assert same_state(found.dense, plain.model)


@pytest.mark.parametrize("name", ["synflow", "random"])
def test_untrained_pruners_train_once_from_the_start(name: str, trainings: list[Training]) -> None:
    found = pruned(name)
    (only,) = trainings
    assert only.first_epoch == 0
    assert only.mask is not None
    assert equal(only.start, under(only.mask, trained_by_hand()[0]))
    assert found.record.log["start"] == "the initial weights"
    assert found.record.log["saw_data"] is False
    assert found.dense is None


# --- from a trained model


@pytest.mark.parametrize("name", ["omp", "synflow", "random"])
def test_a_trained_model_is_cut_and_trained_on(name: str, trainings: list[Training]) -> None:
    """Without an early state the cut weights go on as they are, by a recipe for fine-tuning."""
    model = original("cnn").train()
    before = copy.deepcopy(model)
    found = pruned(quick(name, sparsity=0.8), trained=model)
    assert same_state(model, before)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    (only,) = trainings
    assert only.mask is not None
    assert equal(only.start, under(only.mask, state_of(before)))
    assert only.first_epoch == 0
    assert found.record.settings["recipe"] == RECIPE.but(**FINE_TUNING).model_dump()
    assert FINE_TUNING == {"epochs": 10, "lr": 0.01, "schedule": "constant"}
    log = found.record.log
    assert log["start"] == "the cut weights of the trained model, fine-tuned"
    assert log["saw_data"] is True, "the weights that were cut had seen them"
    assert len(log["losses"]) == 10
    assert (found.dense, found.early) == (None, None)


def test_a_recipe_of_ones_own_for_what_was_cut() -> None:
    own = RECIPE.but(epochs=2, lr=0.002)
    found = pruned("omp", trained=original("cnn"), sparse_recipe=own)
    assert found.record.settings["recipe"] == own.model_dump()
    assert len(found.record.log["losses"]) == 2
    assert found.recipe == RECIPE, "retraining goes by the original's"


def test_a_trained_model_with_an_early_state_is_rewound(trainings: list[Training]) -> None:
    """From somebody's dense training and its epoch 1, what `prune` makes by itself."""
    whole = pruned(quick("omp", sparsity=0.8))
    dense = whole.dense
    assert dense is not None
    assert whole.early is not None
    trainings.clear()
    found = pruned(quick("omp", sparsity=0.8), trained=dense, rewind=whole.early, rewind_epoch=1)
    assert len(trainings) == 1, "the dense model is not trained again"
    assert same_state(found.model, whole.model)
    assert found.record.log["start"] == "weights and buffers of epoch 1"
    assert found.record.log["saw_data"] is True


@THOROUGH
def test_imp_from_a_trained_model_starts_with_a_cut(trainings: list[Training]) -> None:
    pruner = quick("imp", sparsity=0.8, rate=0.5, rewind_epoch=1)
    whole = pruned(pruner)
    trainings.clear()
    found = pruned(pruner, trained=whole.dense, rewind=whole.early, rewind_epoch=1)
    assert len(pruner.cuts()) == len(trainings) == 3
    assert same_state(found.model, whole.model)


@pytest.mark.parametrize("name", ["omp", "synflow", "random"])
def test_a_sparse_model_is_cut_further(name: str, trainings: list[Training]) -> None:
    first = pruned(quick("omp", sparsity=0.5))
    assert first.mask is not None
    before = {key: keep.clone() for key, keep in first.mask.items()}
    trainings.clear()
    found = pruned(quick(name, sparsity=0.8), trained=first.model, mask=first.mask)
    assert found.mask is not None
    assert equal(first.mask, before)
    assert sparsity_of(found.mask) == pytest.approx(0.8, abs=1e-4)
    assert is_within(found.mask, first.mask)
    (only,) = trainings
    assert equal(only.mask or {}, found.mask)
    assert not any(
        value[~found.mask[key]].any() for key, value in only.end.items() if key in before
    )
    with pytest.raises(ConfigError, match=r"sparsity 0\.3 is below that of the mask"):
        pruned(quick("omp", sparsity=0.3), trained=first.model, mask=first.mask)


def test_the_mask_of_another_model_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"the mask names 'fc1\.weight', which the model"):
        pruned("omp", trained=original("cnn"), mask={"fc1.weight": torch.ones(2, 2).bool()})


def test_a_training_that_diverges_says_so() -> None:
    with pytest.raises(DivergenceError, match=r"pruning by omp diverged in epoch 1 of 3"):
        pruned("omp", recipe=RECIPE.but(lr=1e8, schedule="constant"))


@pytest.mark.parametrize("name", ["omp", "synflow"])
def test_what_is_struck_is_not_read(name: str) -> None:
    """Retain and forget sets are learned from, as `train` does; validation and excluded are not."""
    split = Split.random(digits(), 0.2, base=Split.random(digits(), 0.1).settled())
    assert split.excluded
    found = pruned(name, split=split)
    reads = found.record.cost.reads
    learned = len(split.retain) + len(split.forget)
    trainings = 2 * 3 - 1 if name == "omp" else 3
    assert reads["retain"] == trainings * learned
    assert (reads["forget"], reads["validation"]) == (0, 0)
    assert found.split == Split(
        (*split.retain, *split.forget), (), split.validation, split.excluded
    )


@pytest.mark.parametrize("method", ["finetune", "retrain"])
def test_a_sparse_original_can_forget(method: str) -> None:
    """Model, mask and recipe are handed on as `unlearn` wants them."""
    found = pruned("synflow", architecture="mlp")
    assert isinstance(found, Trained)
    assert found.recipe == RECIPE
    assert found.mask is not None
    split = Split.random(digits(), 0.1)
    forgotten = unlearn(found, split, method, place=CPU)
    parameters = dict(forgotten.model.named_parameters())
    assert all(torch.equal(parameters[key] != 0, keep) for key, keep in found.mask.items())
    told = {"sparsity": sparsity_of(found.mask), "saw_forget_set": False}
    assert forgotten.record.log["mask"] == told


def test_flat_data_will_do() -> None:
    """Vectors and a model of one's own, pruned in its linear layers."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))

    data = toy([0, 1] * 20, inputs=torch.randn(40, 2, generator=torch.Generator().manual_seed(0)))
    for name in ("omp", "imp", "synflow", "random"):
        found = made_sparse(
            data,
            build,
            quick(name, sparsity=0.5),
            recipe=RECIPE,
            device="cpu",
            split=Split.whole(data, validation=0),
        )
        assert sorted(found.mask or {}) == ["0.weight", "2.weight"]
        assert sparsity_of(found.mask or {}) == 0.5
        assert found.record.cost.reads["retain"] > 0


# --- how good a pruner is: masks that the forget set does not move, accuracy kept, and the time


def criteria(name: str, **options: Any) -> Criteria:
    pruner = quick(name, sparsity=0.9)
    split = options.pop("split", Split.random(digits(), 0.3))
    whole = split.whole_again()
    sparse = options.get("sparse") or pruned(pruner, split=whole)
    dense = options.get("dense") or train(digits(), "cnn", recipe=RECIPE, split=whole, place=CPU)
    return pruning_criteria(sparse, dense, pruner, split, place=CPU)


@pytest.mark.parametrize(("name", "blind"), [("synflow", True), ("random", True), ("omp", False)])
def test_only_trained_masks_depend_on_the_forget_set(name: str, blind: bool) -> None:
    found = criteria(name)
    assert (found.overlap == 1) == blind
    assert 0.05 < found.overlap <= 1, "masks of the same initialisation have much in common"
    assert found.pruner == name
    assert found.sparsity == pytest.approx(0.9, abs=1e-4)
    assert found.seconds > 0
    assert found.dense_seconds > 0


def test_criteria_by_hand() -> None:
    """The second mask: the same initialisation, the same batches without what is struck."""
    split = Split.random(digits(), 0.3)
    whole = Split((*split.retain, *split.forget), (), split.validation, split.excluded)
    pruner = quick("omp", sparsity=0.9)
    sparse_one = pruned(pruner, split=whole)
    dense = train(digits(), "cnn", recipe=RECIPE, split=whole, place=CPU)
    found = criteria("omp", split=split)
    masks = []
    for how in (
        {"split": whole},
        {"split": split, "cut": "struck"},
        {"split": whole, "order": "floor"},
    ):
        end = trained_by_hand(**how)[3]  # type: ignore[arg-type]
        masks.append(keep_largest({k: end[k].abs() for k in sparse_one.mask or {}}, 0.9))
    assert equal(masks[0], sparse_one.mask)
    assert found.overlap == overlap(*masks[:2])
    common: dict[str, Any] = {"recipe": RECIPE, "place": CPU, "allow_code": True}
    blind, floor = (
        search(digits(), "cnn", pruner, split, **common)
        for search in (mask_without, mask_in_other_order)
    )
    assert equal(blind, masks[1])
    assert equal(floor, masks[2]), "nothing is removed, and another order gives another mask"
    assert overlap(masks[0], floor) < 1
    run = run_on_cpu()
    assert found.test_accuracy == accuracy(sparse_one.model, digits(), run)
    assert found.dense_test_accuracy == accuracy(dense.model, digits(), run)
    assert found.difference == found.test_accuracy - found.dense_test_accuracy
    assert found.dense_test_accuracy > 50

    given = criteria("omp", split=split, sparse=sparse_one, dense=dense)
    assert given.seconds == sparse_one.record.log["seconds_to_mask"]
    assert given.dense_seconds == dense.record.cost.seconds
    assert (given.overlap, given.difference) == (found.overlap, found.difference)


def test_criteria_without_a_forget_set() -> None:
    with pytest.raises(SplitError, match="without a forget set no mask depends on it"):
        criteria("omp", split=Split.whole(digits()))
