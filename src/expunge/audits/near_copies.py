"""Near copies: what a model says of samples that differ a little from the forgotten ones.

A filter that recognises the forgotten samples hides an unchanged model behind it. Such a filter does
not know copies that are moved by a pixel or have a little noise, and a model that learned from a sample
knows its copies too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.audits.base import Audit, Need, without_verdict
from expunge.audits.lira import NO_LAW, ratios
from expunge.audits.never_seen import of_never_seen
from expunge.audits.references import not_measured, of_others, read_beside, some_ids
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.statistics import wilson
from expunge.scores.table import SCORES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from expunge.audits.changed import Change
    from expunge.audits.panel import Panel
    from expunge.audits.shadows import Shadows
    from expunge.data.load import Data
    from expunge.trained.trained import Trained
    from expunge.training.run import Run

SMALLEST = 16
"""Pixels of an image's shorter side for each that it is moved by: farther, and it is no near copy."""
Apart = tuple[float, float, float]
"""A value and the ends of its interval."""
NO_OTHERS = "there are no never seen samples of the same classes"


class NearCopies(Audit):
    """How well copies of forgotten samples are told from copies of never seen ones, and named right.

    Images are moved by some pixels, no farther than a sixteenth of their shorter side, and have noise
    added; vectors and tables have noise. A sample's score
    is the mean of phi, the log of the odds of its own class, over its copies. All models see the same
    copies. The never seen samples are test samples of the forgotten samples' classes. Beside a bank the
    copies' phi is held against the two laws of its models too, as `lira` does it: these know which
    samples are easy. Their laws are of the samples themselves, and copies are a little harder, so that
    of this score not 50 but what retrained models have is its chance level.
    """

    name: ClassVar[str] = "near_copies"
    info: ClassVar[tuple[ScoreInfo, ...]] = (
        SCORES["near_copies"],
        SCORES["near_copies_accuracy"],
        SCORES["near_copies_lira"],
    )
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs", "model"})

    shifts: tuple[int, ...] = Field(default=(1, 2), description="pixels that images are moved by")
    noise: tuple[float, ...] = Field(
        default=(0.1, 0.2), description="of copies with noise, in standard deviations of a feature"
    )
    samples: int = Field(default=1000, ge=1, description="of either kind, at most")

    def scores(self, panel: Panel) -> Iterator[Score]:
        """The scores, beside the original's and the retrained models'."""
        if not panel.split.forget:
            return
        changes = self._changes(panel.subject.data)
        if not changes:
            why = "the inputs are no images or numbers, which could be changed a little"
            yield from (not_measured(info, why) for info in self.info)
            return
        ours, others = self._drawn(panel)
        look = partial(_look, run=panel.run, changes=changes, ours=ours, others=others)
        mine = look(panel.subject)
        before, references = of_others(self, panel, look)
        detail = {"seed": panel.seed, "copies": len(changes), "never_seen": len(others)}
        apart, right, ratio = self.info
        picks: dict[ScoreInfo, Callable[[Copies], Apart]] = {
            apart: Copies.told_apart,
            right: Copies.right,
        }
        if panel.shadows is not None:
            picks[ratio] = partial(_by_bank, ids=ours, shadows=panel.shadows)
        for info, pick in picks.items():
            value, low, high = pick(mine)
            if math.isnan(value):
                yield not_measured(info, NO_LAW if info is ratio else NO_OTHERS)
                continue
            score = Score(
                *(info.name, value, len(ours), low, high, info.unit, info.target, detail),
                per_sample=dict(zip(ours, mine.phi.tolist(), strict=True)),
            )
            step = 100 / (len(ours) * (len(others) if info is apart else 1))
            first = None if before is None else pick(before)[0]
            values = [pick(one)[0] for one in references]
            tests = len(picks)
            yield without_verdict(
                read_beside(score, first, values, info, panel.margins, step=step, tests=tests)
            )

    def _changes(self, data: Data) -> list[Change]:
        """What copies are made by; none for inputs that are no numbers."""
        from expunge.audits.changed import feature_spread, noisy, shifted

        spread = feature_spread(data)
        if spread is None:
            return []
        shape = data.train.shape()
        near = min(shape[1:]) / SMALLEST if len(shape) == 3 else 0
        moved = [shifted(pixels) for pixels in self.shifts if pixels <= near]
        return [*moved, *(noisy(amount, spread) for amount in self.noise)]

    def _drawn(self, panel: Panel) -> tuple[list[str], list[str]]:
        """Ids of forgotten samples and of test samples of the same classes, drawn by ids and seed.

        None of the latter where poisoned samples are forgotten: the trigger tells them from clean ones.
        """
        import numpy as np

        from expunge.data.parts import Part

        data, poison = panel.subject.data, panel.subject.data.poison
        rows = panel.split.rows(data.train, Part.FORGET)
        ours = some_ids(data.train.ids[rows], self.samples, "near copies", panel.seed)
        if poison is not None and not poison.ids.isdisjoint(ours):
            return ours, []
        never = of_never_seen(panel.outputs, lambda part: np.array(part.ids), alike=True)
        return ours, some_ids(never, self.samples, "near copies", panel.seed)


@dataclass(frozen=True)
class Copies:
    """What a model says of copies: phi (n,) and others (m,), the mean over the copies of a forgotten and
    of a never seen sample; accuracy: share of the copies of the forgotten ones that it names right.
    """

    phi: NDArray[np.float64]
    others: NDArray[np.float64]
    accuracy: float

    def told_apart(self) -> tuple[float, float, float]:
        """AUC in percent and its interval; nan without never seen samples."""
        from expunge.audits.told_apart import auc

        if not len(self.others):
            return math.nan, math.nan, math.nan
        return auc(self.phi, self.others)

    def right(self) -> tuple[float, float, float]:
        """Accuracy in percent and its interval, for which a sample's copies count once."""
        n = len(self.phi)
        low, high = wilson(round(self.accuracy * n), n)
        return 100 * self.accuracy, 100 * low, 100 * high


def _look(
    one: Trained, *, run: Run, changes: Sequence[Change], ours: list[str], others: list[str]
) -> Copies:
    """A model's outputs on all copies."""
    import numpy as np

    from expunge.audits.changed import observe_changed
    from expunge.audits.log_odds import part_log_odds

    data, right = one.data, 0.0
    found: list[NDArray[np.float64]] = []
    for samples, ids in ((data.train, ours), (data.test, others)):
        phi = np.zeros(len(ids))
        for change in changes if ids else ():
            part = observe_changed(one.model, data, samples, samples.rows_of(ids), change, run)
            phi += part_log_odds(part) / len(changes)
            if ids is ours:
                right += float(part.correct.double().mean()) / len(changes)
        found.append(phi)
    return Copies(found[0], found[1], right)


def _by_bank(copies: Copies, *, ids: Sequence[str], shadows: Shadows) -> Apart:
    """AUC of likelihood ratios in percent and its interval; nan where the bank has no law."""
    import numpy as np

    from expunge.audits.told_apart import auc

    ours, null, _ = ratios(shadows, ids, copies.phi)
    ours = ours[np.isfinite(ours)]
    return auc(ours, null) if len(ours) and len(null) else (math.nan, math.nan, math.nan)
