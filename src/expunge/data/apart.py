"""A test set holds what was never learned: whether the samples asked for as one are others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from expunge.data.samples import Samples, resident
from expunge.data.spec import DataSpec
from expunge.errors import DataError, listed, nearest

_DIGEST = re.compile(r"[0-9a-f]{32}(?![0-9a-f])")
"""Of files, with which a fingerprint begins; after it comes what was said of them, or chosen."""


def check_test_spec(spec: str) -> None:
    """Raise DataError for poison among what is to be tested on."""
    if DataSpec.parse(spec).poison is not None:
        raise DataError(
            f"{spec} is poisoned, and a test set is clean; leave the poison out, and say it of the data "
            "to train on"
        )


def check_whole_test(spec: str) -> None:
    """Raise DataError for a number of samples of data with a test part of their own."""
    if DataSpec.parse(spec).count is not None:
        raise DataError(
            f"{spec} asks for a number of training samples, and the test part of these data is read, "
            "which is left whole; leave the number out"
        )


def check_apart(train: Samples, tested: Samples, spec: str, *, part: bool) -> None:
    """Raise DataError for test samples that were learned: of the same files, or images each of which is
    an exact copy of one to train on.

    part: they are a test part of their own, which may lie in the same file.
    """
    same = not part and _files(train) == _files(tested)
    if same or _copies(train, tested):
        raise DataError(f"{spec} are the training data; a test set holds what was never learned")


def _files(samples: Samples) -> str:
    """The digest of their files; of what has none, the whole fingerprint."""
    digest = _DIGEST.match(samples.fingerprint)
    return samples.fingerprint if digest is None else digest[0]


def _copies(train: Samples, tested: Samples) -> bool:
    """Whether the test images are all among those to train on."""
    ours, theirs = resident(train), resident(tested)
    if ours is None or theirs is None or ours.ndim != 4 or ours.shape[1:] != theirs.shape[1:]:
        return False
    if ours.dtype != theirs.dtype:
        return False
    known = {hash(one.numpy().tobytes()) for one in ours}
    return all(hash(one.numpy().tobytes()) in known for one in theirs)


def check_test_classes(
    labels: NDArray[np.int64], tested: NDArray[np.int64], names: Iterable[str]
) -> None:
    """Raise DataError for classes that the test part alone has. labels, tested: class indices (n,)."""
    known = [str(name) for name in names]
    there = {known[label] for label in np.unique(labels).tolist()}
    counts = Counter(known[label] for label in tested.tolist())
    strange = [name for name in counts if name not in there]
    if strange:
        told = listed([f"{name} ({counts[name]:,} samples)" for name in strange])
        raise DataError(
            f"the test part has {told}, which the training part has not{nearest(strange[0], there)}: no "
            "model can learn it; add samples to train on, or take these away"
        )
