"""The table of scores: what each measures, in which unit, how it reads, where it was published.

It is read without torch, so that lists and mistakes answer at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from expunge.errors import ConfigError
from expunge.scores.further import FURTHER
from expunge.scores.info import GOALS, Knows, ScoreInfo
from expunge.scores.rows import FAILED, SAID
from expunge.scores.score import Goal

if TYPE_CHECKING:
    import pandas as pd

NEAR_EMPTY = 30
"""Under so many forget samples, scores come with intervals and without a verdict."""
NO_VERDICT = f"none: fewer than {NEAR_EMPTY} forget samples"
WORKS = 50.0
"""Percent of ASR before, under which nothing was there to cleanse, and after, at which it is not."""
FEATURES = ("confidence", "correctness", "entropy", "modified_entropy", "probabilities")
"""What the membership attack may look at; `audits.mia` computes them."""
MOST_MEMBERS = 10_000
"""That the membership attack learns from by default, and as many others."""

_JIA = "Jia et al. 2023, Model Sparsity Can Simplify Machine Unlearning"
_SONG = "Song & Mittal 2021, Systematic Evaluation of Privacy Risks of Machine Learning Models"
_TARUN = "Tarun et al. 2023, Fast Yet Effective Machine Unlearning"
_CALLED = "share of the forget set that an attack calls non-member"


MARGINS: Mapping[str, float] = MappingProxyType(
    {"UA": 5, "MIA": 5, "TA_forget": 5, "probe": 5, "ASR": 5, "RA": 2, "TA": 2, "SA": 2}
)
"""Of the papers' scores: points from the retrained model's value; never less than one sample."""
_KNOWS: Mapping[str, Knows] = MappingProxyType(
    {"UA": "below", "MIA": "below", "TA_forget": "above", "probe": "above", "ASR": "above"}
)


def _percent(
    name: str, measures: str, reads: str, target: Goal = "retrained", paper: str = _JIA
) -> ScoreInfo:
    """A share of samples, from a model's outputs."""
    return ScoreInfo(
        name,
        measures,
        "percent",
        target,
        paper,
        reads,
        limits=(0, 100),
        margin=MARGINS.get(name),
        knows=_KNOWS.get(name, ""),
    )


def _usual(name: str, measures: str, reads: str, title: str = "") -> ScoreInfo:
    """A score of the papers' table, which prints one decimal."""
    return replace(_percent(name, measures, reads), title=title, decimals=1)


def _attack(feature: str, looks: str, sees: str) -> ScoreInfo:
    """The membership attack by another feature than the confidence."""
    reads = f"Membership inference by an attacker who sees {sees}; see MIA. {GOALS['retrained']}"
    return _percent(f"MIA-{feature}", f"{_CALLED}, by {looks}", reads, paper=_SONG)


