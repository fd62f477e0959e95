"""A test set holds what was never learned: whether the samples asked for as one are others."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from expunge.data.samples import Samples, resident
from expunge.data.spec import DataSpec
from expunge.errors import DataError, listed, nearest

_DIGEST = re.compile(r"[0-9a-f]{64}(?![0-9a-f])")
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
    counts: Mapping[str, int],
    known: Collection[str],
    *,
    test: str = "the test part",
    train: str = "the training part",
    what: str = "sample",
) -> None:
    """Raise DataError for classes that the test part alone has.

    counts: class -> its test samples. known: classes that may be learned. test, train, what: the
    parts, and what they hold, in words.
    """
    strange = [name for name in counts if name not in known]
    if strange:
        times = {
            name: f"{counts[name]:,} {what}{'' if counts[name] == 1 else 's'}" for name in strange
        }
        told = listed([f"{name} ({count})" for name, count in times.items()])
        raise DataError(
            f"{test} has {told}, which {train} has not{nearest(strange[0], known)}: no model can learn "
            f"it; add {what}s to train on, or take these away"
        )
