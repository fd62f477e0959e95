"""The swap test: the same forgetting of two sets in turn, so that what only samples differ in cancels.

Tu, Hu & Ma (2024), "A Reliable Cryptographic Framework for Empirical Machine Unlearning Evaluation".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.audits.base import Audit, Need, without_verdict
from expunge.names.seeds import numpy_generator
from expunge.scores.finding import ALPHA, NOT_MEASURABLE, OUTSIDE, Finding, settled
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.table import NEAR_EMPTY, SCORES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from expunge.audits.panel import Panel
    from expunge.audits.shadows import Swapped
    from expunge.trained.trained import Trained

FEATURES = ("log odds", "log odds beside retraining", "entropy")


class Swap(Audit):
    """How much better than blind an attacker tells what was forgotten from what was never seen.

    One model learned from R and F and forgot F, another from R and T and forgot T, from the same seeds.
    An attack calls a sample forgotten where a number, such as its log odds, lies above a threshold; its
    advantage on a model is the share of that model's forgotten samples that it calls so, less the share
    of the never seen ones. Half the sum of the two advantages, without its sign, is the attack's; the
    largest of all attacks and thresholds is the value, in percent, and 100 less it the quality. Of
    retraining the two models are one, the advantages cancel, and the value is exactly 0.

    Log odds beside retraining: less what the retrained model gives the sample, so that hard and easy
    samples are on one scale. The test is as strong as these attacks.
    """

    name: ClassVar[str] = "swap"
    info: ClassVar[tuple[ScoreInfo, ...]] = (SCORES["swap"],)
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs", "swapped"})

    draws: int = Field(default=500, ge=99, description="draws for the interval and for p")

    def scores(self, panel: Panel) -> Iterator[Score]:
        """One score, where two such models can be made."""
        if panel.swapped is None or not panel.split.forget:
            return
        models = panel.swapped()
        made = models.made_without_f, models.made_without_t
        exact = models.retrained_without_f, models.retrained_without_t
        ours = _worlds(made, exact, models, panel)
        floor = _worlds(exact, exact, models, panel)
        value, attack = largest(ours)
        generator = numpy_generator("audit", self.name, panel.seed)
        p, reach = chance(ours, self.draws, generator)
        n = len(models.forget_ids)
        score = Score(
            self.name,
            100 * value,
            n,
            100 * max(0.0, value - reach),
            100 * min(1.0, value + reach),
            "percent",
            "low",
            {"attack": attack, "quality": 100 * (1 - value), "p": p, "pairs": n},
            reference=100 * largest(floor)[0],
            finding=found(value, reach, p, n, panel.margins.of(self.name)),
        )
        yield without_verdict(score)


def found(value: float, reach: float, p: float, pairs: int, margin: float | None) -> Finding:
    """value, reach: shares in [0, 1]. margin: points."""
    if margin is None or pairs < NEAR_EMPTY:
        return Finding(NOT_MEASURABLE, f"{pairs} pairs of samples, and it takes {NEAR_EMPTY}")
    told = (
        f"{100 * value:.1f} points better than blind, p = {p:.3g}, interval to "
        f"{100 * (value + reach):.1f}, margin {margin:g}"
    )
    if p <= ALPHA and 100 * value > margin:
        return Finding(OUTSIDE, told, p)
    return settled(told, p, margin, upper=100 * (value + reach), least=100 * reach)


def _worlds(
    made: tuple[Trained, Trained],
    exact: tuple[Trained, Trained],
    models: Swapped,
    panel: Panel,
) -> dict[str, NDArray[np.float64]]:
    """Feature -> (2 models, 2 sets, pairs): F's samples first, then T's, in each of the two models."""
    import numpy as np

    seen = [
        [_seen(one, ids, panel) for ids in (models.forget_ids, models.other_ids)] for one in made
    ]
    base = [
        [_seen(one, ids, panel) for ids in (models.forget_ids, models.other_ids)] for one in exact
    ]
    phi = np.array([[odds for odds, _ in row] for row in seen])
    beside = phi - np.array([[odds for odds, _ in row] for row in base])
    entropy = np.array([[-own for _, own in row] for row in seen])
    return dict(zip(FEATURES, (phi, beside, entropy), strict=True))


def _seen(
    one: Trained, ids: tuple[str, ...], panel: Panel
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log odds and the entropy in nats of each sample, in the order of the ids."""
    import torch

    from expunge.audits.log_odds import part_log_odds
    from expunge.audits.observe import observe_rows

    train = one.data.train
    part = observe_rows(
        one.model, one.data, train, train.rows_of(ids), panel.run, "swapped samples"
    )
    entropy = part.each(lambda p, _: -torch.special.xlogy(p, p).sum(dim=1))
    return part_log_odds(part), entropy.double().numpy()


def largest(worlds: dict[str, NDArray[np.float64]]) -> tuple[float, str]:
    """The largest advantage of any attack, in [0, 1], and the attack."""
    import numpy as np

    each = {name: float(np.abs(_curve(*_ordered(one))).max()) for name, one in worlds.items()}
    attack = max(each, key=lambda name: each[name])
    return each[attack], attack


def _ordered(
    values: NDArray[np.float64],
) -> tuple[NDArray[np.intp], NDArray[np.bool_], NDArray[np.float64]]:
    """Of a feature (2, 2, pairs): the pair of each value in falling order, where a threshold may stand
    behind it, and its weight: + of what its model forgot, - of what it never saw.
    """
    import numpy as np

    pairs = values.shape[2]
    sign = np.array([[1.0, -1.0], [-1.0, 1.0]])[..., None] * np.ones(pairs)
    pair = np.broadcast_to(np.arange(pairs), values.shape)
    order = np.argsort(-values, axis=None, kind="stable")
    falling = values.ravel()[order]
    ends = np.append(falling[1:] != falling[:-1], True)
    return pair.ravel()[order], ends, sign.ravel()[order]


def _curve(
    pair: NDArray[np.intp],
    ends: NDArray[np.bool_],
    weight: NDArray[np.float64],
    times: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Half the sum of both advantages at every threshold; times: how much each pair counts."""
    import numpy as np

    each = weight if times is None else weight * times[pair]
    # whole numbers are summed, so that what cancels leaves exactly nothing
    return np.asarray(np.cumsum(each)[ends] / len(each) * 2, dtype=np.float64)


def chance(
    worlds: dict[str, NDArray[np.float64]], draws: int, generator: np.random.Generator
) -> tuple[float, float]:
    """P of the largest advantage, and how far it may lie off: (p, reach), both in [0, 1].

    If nothing of the forgotten was left, the two samples of a pair could change places in both models:
    p is the rank of the advantage among those where a coin does so. The reach is what the curves of
    pairs drawn with replacement stray from the curve itself, in 95 % of the draws.
    """
    import numpy as np

    made = [_ordered(one) for one in worlds.values()]
    curves = [_curve(*one) for one in made]
    pairs = next(iter(worlds.values())).shape[2]
    value = max(float(np.abs(curve).max()) for curve in curves)
    as_large, strays = 1, []
    for _ in range(draws):
        coins = generator.choice([-1.0, 1.0], size=pairs)
        swapped = max(float(np.abs(_curve(*one, coins)).max()) for one in made)
        as_large += swapped >= value - 1e-12
        counts = np.bincount(generator.integers(0, pairs, pairs), minlength=pairs).astype(float)
        strays.append(
            max(
                float(np.abs(_curve(*one, counts) - curve).max())
                for one, curve in zip(made, curves, strict=True)
            )
        )
    return as_large / (draws + 1), float(np.quantile(strays, 0.95))
