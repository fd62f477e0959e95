"""What the models of a bank say of every sample, and which of them learned from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from expunge.audits.log_odds import log_odds, own_confidence

if TYPE_CHECKING:
    from expunge.trained.trained import Trained


@dataclass(frozen=True, eq=False)
class Read:
    """Logits of models, (n, classes) each, read anew whenever they are asked for: never all in memory.

    numbers: of the models. of: reads those of one.
    """

    numbers: Sequence[int]
    of: Callable[[int], NDArray[np.float32]]

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return map(self.of, self.numbers)


@dataclass(frozen=True, eq=False)
class Shadows:
    """K models that were trained as the original was, each on a half of its samples.

    Attributes:
        ids: of all n samples, those that nobody learned from among them.
        labels: (n,), int64.
        logits: (K, n, classes), float32, all of them or read one after another.
        learned: (K, n), True where a model learned from the sample.
        forgot: (K, n), True where it was then made to forget it; None where none was.
        left_out: a line for each model that should be here and is not, with its partner.
        tested: how many of the samples, the last, are of the test set, whose ids may be those of others;
            None: no id comes twice.
        lost_pairs: pairs that are not here, for one of both diverged.

    Models 2 p and 2 p + 1 learned from complementary halves.
    """

    ids: NDArray[np.str_]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32] | Read
    learned: NDArray[np.bool_]
    forgot: NDArray[np.bool_] | None = None
    left_out: tuple[str, ...] = ()
    tested: int | None = None
    lost_pairs: int = 0

    def __len__(self) -> int:
        return len(self.learned)

    @property
    def asked(self) -> int:
        """Models that were to be here: these, and pairs of which one is not."""
        return len(self) + 2 * self.lost_pairs

    @property
    def never(self) -> NDArray[np.bool_]:
        """(n,): samples that no model of the bank learned from, nor the original."""
        return np.asarray(~self.learned.any(axis=0), dtype=np.bool_)

    @cached_property
    def _row_of(self) -> tuple[dict[str, int], dict[str, int]]:
        """Rows by ids: of what the original may have learned from, and of the test set."""
        rows = list(enumerate(self.ids.tolist()))
        split = len(rows) - (self.tested or 0)
        own, test = ({name: row for row, name in some} for some in (rows[:split], rows[split:]))
        return own, own if self.tested is None else test

    def rows(self, ids: Sequence[str], *, test: bool = False) -> NDArray[np.intp]:
        """The row of each id, -1 for one that is not here. test: they are ids of the test set."""
        row_of = self._row_of[test]
        return np.array([row_of.get(name, -1) for name in ids], dtype=np.intp)

    @cached_property
    def phi(self) -> NDArray[np.float64]:
        """(K, n): `log_odds` of each model and sample."""
        return np.stack([log_odds(one, self.labels) for one in self.logits])

    def confidence(self, temperature: float = 1.0) -> NDArray[np.float64]:
        """(K, n): probability that each model gives to each sample's own class, in [0, 1].

        temperature: what logits are divided by, above 0.
        """
        if temperature not in self._confidences:
            phi = self.phi
            if temperature != 1:
                phi = np.stack([log_odds(one / temperature, self.labels) for one in self.logits])
            self._confidences[temperature] = own_confidence(phi)
        return self._confidences[temperature]

    @cached_property
    def _confidences(self) -> dict[float, NDArray[np.float64]]:
        return {}


@dataclass(frozen=True, eq=False)
class Swapped:
    """Models of two worlds: F was learned and forgotten in one, T in the other, in its place.

    All four have the same data, whose training set holds F and T, and were trained from the same
    seeds; R is what all of them keep.

    Attributes:
        made_without_f: learned from R and F, and was made to forget F.
        made_without_t: learned from R and T, and was made to forget T.
        retrained_without_f: trained on R alone, as if F had never been there.
        retrained_without_t: the same for T.
        forget_ids: F. other_ids: T, as many, each of the class of the sample at its place in F.
    """

    made_without_f: Trained
    made_without_t: Trained
    retrained_without_f: Trained
    retrained_without_t: Trained
    forget_ids: tuple[str, ...]
    other_ids: tuple[str, ...]
