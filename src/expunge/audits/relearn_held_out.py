"""Relearning on some of the forget set, judged on the rest: whether it comes back unseen.

A model that hides what it knew gives it away when it is tuned a little, even on other samples than those
that are asked about (Lynch et al. 2024; Hu et al., ICLR 2025; the latter tune on unrelated data too).
Tuning teaches any model something, hence the samples held out, and two anchors: retrained and original.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.audits.base import Audit, Family, Need, without_verdict
from expunge.audits.references import not_measured, of_others, read_beside, some_ids
from expunge.errors import DivergenceError
from expunge.scores.finding import OUTSIDE, Z95, compared
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.table import NEAR_EMPTY, SCORES
from expunge.training.recipe import Recipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from expunge.audits.panel import Panel
    from expunge.data.view import DataView, PartSource
    from expunge.scores.margins import Margins
    from expunge.trained.trained import Trained
    from expunge.training.run import Run

GROWTH = 4
"""How many times as many samples each tuning has as the one before."""
APART = 0.02
"""Right answers, as a share, or phi, by which the anchors must differ for a scale between them."""


class RelearnHeldOut(Audit):
    """What comes back of the forget set when half of it is learned again: 0 as retrained, 1 as original.

    Copies of the model are tuned on 1, 4, 16, ... samples of one half, and on as many of the retain set;
    all are judged on the other half. The area is the mean over these tunings, once of phi, the log of
    the odds of the own class, and once of the share named right. That share goes from none to all within
    a few steps, sooner of one retrained model than of another, so nothing is found by it.
    """

    name: ClassVar[str] = "relearn_held_out"
    info: ClassVar[tuple[ScoreInfo, ...]] = (
        SCORES["relearn_held_out"],
        SCORES["relearn_held_out_accuracy"],
    )
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs", "model", "original", "retrained"})
    family: ClassVar[Family] = "reversal"

    lr: float = Field(default=1e-3, gt=0, description="learning rate of Adam")
    steps: int = Field(default=20, ge=1, description="of each tuning")
    most: int = Field(default=64, ge=1, description="samples that are learned again, at most")
    held: int = Field(default=1000, ge=1, description="samples that are judged, at most")

    def scores(self, panel: Panel) -> Iterator[Score]:
        """Both scores, each on the scale between retrained and original."""
        if not panel.split.forget:
            return
        ids = some_ids(panel.split.forget, len(panel.split.forget), self.name, panel.seed)
        half = len(ids) // 2
        taught, judged = ids[:half][: self.most], ids[half:][: self.held]
        if len(judged) < NEAR_EMPTY or not taught:
            why = f"{len(judged)} held-out samples tell too little; {NEAR_EMPTY} are needed"
            yield from (not_measured(info, why) for info in self.info)
            return

        def find(one: Trained) -> Recovered:
            return self._recovered(one, panel, taught, judged)

        mine = find(panel.subject)
        before, theirs = of_others(self, panel, find)
        if before is None or not theirs:
            return
        for info, pick in zip(self.info, ("phi", "right"), strict=True):
            yield without_verdict(
                _between(
                    info,
                    mine.area(pick),
                    before.area(pick),
                    [one.area(pick) for one in theirs],
                    judged,
                    {"seed": panel.seed, "tunings": mine.tunings, "curve": mine.curve(pick)},
                    panel.margins,
                )
            )

    def _recovered(
        self, one: Trained, panel: Panel, taught: Sequence[str], judged: Sequence[str]
    ) -> Recovered:
        """What each tuning of a copy brings back."""
        import numpy as np

        from expunge.audits.log_odds import part_log_odds
        from expunge.audits.observe import observe_rows
        from expunge.data.parts import Part

        sizes = [size for size in _sizes(self.most) if size <= len(taught)]
        run = replace(
            panel.run, names=(self.name, *panel.run.names), label="relearning", mask=one.mask
        )
        view = _view(one, panel, run)
        unrelated = some_ids(panel.split.retain, sizes[-1], "unrelated", panel.seed)
        tunings = {str(size): (Part.FORGET, taught[:size]) for size in sizes}
        tunings["unrelated"] = (Part.RETAIN, unrelated)
        train = one.data.train
        right, phi = [], []
        for part, ids in tunings.values():
            source = view.some(part, np.isin(view.keys(part), ids))
            pupil = self._tuned(one, source, run)
            if pupil is None:
                lost = np.full(len(judged), np.nan)
                return Recovered(tuple(tunings), lost[None], lost[None])
            seen = observe_rows(
                pupil, one.data, train, train.rows_of(judged), run, "what came back"
            )
            right.append(seen.correct.double().numpy())
            phi.append(part_log_odds(seen))
        return Recovered(tuple(tunings), np.array(right), np.array(phi))

    def _tuned(self, one: Trained, source: PartSource, run: Run) -> nn.Module | None:
        """A copy after some steps; None where it diverged. Statistics of normalisation layers stay."""
        from expunge.models.copying import copied
        from expunge.training.fit import fit

        size = max(1, min(self.most, len(source)))
        recipe = Recipe(
            epochs=1,
            lr=self.lr,
            batch_size=size,
            optimizer="adam",
            weight_decay=0.0,
            schedule="constant",
            augmentation="none",
        )
        pupil = copied(one.model).to(run.device).requires_grad_(True)
        try:
            fit(
                pupil,
                lambda epoch: source.batches(size, epoch=epoch, augment=False),
                lambda model, batch, _: run.loss(model, batch),
                recipe=recipe,
                run=run,
                norm="eval",
                steps=self.steps,
            )
        except DivergenceError:
            return None
        return pupil


def _sizes(most: int) -> list[int]:
    """1, 4, 16, ... up to so many."""
    sizes = [1]
    while sizes[-1] * GROWTH <= most:
        sizes.append(sizes[-1] * GROWTH)
    return sizes


def _view(one: Trained, panel: Panel, run: Run) -> DataView:
    """What copies of a model are tuned on: the same samples for all."""
    from expunge.data.parts import Part
    from expunge.data.transform import Transform
    from expunge.data.view import DataView

    return DataView(
        data=one.data,
        split=panel.split,
        declared=Part.FORGET | Part.RETAIN,
        names=run.names,
        transform=Transform(one.data.normalisation),
        device=run.device,
        rank=run.rank,
        world=run.world,
    )


@dataclass(frozen=True)
class Recovered:
    """What held-out samples are after each of t tunings. right: (t, n), 1 where one is named right.
    phi: (t, n). tunings: what each learned again; one that diverged leaves nan alone.
    """

    tunings: tuple[str, ...]
    right: NDArray[np.float64]
    phi: NDArray[np.float64]

    def area(self, of: str) -> NDArray[np.float64]:
        """Mean over tunings of `right` or `phi`: (n,)."""
        found: NDArray[np.float64] = getattr(self, of).mean(axis=0)
        return found

    def curve(self, of: str) -> list[float]:
        """Mean over samples, of each tuning."""
        found: list[float] = getattr(self, of).mean(axis=1).tolist()
        return found


def _between(
    info: ScoreInfo,
    mine: NDArray[np.float64],
    original: NDArray[np.float64],
    retrained: Sequence[NDArray[np.float64]],
    ids: Sequence[str],
    detail: Mapping[str, object],
    margins: Margins,
) -> Score:
    """Areas (n,) of single samples as a score: 0 is the retrained models' mean, 1 the original's."""
    from expunge.audits.likeness import mean_interval

    anchors = [mean_interval(one)[0] for one in retrained]
    low_end = sum(anchors) / len(anchors)
    first, first_low, first_high = mean_interval(original)
    width = first - low_end
    error = (first_high - first_low) / (2 * Z95)
    if not math.isfinite(width + float(mine.mean())):
        return not_measured(info, "a copy diverged while it was tuned")
    if compared(first, anchors, APART, error=error).word != OUTSIDE:
        return not_measured(info, "the original knows these samples hardly better than retraining")
    value, *ends = ((one - low_end) / width for one in mean_interval(mine))
    low, high = sorted(ends)
    score = Score(
        *(info.name, value, len(ids), low, high, info.unit, info.target, detail),
        per_sample=dict(zip(ids, mine.tolist(), strict=True)),
    )
    return read_beside(score, 1.0, [(one - low_end) / width for one in anchors], info, margins)
