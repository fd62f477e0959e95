"""Membership inference: does the model still treat the forgotten samples as members?

The attack and its score are those of Jia et al. (2023), "Model Sparsity Can Simplify Machine
Unlearning" ("MIA-Efficacy"): a support vector machine learns to tell retain samples
from test samples by what the unlearned model says about them, then judges the forget set. The
features are those compared by Song & Mittal (2021), "Systematic Evaluation of Privacy Risks of
Machine Learning Models".

Modified entropy is Song & Mittal's formula. A much-copied implementation has log p where the
formula has log(1 - p) and writes one column for every row, so that its feature does not depend on
the label; scores by that feature are not comparable with ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from expunge.audits.base import Audit, Need, without_verdict
from expunge.errors import ConfigError
from expunge.loading import loading
from expunge.names.seeds import numpy_generator
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.statistics import wilson
from expunge.scores.table import FEATURES, MOST_MEMBERS, SCORES, check_features

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from expunge.audits.outputs import Outputs, PartOutputs
    from expunge.audits.panel import Panel

C = 3
"""The price of an error (Jia et al.)."""
NO_REASON = 1e-6
"""A decision nearer to 0 gives no reason to call a sample a non-member."""
SMALLEST_PROBABILITY = 1e-30
"""Logarithms are taken of no less than this (Song & Mittal's code), so p = 0 and p = 1 are safe."""


class Membership(Audit):
    """MIA: the share of the forget set that an attack on this model calls non-member, by feature.

    A sample that the attack has no reason to call either (a decision of 0) counts as a member.
    """

    name: ClassVar[str] = "membership"
    info: ClassVar[tuple[ScoreInfo, ...]] = tuple(
        SCORES["MIA" if feature == "confidence" else f"MIA-{feature}"] for feature in FEATURES
    )
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs"})
    usual: ClassVar[bool] = True

    features: tuple[str, ...] = Field(
        default=("confidence",), description="what the attack looks at; confidence is the papers'"
    )

    max_samples: int | None = Field(
        default=MOST_MEMBERS,
        ge=1,
        description="members to learn from, at most, and as many others; null: all there are",
    )

    @field_validator("features", mode="before")
    @classmethod
    def _known(cls, value: Any) -> tuple[str, ...]:
        names = (value,) if isinstance(value, str) else tuple(dict.fromkeys(value))
        check_features(names)
        return names

    def scores(self, panel: Panel) -> Iterator[Score]:
        """One for each feature, where there are samples to forget, to retain and to test on."""
        outputs = panel.outputs
        parts = (outputs.forget, outputs.retain, outputs.test_kept)
        if all(part is not None and part.n for part in parts):
            for score in attacks(outputs, self.features, panel.seed, max_samples=self.max_samples):
                yield without_verdict(score)


def confidence(probabilities: Tensor, labels: Tensor) -> Tensor:
    """p_y, the probability given to the label: (n, classes), (n,) -> (n,), in [0, 1]."""
    return probabilities.gather(1, labels[:, None])[:, 0]


def correctness(probabilities: Tensor, labels: Tensor) -> Tensor:
    """1 where the most probable class is the label, else 0: (n, classes), (n,) -> (n,)."""
    return (probabilities.argmax(dim=1) == labels).to(probabilities.dtype)


def entropy(probabilities: Tensor, labels: Tensor) -> Tensor:
    """-sum_c p_c log p_c in nats: (n, classes), (n,) -> (n,), in [0, log classes].

    The label plays no part; it is taken so that all features are called alike.
    """
    return -(probabilities * _safe_log(probabilities)).sum(dim=1)


def modified_entropy(probabilities: Tensor, labels: Tensor) -> Tensor:
    """-(1 - p_y) log p_y - sum_{c != y} p_c log(1 - p_c) in nats, 0 for a sure and right answer.

    (n, classes), (n,) -> (n,). Song & Mittal (2021). A sure and wrong answer has the
    largest value, about 2 * 69 with logarithms cut at `SMALLEST`.
    """
    others = -probabilities * _safe_log(1 - probabilities)
    of_label = -(1 - probabilities) * _safe_log(probabilities)
    import torch

    is_label = torch.zeros_like(probabilities, dtype=torch.bool).scatter(1, labels[:, None], True)
    return torch.where(is_label, of_label, others).sum(dim=1)


def all_probabilities(probabilities: Tensor, labels: Tensor) -> Tensor:
    """The whole row: (n, classes), (n,) -> (n, classes). The label plays no part."""
    return probabilities


ATTACKED: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {
        "confidence": confidence,
        "correctness": correctness,
        "entropy": entropy,
        "modified_entropy": modified_entropy,
        "probabilities": all_probabilities,
    }
)
"""What the attack may look at, by name, as `scores.table.FEATURES` lists them."""


