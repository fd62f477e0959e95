"""Which other samples are poisoned: from a part of the poison that is known to a ranked list.

Poison is labelled as the attacker's class, so suspects are the samples of the known ones' labels. These
traces rank them, each learned from known ones K and others U of a class:

    features    x . S^-1 (mean of K - mean of U), of what goes into the last layer (Fisher)
    spectral    place along the top singular vector of the class (Tran et al., NeurIPS 2018)
    whitened    the same in units of what clean test samples of the class vary by, where there are some
    influence   cosine of a sample's gradient of the last layer and the mean one of K (TracIn at the
                last checkpoint: Pruthi et al., NeurIPS 2020)
    loss        logarithm of the sample's loss, in the direction of K's

Each is cross-validated: K and U are cut in folds, and a fold is scored by what the others teach, hidden
poison in U as much as what is known. The trace with the best area under the curve is taken. With r(m)
the share of K that falls among the first m of U, and hidden poison like the known (K a fair draw of it),
recall of the first m is r(m); the hidden samples number N, the median of m / r(m) where r(m) lies
between 1/2 and 3/4; and precision is r(m) N / m (a mixture's share as Blanchard, Lee and Scott, JMLR
2010, bound it). m is where the harmonic mean of both is largest. Recall has the interval of Clopper and
Pearson, its lower end for one sample less since m was chosen by them; precision that of draws from K, by
each of which trace and m are chosen anew, and then judged by those of K that it leaves out. As m / r(m)
counts clean samples too, its lower end is by the least of them where r(m) lies between 1/4 and 3/4.

**It fails** where known samples are no fair draw (another trigger, another class), and says nothing of
these. Clean samples that look like poison count in N, so that precision is too good where traces tell
badly; below an area of 0.65 nothing is named (0.5 tells nothing; where half of a class is poisoned, no
trace reaches more than 0.75).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from expunge.audits.counts import clopper_pearson
from expunge.errors import ConfigError
from expunge.names.seeds import numpy_generator

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import nn

    from expunge.data.load import Data
    from expunge.data.split import Split
    from expunge.training.run import Run

Matrix = NDArray[np.float64]
FOLDS, DRAWS = 5, 300
"""Parts that known samples are cut in, and draws that intervals rest on."""
LEAST = 10
"""Known samples of a class, and others, without which nothing is said of it."""
TELLS = 0.65
"""Area under the curve from which on a trace tells poison from other samples."""
MIDDLE, FEWEST = (0.5, 0.75), 0.25
"""Shares of the known samples that the number of hidden ones is estimated from; and from how many on the
least of it is sought."""
SHRINKAGE = 0.1
"""Of the covariance of features towards a multiple of the identity."""


@dataclass(frozen=True)
class Estimate:
    """A share in [0, 1] with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.value:.0f} % ({100 * self.low:.0f} to {100 * self.high:.0f})"


