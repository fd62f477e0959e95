"""Robust membership inference: a sample's likelihood ratio against those of samples never seen.

Zarifzadeh, Liu & Shokri (ICML 2024), "Low-Cost High-Power Membership Inference Attacks".

Of a never seen sample one model of each pair of a bank is asked, so that its mean is as unsteady as that
of a forgotten sample, which one of each pair did not learn from. A public implementation averages the
half of the models that are surest there, so that its scores of single samples differ from ours; AUCs
hardly do.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.audits.base import Audit, Need, without_verdict
from expunge.audits.never_seen import of_never_seen, spared
from expunge.names.seeds import numpy_generator
from expunge.scores.finding import NOT_MEASURABLE, Finding
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.table import SCORES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from expunge.audits.outputs import PartOutputs
    from expunge.audits.panel import Panel
    from expunge.audits.shadows import Shadows


USUAL_A = 0.3
"""Of the offline mean, where there are too few models to choose it (the paper's for CIFAR-10)."""
STEPS_OF_A = 10
MOST_TRIED = 10_000
"""Samples that a is chosen on."""


class Rmia(Audit):
    """RMIA: how well a sample's likelihood ratio tells the forget set from samples never seen.

    A sample's ratio is p(x) / p̄(x): p is the probability of its own class under the judged model, p̄ a
    mean over models of the bank: offline ((1 + a) p̄_out + 1 - a) / 2 over those that did not learn from
    it, online the mean of that of these and of that of those which did (of never seen samples, of which
    no model tells that, the offline one). Its score is the share of never seen samples z of the classes
    that stay whose gamma-fold ratio is smaller, itself not counted. AUC in percent, 50 is chance; what
    the retrained model has is the target. a is chosen on a model of the bank, of which it is known what
    it learned.
    """

    name: ClassVar[str] = "rmia"
    info: ClassVar[tuple[ScoreInfo, ...]] = (SCORES["rmia"],)
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs", "shadows"})

    online: bool = Field(default=False, description="use the models that learned from it too")
    gamma: float = Field(default=1.0, ge=1, description="how many times smaller a ratio must be")
    a: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="of the offline mean of all models; none: the best on a model of the bank",
    )
    temperature: float = Field(default=1.0, gt=0, description="what logits are divided by")

    def scores(self, panel: Panel) -> Iterator[Score]:
        """One score, where there is a bank."""
        from expunge.audits.told_apart import auc

        found = self.compared(panel)
        if found is None:
            return
        detail = {"online": self.online, "gamma": self.gamma, "a": found.a}
        detail |= {"temperature": self.temperature, "shadows": len(panel.shadows or ())}
        if found.lost:
            detail["no law"] = found.lost
        if not len(found.ours) or not len(found.null):
            why = "no models of the bank tell of these samples, or none was never seen"
            yield Score(
                *("rmia", math.nan, 0, None, None, "percent", "retrained", detail),
                finding=Finding(NOT_MEASURABLE, why),
            )
            return
        value, low, high = auc(found.ours, found.null)
        per_sample = dict(zip(found.ids, found.ours.tolist(), strict=True))
        score = Score(
            *("rmia", value, len(found.ours), low, high, "percent", "retrained", detail),
            per_sample=per_sample,
        )
        yield without_verdict(score)

    def compared(self, panel: Panel, *, alike: bool = False) -> Compared | None:
        """The scores of the forget set and of never seen samples, as `of_never_seen` takes them; None
        without a bank.
        """
        import numpy as np

        shadows = panel.shadows
        if shadows is None:
            return None
        a = self.a
        if a is None:
            a = chosen_a(shadows, panel.split.forget, self.gamma, self.temperature)
        ratios = partial(self._ratios, shadows=shadows, a=a)
        forget = panel.forget()
        test = partial(ratios, test=True)
        own, theirs = ratios(forget), of_never_seen(panel.outputs, test, alike=alike)
        there, seen = np.isfinite(own), theirs[np.isfinite(theirs)]
        return Compared(
            tuple(np.array(forget.ids)[there].tolist()),
            share_below(own[there], self.gamma * seen),
            share_below(seen, self.gamma * seen, itself=True),
            a,
            int((~there).sum()),
        )

    def _ratios(
        self, part: PartOutputs, shadows: Shadows, a: float, *, test: bool = False
    ) -> NDArray[np.float64]:
        """p(x) / p̄(x) of each sample, nan for one that the shadows cannot be asked about: (n,).

        test: the part is of the test set.
        """
        import numpy as np

        from expunge.audits.log_odds import own_confidence, part_log_odds

        rows = shadows.rows(part.ids, test=test)
        p = own_confidence(part_log_odds(part, self.temperature))
        told = asked(shadows, rows, self.temperature)
        found = p / mean_confidence(told, shadows.learned[:, rows], a, online=self.online)
        return np.where(rows >= 0, found, np.nan)