def score_name(feature: str) -> str:
    """The score's name: "MIA" for the papers' feature, confidence, else "MIA-<feature>"."""
    return "MIA" if feature == "confidence" else f"MIA-{feature}"


def mia_efficacy(
    outputs: Outputs,
    feature: str = "confidence",
    seed: int = 0,
    *,
    max_samples: int | None = MOST_MEMBERS,
) -> Score:
    """`MIA`: percent of the forget set that an attack on this model calls non-member; see `attacks`."""
    return next(attacks(outputs, [feature], seed, max_samples=max_samples))


def attacks(
    outputs: Outputs,
    features: Sequence[str],
    seed: int = 0,
    *,
    max_samples: int | None = MOST_MEMBERS,
) -> Iterator[Score]:
    """`MIA` by each feature: percent of the forget set that an attack on this model calls non-member.

    Members are m retain samples, non-members m samples of the test part that TA uses, m the
    smaller of the two sizes; the larger part's m are drawn by `seed` and by ids, so neither the
    order of the rows nor the feature changes the draw. The attack is an RBF-kernel support vector
    machine with C = 3 and gamma = 1 / features ("auto"). 100 = no forgotten sample looks like a
    member; to be read against the retrained model's value, at the same m alone. A sample that the
    attack has no reason to call either, such as one that is alike on both sides, counts as a member.

    Args:
        outputs: of the model under attack; forget, retain and test_kept are read.
        features: names in `FEATURES`.
        seed: of the draw.
        max_samples: an upper bound for m; None = no bound, as in the papers. Where it holds, the
            score's detail says how many there are.

    Raises:
        ConfigError: for an unknown feature, a bound under 1, or an empty part.
    """
    check_features(features)
    if max_samples is not None and max_samples < 1:
        raise ConfigError(f"max_samples must be 1 or more, or None; got {max_samples}")
    forget = _required(outputs.forget, "forget", "there is nothing to judge")
    retain = _required(outputs.retain, "retain", "the attack has no members to learn from")
    test = _required(outputs.test_kept, "test", "the attack has no non-members to learn from")

    return _attacks(forget, retain, test, features, seed, max_samples)


def _attacks(
    forget: PartOutputs,
    retain: PartOutputs,
    test: PartOutputs,
    features: Sequence[str],
    seed: int,
    max_samples: int | None,
) -> Iterator[Score]:
    import numpy as np

    with loading():
        from expunge.audits.svm import fit_rbf  # slow to import, needed only here

    there = min(retain.n, test.n)
    m = min(there, max_samples or there)
    members, others = _draw(retain, m, "retain", seed), _draw(test, m, "test", seed)
    signs = np.repeat([1.0, -1.0], m)
    for feature in features:
        learned = np.concatenate(
            [_feature(retain, feature)[members], _feature(test, feature)[others]]
        )
        decide = fit_rbf(learned, signs, C=C, gamma=1 / learned.shape[1])
        non_members = int((decide(_feature(forget, feature)) < -NO_REASON).sum())
        low, high = wilson(non_members, forget.n)
        yield Score(
            name=score_name(feature),
            value=100 * non_members / forget.n,
            n=forget.n,
            low=100 * low,
            high=100 * high,
            unit="percent",
            target="retrained",
            detail={"feature": feature, "m": m, "seed": seed}
            | ({"of": there} if m < there else {}),
        )


def _required(part: PartOutputs | None, name: str, why: str) -> PartOutputs:
    if part is None or part.n == 0:
        raise ConfigError(f"MIA needs samples in the {name} part, which is empty: {why}")
    return part


def _feature(part: PartOutputs, feature: str) -> npt.NDArray[np.float64]:
    """(n, 1), or (n, classes) for all probabilities."""
    if feature == "confidence":  # which is known already
        values = part.true_class_confidence
    else:
        values = part.each(ATTACKED[feature])
    array: npt.NDArray[np.float64] = values.reshape(part.n, -1).numpy()
    return array


def _draw(part: PartOutputs, m: int, name: str, seed: int) -> npt.NDArray[np.intp]:
    """Rows of m samples, chosen among the ids in sorted order and listed in that order."""
    import numpy as np

    chosen = numpy_generator("mia", name, seed).choice(part.n, size=m, replace=False)
    rows: npt.NDArray[np.intp] = part.by_id[np.sort(chosen)]
    return rows


def _safe_log(values: Tensor) -> Tensor:
    return values.clamp_min(SMALLEST_PROBABILITY).log()