_TABLE = (
    _usual(
        "UA",
        "unlearning accuracy: 100 minus the accuracy on the forget set",
        "Unlearning accuracy: the percentage of the forgotten samples that the model now gets "
        "wrong. High is not good in itself: a model that never saw a picture of a cat may still "
        "recognise it. Good is what retrain has.",
        "wrong on forget set",
    ),
    _usual(
        "RA",
        "remaining accuracy: accuracy on the retain set",
        "Remaining accuracy: the percentage right of the training samples that were to be kept. "
        "Good is what retrain has, mostly near 100.",
        "right on retain set",
    ),
    _usual(
        "TA",
        "test accuracy, on the classes that stay",
        "Test accuracy: the percentage right of samples that no model was trained on. Where whole "
        "classes are forgotten, only the other classes count.",
        "right on test set",
    ),
    _usual(
        "TA_forget",
        "test accuracy on the forgotten classes, when whole classes are",
        "Test accuracy on the classes that were to be forgotten. Where retrain has 0, the class "
        "is gone.",
    ),
    _usual(
        "MIA",
        f"membership inference: {_CALLED}, by true-class confidence",
        "Membership inference: an attacker tries to tell which samples the model was trained on. "
        "The percentage of forgotten samples that the attacker takes for never seen. Good is what "
        "retrain has. It depends on the number m of samples that the attacker learned from: only "
        "values of equal m compare.",
        "taken for unseen",
    ),
    _attack(
        "correctness",
        "whether the prediction is right",
        "nothing but whether the prediction is right",
    ),
    _attack("entropy", "the prediction's entropy", "how undecided the prediction is"),
    _attack(
        "modified_entropy",
        "the entropy that knows the label",
        "how undecided the prediction is, and knows the true label",
    ),
    _attack("probabilities", "all probabilities", "all of the prediction's probabilities"),
    replace(
        _percent(
            "ASR",
            "attack success: triggered test images of other classes that are called the target",
            "Attack success rate: of test images of other classes that carry the attacker's "
            "trigger, the percentage called the attacker's class; where each class has its own "
            "(target=next), called that. Low is good.",
            "low",
        ),
        title="trigger works",
    ),
    _percent(
        "ASR_all",
        "attack success over all triggered test images, the target's own among them",
        "The same over all test images with the trigger, the attacker's class among them: with "
        "ten even classes, a clean model has about 10.",
        "low",
    ),
    _percent(
        "ASR_rest",
        "poisoned samples that stay in the retain set and are still called the target",
        "Of the poisoned training samples that were not asked for, the percentage still called "
        "the attacker's class.",
        "low",
        "of this package; after Jia et al. 2023",
    ),
    replace(
        _percent(
            "SA",
            "accuracy on all clean test data",
            "Standard accuracy: the percentage right of clean test samples, of all classes. It "
            "should stay.",
            "high",
        ),
        title="right on clean test data",
    ),
    ScoreInfo(
        "relearn_time",
        "steps on the forget set until the original's accuracy there is within 5 % again",
        "steps",
        "retrained",
        _TARUN,
        "Steps of training on the forgotten samples until the model knows them again as the "
        "original did. Good is what retrain needs: fewer means that traces are left, many more "
        "that they were pushed away. A model that does not know them again within the cap of 500 "
        "steps counts as 500, and ≥ says that it needs no fewer.",
        knows="below",
    ),
    ScoreInfo(
        "AIN",
        "anamnesis index: relearn time by that of the retrained model; 1 = forgotten as well",
        "ratio",
        "retrained",
        "Chundawat et al. 2023, Zero-Shot Machine Unlearning",
        "Anamnesis index: relearn_time divided by retrain's. 1 is good. Where one of the two "
        "did not relearn it is a bound, ≥ or ≤; where neither did, or retrain needs no step, there is "
        "none.",
    ),
    _percent(
        "probe",
        "accuracy on the forgotten samples of a new last layer on what the model sees",
        "Linear probe: a new last layer is learned on what the model sees, and the percentage of "
        "forgotten samples that it gets right, of those it did not learn from. Where whole classes are "
        "forgotten it names classes; else it tells forgotten from never seen samples, and 50 is "
        "chance. A high value is normal, of retrain too, for what tells other classes apart tells "
        "these: good is what retrain has. Silencing a class in the last layer leaves the original's "
        "value as it was, and so is found out.",
        paper="Alain & Bengio 2017, Understanding intermediate layers using linear classifier probes",
    ),
    ScoreInfo(
        "weight_distance",
        "distance of all weights to the retrained model's, by the norm of those",
        "relative",
        "low",
        _TARUN,
        "How far the weights are from retrain's, by the length of those. Where retrain began with "
        "other random weights, this is mostly the distance of the two beginnings (about 1.4) and says "
        "little about forgetting. Studies compare with a paired retraining, which strikes the forgotten "
        "samples out of the original's own batches, where the original is dense. In their row "
        "floor, and in the note of a single model, stands what is there when nothing is forgotten.",
    ),
    ScoreInfo(
        "prediction_distribution",
        "divergence of the mean prediction on the forget set from the retrained model's",
        "bits",
        "low",
        _TARUN,
        "How differently the model and retrain name the forgotten samples, in bits; 0: the same. "
        "Good is what floor has.",
    ),
    *(
        ScoreInfo(
            f"loss_{part}",
            f"mean loss on the {part} set, of a task without classes",
            "loss",
            "retrained",
            "of this package",
            f"Mean loss on the {part} set, where the task has no classes. Good is what retrain has.",
        )
        for part in ("forget", "retain", "test")
    ),
    ScoreInfo(
        "RTE",
        "run-time efficiency: wall time inside the method, evaluation excluded (from the record)",
        "seconds",
        "low",
        _JIA,
        "Run-time efficiency: the seconds that the method took. Measuring is not included. Lower "
        "is better.",
    ),
    ScoreInfo(
        "linear_probe",
        "accuracy on the target task of a new last layer on what the model sees",
        "percent",
        "high",
        _JIA,
        "Transfer: accuracy on the target task when only a new last layer is learned, on what the "
        "model sees. High is good.",
        limits=(0, 100),
        given_by="transfer",
    ),
    ScoreInfo(
        "linear_probe_s",
        "seconds that the linear probe took",
        "seconds",
        "low",
        _JIA,
        "The seconds that this took.",
        given_by="transfer",
    ),
    ScoreInfo(
        "full_finetune",
        "accuracy on the target task after training all weights on it",
        "percent",
        "high",
        _JIA,
        "Transfer: accuracy on the target task when all weights are trained on. High is good.",
        limits=(0, 100),
        given_by="transfer",
    ),
    ScoreInfo(
        "full_finetune_s",
        "seconds that the full fine-tuning took",
        "seconds",
        "low",
        _JIA,
        "The seconds that this took.",
        given_by="transfer",
    ),
    ScoreInfo(
        "mask_overlap",
        "Jaccard index of the masks found with and without the forget set",
        "percent",
        "high",
        _JIA,
        "How far the mask of a sparse original depends on the forgotten samples. It is compared "
        "with the mask found without them, in the original's own batches: of the weights that either "
        "keeps, the percentage that both keep (Jaccard index; 100: the same mask). High is good. At "
        "mask_overlap_floor and above, the mask depends on the forgotten samples no more than on the "
        "order in which all of them come.",
        limits=(0, 100),
        given_by="mask",
    ),
    ScoreInfo(
        "mask_overlap_floor",
        "the same for masks found with all samples, in two orders; nothing is removed",
        "percent",
        "high",
        "of this package; after Jia et al. 2023",
        "What is left of mask_overlap when nothing is removed: the original's mask is compared with one "
        "that is found from the same initial weights and all samples, which come in another order. "
        "mask_overlap is read against this, not against 100.",
        limits=(0, 100),
        given_by="mask",
    ),
    ScoreInfo(
        "mask_s",
        "seconds that finding the mask took, its trainings included",
        "seconds",
        "low",
        _JIA,
        "The seconds that finding the mask took, its trainings included.",
        given_by="mask",
    ),
)
SCORES: Mapping[str, ScoreInfo] = MappingProxyType(
    {info.name: info for info in (*_TABLE, *FURTHER)}
)
"""Every score that this package knows, by name, in the order in which lists show them."""
OF_AUDITS: Mapping[str, ScoreInfo] = MappingProxyType(
    {info.name: info for info in SCORES.values() if info.given_by == "audit"}
)
"""Those of an audit: what every study and every model can have."""
TRANSFERRED = tuple(info.name for info in _TABLE if info.given_by == "transfer")
"""Those of a study with a target task."""
CRITERIA = tuple(info.name for info in _TABLE if info.given_by == "mask")
"""Those of sparse originals in a study that judges their masks."""
AVERAGED = ("UA", "MIA", "RA", "TA")
"""The scores whose gaps make the average gap, in the order in which tables print them."""
AVERAGE_GAP = "average gap"
CHANGES: Mapping[str, str] = MappingProxyType({f"{score} change": score for score in AVERAGED})
"""Scores read against the own original: the score minus the original's of the same setting and seed."""
DERIVED = (AVERAGE_GAP, *CHANGES)
"""Scores that a study computes from others; claims may name them. Points."""
USUAL = (*AVERAGED, "TA_forget", "RTE")
"""What the papers' table shows. Every other score stands in a table of further scores."""


