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

Where clean samples of the class are at hand, `whitened_scores` mends the first two: features are
centred and whitened by the clean ones before v is sought, so that what the class does by itself counts
as much in every direction, and what only the training samples do stands out. So do, with robust
estimates in place of clean samples, Hayase, Kong, Somani and Oh, "SPECTRE: Defending Against Backdoor
Attacks Using Robust Statistics", ICML 2021. Ten components are whitened, and no more than one for five
clean samples, for further ones would be those of the few samples.

Whether there is poison at all neither paper asks. `detect_spectral` does, by whitened scores. Half of
the clean samples of a class whiten, and a score is high that is more than four times what 95 % of them
have; the statistic is the share of the training samples with a high score, less that share of the other
half; it is about the share of poison in the class. It is wrong where the clean samples are poisoned in
the same way, or look otherwise than the training samples.
"""

from __future__ import annotations

import torch
from torch import Tensor

from expunge.backdoor.activations import Activations, Excess, judge_excess
from expunge.backdoor.detection import Detection
from expunge.data.classes import rows_by_class
from expunge.errors import DataError

NAME = "spectral"
COMPONENTS, EACH, RIDGE = 10, 5, 0.1
"""That are whitened at most; the clean samples that each takes; and what is added to their variances, as
a share of the mean of these."""
UPPER, HIGH = 0.05, 4.0
"""A score is high that is so many times what all but this share of the clean samples score."""
LEAST = 3
"""Samples of a class, or its scores are 0: one stands out from fewer whatever it is."""


def check_rows(features: Tensor, labels: Tensor | None = None) -> None:
    """Raise DataError for what is no finite matrix, or of another number of rows than labels."""
    if features.ndim != 2 or not bool(features.isfinite().all()):
        raise DataError(
            "spectral signatures take one row of finite numbers per sample, not "
            f"{tuple(features.shape)}{' with nan or inf' if features.ndim == 2 else ''}; see to what "
            "the model makes of its inputs"
        )
    if labels is not None and labels.shape != features.shape[:1]:
        raise DataError(
            f"{len(features):,} rows of features and {tuple(labels.shape)} labels: give one of each per "
            "sample"
        )


def signature(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and top right singular vector of the centred features of a class: (width,) float64 each.

    features: (n, width) of samples of one class; of fewer than 3 the vector is 0. Its sign is chosen so
    that the longer tail, by the third moment, is positive.

    The vector is that of the smaller of the two Gram matrices, in n * width * min(n, width) steps; for
    the largest singular value nothing is lost by that.

    Raises:
        DataError: for features that are no finite matrix.
    """
    check_rows(features)
    wide = features.detach().cpu().double()
    mean = wide.mean(0) if len(wide) else wide.sum(0)
    if len(wide) < LEAST or not wide.shape[1]:
        return mean, torch.zeros_like(mean)
    centred = wide - mean
    if len(wide) < wide.shape[1]:
        along = centred.T @ torch.linalg.eigh(centred @ centred.T)[1][:, -1]
        top = along / along.norm().clamp_min(torch.finfo(along.dtype).tiny)
    else:
        top = torch.linalg.eigh(centred.T @ centred)[1][:, -1]
    return mean, -top if float((centred @ top).pow(3).sum()) < 0 else top


def projections(features: Tensor) -> Tensor:
    """Where each sample of a class lies along its signature: (n,) float64. Squared it is the score."""
    mean, top = signature(features)
    return (features.detach().cpu().double() - mean) @ top


def spectral_scores(features: Tensor, labels: Tensor) -> Tensor:
    """The score of each sample within its class: (n,) float64, from 0; high is suspicious.

    features: (n, width), what goes into the model's last layer. labels: (n,) as the samples are
    labelled, poison and all. Scores of different classes are in units of their own: compare within a
    class. Classes of fewer than 3 samples have 0.

    Raises:
        DataError: for features that are no finite matrix of as many rows as there are labels.
    """
    check_rows(features, labels)
    scores = torch.zeros(len(features), dtype=torch.float64)
    for rows in rows_by_class(labels.cpu().numpy()).values():
        index = torch.from_numpy(rows)
        scores[index] = projections(features[index]).square()
    return scores


def whitened(features: Tensor, clean: Tensor, judged: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whitened scores of the training samples of a class (n,), of clean ones (m,), and of others that
    had no part in it (k,), float64.

    features: (n, width). clean: (m, width), of which a covariance of 10 components is estimated.
    judged: (k, width).
    """
    wide, theirs, apart = (one.detach().cpu().double() for one in (features, clean, judged))
    if len(wide) < LEAST or len(theirs) < EACH or not wide.shape[1]:
        return (
            torch.zeros(len(wide)).double(),
            torch.zeros(len(theirs)).double(),
            torch.zeros(len(apart)).double(),
        )
    spread = (wide - wide.mean(0)).T @ (wide - wide.mean(0))
    main = torch.linalg.eigh(spread)[1][:, -min(COMPONENTS, len(theirs) // EACH) :]
    points, usual, rest = ((one - theirs.mean(0)) @ main for one in (wide, theirs, apart))
    covariance = usual.T @ usual / len(usual)
    ridge = RIDGE * covariance.diagonal().mean().clamp_min(torch.finfo(covariance.dtype).tiny)
    factor = torch.linalg.cholesky(covariance + ridge * torch.eye(len(covariance)).double())
    white, plain, left = (
        torch.linalg.solve_triangular(factor, one.T, upper=False).T for one in (points, usual, rest)
    )
    top = torch.linalg.eigh(white.T @ white)[1][:, -1]
    return (white @ top).square(), (plain @ top).square(), (left @ top).square()


def whitened_scores(
    features: Tensor, labels: Tensor, clean: Tensor, clean_labels: Tensor
) -> Tensor:
    """The score of each training sample within its class: (n,) float64, from 0; high is suspicious.

    features, labels: of the training samples, as `spectral_scores` takes them. clean, clean_labels: of
    clean samples, (m, width) and (m,). In units of what the clean samples of a class vary by, so that
    scores of different classes compare. Classes with fewer than 3, or 5 clean ones, have 0.

    Raises:
        DataError: for features that are no finite matrix of as many rows as there are labels.
    """
    for rows, of in ((features, labels), (clean, clean_labels)):
        check_rows(rows, of)
    scores = torch.zeros(len(features), dtype=torch.float64)
    for target, own in rows_by_class(labels.cpu().numpy()).items():
        index = torch.from_numpy(own)
        usual = clean[clean_labels.cpu() == target]
        scores[index] = whitened(features[index], usual, usual[:0])[0]
    return scores


def detect_spectral(seen: Activations) -> Detection:
    """Whether more of the training samples of a class stand out than of its clean samples."""
    found = {}
    for target, own, clean, ids in seen.each():
        if len(clean) < 2 * EACH * COMPONENTS:
            continue  # what is usual is then known too badly for a word
        scores, usual, apart = whitened(own, clean[::2], clean[1::2])
        high = HIGH * usual.quantile(1 - UPPER)
        share, other = (float((one > high).double().mean()) for one in (scores, apart))
        order = scores.argsort(descending=True)[: int((scores > high).sum())].tolist()
        names = {str(ids[row]): float(scores[row]) for row in order}
        found[target] = Excess(share, other, len(scores), len(apart), names)
    return judge_excess(NAME, found, seen.classes, "stand out")
