"""How good a pruner is: masks that the forget set does not move, accuracy kept, and the time."""

from __future__ import annotations

from typing import Any

import pytest
from helpers import CPU, digits, run_on_cpu
from seeded_helpers import global_randomness_stays  # noqa: F401
from sparse_helpers import RECIPE, equal, pruned, quick, trained_by_hand

from expunge.api import train
from expunge.audits.observe import accuracy
from expunge.data.split import Split
from expunge.errors import SplitError
from expunge.models.mask import keep_largest, overlap
from expunge.pruning.criteria import Criteria, pruning_criteria


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
    """The second mask: the same initialisation, the same order of what stays."""
    split = Split.random(digits(), 0.3)
    whole = Split((*split.retain, *split.forget), (), split.validation, split.excluded)
    kept = Split(split.retain, (), split.validation, (*split.excluded, *split.forget))
    pruner = quick("omp", sparsity=0.9)
    sparse_one = pruned(pruner, split=whole)
    dense = train(digits(), "cnn", recipe=RECIPE, split=whole, place=CPU)
    found = criteria("omp", split=split)
    masks = []
    for learned in (whole, kept):
        end = trained_by_hand(split=learned)[3]
        masks.append(keep_largest({k: end[k].abs() for k in sparse_one.mask or {}}, 0.9))
    assert equal(masks[0], sparse_one.mask)
    assert found.overlap == overlap(*masks)
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