@dataclass(frozen=True)
class Suspects:
    """The suspects of one class.

    Attributes:
        label: class index.
        known: how many samples of it are known.
        ranked: ids of all others, the most suspicious first.
        taken: how many of these are named as poisoned; 0 where no trace tells.
        trace: that they are ranked by. areas: under the curve, by trace, in [0, 1].
        precision, recall: of those taken, among the hidden ones; None where none are.
    """

    label: int
    known: int
    ranked: tuple[str, ...]
    taken: int
    trace: str
    areas: Mapping[str, float]
    precision: Estimate | None = None
    recall: Estimate | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the samples that are named as poisoned."""
        return self.ranked[: self.taken]

    def told(self, classes: tuple[str, ...]) -> str:
        """A sentence for people."""
        name = classes[self.label]
        if not self.taken:
            return (
                f"class {name!r}: no trace tells the {self.known:,} known samples from the others (the "
                f"best area under the curve is {max(self.areas.values()):.2f}), so none is named"
            )
        return (
            f"class {name!r}: {self.taken:,} suspects beside {self.known:,} known samples, by "
            f"{self.trace}; estimated precision {self.precision}, recall {self.recall}"
        )


def find_suspects(
    model: nn.Module, data: Data, split: Split, known: Collection[str], run: Run
) -> tuple[Suspects, ...]:
    """The suspects among what a model retains, class by class of the known samples.

    known: ids of training samples, a part of the poison. What else the split retains is suspected.
    No trigger is read; test samples are, for what is usual, unless they were set aside from the same
    file. The model comes back as it was.

    Raises:
        ConfigError: where no class has enough known samples, or others.
        HeadError: for a model without a linear layer that gives its logits.
    """
    train = data.train
    wanted = set(known)
    given = train.rows_of(sorted(wanted))
    given = given[given >= 0]
    rest = train.rows_of([name for name in split.retain if name not in wanted])
    found = []
    for label in np.unique(train.labels[given]).tolist():
        own = given[train.labels[given] == label]
        others = np.sort(rest[train.labels[rest] == label])
        if min(len(own), len(others)) >= LEAST:
            traces = traces_of(model, data, np.concatenate([own, others]), label, len(own), run)
            found.append(ranked(label, train.ids[others], len(own), traces))
    if not found:
        raise ConfigError(
            f"suspects are sought in classes with {LEAST} known samples or more and as many others, "
            f"and there is none among {len(given):,} known samples; name more of them"
        )
    return tuple(found)


Trace = Callable[[NDArray[np.int64], NDArray[np.int64]], Matrix]
"""Rows of known samples, of others to learn from -> a score of each sample (n,), high like the known."""


def traces_of(
    model: nn.Module, data: Data, rows: NDArray[np.int64], label: int, known: int, run: Run
) -> dict[str, Trace]:
    """The traces on some training samples of a class, the known ones first."""
    import torch
    from torch.nn import functional

    from expunge.audits.features import features, head_name
    from expunge.backdoor.spectral import projections, whitened
    from expunge.data.transform import Transform

    seen = features(model, data.train, Transform(data.normalisation), run, rows=rows)
    head = model.get_submodule(head_name(model)).cpu()
    with torch.no_grad():
        logits = head(seen).double()
    wide = seen.double().numpy()
    labels = torch.full((len(rows),), label)
    losses = functional.cross_entropy(logits, labels, reduction="none").numpy()
    errors = (logits.softmax(1) - functional.one_hot(labels, logits.shape[1])).numpy()
    along = projections(seen).numpy()
    tested = np.flatnonzero(data.test.labels == label)
    traces: dict[str, Trace] = {}
    if len(tested) >= LEAST and not data.test_drawn:
        clean = features(model, data.test, Transform(data.normalisation), run, rows=tested)
        out = whitened(seen, clean, clean[:0])[0].numpy()
        traces["whitened"] = lambda ours, others: _towards(out, ours, others)
    return traces | {
        "features": lambda ours, others: discriminant(wide, ours, others),
        "spectral": lambda ours, others: _towards(along, ours, others),
        "influence": lambda ours, _: influence(wide, errors, ours),
        "loss": lambda ours, others: _towards(np.log(losses + 1e-12), ours, others),
    }


def discriminant(wide: Matrix, ours: NDArray[np.int64], others: NDArray[np.int64]) -> Matrix:
    """Fisher's discriminant of two sets of rows, of every row: (n,)."""
    first, second = wide[ours], wide[others]
    centred = np.concatenate([first - first.mean(0), second - second.mean(0)])
    spread = centred.T @ centred / max(1, len(centred) - 2)
    size = np.trace(spread) / len(spread)
    spread = (1 - SHRINKAGE) * spread + (SHRINKAGE * size + 1e-12) * np.eye(len(spread))
    found: Matrix = wide @ np.linalg.solve(spread, first.mean(0) - second.mean(0))
    return found


def influence(wide: Matrix, errors: Matrix, chosen: NDArray[np.int64]) -> Matrix:
    """Cosine of each sample's gradient of the last layer with the mean of the chosen ones': (n,).

    wide: (n, width) what goes into it. errors: (n, classes) softmax minus the label's one.
    """
    inputs = np.concatenate([wide, np.ones((len(wide), 1))], axis=1)
    mean = inputs[chosen].T @ errors[chosen] / len(chosen)
    lengths = np.linalg.norm(inputs, axis=1) * np.linalg.norm(errors, axis=1)
    found: Matrix = ((inputs @ mean) * errors).sum(1) / np.maximum(lengths, 1e-300)
    return found


def _towards(values: Matrix, ours: NDArray[np.int64], others: NDArray[np.int64]) -> Matrix:
    """Values, turned round where ours lie below the others."""
    below = np.median(values[ours]) < np.median(values[others])
    return -values if below else values


