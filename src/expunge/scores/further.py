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
        "The percentage right of forgotten samples that were moved by a pixel or have a little noise. "
        "Of a forgotten class retrain has about 0. It cannot tell who learned from a single sample. "
        f"{GOALS['retrained']}",
        limits=(0, 100),
        margin=5,
    ),
    ScoreInfo(
        "activation_distance",
        "distance of the predictions on the forget set to the retrained models'",
        "distance",
        "retrained",
        "Golatkar et al. 2020, Eternal Sunshine of the Spotless Net",
        "How far the predicted probabilities of a forgotten sample are from retrain's, from 0 to 1.41, "
        "as a mean. Retrained models differ too: good is the floor, what these have among themselves. "
        "It cannot tell where the model differs because it remembers and where by chance.",
        limits=(0, 1.4143),
        margin=0.05,
    ),
    ScoreInfo(
        "zrf",
        "likeness of the predictions on the forget set to untrained networks'; 1 = the same",
        "likeness",
        "retrained",
        "Chundawat et al. 2023, Can Bad Teaching Induce Forgetting?",
        "Zero retrain forgetting: how like an untrained network the model answers on the forgotten "
        "samples; 1 is just so. High is not good in itself, for retrain learned from others. It cannot "
        f"tell forgetting from noise on the answers. {GOALS['retrained']}",
        limits=(0, 1),
        margin=0.05,
    ),
    ScoreInfo(
        "cka",
        "likeness of the features of all layers on the forget set to the retrained models'; at most 1",
        "likeness",
        "retrained",
        "Kornblith et al. 2019, Similarity of Neural Network Representations Revisited",
        "Centred kernel alignment: how like retrain's the features of the forgotten samples are, layer "
        "by layer, but for a rotation and a scale; 1 is the same. Retrained models are not quite alike "
        "either: good is what they have among themselves. It is a diagnosis: it is easily forged, and "
        "nothing is concluded from it.",
        limits=(-1, 1),
    ),
)
"""In the order in which lists show them."""
