"""The forgetting quality of the NeurIPS 2023 unlearning challenge: an epsilon of each forgotten sample.

Triantafillou et al. (2024), "Are we making progress in unlearning? Findings from the first NeurIPS
unlearning competition".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from expunge.audits.base import Audit, Need
from expunge.audits.klom import few_models
from expunge.audits.klom_fixed import against_margin
from expunge.audits.populations import beside_floor, populations
from expunge.names.seeds import numpy_generator
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.table import SCORES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from expunge.audits.panel import Panel

LEAST_MODELS = 128
"""On each side."""


class ChallengeEpsilon(Audit):
    """Per forgotten sample, how surely an attacker tells the method's models from retrained ones.

    An attack calls a model the method's where a sample's log odds lie in a set: above or below a
    threshold, or in or out of an interval. Of the best such attack, chosen on the same models, the two
    error rates bound epsilon = max(log((1 - delta - FPR) / FNR), log((1 - delta - FNR) / FPR)). Rules
    with one error rate of 0 are left out; with both it is infinite. The value is the mean over the
    forget set of 2 to the power of minus floor(2 epsilon), from 0 to 1.

    Equal laws do not score 1, for the best of many attacks is never blind: 0.07 with 128 models a side,
    0.23 with thresholds alone. So the target is the floor, what one half of the retrained models has
    beside the other.
    """

    name: ClassVar[str] = "challenge_epsilon"
    info: ClassVar[tuple[ScoreInfo, ...]] = (SCORES["challenge_epsilon"],)
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs", "retrained", "siblings"})

    intervals: bool = Field(
        default=True, description="attacks by intervals too, not only thresholds"
    )
    delta: float = Field(default=1e-5, ge=0, lt=1, description="delta of (epsilon, delta)")

    def scores(self, panel: Panel) -> Iterator[Score]:
        """One score; the detail has the floor, and the same number of models beside it."""
        if not panel.split.forget:
            return
        both = populations(panel)
        ours, retrained = both.ours["forget"], both.retrained["forget"]
        each = forgetting(ours, retrained, self)
        few = few_models(len(ours), len(retrained), LEAST_MODELS)
        found = None
        if few is None:
            generator = numpy_generator("audit", self.name, panel.seed)
            found = beside_floor(ours, retrained, partial(_mean, how=self), generator)
        detail: dict[str, Any] = {
            **self.model_dump(mode="json"),
            "models": (len(ours), len(retrained)),
        }
        if found is not None:
            detail |= {"floor": found.floor, "of_models": found.models, "beside_floor": found.ours}
        margin = panel.margins.of(self.name)
        yield Score(
            self.name,
            float(each.mean()),
            len(each),
            None,
            None,
            "share",
            "high",
            detail,
            per_sample=dict(zip(panel.forget().ids, each.tolist(), strict=True)),
            finding=few or against_margin(found, margin, "of 1"),
        )


def forgetting(
    ours: NDArray[np.float64], retrained: NDArray[np.float64], how: ChallengeEpsilon
) -> NDArray[np.float64]:
    """2 ** -floor(2 epsilon) of each sample: (n,), in [0, 1]. ours: (N, n). retrained: (k, n)."""
    import numpy as np

    table = bounds(len(ours), len(retrained), how.delta)
    found = np.empty(ours.shape[1])
    for sample in range(ours.shape[1]):
        epsilon = best(ours[:, sample], retrained[:, sample], table, intervals=how.intervals)
        found[sample] = 0.0 if math.isinf(epsilon) else 2.0 ** -math.floor(2 * epsilon)
    return found


def _mean(
    ours: NDArray[np.float64], retrained: NDArray[np.float64], how: ChallengeEpsilon
) -> float:
    return float(forgetting(ours, retrained, how).mean())


def bounds(ours: int, retrained: int, delta: float) -> NDArray[np.float64]:
    """Epsilon of a rule by how many models of each side it calls the method's, or of its opposite.

    Returns (retrained + 1, ours + 1), 0 or more: row b, column a for b retrained ones and a of ours.
    """
    import numpy as np

    false_positive = np.arange(retrained + 1)[:, None] / retrained
    false_negative = 1 - np.arange(ours + 1)[None] / ours
    with np.errstate(divide="ignore", invalid="ignore"):
        one = np.log(1 - delta - false_positive) - np.log(false_negative)
        other = np.log(1 - delta - false_negative) - np.log(false_positive)
    never = (false_positive == 0) | (false_negative == 0)
    each = np.where(never, 0.0, np.fmax(np.fmax(one, other), 0.0))
    each[0, ours] = np.inf
    return np.asarray(np.maximum(each, each[::-1, ::-1]), dtype=np.float64)


def best(
    ours: NDArray[np.float64],
    retrained: NDArray[np.float64],
    table: NDArray[np.float64],
    *,
    intervals: bool,
) -> float:
    """The largest epsilon of any rule for one sample. ours: (N,). retrained: (k,). table: `bounds`."""
    import numpy as np

    ends = np.unique(np.concatenate([ours, retrained]))
    a = np.concatenate([[0], np.searchsorted(np.sort(ours), ends, side="right")])
    b = np.concatenate([[0], np.searchsorted(np.sort(retrained), ends, side="right")])
    below = b * table.shape[1] + a  # places in the table, whose differences are those of intervals
    if not intervals:
        return float(table.ravel()[below].max())
    first, last = _pairs(len(below))
    return float(table.ravel().take(below[last] - below[first]).max())


@lru_cache(maxsize=32)
def _pairs(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Places of every two of n, the smaller first; they are asked for again and again."""
    import numpy as np

    first, last = np.triu_indices(n, 1)
    return first, last
