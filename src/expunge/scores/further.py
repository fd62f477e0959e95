"""Scores of the audits that go behind the papers' table: what each measures and how it reads."""

from __future__ import annotations

import math

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
        knows="above",
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
        knows="as the original",
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
        "samples like them. 10 is chance for samples drawn at random; others may be easier or "
        "harder. It needs no other models and finds coarse traces alone. "
        f"{GOALS['retrained']}",
        limits=(0, 100),
        margin=5,
        knows="above",
    ),
    ScoreInfo(
        "tpr_1pct",
        "share of the forget set found where 1 % of the never seen are taken for members",
        "percent",
        "retrained",
        "Carlini et al. 2022, Membership Inference Attacks From First Principles",
        "How many forgotten samples an attacker finds who is wrong about one never seen sample in a "
        "hundred. 1 is chance for samples drawn at random; a few that are still known show here and not "
        "in a mean.",
        limits=(0, 100),
        margin=2,
        knows="above",
    ),
    ScoreInfo(
        "tpr_01pct",
        "share of the forget set found where 0.1 % of the never seen are taken for members",
        "percent",
        "retrained",
        "Carlini et al. 2022, Membership Inference Attacks From First Principles",
        "How many forgotten samples an attacker finds who is wrong about one never seen sample in a "
        "thousand. 0.1 is chance for samples drawn at random. It takes ten thousand never seen samples "
        "to be measured well.",
        limits=(0, 100),
        margin=1,
        knows="above",
    ),
    ScoreInfo(
        "retrain_band",
        "mean distance of the forget set's log odds from retrained models', in their spread",
        "standard deviations",
        "retrained",
        "Expunge; the rank of one among exchangeable models",
        "Among the retrained: how far the model's confidence on the forgotten samples lies from that of "
        "many retrained models, in their own standard deviations, and whether one of them that is left "
        "out lies as far. It takes 19 retrained models, and 20 more for each further score judged "
        f"with it; it tells nothing of what the model knows but does not say. {GOALS['retrained']}",
        limits=(0, math.inf),
        margin=0.25,
    ),
    ScoreInfo(
        "klom",
        "divergence of many models' log odds from retrained ones', 95th percentile; as published",
        "nats",
        "low",
        "Georgiev et al. 2024, Attribute-to-Delete",
        "KLoM as published: how far what many models of the method say of a forgotten sample is from "
        "what as many retrained ones say, for the worst samples. With fewer than 100 models on a side "
        "it measures their number, and models that are all equally sure may score a perfect 0; "
        f"klom_fixed corrects this. {GOALS['low']}",
        limits=(0, math.inf),
    ),
    ScoreInfo(
        "klom_fixed",
        "KLoM that counts every value, less what retrained models have among themselves",
        "nats",
        "low",
        "Georgiev et al. 2024, Attribute-to-Delete; corrected by Expunge",
        "Laws compared: how much farther what many models of the method say of the worst forgotten "
        "samples is from retraining than retrained models are from each other. 0 is as retraining. It "
        "takes 100 models of each, and tells of outputs alone, not of what lies behind them. "
        f"{GOALS['low']}",
        margin=0.5,
    ),
    ScoreInfo(
        "challenge_epsilon",
        "forgetting quality of the NeurIPS 2023 challenge: an epsilon per forgotten sample",
        "share",
        "high",
        "Triantafillou et al. 2024, findings from the first NeurIPS unlearning competition",
        "The challenge's forgetting quality: how hard it is to tell, from what a model says of a "
        "forgotten sample, whether the method or retraining made it. Not 1 but what two groups of "
        "retrained models have is the best there is: about 0.07 with 128 of each. It takes 128 models "
        f"of each, and tells of outputs alone. {GOALS['high']}",
        limits=(0, 1),
        margin=0.02,
    ),
    ScoreInfo(
        "swap",
        "advantage of the best attack on what was forgotten, once two sets have changed places",
        "percent",
        "low",
        "Tu et al. 2024, A Reliable Cryptographic Framework for Empirical Machine Unlearning Evaluation",
        "The swap test: forgotten and never seen samples change places, so that only what the method "
        "left of them can tell an attacker which is which. Of retraining it is exactly 0. It is as "
        f"strong as its attacks: a low value says that these find nothing. {GOALS['low']}",
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
        knows="above",
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
        knows="above",
    ),
    ScoreInfo(
        "near_copies_lira",
        "membership by copies of samples and the laws of a bank's models; AUC",
        "percent",
        "retrained",
        "of this package; Carlini et al. 2022, Membership Inference Attacks From First Principles",
        "The likelihood ratio attack on forgotten samples, moved or with a little noise: whether "
        "the model knows them better than models do that never saw them. Copies are harder than the "
        "samples that the laws are of, so that not 50 but what retrain has is chance. It sees behind a "
        "filter that knows the forgotten samples alone, but not behind one that knows copies too. "
        f"{GOALS['retrained']}",
        limits=(0, 100),
        margin=5,
        knows="as the original",
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
        knows="above",
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
