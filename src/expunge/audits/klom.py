"""KLoM: how far the law of a method's models is from that of retrained ones, sample by sample.

Georgiev et al. (2024), "Attribute-to-Delete: Machine Unlearning via Datamodel Matching".
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from expunge.audits.base import Audit, Need
from expunge.audits.populations import populations
from expunge.scores.finding import NOT_MEASURABLE, Finding
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.table import SCORES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from expunge.audits.panel import Panel

BINS = 20
LEAST_SHARE = 1e-5
"""What a bin that no retrained model falls in counts as."""
CLIP = 100.0
LEAST_MODELS = 100
"""On each side: with fewer the number is made of their number, 0.9 between equal laws with 50."""
TAIL = 0.95


class Klom(Audit):
    """KLoM as published: divergence of the method's log odds from the retrained models', per sample.

    The log odds of a sample under the method's models (this one and its siblings) and under the
    retrained ones are counted in 20 equal bins over their common range; a sample's KLoM is the
    Kullback-Leibler divergence of the first counts from the second, in nats. The value is its 95th
    percentile over the forget set.

    As published the largest value belongs to no bin, so models that all say one thing, larger than any
    retrained one says, have none in any bin and score a perfect 0: the score finds nothing
    but that fewer than 100 models on a side are too few, and `klom_fixed` is the one to trust.
    """

    name: ClassVar[str] = "klom"
    info: ClassVar[tuple[ScoreInfo, ...]] = (SCORES["klom"],)
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs", "retrained", "siblings"})

    def scores(self, panel: Panel) -> Iterator[Score]:
        """One score; the detail has mean, median and tail of every part."""
        if not panel.split.forget:
            return
        both = populations(panel)
        by_part = {part: klom(ours, both.retrained[part]) for part, ours in both.ours.items()}
        own = by_part["forget"]
        sides = len(both.ours["forget"]), len(both.retrained["forget"])
        yield Score(
            "klom",
            tail(own),
            len(own),
            None,
            None,
            "nats",
            "low",
            {"parts": {part: summary(kl) for part, kl in by_part.items()}, "models": sides},
            per_sample=dict(zip(panel.forget().ids, own.tolist(), strict=True)),
            finding=few_models(*sides, LEAST_MODELS),
        )


def few_models(ours: int, retrained: int, least: int) -> Finding | None:
    """That laws of so few models cannot be compared; None where they are enough."""
    if min(ours, retrained) >= least:
        return None
    return Finding(
        NOT_MEASURABLE,
        f"{ours} models of the method beside {retrained} retrained ones, and it takes {least} of each",
    )


def klom(
    ours: NDArray[np.float64], retrained: NDArray[np.float64], *, closed: bool = False
) -> NDArray[np.float64]:
    """Divergence of the counts of ours from those of retrained models: (n,), in nats, 0 or more.

    ours: (N, n). retrained: (k, n). closed: whether the last bin holds its upper end.
    """
    import numpy as np

    ours, retrained = np.clip(ours, -CLIP, CLIP), np.clip(retrained, -CLIP, CLIP)
    low = np.minimum(ours.min(axis=0), retrained.min(axis=0))
    high = np.maximum(ours.max(axis=0), retrained.max(axis=0))
    edges = np.linspace(low, np.where(low < high, high, low + 1), BINS + 1)
    p, q = _shares(ours, edges, closed=closed), _shares(retrained, edges, closed=closed)
    with np.errstate(divide="ignore", invalid="ignore"):
        each = np.where(p > 0, p * np.log(p / np.maximum(q, LEAST_SHARE)), 0.0)
    return np.asarray(each.sum(axis=0), dtype=np.float64)


def _shares(
    values: NDArray[np.float64], edges: NDArray[np.float64], *, closed: bool
) -> NDArray[np.float64]:
    """Of those in any bin the share in each: (BINS, n); all 0 where none is."""
    import numpy as np

    below = np.stack([(values < edge).sum(axis=0) for edge in edges])
    if closed:
        below[-1] = len(values)
    counts = np.diff(below, axis=0)
    return np.asarray(counts / np.maximum(counts.sum(axis=0), 1), dtype=np.float64)


def tail(values: NDArray[np.float64]) -> float:
    """The 95th percentile; nan of nothing."""
    import numpy as np

    return float(np.quantile(values, TAIL)) if len(values) else math.nan


def summary(values: NDArray[np.float64]) -> dict[str, Any]:
    """Mean, median and tail."""
    import numpy as np

    return {"mean": float(values.mean()), "median": float(np.median(values)), "p95": tail(values)}
