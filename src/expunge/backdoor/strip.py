"""STRIP: inputs whose prediction stays the same whatever they are mixed with.

Gao et al., "STRIP: A Defence Against Trojan Attacks on Deep Neural Networks", ACSAC 2019, equations 3
and 4: an input x is mixed with N clean images, and its score is the mean entropy of what the model says,

    H = (1 / N) sum_n  - sum_c y_c(x_n) log2 y_c(x_n),      x_n = the mixture of x and clean image n.

A trigger that survives the mixing decides the prediction, so a poisoned input has a low entropy. The
paper calls an input trojaned whose entropy lies below a low quantile of that of clean inputs.

Here each input gets a p value from clean inputs that have no other part in it,

    p = (1 + number of clean inputs of at most that entropy) / (1 + number of clean inputs),

which is right for any clean input, whatever the model. An input stands out at p <= 1 %; the statistic is
the share of the inputs that do, and the word on all of them asks whether more do than 1 % by chance.

Assumes that clean inputs come as the judged ones do, and a trigger that works wherever it is and
survives mixing. **It fails** for triggers that a mixture destroys (faint or blended ones, warps, black
patches on bright images where images are added up), for those that need an image of a certain class, for
models that are sure of everything or of nothing, and where the clean inputs are poisoned too.
Deviations: the mixture is the mean of both images, not their sum cut at white, so that dark triggers
survive as bright ones do; the p values.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from expunge.audits.counts import chance_of_count
from expunge.backdoor.detection import CANNOT_TELL, NOTHING, SUSPECT, Detection
from expunge.backdoor.inspected import Inspected
from expunge.backdoor.thresholds import THRESHOLDS
from expunge.data.batch import Indices
from expunge.data.samples import Samples
from expunge.errors import ConfigError

NAME = "strip"
MIXED_WITH = 16
"""Clean images that each input is mixed with."""
BY_CHANCE, LEAST, MOST_CLEAN = 0.01, 100, 400
"""The p value at which an input stands out; clean inputs without which none can; and at most."""
MOST_INPUTS = 1000
CHANCE = 0.01


def entropies(subject: Inspected, samples: Samples, rows: Indices, with_: Tensor) -> Tensor:
    """Mean entropy in bits of what the model says of each input, mixed with each clean image: (n,)
    float64, from 0 to log2 of the number of classes.

    with_: (k, channels, height, width) from 0 to 1.
    """
    told = []
    each = max(1, 64 // len(with_))
    groups = [rows[first : first + each] for first in range(0, len(rows), each)]
    work = subject.run.progress.work("mixing inputs", len(groups))
    with subject.looking(), torch.no_grad(), work as bar:
        for group in groups:
            mixed = (subject.pictures(samples, group)[:, None] + with_) / 2
            logits = subject.logits(mixed.flatten(0, 1)).double()
            sure = torch.special.entr(logits.softmax(1)).sum(1) / math.log(2)
            told.append(sure.unflatten(0, mixed.shape[:2]).mean(1).cpu())
            bar.advance()
    return torch.cat(told) if told else torch.zeros(0, dtype=torch.float64)


def low_p(judged: Tensor, clean: Tensor) -> Tensor:
    """The p value of each entropy among those of clean inputs: (n,) float64, above 0 up to 1."""
    below = torch.searchsorted(clean.double().sort().values, judged.double(), right=True)
    return (1 + below.double()) / (1 + len(clean))


def many_by_chance(count: int, asked: int, clean: int) -> float:
    """The chance that so many or more of the inputs have p <= 1 % by so many clean inputs, where all are
    clean. That those p values rest on the same clean inputs is in it.
    """
    place = math.floor(BY_CHANCE * (clean + 1) + 1e-9)
    return float(chance_of_count(asked, place, clean)[count:].sum())


def detect_mixed(subject: Inspected) -> Detection:
    """Which inputs keep their prediction when mixed, and whether these are more than chance makes.

    Raises:
        ConfigError: without inputs to judge.
        DataError: for samples that are no images from 0 to 1.
    """
    inputs, clean = subject.inputs, subject.clean
    if inputs is None or not len(inputs):
        raise ConfigError("there are no inputs to judge")
    if len(clean) < LEAST + MIXED_WITH:
        why = (
            f"{len(clean)} clean images are too few to say how low an entropy may be; it takes "
            f"{LEAST + MIXED_WITH}"
        )
        return Detection(NAME, CANNOT_TELL, why)
    some = subject.some(clean, MOST_CLEAN + MIXED_WITH, NAME)
    order = np.random.default_rng(subject.seed).permutation(some)
    with_ = subject.pictures(clean, order[:MIXED_WITH])
    rows = subject.some(inputs, MOST_INPUTS, NAME, "inputs")
    usual = entropies(subject, clean, np.sort(order[MIXED_WITH:]), with_)
    judged = entropies(subject, inputs, rows, with_)
    p = low_p(judged, usual)
    standing = [row for row in p.argsort(stable=True).tolist() if p[row] <= BY_CHANCE]
    share, limit = len(standing) / len(rows), THRESHOLDS[NAME].value
    chance = many_by_chance(len(standing), len(rows), len(usual))
    suspect = share > limit and chance < CHANCE
    why = (
        f"{len(standing):,} of {len(rows):,} inputs keep their prediction when mixed with others, "
        f"{100 * BY_CHANCE:g} % do by chance; threshold {100 * limit:g} %"
    )
    called = subject.seen(inputs, rows[standing]).argmax(1)
    counts = torch.bincount(called, minlength=len(subject.classes))
    most = counts.argsort(descending=True).tolist()
    return Detection(
        NAME,
        SUSPECT if suspect else NOTHING,
        why,
        share,
        limit,
        tuple(c for c in most if suspect and counts[c] > len(standing) / 2),
        {"inputs": tuple(counts.double().tolist())},
        {str(inputs.ids[rows[row]]): float(p[row]) for row in standing},
        {"chance": chance, "entropy": float(judged.median()), "clean": float(usual.median())},
    )
