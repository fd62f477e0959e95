"""Scores that say whether a model forgot, each read against a retrained model's.

`AUDITS` lists them; `score_outputs` computes those that need nothing but outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from expunge.audits.accuracy import (
    accuracy_on_forgotten_classes,
    accuracy_on_test,
    remaining_accuracy,
    unlearning_accuracy,
)
from expunge.audits.backdoor import backdoor_scores
from expunge.audits.gaps import (
    AverageGap,
    ExcessGap,
    Gap,
    average_gap,
    excess_gap,
    gap,
)
from expunge.audits.mia import FEATURES, mia_efficacy
from expunge.audits.near_empty import (
    NEAR_EMPTY,
    NO_VERDICT,
    SampleLoss,
    check_same_samples,
    near_empty_report,
)
from expunge.audits.outputs import Outputs, PartOutputs
from expunge.audits.score import Score, Target
from expunge.audits.statistics import mean_sd, paired_interval, student_interval, wilson
from expunge.errors import ConfigError

__all__ = [
    "AUDITS",
    "EXTRA",
    "FEATURES",
    "NEAR_EMPTY",
    "AuditInfo",
    "AverageGap",
    "ExcessGap",
    "Gap",
    "Outputs",
    "PartOutputs",
    "SampleLoss",
    "Score",
    "average_gap",
    "excess_gap",
    "gap",
    "mean_sd",
    "mia_efficacy",
    "near_empty_report",
    "paired_interval",
    "score_outputs",
    "student_interval",
    "wilson",
]

Need = Literal["outputs", "model", "shadows"]


@dataclass(frozen=True)
class AuditInfo:
    """One line of the table of audits.

    `needs` is empty where the value is not computed but taken from the record of the run.
    """

    name: str
    measures: str
    needs: frozenset[Need]
    target: Target
    unit: str
    paper: str


_OUTPUTS: frozenset[Need] = frozenset({"outputs"})
_JIA = "Jia et al. 2023, Model Sparsity Can Simplify Machine Unlearning"
_SONG = "Song & Mittal 2021, Systematic Evaluation of Privacy Risks of Machine Learning Models"
_TARUN = "Tarun et al. 2023, Fast Yet Effective Machine Unlearning"
_CALLED = "share of the forget set that an attack calls non-member"


def _percent(name: str, measures: str, paper: str = _JIA) -> AuditInfo:
    return AuditInfo(name, measures, _OUTPUTS, "retrained", "percent", paper)


_TABLE = (
    _percent("UA", "unlearning accuracy: 100 minus the accuracy on the forget set"),
    _percent("RA", "remaining accuracy: accuracy on the retain set"),
    _percent("TA", "test accuracy, on the classes that stay"),
    _percent("TA_forget", "test accuracy on the forgotten classes, when whole classes are"),
    _percent("MIA", f"membership inference: {_CALLED}, by true-class confidence"),
    _percent("MIA-correctness", f"{_CALLED}, by whether the prediction is right", _SONG),
    _percent("MIA-entropy", f"{_CALLED}, by the prediction's entropy", _SONG),
    _percent("MIA-modified_entropy", f"{_CALLED}, by the entropy that knows the label", _SONG),
    _percent("MIA-probabilities", f"{_CALLED}, by all probabilities", _SONG),
    AuditInfo(
        "ASR",
        "attack success: triggered test images of other classes that are called the target",
        _OUTPUTS,
        "low",
        "percent",
        _JIA,
    ),
    AuditInfo(
        "ASR_all",
        "attack success over all triggered test images, the target's own among them",
        _OUTPUTS,
        "low",
        "percent",
        _JIA,
    ),
    AuditInfo(
        "ASR_rest",
        "poisoned samples that stay in the retain set and are still called the target",
        _OUTPUTS,
        "low",
        "percent",
        "of this package; after Jia et al. 2023",
    ),
    AuditInfo("SA", "accuracy on all clean test data", _OUTPUTS, "high", "percent", _JIA),
    AuditInfo(
        "relearn_time",
        "steps on the forget set until the original's accuracy there is within 5 % again",
        frozenset({"model"}),
        "retrained",
        "steps",
        _TARUN,
    ),
    AuditInfo(
        "AIN",
        "anamnesis index: relearn time by that of the retrained model; 1 = forgotten as well",
        frozenset({"model"}),
        "retrained",
        "ratio",
        "Chundawat et al. 2023, Zero-Shot Machine Unlearning",
    ),
    AuditInfo(
        "weight_distance",
        "distance of all weights to the retrained model's, by the norm of those",
        frozenset({"model"}),
        "low",
        "relative",
        _TARUN,
    ),
    AuditInfo(
        "prediction_distribution",
        "divergence of the mean prediction on the forget set from the retrained model's",
        _OUTPUTS,
        "low",
        "bits",
        _TARUN,
    ),
    AuditInfo(
        "RTE",
        "run-time efficiency: wall time inside the method, evaluation excluded (from the record)",
        frozenset(),
        "low",
        "seconds",
        _JIA,
    ),
)
AUDITS: Mapping[str, AuditInfo] = MappingProxyType({info.name: info for info in _TABLE})
"""Every score by name, in the order in which tables print them."""
EXTRA = ("relearn_time", "weight_distance", "prediction_distribution")
"""Scores that are computed when asked for; AIN comes with `relearn_time` and a retrained model."""


def score_outputs(
    outputs: Outputs,
    reference: Outputs | None = None,
    *,
    seed: int = 0,
    features: Sequence[str] = ("confidence",),
) -> list[Score]:
    """UA, RA, TA, TA_forget (when whole classes are forgotten), one MIA per feature; of data with
    poison also ASR, ASR_all, ASR_rest and SA.

    A score whose parts are absent is left out, so a model before any forgetting has RA and TA
    only. With fewer than 30 forget samples, scores on them carry `detail["verdict"]`, which says
    that there is none.

    Args:
        outputs: of the model to be judged.
        reference: of the model retrained on the same split; fills each score's `reference`.
        seed: of the draw of the membership attack, for both models.
        features: names in `FEATURES`; may be empty.

    Raises:
        ConfigError: for an unknown feature.
        SplitError: if the reference was observed on other samples.
    """
    names = (features,) if isinstance(features, str) else tuple(dict.fromkeys(features))
    for feature in names:
        if feature not in FEATURES:
            raise ConfigError(f"unknown MIA feature {feature!r}; there are: {', '.join(FEATURES)}")
    if reference is None:
        return list(_scores(outputs, seed, names))
    for part in ("forget", "retain", "test_kept", "test_forgotten", "triggered", "rest"):
        check_same_samples(part, getattr(outputs, part), getattr(reference, part))
    beside = {score.name: score.value for score in _scores(reference, seed, names)}
    return [
        replace(score, reference=beside.get(score.name)) for score in _scores(outputs, seed, names)
    ]


def _scores(outputs: Outputs, seed: int, features: Sequence[str]) -> Iterator[Score]:
    forget, retain, test = (
        part if part is not None and part.n else None
        for part in (outputs.forget, outputs.retain, outputs.test_kept)
    )
    if forget:
        yield _without_verdict(unlearning_accuracy(forget))
    if retain:
        yield remaining_accuracy(retain)
    if test:
        yield accuracy_on_test(test)
    if outputs.test_forgotten is not None and outputs.test_forgotten.n:
        yield accuracy_on_forgotten_classes(outputs.test_forgotten)
    if forget and retain and test:
        for feature in features:
            yield _without_verdict(mia_efficacy(outputs, feature, seed))
    yield from backdoor_scores(outputs)


def _without_verdict(score: Score) -> Score:
    """The score, marked when the forget set behind it is nearly empty."""
    if score.n >= NEAR_EMPTY:
        return score
    return replace(score, detail={**score.detail, "verdict": NO_VERDICT})
