"""Neighbour attack: whether a forgotten class is spread over the others as a retrained model spreads it.

Ebrahimpour-Boroojeny, Wang & Sundaram (2025), "On the Necessity of Output Distribution Reweighting for
Effective Class Unlearning". A model that never saw a class takes its samples for those of the classes
nearest to it; one that was made to say nothing of them, or anything, betrays itself by the rest of its
answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.audits.base import Audit, Need, without_verdict
from expunge.audits.never_seen import of_never_seen
from expunge.audits.references import not_measured, of_others, read_beside, some_ids
from expunge.loading import loading
from expunge.names.seeds import numpy_generator
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.table import NEAR_EMPTY, SCORES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from expunge.audits.outputs import Outputs, PartOutputs
    from expunge.audits.panel import Panel
    from expunge.trained.trained import Trained

FOLDS = 5
STEPS = 500
"""Of the solver, which mostly ends sooner."""
SMALLEST = 1e-6
"""Probabilities below this are not told apart."""


class NeighbourMembership(Audit):
    """How well samples of a forgotten class are told from never seen ones of its neighbour classes.

    By the logarithms of the probabilities of the classes that remain, brought to a sum of 1: a logistic
    regression, made five times, each time without the fifth that it is measured on. Neighbours are the
    classes that the retrained model, else the original, takes the forgotten samples for. AUC in percent,
    as a mean over the forgotten classes.
    """

    name: ClassVar[str] = "neighbour_mia"
    info: ClassVar[tuple[ScoreInfo, ...]] = (SCORES["neighbour_mia"],)
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs", "model"})

    neighbours: int = Field(default=2, ge=1, description="classes beside each forgotten one")
    classes: int = Field(default=10, ge=1, description="forgotten classes, at most")
    samples: int = Field(default=1000, ge=NEAR_EMPTY, description="of either kind, at most")

    def scores(self, panel: Panel) -> Iterator[Score]:
        """One score of requests of whole classes; none of others."""
        split, (info,) = panel.split, self.info
        if not split.forget or not split.only_whole_classes(panel.subject.data):
            return
        drawn = self._drawn(panel)
        if not drawn.ours:
            yield not_measured(
                info,
                f"{NEAR_EMPTY} forgotten samples of a class, and as many never seen ones of the classes "
                "nearest to it, are needed, and two classes that remain",
            )
            return

        def find(one: Trained) -> Attacked:
            return attack(_outputs(panel, one), drawn)

        mine = find(panel.subject)
        before, theirs = of_others(self, panel, find)
        score = Score(
            *(info.name, mine.value, len(mine.each), mine.low, mine.high, info.unit, info.target),
            {"seed": panel.seed, "neighbours": drawn.named(panel.subject.data.classes)},
            per_sample=mine.each,
        )
        first = None if before is None else before.value
        values = [one.value for one in theirs]
        yield without_verdict(
            read_beside(score, first, values, info, panel.margins, step=mine.step)
        )

    def _drawn(self, panel: Panel) -> Neighbours:
        """Samples and neighbours, by ids, seed, and the guide's answers."""
        import numpy as np

        from expunge.audits.likeness import probabilities_of

        data, split = panel.subject.data, panel.split
        guide = next(iter((*panel.references, panel.original)), None) or panel.subject
        seen = _outputs(panel, guide)
        gone = split.forgotten_classes(data)
        kept = [c for c in range(len(data.classes)) if c not in gone]
        found = Neighbours(tuple(kept), {}, {}, {})
        part = panel.forget(seen)
        labels, ids = part.labels.numpy(), np.asarray(part.ids)
        never = of_never_seen(seen, lambda part: part.labels.numpy(), alike=False)
        unseen = of_never_seen(seen, lambda part: np.array(part.ids), alike=False)
        if len(kept) < 2 or not len(unseen):
            return found
        order = numpy_generator(self.name, panel.seed).permutation(np.unique(labels))
        for c in order[: self.classes].tolist():
            ours = some_ids(ids[labels == c], self.samples, self.name, panel.seed)
            if len(ours) < NEAR_EMPTY:
                continue
            mean = shares(probabilities_of(part, ours).numpy(), kept).mean(axis=0)
            near = [kept[place] for place in np.argsort(-mean, kind="stable")[: self.neighbours]]
            others = some_ids(unseen[np.isin(never, near)], self.samples, self.name, panel.seed)
            if len(others) >= NEAR_EMPTY:
                found.ours[c], found.others[c], found.near[c] = ours, others, near
        return found


