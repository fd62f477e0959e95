"""Activation clustering: a class whose training samples fall into two kinds, one of which is the poison.

Chen et al., "Detecting Backdoor Attacks on Deep Neural Networks by Activation Clustering", SafeAI 2019
(arXiv:1811.03728): the features of all samples that are labelled as a class are brought to 10
dimensions and cut into two by k-means. Poison makes a cluster of its own, for the model calls it the
class for another reason. Of each class the paper looks at the silhouette

    s = mean over samples of (b - a) / max(a, b),

a and b the mean distances to the other samples of the own and of the other cluster, and at the relative
size of the smaller cluster.

The silhouette alone is a poor judge: classes that are of two kinds by nature have a high one. As clean
samples are at hand here, they are asked, and **that is what the word rests on** (ours, not the
paper's): they fall into the clusters as the training samples do, unless one cluster is poison. The
statistic is the largest difference, over the two clusters, between the share of the training samples
and the share of the clean samples of that class; it is about the share of poison in the class. Samples
of that cluster are ranked by how much nearer they lie to its centre than to the other's.

Assumes that training samples and clean samples of a class come alike. **It fails** where poison is so
little that k-means does not cut it off, where poisoned samples look like those of their class to the
model (clean-label attacks), where the clean samples come from elsewhere and look otherwise, and where
they are poisoned in the same way.
Deviations: principal components, where the paper has independent ones; the clean samples.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from expunge.backdoor.activations import Activations, Excess, judge_excess
from expunge.backdoor.detection import Detection
from expunge.loading import loading
from expunge.names.seeds import seed_for

NAME = "activation_clustering"
COMPONENTS = 10
MOST_PAIRED = 1000
"""Samples of a class that a silhouette is computed on: it takes their distances to each other."""


def reduced(
    features: torch.Tensor, others: torch.Tensor
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Features (n, width) and those of others (m, width) along the first 10 principal components of
    the former: (n, k) and (m, k), float64.
    """
    wide = features.double()
    mean = wide.mean(0)
    directions = torch.linalg.svd(wide - mean, full_matrices=False)[2][:COMPONENTS].T
    along, theirs = ((one.double() - mean) @ directions for one in (wide, others))
    return along.numpy(), theirs.numpy()


def clusters(
    points: NDArray[np.float64], others: NDArray[np.float64], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.int64], float]:
    """How much nearer each point (n, k) lies to the centre of cluster 1 than to that of cluster 0, (n,);
    the cluster, 0 or 1, of each other point; and the silhouette.

    Cluster 1 is the one that more of the points fall into than of the others; the others have no part in
    where the clusters lie.
    """
    with loading():
        from sklearn.cluster import KMeans
        from sklearn.metrics import silhouette_score

    fitted = KMeans(2, n_init=4, random_state=seed % 2**32).fit(points)
    distances = fitted.transform(points)
    nearer, theirs = distances[:, 0] - distances[:, 1], fitted.predict(others).astype(np.int64)
    if (nearer > 0).mean() < theirs.mean():
        nearer, theirs = -nearer, 1 - theirs
    few = np.unique(np.linspace(0, len(points) - 1, min(len(points), MOST_PAIRED)).astype(int))
    own = nearer[few] > 0
    apart = len(np.unique(own)) == 2
    return nearer, theirs, float(silhouette_score(points[few], own)) if apart else 0.0


def detect_clusters(seen: Activations, seed: int = 0) -> Detection:
    """Whether the training samples of a class have a cluster that its clean samples lack."""
    count = len(seen.classes)
    silhouette, size = [math.nan] * count, [math.nan] * count
    found = {}
    for target, own, clean, ids in seen.each():
        nearer, theirs, apart = clusters(*reduced(own, clean), seed_for("clusters", seed, target))
        share, other = float((nearer > 0).mean()), float(theirs.mean())
        silhouette[target], size[target] = apart, min(share, 1 - share)
        order = np.argsort(-nearer, kind="stable")[: int((nearer > 0).sum())]
        names = {str(ids[row]): float(nearer[row]) for row in order}
        found[target] = Excess(share, other, len(nearer), len(theirs), names, chosen_of=2)
    columns = {"silhouette": silhouette, "size": size}
    return judge_excess(NAME, found, seen.classes, "lie in a cluster", columns)