def ranked(
    label: int, others: NDArray[np.str_], known: int, traces: Mapping[str, Trace]
) -> Suspects:
    """The others by the trace that tells best, how many to take, and how good these are."""
    scores = {
        name: left_out_scores(trace, known, known + len(others)) for name, trace in traces.items()
    }
    places = {name: places_among(one[:known], one[known:]) for name, one in scores.items()}
    areas = {name: float(1 - place.mean() / len(others)) for name, place in places.items()}
    best = max(areas, key=areas.__getitem__)
    order = np.argsort(-scores[best][known:], kind="stable")
    names = tuple(others[order].tolist())
    if areas[best] < TELLS:
        return Suspects(label, known, names, 0, best, areas)
    place = places[best]
    taken = _best_number(place, len(others))
    draw = numpy_generator("suspects", label)
    drawn = [_left_out(places, draw.integers(known, size=known), len(others)) for _ in range(DRAWS)]
    precision, recall = _shares(place, len(others), taken)
    least, middle = np.transpose([*drawn, (precision, precision)])
    low, high = np.percentile(least, 2.5), np.percentile(middle, 97.5)
    return Suspects(
        label,
        known,
        names,
        taken,
        best,
        areas,
        Estimate(precision, float(low), float(high)),
        _recall(round(recall * known), known),
    )


def _left_out(
    places: Mapping[str, Matrix], rows: NDArray[np.int64], count: int
) -> tuple[float, float]:
    """Precision by the known samples that a draw leaves out, where trace and number are chosen by it: by
    the least number of hidden ones, and by the middle one.
    """
    best = min(places.values(), key=lambda one: float(one[rows].mean()))
    apart, taken = np.delete(best, rows), _best_number(best[rows], count)
    recalls = _recalls(apart if len(apart) else best, count)
    first = recalls[taken - 1] / taken
    return min(1.0, first * least_hidden(recalls)), min(1.0, first * hidden_number(recalls))


def _recall(reached: int, known: int) -> Estimate:
    """Of known samples that are reached; m was chosen by them, and ends at one of them."""
    low = clopper_pearson(max(0, reached - 1), known)[0]
    return Estimate(reached / (known + 1), low, clopper_pearson(reached, known)[1])


def left_out_scores(trace: Trace, known: int, count: int) -> Matrix:
    """A score of each of `count` samples, the first `known` of which are known, where it was left out of
    what the trace learned: (count,). Folds are brought to one scale by their others.
    """
    draw = numpy_generator("suspects", "folds")
    cuts = [
        np.array_split(start + draw.permutation(size), FOLDS)
        for start, size in ((0, known), (known, count - known))
    ]
    found = np.empty(count)
    for mine, theirs in zip(*cuts, strict=True):
        ours = np.setdiff1d(np.arange(known), mine)
        others = np.setdiff1d(np.arange(known, count), theirs)
        scores = trace(ours, others)
        low, middle, high = np.percentile(scores[theirs], [25, 50, 75])
        for rows in (mine, theirs):
            found[rows] = (scores[rows] - middle) / max(high - low, 1e-12)
    return found


def places_among(known: Matrix, others: Matrix) -> Matrix:
    """How many of the others rank before each known score; of those that tie, half: (known,)."""
    ordered = np.sort(others)
    above = len(others) - np.searchsorted(ordered, known, side="right")
    below = np.searchsorted(ordered, known, side="left")
    found: Matrix = above + (len(others) - above - below) / 2
    return found


def _recalls(places: Matrix, count: int) -> Matrix:
    """r(m) for m = 1 ... count."""
    reached = np.searchsorted(np.sort(places), np.arange(1, count + 1), side="right")
    found: Matrix = reached / len(places)
    return found


def least_hidden(recalls: Matrix) -> float:
    """The least m / r(m) where 1/4 to 3/4 of the known samples are reached."""
    at = np.arange(1, len(recalls) + 1)
    some = (recalls >= FEWEST) & (recalls <= MIDDLE[1])
    return float((at[some] / recalls[some]).min()) if some.any() else hidden_number(recalls)


def hidden_number(recalls: Matrix) -> float:
    """N: about how many hidden ones there are, by r(m)."""
    at = np.arange(1, len(recalls) + 1)
    middle = (recalls >= MIDDLE[0]) & (recalls <= MIDDLE[1])
    if not middle.any():  # a step beyond: the first that has as many
        middle = at == at[min(int((recalls < MIDDLE[0]).sum()), len(at) - 1)]
    return float(np.median(at[middle] / np.maximum(recalls[middle], 1e-12)))


def _shares(places: Matrix, count: int, taken: int) -> tuple[float, float]:
    """Precision and recall of the first so many."""
    recalls = _recalls(places, count)
    recall = float(recalls[taken - 1])
    return min(1.0, recall * hidden_number(recalls) / taken), recall


def _best_number(places: Matrix, count: int) -> int:
    """The m at which the harmonic mean of precision and recall is largest."""
    recalls, at = _recalls(places, count), np.arange(1, count + 1)
    precision = np.minimum(1.0, recalls * hidden_number(recalls) / at)
    both = 2 * precision * recalls / np.maximum(precision + recalls, 1e-12)
    return int(at[both.argmax()])
