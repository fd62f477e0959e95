"""Linear probe: whether the features still hold what the last layer does not say any more.

Alain & Bengio (2017), "Understanding intermediate layers using linear classifier probes". A model
whose last layer was silenced for a class gives itself away: its features are those of the original.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from expunge.audits.base import Audit, Family, Need
from expunge.audits.references import of_others, read_beside, standard_error
from expunge.data.classes import rows_by_class
from expunge.data.parts import Part
from expunge.loading import loading
from expunge.names.seeds import numpy_generator
from expunge.scores.finding import ENOUGH, NOT_MEASURABLE, Finding
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.statistics import wilson
from expunge.scores.table import NEAR_EMPTY, NO_VERDICT, SCORES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from expunge.audits.panel import Panel
    from expunge.data.load import Data
    from expunge.data.samples import Samples
    from expunge.data.split import Split
    from expunge.trained.trained import Trained
    from expunge.training.run import Run

FOLDS = 5
WIDEST = 2048
"""Features; wider ones are brought to so many, see `features.narrowed`."""
STEPS = 500
"""Of the solver, which mostly ends sooner."""


class LinearProbe(Audit):
    """Accuracy of a new linear layer on the frozen features, on forgotten samples it did not see.

    Whole classes: it learns to name the classes, the forgotten ones among them. Other requests: it
    learns to tell forgotten samples from test samples of the same classes, as many of each, and 50
    percent is chance. It is a logistic regression on standardised features, made five times, each time
    without the fifth that it is measured on.

    Samples and fifths are the same for every model. There are at most `per_class` samples of a class
    (for other requests, of either kind) and `classes` classes, half of them forgotten ones where there
    are more of these; features wider than 2,048 are summed at random to so many.
    """

    name: ClassVar[str] = "linear_probe"
    info: ClassVar[tuple[ScoreInfo, ...]] = (SCORES["probe"],)
    needs: ClassVar[frozenset[Need]] = frozenset({"outputs", "model"})
    family: ClassVar[Family] = "representation"

    per_class: int = Field(default=250, ge=FOLDS, description="samples of a class, at most")
    classes: int = Field(default=20, ge=2, description="classes, at most")

    def scores(self, panel: Panel) -> Iterator[Score]:
        """`probe`, beside the retrained model's and the original's.

        Raises HeadError for a model whose logits no linear layer gives.
        """
        if not panel.split.forget:
            return
        drawn = draw(panel.subject.data, panel.split, panel.seed, self)
        find = partial(_right, run=panel.run, drawn=drawn)
        right = find(panel.subject)
        detail: dict[str, Any] = {
            "form": drawn.form,
            "kinds": drawn.kinds,
            "samples": len(drawn.targets),
        }
        detail |= {"chance": 100 / drawn.kinds, "seed": panel.seed}
        if len(panel.split.forget) < NEAR_EMPTY:
            detail["verdict"] = NO_VERDICT
        if not drawn.n:
            found = Finding(
                NOT_MEASURABLE, "there are too few samples to learn from and measure on"
            )
            yield Score(
                *("probe", math.nan, 0, None, None, "percent", "retrained", detail), finding=found
            )
            return
        before, theirs = of_others(self, panel, find)
        low, high = wilson(int(right.sum()), drawn.n)
        score = Score(
            name="probe",
            value=_percent(right),
            n=drawn.n,
            low=100 * low,
            high=100 * high,
            unit="percent",
            target="retrained",
            detail=detail,
            per_sample=drawn.told(right),
        )
        first = None if before is None else _percent(before)
        values = [_percent(one) for one in theirs]
        # who was never seen is guessed, so each fit errs by as much as its samples let it
        step = standard_error(score) if drawn.form == "membership" else None
        info = SCORES["probe"]
        yield read_beside(score, first, values, info, panel.margins, step=step, least=ENOUGH)


@dataclass(frozen=True)
class ProbeSamples:
    """The samples of a probe.

    Attributes:
        form: "class", or "membership" of a request that is not of whole classes.
        train, test: ids of training and of test samples; below, those of training come first.
        targets: what is to be said of each: its class, or 1 of a forgotten sample and 0 of another.
        folds: which of the FOLDS measures each.
        judged: which of them count; none, where too few are there to be divided.
    """

    form: Literal["class", "membership"]
    train: tuple[str, ...]
    test: tuple[str, ...]
    targets: NDArray[np.int64]
    folds: NDArray[np.int64]
    judged: NDArray[np.bool_]

    @property
    def n(self) -> int:
        """How many count."""
        return int(self.judged.sum())

    @property
    def kinds(self) -> int:
        """How many there are to choose among."""
        return 2 if self.form == "membership" else len(set(self.targets.tolist()))

    def told(self, right: NDArray[np.bool_]) -> dict[str, float]:
        """Of each forgotten sample that counts, whether it is right: 1 or 0. right: (n,)."""
        import numpy as np

        names = [(*self.train, *self.test)[row] for row in np.flatnonzero(self.judged)]
        mine = set(self.train)
        found = zip(names, right.tolist(), strict=True)
        return {name: float(one) for name, one in found if name in mine}


def draw(data: Data, split: Split, seed: int, how: LinearProbe) -> ProbeSamples:
    """Samples and folds, by seed and ids alone."""
    labels = data.train.labels
    asked = split.rows(data.train, Part.FORGET)
    by_class = {c: asked[places].tolist() for c, places in rows_by_class(labels[asked]).items()}
    if split.only_whole_classes(data):
        return _of_classes(data, split, seed, how, by_class)
    return _of_membership(data, seed, how, by_class)


def _of_classes(
    data: Data, split: Split, seed: int, how: LinearProbe, gone: Mapping[int, list[int]]
) -> ProbeSamples:
    """Samples of forgotten and of other classes; those of a forgotten one count."""
    import numpy as np

    retained = split.rows(data.train, Part.RETAIN)
    labels = data.train.labels[retained]
    others = sorted(set(labels.tolist()))
    share = max(how.classes // 2, how.classes - len(others))
    chosen = _some(sorted(gone), share, seed, "forgotten classes")
    left = how.classes - len(chosen)
    rows: list[int] = []
    for c in sorted((*chosen, *_some(others, left, seed, "other classes"))):
        own = gone.get(c) or retained[labels == c].tolist()
        rows += _some(_by_id(data.train, own), how.per_class, seed, "class", c)
    targets = data.train.labels[rows]
    enough = [c for c in chosen if len(gone[c]) >= FOLDS]
    # a fold must leave two classes to be told apart
    if sum(int((targets == c).sum()) >= 2 for c in set(targets.tolist())) < 2:
        enough = []
    return ProbeSamples(
        "class",
        tuple(data.train.ids[rows].tolist()),
        (),
        targets,
        np.arange(len(rows)) % FOLDS,
        np.isin(targets, enough),
    )


def _of_membership(
    data: Data, seed: int, how: LinearProbe, asked: Mapping[int, list[int]]
) -> ProbeSamples:
    """Forgotten samples and as many test samples of the same classes; all of them count.

    None does where forgotten samples are poisoned: the trigger tells them from clean test samples.
    """
    import numpy as np

    mine: list[int] = []
    theirs: list[int] = []
    for c in _some(sorted(asked), how.classes, seed, "classes"):
        unseen = np.flatnonzero(data.test.labels == c).tolist()
        most = min(len(asked[c]), len(unseen), how.per_class)
        mine += _some(_by_id(data.train, asked[c]), most, seed, "forgotten", c)
        theirs += _some(_by_id(data.test, unseen), most, seed, "unseen", c)
    count = len(mine)
    poison = data.poison.ids if data.poison is not None else frozenset()
    poisoned = any(data.train.ids[row] in poison for rows in asked.values() for row in rows)
    return ProbeSamples(
        "membership",
        tuple(data.train.ids[mine].tolist()),
        tuple(data.test.ids[theirs].tolist()),
        np.repeat(np.array([1, 0]), count),
        np.tile(np.arange(count) % FOLDS, 2),
        np.full(2 * count, count >= FOLDS and not poisoned),
    )


def _by_id(samples: Samples, rows: list[int]) -> list[int]:
    """Rows in the order of their ids, whatever the order of the data."""
    return sorted(rows, key=lambda row: str(samples.ids[row]))


def _some(values: list[int], most: int, *names: str | int) -> list[int]:
    """At most so many of the values, in an order drawn by the names."""
    order = numpy_generator("linear probe", *names).permutation(len(values))
    return [values[place] for place in order[:most]]


def _percent(right: NDArray[np.bool_]) -> float:
    return 100 * int(right.sum()) / len(right)


def _right(one: Trained, *, run: Run, drawn: ProbeSamples) -> NDArray[np.bool_]:
    """Which of the n samples that count a model's probe gets right: (n,)."""
    import numpy as np
    import torch

    from expunge.audits.features import features
    from expunge.data.transform import Transform

    if not drawn.n:
        return np.empty(0, dtype=np.bool_)
    transform = Transform(one.data.normalisation)
    parts = []
    for samples, ids in ((one.data.train, drawn.train), (one.data.test, drawn.test)):
        if ids:
            rows = samples.rows_of(ids)
            parts.append(features(one.model, samples, transform, run, rows=rows, most=WIDEST))
    inputs = torch.cat(parts).double().numpy()
    with run.progress.work("fitting a linear probe"):
        predicted = out_of_fold(inputs, drawn.targets, drawn.folds)
    return np.asarray((predicted == drawn.targets)[drawn.judged], dtype=np.bool_)


def out_of_fold(
    inputs: NDArray[np.float64], targets: NDArray[np.int64], folds: NDArray[np.int64]
) -> NDArray[np.int64]:
    """What logistic regressions (L2 weight 1) say of the samples of a fold, learned from the others.

    inputs: (n, features); they are standardised by the samples that are learned from. targets, folds
    and the result: (n,).
    """
    import numpy as np

    with loading():
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

    predicted = np.empty_like(targets)
    for fold in np.unique(folds):
        held = folds == fold
        mean, spread = inputs[~held].mean(axis=0), inputs[~held].std(axis=0)
        spread[spread == 0] = 1.0
        with warnings.catch_warnings():  # nearly there is near enough for a count of right answers
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted = LogisticRegression(max_iter=STEPS).fit(
                (inputs[~held] - mean) / spread, targets[~held]
            )
        predicted[held] = fitted.predict((inputs[held] - mean) / spread)
    return predicted
