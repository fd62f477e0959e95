"""U-LiRA: can samples that a method made models forget be told from samples these models never saw?

Hayes et al. (2024), "Inexact Unlearning Needs More Careful Evaluations to Avoid a False Sense of
Privacy". Both laws are of models that were made to forget: a null of models that were not would find
the forgetting itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from expunge.audits.base import Audit, Need, without_verdict
from expunge.errors import ConfigError
from expunge.scores.finding import (
    ALPHA,
    NOT_MEASURABLE,
    OUTSIDE,
    UNDECIDED,
    WITHIN,
    Finding,
)
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.statistics import mean_sd, student_quantile
from expunge.scores.table import SCORES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from expunge.audits.panel import Panel
    from expunge.audits.shadows import Shadows
    from expunge.trained.trained import Trained

CHANCE = 50.0
"""Accuracy for a retrained model, whatever the data: the two kinds are then alike."""
FEWEST = 16
"""Models from which on something can be found."""


class ULira(Audit):
    """U-LiRA: accuracy of telling forgotten from never seen samples, among models made to forget alike.

    Every model of a bank is made to forget those samples of the forget set that it learned from, as the
    judged model was. Of each sample one half of them forgot it, and the other half never saw it; by the
    laws of phi of the two, each model is asked which it did, fitted without it and its other half.
    Accuracy in percent: the mean of the shares that are right of either kind, over pairs of models.
    50 is as good as retraining.
    """

    name: ClassVar[str] = "u_lira"
    info: ClassVar[tuple[ScoreInfo, ...]] = (SCORES["u_lira"],)
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs", "shadows", "method"})

    spread: Literal["auto", "own", "shrunk", "pooled"] = Field(
        default="auto",
        description="of a sample's phi: its own, drawn towards that of all samples, or that of all; "
        "auto: its own from 64 models on, else drawn",
    )

    def scores(self, panel: Panel) -> Iterator[Score]:
        """One score, where there is a bank that can be made to forget.

        Raises ConfigError where none of its models was made to forget a sample of the forget set.
        """
        from expunge.audits.laws import spread_used

        if panel.unlearned is None or panel.shadows is None or not panel.split.forget:
            return
        made, forget = panel.unlearned(), panel.forget()
        spread = spread_used(self.spread, len(made))
        kinds = _kinds(made, forget.ids)
        judged = ask_pairs(*kinds, spread)
        detail: dict[str, Any] = {
            "spread": spread,
            "shadows": len(made),
            "tpr": 100 * judged.tpr,
            "fpr": 100 * judged.fpr,
        }
        before = ask_pairs(*_as_they_were(panel.shadows, forget.ids), spread).accuracy
        if math.isfinite(before):
            detail["original"] = 100 * before
        ours = _ratios(panel, *kinds, spread)
        called = _share_above_0(ours)
        detail["called forgotten"] = 100 * called
        if panel.retrained is not None:
            other = _ratios(panel, *kinds, spread, of=panel.retrained)
            detail["called forgotten, retrained"] = 100 * _share_above_0(other)
        accuracies = [100 * one for one in judged.pairs]
        low, high = _interval(accuracies)
        score = Score(
            "u_lira",
            100 * judged.accuracy,
            judged.n,
            low,
            high,
            "percent",
            "retrained",
            detail,
            reference=CHANCE,
            per_sample={
                name: value
                for name, value in zip(forget.ids, ours.tolist(), strict=True)
                if math.isfinite(value)
            },
            finding=_found(accuracies, judged.constant, self.info[0].margin or 0.0),
        )
        yield without_verdict(score)


@dataclass(frozen=True)
class Judged:
    """How right the laws are of a bank's models.

    Attributes:
        tpr: share of forgotten samples called so, in [0, 1]; nan without any.
        fpr: share of never seen samples called forgotten.
        pairs: mean of tpr and 1 - fpr of each pair of models.
        n: samples that are asked about.
        constant: the models say the same of half the samples or more, so that there are no laws.
    """

    tpr: float
    fpr: float
    pairs: tuple[float, ...]
    n: int
    constant: bool

    @property
    def accuracy(self) -> float:
        """The mean of the pairs', in [0, 1]; nan without any."""
        return sum(self.pairs) / len(self.pairs) if self.pairs else math.nan


