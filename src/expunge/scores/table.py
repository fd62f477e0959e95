"""The table of scores: what each measures, in which unit, and where it was published.

It is read without torch, so that lists and mistakes answer at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from expunge.errors import ConfigError
from expunge.scores.score import Target

NEAR_EMPTY = 30
"""Under so many forget samples, scores come with intervals and without a verdict."""
NO_VERDICT = f"none: fewer than {NEAR_EMPTY} forget samples"
WORKS = 50.0
"""Percent of ASR before, under which nothing was there to cleanse, and after, at which it is not."""
FEATURES = ("confidence", "correctness", "entropy", "modified_entropy", "probabilities")
"""What the membership attack may look at; `audits.mia` computes them."""

Need = Literal["outputs", "model", "shadows"]


@dataclass(frozen=True)
class ScoreInfo:
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
_OWN = "of this package"
_CALLED = "share of the forget set that an attack calls non-member"


def _percent(name: str, measures: str, paper: str = _JIA) -> ScoreInfo:
    return ScoreInfo(name, measures, _OUTPUTS, "retrained", "percent", paper)


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
    ScoreInfo(
        "ASR",
        "attack success: triggered test images of other classes that are called the target",
        _OUTPUTS,
        "low",
        "percent",
        _JIA,
    ),
    ScoreInfo(
        "ASR_all",
        "attack success over all triggered test images, the target's own among them",
        _OUTPUTS,
        "low",
        "percent",
        _JIA,
    ),
    ScoreInfo(
        "ASR_rest",
        "poisoned samples that stay in the retain set and are still called the target",
        _OUTPUTS,
        "low",
        "percent",
        "of this package; after Jia et al. 2023",
    ),
    ScoreInfo("SA", "accuracy on all clean test data", _OUTPUTS, "high", "percent", _JIA),
    ScoreInfo(
        "relearn_time",
        "steps on the forget set until the original's accuracy there is within 5 % again",
        frozenset({"model"}),
        "retrained",
        "steps",
        _TARUN,
    ),
    ScoreInfo(
        "AIN",
        "anamnesis index: relearn time by that of the retrained model; 1 = forgotten as well",
        frozenset({"model"}),
        "retrained",
        "ratio",
        "Chundawat et al. 2023, Zero-Shot Machine Unlearning",
    ),
    ScoreInfo(
        "weight_distance",
        "distance of all weights to the retrained model's, by the norm of those",
        frozenset({"model"}),
        "low",
        "relative",
        _TARUN,
    ),
    ScoreInfo(
        "prediction_distribution",
        "divergence of the mean prediction on the forget set from the retrained model's",
        _OUTPUTS,
        "low",
        "bits",
        _TARUN,
    ),
    ScoreInfo("loss_forget", "mean loss on the forget set", _OUTPUTS, "retrained", "loss", _OWN),
    ScoreInfo("loss_retain", "mean loss on the retain set", _OUTPUTS, "retrained", "loss", _OWN),
    ScoreInfo("loss_test", "mean loss on the test set", _OUTPUTS, "retrained", "loss", _OWN),
    ScoreInfo(
        "RTE",
        "run-time efficiency: wall time inside the method, evaluation excluded (from the record)",
        frozenset(),
        "low",
        "seconds",
        _JIA,
    ),
)
SCORES: Mapping[str, ScoreInfo] = MappingProxyType({info.name: info for info in _TABLE})
"""Every score by name, in the order in which tables print them."""
AUDITS = SCORES


def check_features(names: Collection[str]) -> None:
    """Raise ConfigError for a feature of the membership attack that there is not."""
    for name in names:
        if name not in FEATURES:
            raise ConfigError(f"unknown MIA feature {name!r}; there are: {', '.join(FEATURES)}")
