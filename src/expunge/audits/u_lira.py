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
from expunge.audits.references import beyond_original
from expunge.errors import ConfigError
from expunge.scores.finding import ALPHA, NOT_MEASURABLE, OUTSIDE, UNDECIDED, Finding, settled
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.statistics import student_quantile
from expunge.scores.table import SCORES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from expunge.audits.panel import Panel
    from expunge.audits.shadows import Shadows
    from expunge.trained.trained import Trained

CHANCE = 50.0
"""Accuracy for a retrained model, whatever the data: the two kinds are then alike."""
MOST_LOST = 0.1
"""Share of the models that diverged, or whose other half did: of more, those left tell too little."""
FEWEST = 16
"""Models from which on something can be found."""


class ULira(Audit):
    """U-LiRA: accuracy of telling forgotten from never seen samples, among models made to forget alike.

    Every model of a bank is made to forget those samples of the forget set that it learned from, as the
    judged model was. Of each sample one half of them forgot it, and the other half never saw it; by the
    laws of phi of the two, each model is asked which it did, fitted without it and its other half.
    Accuracy in percent: the mean of the shares of either kind that are right.
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
        margin = panel.margins.judging(self.info[0]) or 0.0
        finding = u_lira_finding(judged, margin)
        before = ask_pairs(*_as_they_were(panel.shadows, forget.ids), spread)
        if math.isfinite(before.accuracy):
            detail["original"] = 100 * before.accuracy
            finding = beyond_original(finding, u_lira_finding(before, margin))
        if made.left_out:
            detail["left_out"] = list(made.left_out)
            detail["of"] = made.asked
        ours = _ratios(panel, *kinds, spread)
        called = _share_above_0(ours)
        detail["called forgotten"] = 100 * called
        if panel.retrained is not None:
            other = _ratios(panel, *kinds, spread, of=panel.retrained)
            detail["called forgotten, retrained"] = 100 * _share_above_0(other)
        low = high = None
        if judged.pairs > 1 and math.isfinite(judged.error):
            half = student_quantile(1 - ALPHA / 2, judged.pairs - 1) * judged.error
            low, high = (100 * min(max(judged.accuracy + end, 0), 1) for end in (-half, half))
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
            finding=unless_lost(finding, len(made), made.asked),
        )
        yield without_verdict(score)


@dataclass(frozen=True)
class Judged:
    """How right the laws are of a bank's models.

    Attributes:
        accuracy: in [0, 1], as are the next three; nan where no pair could be asked.
        error: its standard error.
        tpr: share of forgotten samples called so.
        fpr: share of never seen samples called forgotten.
        pairs: pairs of models that were asked.
        n: samples that they were asked about.
        constant: the models say the same of half the samples or more, so that there are no laws.
    """

    accuracy: float
    error: float
    tpr: float
    fpr: float
    pairs: int
    n: int
    constant: bool


def ask_pairs(
    phi: NDArray[np.float64],
    forgot: NDArray[np.bool_],
    never: NDArray[np.bool_],
    spread: Literal["own", "shrunk", "pooled"],
) -> Judged:
    """Ask both models of each pair of each sample which of them forgot it, and which never saw it.

    phi, forgot, never: (K, n) of samples to forget; models 2 p and 2 p + 1 learned from complementary
    halves. A pair is asked about samples that one of them forgot and the other never saw; a tie is half
    right.
    """
    import numpy as np

    from expunge.audits.laws import LEAST, pair_left_out

    ratio = pair_left_out(phi, forgot, never, spread)
    says = np.where(ratio == 0, 0.5, ratio > 0)
    one, two = slice(0, len(phi) // 2 * 2, 2), slice(1, None, 2)
    known = np.isfinite(ratio[one] + ratio[two])
    known &= (forgot[one] & never[two]) | (never[one] & forgot[two])
    called = np.where(forgot[one], says[one], says[two])
    wrong = np.where(forgot[one], says[two], says[one])
    kept = np.where(forgot | never, phi, np.nan)
    kept = kept[:, ~np.isnan(kept).all(axis=0)]
    same = np.nanmax(kept, axis=0) - np.nanmin(kept, axis=0) < LEAST
    constant = not len(same) or float(same.mean()) >= 0.5
    if not known.any():
        return Judged(*4 * (math.nan,), 0, 0, constant)
    right = np.where(known, (called + 1 - wrong) / 2, np.nan)
    return Judged(
        float(right[known].mean()),
        two_way_error(right),
        float(called[known].mean()),
        float(wrong[known].mean()),
        int(known.any(axis=1).sum()),
        int(known.any(axis=0).sum()),
        constant,
    )


def two_way_error(cells: NDArray[np.float64]) -> float:
    """Standard error of the mean of cells (rows, columns), nan where there is none.

    Cells of a row vary together, and so do those of a column: a model is sure of all samples, and what a
    law errs in, it errs in for all models. Cameron, Gelbach & Miller (2011), J. Bus. Econ. Stat. 29. Nan
    for fewer than two rows or columns.
    """
    import numpy as np

    known = ~np.isnan(cells)
    rows, columns = int(known.any(axis=1).sum()), int(known.any(axis=0).sum())
    if min(rows, columns) < 2:
        return math.nan
    apart = np.where(known, cells - cells[known].mean(), 0.0)
    by_row = float((apart.sum(axis=1) ** 2).sum()) * rows / (rows - 1)
    by_column = float((apart.sum(axis=0) ** 2).sum()) * columns / (columns - 1)
    both = by_row + by_column - float((apart**2).sum())
    return math.sqrt(max(both, by_row, by_column)) / int(known.sum())


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


def unless_lost(finding: Finding, left: int, of: int) -> Finding:
    """A finding on those models that are left of a bank's, if these are enough of them."""
    if of - left <= MOST_LOST * of or finding.word == NOT_MEASURABLE:
        return finding
    why = f"{finding.why}; only {left} of {of} models did not diverge, nor their other halves"
    return Finding(UNDECIDED, why, finding.p)


def u_lira_finding(judged: Judged, margin: float) -> Finding:
    """By Student's t of as many degrees of freedom as there are pairs, less one. margin: in points."""
    if judged.constant:
        why = (
            "the models say the same whether they forgot or never saw, so there are no laws to tell"
        )
        return Finding(NOT_MEASURABLE, why)
    k = judged.pairs
    if 2 * k < FEWEST or not math.isfinite(judged.error):
        why = f"{2 * k} models of a bank could be asked; {FEWEST} are needed for a finding"
        return Finding(NOT_MEASURABLE, why)
    from scipy import special

    error, apart = 100 * judged.error, abs(100 * judged.accuracy - CHANCE)
    told = f"{apart:.3g} points from 50, margin {margin:g}, standard error {error:.2g}"
    p = 2 * float(special.stdtr(k - 1, -apart / error)) if error else float(apart == 0)
    if p < ALPHA and apart > margin:
        return Finding(OUTSIDE, told, p)
    reach = student_quantile(1 - ALPHA, k - 1) * error
    return settled(told, p, margin, upper=apart + reach, least=reach)