def ask_pairs(
    phi: NDArray[np.float64],
    forgot: NDArray[np.bool_],
    never: NDArray[np.bool_],
    spread: Literal["own", "shrunk", "pooled"],
) -> Judged:
    """Ask of each model which samples it forgot.

    phi, forgot, never: (K, n) of samples to forget; models 2 p and 2 p + 1 learned from complementary
    halves. What is neither forgotten nor never seen is not asked about; a tie is half right.
    """
    import numpy as np

    from expunge.audits.laws import LEAST, pair_left_out

    ratio = pair_left_out(phi, forgot, never, spread)
    known = np.isfinite(ratio)
    called = np.where(ratio == 0, 0.5, ratio > 0)
    one, two = known & forgot, known & never

    def share(of: NDArray[np.bool_]) -> float:
        return float(called[of].mean()) if of.any() else math.nan

    pairs = []
    for p in range(0, len(phi), 2):
        mine = np.zeros_like(known)
        mine[p : p + 2] = True
        right = (share(one & mine) + 1 - share(two & mine)) / 2
        if math.isfinite(right):
            pairs.append(right)
    asked = forgot | never
    kept = np.where(asked, phi, np.nan)[:, asked.any(axis=0)]
    same = np.nanmax(kept, axis=0) - np.nanmin(kept, axis=0) < LEAST if kept.size else np.ones(1)
    n = int(known.any(axis=0).sum())
    return Judged(share(one), share(two), tuple(pairs), n, float(same.mean()) >= 0.5)


def _kinds(
    made: Shadows, ids: tuple[str, ...]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Phi of the samples, which models forgot them, and which never saw them: each (K, n)."""
    rows = made.rows(ids)
    there = rows >= 0
    if made.forgot is None or not (made.forgot[:, rows] & there).any():
        raise ConfigError(
            "no model of the bank was made to forget any of these samples, so U-LiRA has nothing to ask "
            "about; give a bank of the original that learned from them"
        )
    forgot, learned = made.forgot[:, rows] & there, made.learned[:, rows]
    return made.phi[:, rows], forgot, ~learned & there


def _as_they_were(
    shadows: Shadows, ids: tuple[str, ...]
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """The same of models that nothing was made to forget: learned in place of forgot."""
    rows = shadows.rows(ids)
    there, learned = rows >= 0, shadows.learned[:, rows]
    return shadows.phi[:, rows], learned & there, ~learned & there


def _ratios(
    panel: Panel,
    phi: NDArray[np.float64],
    forgot: NDArray[np.bool_],
    never: NDArray[np.bool_],
    spread: Literal["own", "shrunk", "pooled"],
    of: Trained | None = None,
) -> NDArray[np.float64]:
    """(n,): log ratio of the laws for each forget sample, at what the judged model, or another, says."""
    from expunge.audits.laws import laws
    from expunge.audits.log_odds import part_log_odds

    seen = panel if of is None else panel.beside(of)
    own = part_log_odds(panel.forget(None if seen is None else seen.outputs))
    one, two = laws(phi, forgot, spread), laws(phi, never, spread)
    return one.log_density(own) - two.log_density(own)


def _share_above_0(ratios: NDArray[np.float64]) -> float:
    import numpy as np

    known = ratios[np.isfinite(ratios)]
    return float((known > 0).mean()) if len(known) else math.nan


def _interval(accuracies: list[float]) -> tuple[float | None, float | None]:
    """95 % of the mean over pairs; None of fewer than two."""
    if len(accuracies) < 2:
        return None, None
    mean, sd = mean_sd(accuracies)
    half = student_quantile(1 - ALPHA / 2, len(accuracies) - 1) * sd / math.sqrt(len(accuracies))
    return max(mean - half, 0.0), min(mean + half, 100.0)


def _found(accuracies: list[float], constant: bool, margin: float) -> Finding:
    """Against CHANCE: pairs of models are what varies, by Student's t over them."""
    if constant:
        why = (
            "the models say the same whether they forgot or never saw, so there are no laws to tell"
        )
        return Finding(NOT_MEASURABLE, why)
    k = len(accuracies)
    if 2 * k < FEWEST:
        why = f"{2 * k} models of a bank could be asked; {FEWEST} are needed for a finding"
        return Finding(NOT_MEASURABLE, why)
    from scipy import special

    mean, sd = mean_sd(accuracies)
    error, apart = sd / math.sqrt(k), abs(mean - CHANCE)
    told = f"{apart:.3g} points from 50, margin {margin:g}, standard error {error:.2g}"
    p = 2 * float(special.stdtr(k - 1, -apart / error)) if error else float(apart == 0)
    if p < ALPHA and apart > margin:
        return Finding(OUTSIDE, told, p)
    if apart + student_quantile(1 - ALPHA, k - 1) * error < margin:
        return Finding(WITHIN, told, p)
    return Finding(UNDECIDED, told, p)
