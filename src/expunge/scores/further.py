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
    ScoreInfo(
        "neighbour_mia",
        "forgotten class told from its neighbour classes by the rest of the answer; AUC, 50 is chance",
        "percent",
        "retrained",
        "Ebrahimpour-Boroojeny et al. 2025, On the Necessity of Output Distribution Reweighting for "
        "Effective Class Unlearning",
        "How well samples of a forgotten class are told from never seen samples of the classes nearest "
        "to it, by the probabilities of the classes that remain. A class that is spread evenly over the "
        "others has 100. It cannot tell single samples, and says nothing of other requests. "
        f"{GOALS['retrained']}",
        limits=(0, 100),
        margin=2,
    ),
    ScoreInfo(
        "relearn_held_out",
        "what comes back of one half of the forget set when the other is tuned on; 0 = retrain",
        "area",
        "retrained",
        "Lynch et al. 2024, Eight Methods to Evaluate Robust Unlearning in LLMs",
        "Copies of the model learn a little of one half of the forgotten samples again, or unrelated "
        "ones, and are asked about the other half: how sure are they of the own class? 0: no surer than "
        "retrain, which is good; 1: as sure as if nothing had been forgotten; below 0: less than "
        "retrain. It cannot tell where the original hardly knows the samples better than retrain.",
        margin=0.1,
    ),
    ScoreInfo(
        "relearn_held_out_accuracy",
        "the same, by the share that is named right",
        "area",
        "retrained",
        "Lynch et al. 2024, Eight Methods to Evaluate Robust Unlearning in LLMs",
        "As relearn_held_out, by right and wrong: 0 is retrain, which is good, and 1 the original. It "
        "swings far between retrained models, so nothing is concluded from it.",
    ),
)
"""In the order in which lists show them."""
