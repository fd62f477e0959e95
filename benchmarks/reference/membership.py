"""The membership attack: for each of five features libsvm learns members from others and judges."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.svm import SVC
from torch import Tensor

from expunge import Data
from expunge.audits.mia import attacks
from expunge.audits.outputs import Outputs, PartOutputs
from expunge.scores.table import FEATURES
from reference.case import BATCH, Case, Work

MEMBERS = 1500
CLASSES = 10
Answers = tuple[Tensor, Tensor]
"""Logits (n, classes) and labels (n,)."""


def answers(margin: float, seed: int) -> Answers:
    """What a model might say: the label's logit is higher by up to `margin`."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (MEMBERS,), generator=generator)
    logits = 2 * torch.randn(MEMBERS, CLASSES, generator=generator)
    higher = margin * torch.rand(MEMBERS, generator=generator)
    return logits.scatter_add(1, labels[:, None], higher[:, None]), labels


def features(part: Answers) -> list[Tensor]:
    """Rightness, confidence, entropy, modified entropy and all probabilities, of batches of logits."""
    logits, labels = part
    p = torch.cat([batch.softmax(1) for batch in logits.split(BATCH)])
    logs, others = p.clamp_min(1e-30).log(), (1 - p).clamp_min(1e-30).log()
    own = labels[:, None]
    mass, scale = (
        p.scatter(1, own, 1 - p.gather(1, own)),
        others.scatter(1, own, logs.gather(1, own)),
    )
    return [
        (p.argmax(1) == labels).int(),
        p.gather(1, own),
        -(p * logs).sum(1),
        -(mass * scale).sum(1),
        p,
    ]


def judged(members: Answers, others: Answers, forgotten: Answers) -> list[float]:
    """By feature: the share of what was forgotten that the attack calls no member."""
    signs = np.repeat([1, 0], MEMBERS)
    found = []
    for three in zip(features(members), features(others), features(forgotten), strict=True):
        known, unknown, asked = (one.reshape(MEMBERS, -1).numpy() for one in three)
        attack = SVC(C=3, gamma="auto", kernel="rbf").fit(np.concatenate([known, unknown]), signs)
        found.append(1 - attack.predict(asked).mean())
    return found


def five_features(_: Data) -> tuple[Work, Work]:
    """From logits to five shares."""
    parts = [answers(margin, seed) for seed, margin in enumerate((14.0, 8.0, 12.0))]
    ids = tuple(str(number) for number in range(MEMBERS))

    def ours() -> object:
        retain, test, forget = (PartOutputs(*part, ids) for part in parts)
        return list(attacks(Outputs(forget, retain, test), tuple(FEATURES)))

    return lambda: judged(*parts), ours


CASES = (Case(f"MIA, five features, m = {MEMBERS:,}", 4.0, five_features),)