@dataclass(frozen=True)
class Neighbours:
    """kept: classes that remain. Of each forgotten class: ours, ids of its samples; near, the classes
    nearest to it; others, ids of never seen samples of these.
    """

    kept: tuple[int, ...]
    ours: dict[int, list[str]]
    others: dict[int, list[str]]
    near: dict[int, list[int]]

    def named(self, classes: Sequence[str]) -> dict[str, list[str]]:
        """Names of each forgotten class's neighbours."""
        return {classes[c]: [classes[one] for one in near] for c, near in self.near.items()}


@dataclass(frozen=True)
class Attacked:
    """AUC in percent with its interval, what one pair of samples moves it by, and the decision value of
    each forgotten sample.
    """

    value: float
    low: float
    high: float
    step: float
    each: dict[str, float]


def _outputs(panel: Panel, one: Trained) -> Outputs:
    beside = None if one is panel.subject else panel.beside(one)
    return panel.outputs if beside is None else beside.outputs


def attack(seen: Outputs, drawn: Neighbours) -> Attacked:
    """The attack on a model's outputs, made apart for each forgotten class."""
    import numpy as np

    from expunge.audits.told_apart import auc

    found, each = [], dict[str, float]()
    mine = _shares_of(seen.forget, drawn.ours, drawn.kept)
    theirs = _shares_of(seen.test_kept, drawn.others, drawn.kept)
    for c, ids in drawn.ours.items():
        inputs = np.log(np.concatenate([mine[c], theirs[c]]).clip(SMALLEST))
        targets = np.repeat([1, 0], [len(mine[c]), len(theirs[c])])
        decided = held_out_decisions(inputs, targets)
        found.append(auc(decided[targets == 1], decided[targets == 0]))
        each |= dict(zip(ids, decided[: len(ids)].tolist(), strict=True))
    value, low, high = np.mean(found, axis=0).tolist()
    pairs = sum(len(mine[c]) * len(theirs[c]) for c in mine)
    return Attacked(value, low, high, 100 / pairs, each)


def _shares_of(
    part: PartOutputs | None, ids: Mapping[int, list[str]], kept: Sequence[int]
) -> dict[int, NDArray[np.float64]]:
    """`shares` of the samples of each class; the outputs are read once."""
    from expunge.audits.likeness import probabilities_of

    if part is None:
        return {}
    names = sorted({name for some in ids.values() for name in some})
    place = {name: row for row, name in enumerate(names)}
    whole = shares(probabilities_of(part, names).numpy(), kept)
    return {c: whole[[place[name] for name in some]] for c, some in ids.items()}


def shares(probabilities: NDArray[np.float64], kept: Sequence[int]) -> NDArray[np.float64]:
    """Probabilities (n, classes) of the classes kept, each row summing to 1: (n, kept). Where nothing is
    left of a row, all are alike.
    """
    import numpy as np

    some = probabilities[:, list(kept)]
    total = some.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(total > 0, some / total, 1 / len(kept)), dtype=np.float64)


def held_out_decisions(
    inputs: NDArray[np.float64], targets: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Decision values (n,) of logistic regressions (L2 weight 1, both kinds weighing alike) on samples
    that they did not learn from, above 0 for target 1.

    inputs: (n, features), standardised by what is learned from. targets: (n,), 1 or 0, five of each or
    more.
    """
    import numpy as np

    with loading():
        from sklearn.linear_model import LogisticRegression

    decided = np.empty(len(inputs))
    folds = np.empty(len(inputs), dtype=np.int64)
    for kind in (0, 1):
        own = np.flatnonzero(targets == kind)
        folds[own] = np.arange(len(own)) % FOLDS
    for fold in range(FOLDS):
        held = folds == fold
        mean, spread = inputs[~held].mean(axis=0), inputs[~held].std(axis=0)
        spread[spread == 0] = 1.0
        fitted = LogisticRegression(max_iter=STEPS, class_weight="balanced").fit(
            (inputs[~held] - mean) / spread, targets[~held]
        )
        decided[held] = fitted.decision_function((inputs[held] - mean) / spread)
    return decided
