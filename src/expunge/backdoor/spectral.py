"""Spectral signatures: samples that stand out along the direction in which a class varies most.

Tran, Li and Madry, "Spectral Signatures in Backdoor Attacks", NeurIPS 2018, algorithm 1: for the
features R(x) of all samples that are *labelled* as a class, with mean R' and top right singular vector v
of the centred features, a sample's score is

    tau(x) = ((R(x) - R') . v)^2

Poisoned samples of a class share what makes the model call it, so they lie on one side of v. The
paper removes the 1.5 * epsilon * n samples of a class with the highest scores, for at most
epsilon * n poisoned ones.

**It fails** where the poison is no small part of its class (the mean lies between both parts, and
scores no longer tell which is which), where it is so little that the class varies more by itself,
where poisoned samples look like those of their class (clean-label attacks), and for all-to-all
attacks, which leave little poison in each class.
"""

from __future__ import annotations

import torch
from torch import Tensor

from expunge.data.classes import rows_by_class
from expunge.errors import DataError

LEAST = 3
"""Samples of a class, or its scores are 0: one stands out from fewer whatever it is."""


def projections(features: Tensor) -> Tensor:
    """Where each sample lies along the top right singular vector of the centred features: (n,) float64.

    features: (n, width) of samples of one class. The sign is chosen so that the longer tail, by the
    third moment, is positive. The square is the paper's score.

    The vector is that of the smaller of the two Gram matrices, in n * width * min(n, width) steps; for
    the largest singular value nothing is lost by that.

    Raises:
        DataError: for features that are no finite matrix.
    """
    if features.ndim != 2 or not bool(features.isfinite().all()):
        raise DataError(
            "spectral signatures take one row of finite numbers per sample, not "
            f"{tuple(features.shape)}{' with nan or inf' if features.ndim == 2 else ''}; see to what "
            "the model makes of its inputs"
        )
    wide = features.detach().cpu().double()
    if len(wide) < LEAST or not wide.shape[1]:
        return torch.zeros(len(wide), dtype=torch.float64)
    centred = wide - wide.mean(0)
    if len(wide) < wide.shape[1]:
        values, vectors = torch.linalg.eigh(centred @ centred.T)
        along = values[-1].clamp_min(0).sqrt() * vectors[:, -1]
    else:
        along = centred @ torch.linalg.eigh(centred.T @ centred)[1][:, -1]
    return -along if float(along.pow(3).sum()) < 0 else along


def spectral_scores(features: Tensor, labels: Tensor) -> Tensor:
    """The score of each sample within its class: (n,) float64, from 0; high is suspicious.

    features: (n, width), what goes into the model's last layer. labels: (n,) as the samples are
    labelled, poison and all. Scores of different classes are in units of their own: compare within a
    class. Classes of fewer than 3 samples have 0.

    Raises:
        DataError: for features that are no finite matrix of as many rows as there are labels.
    """
    if labels.shape != features.shape[:1]:
        raise DataError(
            f"{len(features):,} rows of features and {tuple(labels.shape)} labels: give one of each per "
            "sample"
        )
    scores = torch.zeros(len(features), dtype=torch.float64)
    for rows in rows_by_class(labels.cpu().numpy()).values():
        index = torch.from_numpy(rows)
        scores[index] = projections(features[index]).square()
    return scores
