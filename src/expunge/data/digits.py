"""The handwritten digits that come with scikit-learn: 1,797 grey images of 8 x 8 pixels."""

from __future__ import annotations

import numpy as np
import torch

from expunge.data.samples import ResidentStore, Samples, digest_arrays, row_ids
from expunge.loading import loading

CLASSES = tuple(str(digit) for digit in range(10))


def read_digits() -> Samples:
    """All of them, one after another as scikit-learn has them."""
    with loading():
        from sklearn.datasets import load_digits  # slow to import, needed only here

    bunch = load_digits()
    # pixel values are 0 to 16; 15 * 17 = 255
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = bunch.target.astype(np.int64)
    return Samples(
        ids=row_ids(len(labels)),
        labels=labels,
        store=ResidentStore(torch.from_numpy(images)),
        fingerprint=digest_arrays(images, labels),
        positional=True,
    )
