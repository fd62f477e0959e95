"""Scores of the audits that go behind the papers' table: what each measures and how it reads."""

from __future__ import annotations

from expunge.scores.info import GOALS, ScoreInfo

FURTHER: tuple[ScoreInfo, ...] = (
    ScoreInfo(
        "rmia",
        "membership by likelihood ratios against never seen samples; AUC, 50 is chance",
        "percent",
        "retrained",
        "Zarifzadeh et al. 2024, Low-Cost High-Power Membership Inference Attacks",
        "Robust membership inference: how well an attacker, who has trained such models on halves of "
        "the data, tells the forgotten samples from never seen ones. 50 is chance. "
        f"{GOALS['retrained']}",
        limits=(0, 100),
        margin=5,
    ),
    ScoreInfo(
        "near_copies",
        "membership by copies of samples, moved or with noise; AUC, 50 is chance",
        "percent",
        "retrained",
        "of this package",
        "Forgotten samples, moved by a pixel or with a little noise, beside never seen samples changed "
        "alike: how well the model's sureness tells one from the other. 50 is chance. It sees behind a "
        "filter that knows the forgotten samples alone; where a model knows never seen samples as well "
        f"as those it learned from, it cannot tell. {GOALS['retrained']}",
        limits=(0, 100),
        margin=5,
    ),
    ScoreInfo(
        "near_copies_accuracy",
        "accuracy on copies of the forget set, moved or with noise",
        "percent",
        "retrained",
        "of this package",
        "The percentage right of forgotten samples that were moved by a pixel or have a little noise. Of "
        "a forgotten class retrain has about 0. It cannot tell who learned from a single sample. "
        f"{GOALS['retrained']}",
        limits=(0, 100),
        margin=5,
    ),
)
"""In the order in which lists show them."""
