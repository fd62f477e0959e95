"""Scores that say whether a model forgot, each read against a retrained model's.

`expunge.scores.table` lists them; `score_outputs` computes those that need nothing but outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from expunge.audits.accuracy import (
    accuracy_on_forgotten_classes,
    accuracy_on_test,
    remaining_accuracy,
    unlearning_accuracy,
)
from expunge.audits.backdoor import backdoor_scores
from expunge.audits.mia import mia_efficacy
from expunge.audits.near_empty import check_same_samples
from expunge.audits.outputs import Outputs
from expunge.scores.score import Score
from expunge.scores.table import NEAR_EMPTY, NO_VERDICT, check_features


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
    check_features(names)
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
