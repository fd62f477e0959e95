"""Membership by quantile regression: is the model surer of a sample than of nearly all that are like it?

Bertran et al. (2023), "Scalable Membership Inference Attacks via Quantile Regression". No shadow models
are needed. What the regression looks at is the samples themselves: features of the judged model would
tell it which they are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from expunge.audits.base import Audit, Need, without_verdict
from expunge.audits.counts import chance_of_count, clopper_pearson, threshold
from expunge.audits.never_seen import of_never_seen
from expunge.audits.references import beside_chance
from expunge.loading import loading
from expunge.names.seeds import numpy_generator, seed_for
from expunge.scores.finding import ALPHA, NOT_MEASURABLE, OUTSIDE, Finding, settled
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.statistics import student_quantile
from expunge.scores.table import SCORES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from expunge.audits.outputs import PartOutputs
    from expunge.audits.panel import Panel
    from expunge.data.samples import Samples

FEATURES = 64
"""Of a sample, beside its label; wider inputs are brought to so many, see `features.narrowed`."""
MOST = 20_000
"""Never seen samples that are drawn at most, half to learn from."""
FEWEST = 30
"""Never seen samples of each half."""
AT_ONCE = 256


class QuantileMia(Audit):
    """Quantile membership: the share of the forget set above the quantile of never seen samples like it.

    On one half of the never seen samples of the forget set's classes, boosted trees learn the 1 - alpha
    quantile of the margin z_y - max z_c by inputs and label. The other half then shifts it so that a
    share alpha of them lies above, and so it does of the forget set of a retrained model where this is a
    random draw; of other requests what retrained models have is the target.
    """

    name: ClassVar[str] = "quantile_mia"
    info: ClassVar[tuple[ScoreInfo, ...]] = (SCORES["quantile_mia"],)
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs"})

    alpha: float = Field(
        default=0.1,
        gt=0,
        lt=0.5,
        description="share above the quantile where nothing is known; the paper looks at smaller ones, "
        "which take more samples",
    )
    trees: int = Field(default=50, ge=1, description="of the regression")

    def scores(self, panel: Panel) -> Iterator[Score]:
        """One score; without enough never seen samples, or inputs that are numbers, it has no value."""
        import numpy as np

        if not panel.split.forget:
            return
        forget, outputs = panel.forget(), panel.outputs
        detail: dict[str, Any] = {"alpha": 100 * self.alpha, "seed": panel.seed}
        margins = of_never_seen(outputs, logit_margins, alike=True)
        ids = of_never_seen(outputs, lambda part: np.array(part.ids), alike=True)
        labels = of_never_seen(outputs, lambda part: part.labels.numpy(), alike=True)
        order = numpy_generator("quantile mia", panel.seed).permutation(np.argsort(ids))[:MOST]
        learn, calibrate = order[: len(order) // 2], order[len(order) // 2 :]
        detail |= {"learned from": len(learn), "calibrated on": len(calibrate)}
        data = panel.subject.data
        ours = theirs = None
        if len(learn) >= FEWEST:
            ours = raw_inputs(data.train, forget.ids)
            theirs = raw_inputs(data.test, ids[order].tolist())
        if ours is None or theirs is None:
            why = (
                f"{len(ids)} never seen samples of the forget set's classes; {2 * FEWEST} are needed"
                if len(learn) < FEWEST
                else "the inputs are no plain numbers"
            )
            yield Score(
                *("quantile_mia", math.nan, 0, None, None, "percent", "retrained", detail),
                finding=Finding(NOT_MEASURABLE, why),
            )
            return
        ours = np.column_stack([ours, forget.labels.numpy()])
        theirs = np.column_stack([theirs, labels[order]])
        with panel.run.progress.work("fitting a quantile"):
            fitted = self._quantile(theirs[: len(learn)], margins[learn], panel.seed)
        beyond = margins[calibrate] - fitted(theirs[len(learn) :])
        yield without_verdict(
            self._score(panel, logit_margins(forget) - fitted(ours), beyond, detail)
        )

    def _quantile(self, x: NDArray[np.float64], y: NDArray[np.float64], seed: int) -> Any:
        """The 1 - alpha quantile of y given x (n, features), as a function of x."""
        with loading():
            from sklearn.ensemble import HistGradientBoostingRegressor

        trees = HistGradientBoostingRegressor(
            loss="quantile",
            quantile=1 - self.alpha,
            max_iter=self.trees,
            early_stopping=False,
            random_state=seed_for("quantile mia", "trees", seed) % 2**32,
        )
        return trees.fit(x, y).predict

    def _score(
        self,
        panel: Panel,
        ours: NDArray[np.float64],
        null: NDArray[np.float64],
        detail: dict[str, Any],
    ) -> Score:
        """ours, null: how far margins lie above the quantile, of the forget set and to calibrate by."""
        limit, place = threshold(null, self.alpha)
        above, n = int((ours > limit).sum()), len(ours)
        low, high = clopper_pearson(above, n)
        margin = panel.margins.judging(self.info[0]) or 0.0
        return Score(
            name="quantile_mia",
            value=100 * above / n,
            n=n,
            low=100 * low,
            high=100 * high,
            unit="percent",
            target="retrained",
            detail=detail,
            per_sample=dict(zip(panel.forget().ids, (ours - limit).tolist(), strict=True)),
            finding=beside_chance(panel, share_finding(above, n, place, len(null), margin)),
        )


def share_finding(above: int, n: int, place: int, m: int, margin: float) -> Finding:
    """Of n samples so many lie above the place-th largest of m never seen ones. margin: in points."""
    law = chance_of_count(n, place, m)
    p = min(1.0, 2 * float(min(law[: above + 1].sum(), law[above:].sum())))
    share = place / (m + 1)
    error = 100 * math.sqrt(share * (1 - share) * (1 / n + 1 / m))
    apart = 100 * abs(above / n - share)
    told = f"{apart:.3g} points from chance, margin {margin:g}, standard error {error:.2g}"
    if p < ALPHA and apart > margin:
        return Finding(OUTSIDE, told, p)
    reach = student_quantile(1 - ALPHA, math.inf) * error
    return settled(told, p, margin, upper=apart + reach, least=reach)


def logit_margins(part: PartOutputs) -> NDArray[np.float64]:
    """z_y - max_{c != y} z_c of each sample of a part: (n,), within 1e6 of 0 where a class is closed."""
    import numpy as np
    import torch

    found = []
    for logits, own in part.pieces():
        z = logits.double()
        mine = z.gather(1, own[:, None])[:, 0]
        others = z.scatter(1, own[:, None], -torch.inf).max(dim=1).values
        found.append(torch.nan_to_num(mine - others, nan=0.0).clamp(-1e6, 1e6).numpy())
    return np.concatenate(found) if found else np.empty(0)


def raw_inputs(samples: Samples, ids: Sequence[str]) -> NDArray[np.float64] | None:
    """Raw inputs of samples in the order of ids, (n, FEATURES or fewer); None of what is no tensor."""
    import numpy as np
    import torch

    from expunge.audits.features import narrowed

    rows = samples.rows_of(ids)
    batches = [rows[start : start + AT_ONCE] for start in range(0, len(rows), AT_ONCE)]
    found = []
    for raw in samples.store.stream(batches, torch.device("cpu")):
        if not isinstance(raw, torch.Tensor):
            return None
        found.append(narrowed(raw.flatten(1).float(), FEATURES).double().numpy())
    return np.concatenate(found)
