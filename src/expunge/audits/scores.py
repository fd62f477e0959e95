"""What an audit found: the scores of one model, printed as a table, framed, written as plain data."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, overload

from expunge.audits.base import Audit, Need
from expunge.audits.losses import Losses
from expunge.audits.near_empty import SampleLoss, check_same_samples, near_empty_report
from expunge.audits.references import read_beside
from expunge.errors import ConfigError, HeadError, LogitsError, nearest
from expunge.scores.finding import NOT_MEASURABLE
from expunge.scores.info import ScoreInfo
from expunge.scores.joint import Joint
from expunge.scores.joint_shown import joint_lines, joint_table
from expunge.scores.score import Score
from expunge.scores.shown import TEXT_WIDTH, as_text, scores_table, taught_by
from expunge.scores.table import NEAR_EMPTY, WORKS
from expunge.scores.verdict import Asked, PageVerdict, exact_model, stated_margins, verdict_of
from expunge.trained.record import proved

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from expunge.audits.panel import Panel
    from expunge.trained.trained import Trained

NO_GUARANTEE = "empirical evidence, no formal guarantee"
"""What scores are, whatever the method proves."""
NO_TEST_SET = (
    "TA and MIA are n/a: the model has no test set, for it learned all that it was given; import it "
    "with --test DATA to have them"
)
READ_AGAINST: frozenset[Need] = frozenset({"outputs", "shadows"})
"""What an audit may need to be made of the other models too: it is the same for all of them."""
UNJUDGED = ("", NOT_MEASURABLE)
"""Of a finding: there is none, or none was possible."""
PARTS = ("forget", "retain", "test_kept", "test_forgotten", "triggered", "rest")


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of one model.

    Attributes:
        scores: in the order of the table of audits.
        losses: of each forget sample, where there are fewer than 30.
        panel: all that was observed.
        notes: what a reader of these scores should know besides.
        info: what each score is.
        joint: what they say together, where somebody asked for a strength; else None.
    """

    scores: list[Score]
    panel: Panel
    losses: list[SampleLoss] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    info: Mapping[str, ScoreInfo] = field(default_factory=dict)
    joint: Joint | None = None

    def __iter__(self) -> Iterator[Score]:
        return iter(self.scores)

    def __len__(self) -> int:
        return len(self.scores)

    def __contains__(self, name: object) -> bool:
        return any(score.name == name for score in self.scores)

    @overload
    def __getitem__(self, key: str | int) -> Score: ...

    @overload
    def __getitem__(self, key: slice) -> list[Score]: ...

    def __getitem__(self, key: str | int | slice) -> Score | list[Score]:
        """A score by name or place. Raises ConfigError for a name, saying what there is."""
        if not isinstance(key, str):
            return self.scores[key]
        for score in self.scores:
            if score.name == key:
                return score
        names = [score.name for score in self.scores]
        raise ConfigError(f"no score {key!r}{nearest(key, names)}; there are: {', '.join(names)}")

    @cached_property
    def asked(self) -> Asked:
        """What the model was asked to forget, as a verdict needs to know it."""
        split, subject = self.panel.split, self.panel.subject
        train, poison = subject.data.train, subject.data.poison
        rows = train.rows_of(split.forget)
        labels = train.labels[rows[rows >= 0]].tolist()  # some may be gone from the data
        poisoned = poison is not None and (
            not poison.ids or not poison.ids.isdisjoint(split.forget)
        )
        return Asked(
            len(split.forget),
            whole_classes=bool(labels)
            and set(labels) <= set(split.forgotten_classes(subject.data)),
            poison=poisoned,
            method=subject.record.step if subject.split.forget else "",
        )

    @cached_property
    def verdict(self) -> PageVerdict:
        """The verdict of `expunge.scores.verdict` on the model; on an original, of doing nothing."""
        return verdict_of(self.scores, self.asked, self.panel.margins)

    @property
    def margins(self) -> str:
        """Those that the verdict, or all of a strength, go by; empty where nothing was judged."""
        if self.joint is None:
            return self.verdict.margins if self.verdict.word else ""
        judged = [one.score.name for one in self.joint.judged if one.word not in UNJUDGED]
        return stated_margins(self.panel.margins, judged) if judged else ""

    def exact(self, where: str | None = None) -> str:
        """That an exact model is there, if retraining took less than twice as long; else empty.

        where: what to call its folder, by default its path.
        """
        made, exact = self.panel.subject, self.panel.retrained
        if exact is None or not made.split.forget or made.record.step == exact.record.step:
            return ""
        if made.record.guarantee == "exact":  # as exact as the other
            return ""
        if self.asked.poison and any(
            (one.reference or 0) >= WORKS for one in self if one.name == "ASR"
        ):
            return ""  # part of the poison stays, and the backdoor with it
        where = where or (None if exact.path is None else str(exact.path))
        step = made.record.step
        return exact_model(made.record.cost.seconds, exact.record.cost.seconds, where, step)

    def told(self, where: str | None = None) -> tuple[str, ...]:
        """The verdict in lines: the word with its reason, what should be known besides, and the hint.
        Where a strength was asked for, what all its audits say together stands in its place, or, of a
        cleansing, below it.

        where: as `exact` takes it.
        """
        verdict = self.verdict
        warned = (f"warning: {text}" for text in verdict.warnings)
        said = [] if self.joint is None else joint_lines(self.joint)
        if self.joint is None or self.asked.poison:
            said = [f"verdict: {verdict}", *said]
        return tuple(filter(None, (*said, *warned, self.exact(where))))

    def __str__(self) -> str:
        few = (f"`.losses` has the loss of each of the {len(self.losses)} forget samples",)
        notes = (*self.notes, *(few if self.losses else ()))
        return as_text(self.scores, notes, self.info, self.told(), table=self.table())

    def table(self, width: int = TEXT_WIDTH) -> Table:
        """A row for each score; where a strength was asked for, by family and with what was found.

        width: characters of a line; in a narrow one there is no room for why something was found.
        """
        if self.joint is None:
            return scores_table(self, self.info)
        return joint_table(self.joint, width)

    def frame(self) -> pd.DataFrame:
        """A row for each score: score, value, low, high, n, unit, target, original, retrained, gap,
        bound: "at least" or "at most" where the value is no more than that, and, beside three
        retrained models or more, `interval` and `band` of its `Finding`, each as _low and _high.
        """
        import pandas as pd

        rows = [
            {
                "score": one.name,
                "value": one.value,
                "low": one.low,
                "high": one.high,
                "n": one.n,
                "unit": one.unit,
                "target": one.target,
                "original": one.detail.get("original"),
                "retrained": one.reference,
                "gap": one.gap,
                "bound": one.bound,
                **_ends(one, "interval"),
                **_ends(one, "band"),
            }
            for one in self.scores
        ]
        return pd.DataFrame(rows)

    def proof(self) -> str:
        """What can be relied on, in a sentence: the scores, and what the method itself proves."""
        record = self.panel.subject.record
        claim = proved(self.panel.subject.history)
        if not claim or claim.startswith("none"):
            return f"{NO_GUARANTEE[:1].upper()}{NO_GUARANTEE[1:]}."
        part = " of the last layer alone" if record.scope == "head" else ""
        return f"The method's own guarantee{part}: {claim}; the scores are empirical evidence beside it."

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; of a redacted model without what tells of single samples."""
        split, redacted = self.panel.split, self.panel.subject.redacted
        return {
            "split": None if redacted else split.digest,
            "forgotten": len(split.forget),
            "retained": len(split.retain),
            "scores": [score.to_dict() for score in self.scores],
            "forget_losses": [] if redacted else [asdict(loss) for loss in self.losses],
            "notes": list(self.notes),
            "verdict": {**asdict(self.verdict), "exact": self.exact()},
            "guarantee": proved(self.panel.subject.history),
            "note": NO_GUARANTEE,
            **({} if self.joint is None else {"joint": self.joint.to_dict()}),
        }


def _ends(score: Score, of: Literal["interval", "band"]) -> dict[str, float | None]:
    """Both ends of what a finding has of that name, each as a column; None without it."""
    low, high = getattr(score.finding, of, None) or (None, None)
    return {f"{of}_low": low, f"{of}_high": high}


def score_panel(panel: Panel, audits: Sequence[Audit], asked: Collection[str] = ()) -> Scores:
    """Observe the panel's models, each once, and make some audits of its subject.

    asked: names of audits that somebody asked for: none of them is left out in silence.

    Raises SplitError where models were observed on other samples, LogitsError for an audit that was
    asked for, of a task without class logits, HeadError for one of a model without the layer that it is
    about; one that was not asked for is left out, and the notes say so.
    """
    try:
        seen = panel.outputs, panel.original_outputs, panel.retrained_outputs
    except LogitsError as error:
        return _judged_by_losses(panel, audits, asked, error)
    beside = [panel.beside(one) for one in (panel.retrained, *panel.others)]
    for one, part in itertools.product(filter(None, beside), PARTS):
        check_same_samples(part, getattr(seen[0], part), getattr(one.outputs, part))
    found: list[Score] = []
    notes: list[str] = []
    with panel.run.progress.work("scoring", len(audits), unit="audits") as bar:
        for audit in audits:
            bar.note(audit.name)
            try:
                found += read_against(audit, panel)
            except HeadError as error:
                if audit.name in asked:
                    raise
                notes.append(f"{audit.name} was left out: {error}")
            bar.advance()
    if not len(panel.subject.data.test):
        notes.append(NO_TEST_SET)
    few = len(panel.split.forget) < NEAR_EMPTY
    losses = near_empty_report(seen[0], seen[2]) if few else []
    info = {one.name: one for audit in audits for one in audit.info}
    return Scores(found, panel, losses, tuple(notes), info=info)


def _judged_by_losses(
    panel: Panel, audits: Sequence[Audit], asked: Collection[str], error: LogitsError
) -> Scores:
    """The audits that need no outputs, and the losses; the error for one that was asked for."""
    kept = [audit for audit in audits if "outputs" not in audit.needs]
    if any(audit.name in asked for audit in audits if audit not in kept):
        raise error
    kept = [Losses(), *(audit for audit in kept if audit.name != Losses.name)]
    with panel.run.progress.work("scoring"):
        found = [score for audit in kept for score in audit.scores(panel)]
    info = {one.name: one for audit in kept for one in audit.info}
    return Scores(found, panel, notes=(f"judged by losses alone: {error}",), info=info)


def read_against(audit: Audit, panel: Panel) -> Iterator[Score]:
    """An audit's scores; one of outputs, beside shadows, is made of the other models too.

    Then `reference` is the retrained model's value, and the detail has the original's. A value of an
    attack that learned from another number of samples is left out, and the detail says so (`other_m`).
    """
    scores = _declared(audit, panel)
    if not audit.needs <= READ_AGAINST:
        yield from scores
        return
    further = [(f"retrained {n + 2}", one) for n, one in enumerate(panel.others)]
    models = (("original", panel.original), ("retrained", panel.retrained), *further)
    beside = {
        who: {} if one is None else panel.once(audit, who, partial(_by_name, audit, panel, one))
        for who, one in models
    }
    for score in scores:
        own = {who: found[score.name] for who, found in beside.items() if score.name in found}
        m = taught_by(score)
        other_m = {who: taught_by(one) for who, one in own.items() if taught_by(one) != m}
        detail = {**score.detail, **({"other_m": other_m} if other_m else {})}
        before, *again = (own[who] if who in own and who not in other_m else None for who in beside)
        known = [one for one in again if one is not None]
        (info,) = (one for one in audit.info if one.name == score.name)
        if known:
            score = replace(score, reference_bound=known[0].bound)
        first, values = None if before is None else before.value, [one.value for one in known]
        yield read_beside(replace(score, detail=detail), first, values, info, panel.margins)


def _by_name(audit: Audit, panel: Panel, other: Trained) -> dict[str, Score]:
    """An audit's scores of one of the other models."""
    beside = panel.beside(other)
    return {} if beside is None else {score.name: score for score in _declared(audit, beside)}


def _declared(audit: Audit, panel: Panel) -> list[Score]:
    """An audit's scores. Raises ConfigError for what it did not declare, or is no score."""
    found = audit.scores(panel)
    if isinstance(found, Score) or found is None:
        raise ConfigError(
            f"audit {audit.name}: scores() gave {type(found).__name__}; it must give its scores one "
            "after another (yield them, or return a list)"
        )
    known = {info.name: info for info in audit.info}
    scores = list(found)
    for score in scores:
        info = known.get(score.name)
        if info is None or (info.unit, info.target) != (score.unit, score.target):
            raise ConfigError(
                f"audit {audit.name}: the score {score.name!r} in {score.unit}, {score.target}, is none "
                "that its `info` declares; declare it with the same unit and target"
            )
    return scores


def scores_of_outputs(panel: Panel) -> list[Score]:
    """What the usual audits say of the subject's outputs alone."""
    from expunge.audits import chosen_audits

    return [
        score
        for audit in chosen_audits((), allow_code=False)
        if audit.needs == {"outputs"}
        for score in audit.scores(panel)
    ]
