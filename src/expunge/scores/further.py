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
        "lira",
        "membership by the ratio of a bank's laws of each sample; AUC, 50 is chance",
        "percent",
        "retrained",
        "Carlini et al. 2022, Membership Inference Attacks From First Principles",
        "Likelihood ratio attack: whether what is said of the forgotten samples is more like what "
        "models that learned from them say, or like what others do. 50 is chance. It looks at one "
        f"number of each sample alone: what it does not find may still be there. {GOALS['retrained']}",
        limits=(0, 100),
        margin=5,
    ),
    ScoreInfo(
        "u_lira",
        "forgotten told from never seen among models made to forget alike; accuracy, 50 is chance",
        "percent",
        "retrained",
        "Hayes et al. 2024, Inexact Unlearning Needs More Careful Evaluations to Avoid a False Sense of "
        "Privacy",
        "Whether samples that this method made models forget can be told from samples that these models "
        "never saw, by an attacker who knows the method. 50 is as good as retraining, far from it the "
        "method leaves a trace. It judges the method on models of half the size, not one model alone.",
        limits=(0, 100),
        margin=3.5,  # of accuracy what 5 points of an AUC are, where two normal laws differ a little
    ),
    ScoreInfo(
        "quantile_mia",
        "share of the forget set above the 90 % quantile of margins of like samples never seen",
        "percent",
        "retrained",
        "Bertran et al. 2023, Scalable Membership Inference Attacks via Quantile Regression",
        "How many of the forgotten samples the model is surer of than it is of nine in ten never seen "
        "samples like them. 10 is chance. It needs no other models and finds coarse traces alone. "
        f"{GOALS['retrained']}",
        limits=(0, 100),
        margin=5,
    ),
    ScoreInfo(
        "tpr_1pct",
        "share of the forget set found where 1 % of the never seen are taken for members",
        "percent",
        "retrained",
        "Carlini et al. 2022, Membership Inference Attacks From First Principles",
        "How many forgotten samples an attacker finds who is wrong about one never seen sample in a "
        "hundred. 1 is chance; a few samples that are still known show here and not in a mean.",
        limits=(0, 100),
        margin=2,
    ),
    ScoreInfo(
        "tpr_01pct",
        "share of the forget set found where 0.1 % of the never seen are taken for members",
        "percent",
        "retrained",
        "Carlini et al. 2022, Membership Inference Attacks From First Principles",
        "How many forgotten samples an attacker finds who is wrong about one never seen sample in a "
        "thousand. 0.1 is chance. It takes ten thousand never seen samples to be measured well.",
        limits=(0, 100),
        margin=1,
    ),
)
"""In the order in which lists show them."""
