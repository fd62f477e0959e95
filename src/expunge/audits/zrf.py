"""Zero retrain forgetting: how like a model that learned nothing one answers on the forget set.

Chundawat et al. (AAAI 2023), "Can Bad Teaching Induce Forgetting?". The score needs no retrained model,
but what is good is what one has: a retrained model is no random one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.audits.base import Audit, Need, without_verdict
from expunge.audits.references import forget_of, not_measured, of_others, read_beside, some_ids
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.table import SCORES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from expunge.audits.panel import Panel
    from expunge.trained.trained import Trained


class ZeroRetrainForgetting(Audit):
    """ZRF: one minus the divergence of the predictions from those of untrained networks.

    The Jensen-Shannon divergence of the two rows of probabilities, in bits, as a mean over the forget
    samples and over several networks of the model's own make, whose weights are drawn by the seed. 1:
    the model answers as they do.
    """

    name: ClassVar[str] = "zrf"
    info: ClassVar[tuple[ScoreInfo, ...]] = (SCORES["zrf"],)
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs", "model"})

    networks: int = Field(default=5, ge=1, description="untrained networks")
    samples: int = Field(default=5000, ge=1, description="forget samples, at most")

    def scores(self, panel: Panel) -> Iterator[Score]:
        """One score, beside the original's and the retrained models'."""
        from expunge.audits.likeness import mean_interval

        (info,) = self.info
        if panel.subject.fresh is None:
            yield not_measured(info, "nobody said how to make an untrained model")
            return
        ids = some_ids(panel.forget().ids, self.samples, self.name, panel.seed)
        drawn = panel.once(self, "untrained", lambda: self._untrained(panel, ids))
        each = _likeness(panel.subject, panel=panel, ids=ids, drawn=drawn)
        value, low, high = mean_interval(each)
        score = Score(
            *(info.name, value, len(ids), max(low, 0.0), min(high, 1.0), info.unit, info.target),
            {"seed": panel.seed, "networks": self.networks},
            per_sample=dict(zip(ids, each.tolist(), strict=True)),
        )
        find = partial(_likeness, panel=panel, ids=ids, drawn=drawn)
        before, theirs = of_others(self, panel, find)
        first = None if before is None else float(before.mean())
        beside = [float(one.mean()) for one in theirs]
        yield without_verdict(read_beside(score, first, beside, info, panel.margins))

    def _untrained(self, panel: Panel, ids: list[str]) -> list[Tensor]:
        """Probabilities (n, classes) of each network."""
        from expunge.audits.observe import observe_rows

        one = panel.subject
        run = replace(
            panel.run, names=("zrf", panel.seed), label="zrf", constructor=one.fresh, mask=None
        )
        train = one.data.train
        rows = train.rows_of(ids)
        return [
            observe_rows(
                run.fresh(number), one.data, train, rows, run, "untrained networks"
            ).probabilities
            for number in range(self.networks)
        ]


def _likeness(
    one: Trained, *, panel: Panel, ids: list[str], drawn: list[Tensor]
) -> NDArray[np.float64]:
    """Of each sample, one minus the mean divergence from the untrained networks: (n,)."""
    import torch

    from expunge.audits.likeness import divergences, probabilities_of

    seen = probabilities_of(forget_of(panel, one), ids)
    apart = torch.stack([divergences(seen, other) for other in drawn]).mean(dim=0)
    found: NDArray[np.float64] = (1 - apart).numpy()
    return found
