"""How good a pruner is for unlearning: the three criteria of Jia et al. (NeurIPS 2023), section 4."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.audits.observe import accuracy
from expunge.data.split import Split
from expunge.errors import ConfigError, SplitError
from expunge.models.mask import overlap, sparsity_of
from expunge.place import HERE, Place
from expunge.pruning.base import Pruner
from expunge.pruning.original import mask_without
from expunge.trained.trained import Trained
from expunge.training.run import Run, accelerator_on


@dataclass(frozen=True)
class Criteria:
    """How good a pruner is for unlearning.

    Attributes:
        overlap: Jaccard index of the kept weights found with and without the forget set; 1 = the
            mask does not depend on it.
        test_accuracy, dense_test_accuracy: in percent.
        seconds: to find the mask, its trainings included.
        dense_seconds: to train the dense original.
    """

    pruner: str
    sparsity: float
    overlap: float
    test_accuracy: float
    dense_test_accuracy: float
    seconds: float
    dense_seconds: float

    @property
    def difference(self) -> float:
        """Test accuracy of the sparse original minus the dense one's, in points."""
        return self.test_accuracy - self.dense_test_accuracy


def pruning_criteria(
    sparse: Trained, dense: Trained, pruner: Pruner, forget: Split, *, place: Place = HERE
) -> Criteria:
    """Judge a pruner on a forget request by a sparse and a dense original of one seed and recipe.

    A second mask is found on the retain set alone, with the same initialisation and the same order
    of the samples that stay.

    Raises SplitError if there is nothing to forget, ConfigError for originals without a recipe.
    """
    if not forget.forget:
        raise SplitError("without a forget set no mask depends on it; name one")
    if sparse.recipe is None or sparse.fresh is None or sparse.mask is None:
        raise ConfigError(
            "a pruner is judged by originals that were trained here, one of them sparse"
        )
    seed = sparse.seed or 0
    blind = mask_without(
        sparse.data,
        sparse.fresh,
        pruner,
        forget,
        recipe=sparse.recipe,
        seed=seed,
        place=place,
        allow_code=False,
    )
    run = Run(
        names=("criteria", seed),
        accelerator=accelerator_on(place.device),
        progress=place.progress,
        task=sparse.data.task,
    )
    return Criteria(
        pruner=pruner.name,
        sparsity=sparsity_of(sparse.mask),
        overlap=overlap(sparse.mask, blind),
        test_accuracy=accuracy(sparse.model, sparse.data, run),
        dense_test_accuracy=accuracy(dense.model, dense.data, run),
        seconds=float(sparse.record.log["seconds_to_mask"]),
        dense_seconds=dense.record.cost.seconds,
    )