def check_features(names: Collection[str]) -> None:
    """Raise ConfigError for a feature of the membership attack that there is not."""
    for name in names:
        if name not in FEATURES:
            raise ConfigError(f"unknown MIA feature {name!r}; there are: {', '.join(FEATURES)}")


def score_info(name: str, unit: Any = None, target: Any = None) -> ScoreInfo:
    """The table's line of a score, or one made of what a score that is not in the table says itself.

    Without a target it counts as one to be near the retrained model's, as most are; no reader is told
    so.

    Raises:
        ConfigError: for a target that there is not.
    """
    if name in SCORES:
        return SCORES[name]
    if target is not None and target not in GOALS:
        raise ConfigError(
            f"score {name!r} has the target {target!r}; there are: {', '.join(GOALS)}"
        )
    goal: Goal = "retrained" if target is None else target
    measured = f"in {unit}" if unit else ""
    good = "" if target is None else GOALS[goal]
    reads = f"A score of another package{', ' if measured else ''}{measured}. {good}".rstrip()
    return ScoreInfo(
        name,
        measures="; ".join(filter(None, (measured, good.rstrip(".").lower()))),
        unit=str(unit or ""),
        target=goal,
        paper="",
        reads=reads if measured or good else "",
        limits=(0, 100) if unit == "percent" else None,
    )


def own_words(name: str, unit: str | None, target: str | None) -> dict[str, str | None]:
    """What a row must say of its score, by column; nothing of a score that is in the table."""
    return {} if name in SCORES else dict(zip(SAID, (unit, target), strict=True))


def score_infos(frame: pd.DataFrame) -> dict[str, ScoreInfo]:
    """Of every score in a frame, in the order of its rows; see `score_info`.

    frame: the column score, and perhaps unit and target, which need not be filled where the score is
    in the table.
    """
    said = frame.reindex(columns=["score", *SAID]).astype(object)
    said = said.groupby("score", sort=False).first()
    said = said.where(said.notna(), None)
    return {
        str(name): score_info(str(name), *(row[column] for column in SAID))
        for name, row in said.to_dict("index").items()
        if name != FAILED
    }