@dataclass(frozen=True, eq=False)
class Compared:
    """ids: forgotten samples, (n,). ours: their scores, (n,), in [0, 1]. null: those of never seen
    samples, (m,). a: of the offline mean. lost: forgotten samples that no model tells of.
    """

    ids: tuple[str, ...]
    ours: NDArray[np.float64]
    null: NDArray[np.float64]
    a: float
    lost: int


def asked(
    shadows: Shadows, rows: NDArray[np.intp], temperature: float = 1.0
) -> NDArray[np.float64]:
    """Confidence of the models in each sample, (K, n), nan of those that are not asked about it."""
    import numpy as np

    kept = shadows.learned[:, rows] | spared(shadows, rows)
    return np.where(kept, shadows.confidence(temperature)[:, rows], np.nan)


def mean_confidence(
    confidence: NDArray[np.float64], learned: NDArray[np.bool_], a: float, *, online: bool = False
) -> NDArray[np.float64]:
    """p̄ of each sample: (n,), in [0, 1]; nan where no model of a kind that it takes is there.

    confidence: (K, n), nan where it is not known. learned: (K, n).
    """
    import numpy as np

    known = ~np.isnan(confidence)
    out, inside = known & ~learned, known & learned
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_out = np.where(out, confidence, 0).sum(axis=0) / out.sum(axis=0)
        mean_in = np.where(inside, confidence, 0).sum(axis=0) / inside.sum(axis=0)
    offline = ((1 + a) * mean_out + 1 - a) / 2
    if not online:
        return np.asarray(offline, dtype=np.float64)
    both = np.where(learned.any(axis=0), (mean_out + mean_in) / 2, offline)
    return np.asarray(both, dtype=np.float64)


def chosen_a(shadows: Shadows, but: Collection[str], gamma: float, temperature: float) -> float:
    """Of 0, 0.1 ... 1 the a that best tells what the first model of a bank learned from the rest.

    The other models, its other half not among them, are those that it is attacked with; at most
    MOST_TRIED samples, drawn at random. but: ids of samples that are to be judged, which are left out.
    USUAL_A with fewer than four models, or without samples of each kind.
    """
    import numpy as np

    from expunge.audits.told_apart import auc

    never = np.flatnonzero(shadows.never)
    others = np.flatnonzero(~shadows.never & ~np.isin(shadows.ids, list(but)))
    draw = numpy_generator("rmia", "a")
    never, others = (rows[draw.permutation(len(rows))[:MOST_TRIED]] for rows in (never, others))
    if len(shadows) < 4 or not len(never):
        return USUAL_A
    own, learned = shadows.confidence(temperature)[0], shadows.learned
    told = asked(shadows, np.arange(len(shadows.ids)), temperature)
    best, found = 0.0, USUAL_A
    for step in range(STEPS_OF_A + 1):
        a = step / STEPS_OF_A
        x, z = (
            own[rows] / mean_confidence(told[2:, rows], learned[2:, rows], a)
            for rows in (others, never)
        )
        here, z = np.isfinite(x), z[np.isfinite(z)]
        one, two = x[here & learned[0, others]], x[here & ~learned[0, others]]
        if not (len(one) and len(two) and len(z)):
            return USUAL_A
        value = auc(share_below(one, gamma * z), share_below(two, gamma * z))[0]
        if value > best:
            best, found = value, a
    return found


def share_below(
    values: NDArray[np.float64], others: NDArray[np.float64], *, itself: bool = False
) -> NDArray[np.float64]:
    """Of each value, the share of the others that lie below it: (n,), in [0, 1].

    itself: the values are among the others, and each is compared with the rest alone. What is counted
    so would else equal a value that lies just below it.
    """
    import numpy as np

    found = np.searchsorted(np.sort(others), values, side="left")
    return np.asarray(found / max(len(others) - itself, 1), dtype=np.float64)
