"""Copies of some samples among others of the same data, found layer by layer.

`exact`: equal content. `perceptual`: pictures of which a hash of 64 bits differs in few. `embeddings`:
samples in which the live model sees nearly the same. What is few, and nearly, random pairs of the same
data say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from expunge.errors import HeadError, LogitsError
from expunge.place import HERE, Place

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from expunge.data.batch import Indices
    from expunge.data.load import Data
    from expunge.data.nearness import ChanceCut
    from expunge.data.samples import Samples
    from expunge.trained.trained import Trained

    Vectors = Callable[[Samples, Indices], Tensor]
    """Unit vectors (len(rows), d) of some rows of samples."""

LAYERS = ("exact", "perceptual", "embeddings")
ONE_IN = 10_000
"""Of so many random pairs one may be proposed by chance, unless somebody says otherwise."""
SAMPLE, AT_ONCE, WIDEST = 4096, 4096, 2048
"""Samples that random pairs are drawn of; that are looked at together; and numbers of a sample that the
model sees, of more a sketch is compared."""
NO_PICTURES = "the data are no pictures"
NO_FEATURES = "the live model has no linear layer that makes logits of what it sees"
TOO_ALIKE = "random pairs are as near as copies would be, or too few, so nothing tells copies apart"


@dataclass(frozen=True)
class FoundCopy:
    """row: of the training data. like: which of the asked samples it is most like. score: bits that
    differ, of `perceptual`; a cosine, of `embeddings`; 1 of `exact`.
    """

    row: int
    like: int
    score: float


@dataclass(frozen=True)
class LayerSearch:
    """What a layer found. compared: pairs. threshold: the most bits that differ, or the cosine above
    which two samples are alike; None of exact copies. pairs: random ones, of which `alarms`, and at most
    one in `one_in`, are within. along: equal samples that are struck with those asked for, and need no
    proposal. why: it was not looked for; empty where it was.
    """

    layer: str
    copies: tuple[FoundCopy, ...] = ()
    compared: int = 0
    threshold: float | None = None
    pairs: int | None = None
    alarms: int = 0
    one_in: int | None = None
    along: int = 0
    why: str = ""

    @property
    def by_chance(self) -> int:
        """How many of the compared pairs chance alone may bring, rounded up."""
        if not self.pairs or not self.one_in:
            return 0
        return -(-self.compared // min(self.one_in, self.pairs))


@dataclass(frozen=True)
class AskedRows:
    """Rows of what is asked for, in the training data and in the test data, in this order; and rows of
    the training data that may be copies of them.
    """

    train: Indices
    test: Indices
    others: Indices

    @property
    def many(self) -> int:
        """How many are asked for."""
        return len(self.train) + len(self.test)

    def without(self, rows: Sequence[int]) -> AskedRows:
        """The same, some rows being no longer among the others."""
        import numpy as np

        return replace(self, others=self.others[~np.isin(self.others, rows)])


def search_layers(
    model: Trained, asked: AskedRows, *, one_in: int = ONE_IN, place: Place = HERE
) -> list[LayerSearch]:
    """What each layer finds; a copy that one has found is not looked for by the next.

    Of equal samples whose ids are row numbers none is told, for they are struck by their content.
    Raises DataError for data that cannot be read.
    """
    data = model.data
    codes = _codes(data, asked, place)
    exact = _equal(codes, asked, len(data.train))
    search = partial(_search, data, one_in=one_in, codes=codes, place=place)
    left = asked.without([one.row for one in exact.copies])
    perceptual = search("perceptual", _hashes(data), left)
    left = left.without([one.row for one in perceptual.copies])
    embeddings = search("embeddings", _seen_by(model, place), left)
    if data.train.positional:
        exact = replace(exact, copies=(), along=len(exact.copies))
    return [exact, perceptual, embeddings]


def _codes(data: Data, asked: AskedRows, place: Place) -> NDArray[np.int64]:
    """A number for the content of each training sample, then of each test sample that is asked for;
    equal where that is.
    """
    import numpy as np

    from expunge.data.contents import hashes_as_read

    with place.progress.work("content of the samples"):
        hashes = hashes_as_read(data.train)
        if len(asked.test):
            hashes = [*hashes, *hashes_as_read(data.test.subset(asked.test))]
    known: dict[str, int] = {}
    return np.array([known.setdefault(one, len(known)) for one in hashes], dtype=np.int64)


def _equal(codes: NDArray[np.int64], asked: AskedRows, trained: int) -> LayerSearch:
    """Rows of equal content, each beside the first asked sample that has it."""
    first: dict[int, int] = {}
    for turn, code in enumerate((*codes[asked.train].tolist(), *codes[trained:].tolist())):
        first.setdefault(code, turn)
    others = zip(asked.others.tolist(), codes[asked.others].tolist(), strict=True)
    copies = tuple(FoundCopy(row, first[code], 1.0) for row, code in others if code in first)
    return LayerSearch("exact", copies, asked.many * len(asked.others))


def _search(
    data: Data,
    layer: str,
    vectors: Vectors | str,
    asked: AskedRows,
    *,
    one_in: int,
    codes: NDArray[np.int64],
    place: Place,
) -> LayerSearch:
    """What a layer finds among others. vectors: why it cannot look, where it is a text."""
    import torch

    from expunge.data.nearness import nearest_above

    if isinstance(vectors, str):
        return LayerSearch(layer, why=vectors)
    pieces = [asked.others[n : n + AT_ONCE] for n in range(0, len(asked.others), AT_ONCE)]
    with place.progress.work(f"copies by {layer}", steps=len(pieces) + 1) as shown:
        try:
            cut = _cut(vectors, data.train, asked.others, codes, one_in)
            if cut is None:
                return LayerSearch(layer, why=TOO_ALIKE)
            parts = ((data.train, asked.train), (data.test, asked.test))
            ours = torch.cat([vectors(part, rows) for part, rows in parts if len(rows)])
        except (HeadError, LogitsError):
            return LayerSearch(layer, why=NO_FEATURES)
        shown.advance()
        copies = []
        for rows in pieces:
            near, like, product = nearest_above(vectors(data.train, rows), ours, cut.above)
            scores = (in_own_unit(layer, one) for one in product.tolist())
            found = zip(rows[near].tolist(), like.tolist(), scores, strict=True)
            copies += [FoundCopy(*one) for one in found]
            shown.advance()
    most = in_own_unit(layer, cut.above)
    return LayerSearch(
        layer,
        tuple(copies),
        asked.many * len(asked.others),
        most - 1 if layer == "perceptual" else most,
        cut.pairs,
        cut.alarms,
        one_in,
    )


def in_own_unit(layer: str, product: float) -> float:
    """An inner product as a layer tells it: bits that differ, or a cosine."""
    from expunge.data.perceptual import bits_apart

    return float(bits_apart(product)) if layer == "perceptual" else product


def _cut(
    vectors: Vectors, samples: Samples, rows: Indices, codes: NDArray[np.int64], one_in: int
) -> ChanceCut | None:
    """What random pairs of some rows say, those of equal content left out."""
    import numpy as np

    from expunge.data.nearness import (
        MOST_PAIRS,
        PAIRS_A_FALSE_ALARM,
        chance_cut,
        pair_products,
        random_pairs,
    )
    from expunge.names.seeds import numpy_generator

    if len(rows) > SAMPLE:
        generator = numpy_generator("copies", samples.fingerprint)
        rows = np.sort(generator.choice(rows, SAMPLE, replace=False))
    wanted = min(MOST_PAIRS, PAIRS_A_FALSE_ALARM * one_in)
    first, second = random_pairs(len(rows), wanted, samples.fingerprint)
    differ = codes[rows[first]] != codes[rows[second]]
    if not differ.any():
        return None
    found = vectors(samples, rows)
    return chance_cut(pair_products(found, first[differ], second[differ]), one_in)


def _hashes(data: Data) -> Vectors | str:
    """Hashes of pictures; why there are none."""
    from expunge.data.perceptual import are_pictures, hashes_of_pictures

    return hashes_of_pictures if are_pictures(data.train) else NO_PICTURES


def _seen_by(model: Trained, place: Place) -> Vectors:
    """What a model sees in samples: what goes into its last linear layer."""
    from expunge.audits.features import features
    from expunge.data.nearness import unit
    from expunge.data.transform import Transform
    from expunge.training.run import Run, accelerator_on

    run = Run(accelerator=accelerator_on(place.device), task=model.data.task)
    transform = Transform(model.data.normalisation)

    def seen(samples: Samples, rows: Indices) -> Tensor:
        found = features(model.model, samples, transform, run, rows=rows, most=WIDEST)
        return unit(found)

    return seen
