"""Audits of model folders: what lies on the disk, beside its original and a retrained model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.data.classes import resolve_class
from expunge.data.request import check_names
from expunge.data.spec import DataSpec
from expunge.data.triggers import read_trigger
from expunge.errors import ConfigError, SplitError
from expunge.folders.make import Forgotten, initial_names
from expunge.folders.store import Loaded, Papers, open_papers, read_papers
from expunge.models.card import ModelCard
from expunge.progress import Reporter, Silent
from expunge.scores.score import Score
from expunge.scores.table import NEAR_EMPTY, check_extra, check_features

if TYPE_CHECKING:
    from expunge.audits.near_empty import SampleLoss
    from expunge.audits.panel import Panel, Subject
    from expunge.data.poison import Poisoning
    from expunge.data.split import Split


DRAWN = (
    "the test set was set aside from the same file: what is poisoned in it counts as clean, in SA, TA "
    "and ASR"
)


@dataclass(frozen=True)
class AuditReport:
    """Scores of one model.

    losses: of each forget sample, where there are fewer than 30. panel: all that was observed. notes:
    what a reader of these scores should know besides.
    """

    scores: list[Score]
    losses: list[SampleLoss]
    split: Split
    classes: tuple[str, ...]
    panel: Panel
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "split": self.split.digest,
            "forgotten": len(self.split.forget),
            "retained": len(self.split.retain),
            "scores": [score.to_dict() for score in self.scores],
            "forget_losses": [asdict(loss) for loss in self.losses],
            "notes": list(self.notes),
            "note": "empirical evidence, no formal guarantee",
        }


def audit_folder(
    path: str | Path,
    *,
    original: str | Path | None = None,
    retrained: str | Path | None = None,
    forget: str | None = None,
    forget_seed: int = 0,
    features: Sequence[str] = ("confidence",),
    also: Sequence[str] = (),
    trigger: str | None = None,
    target: str | None = None,
    data: str | None = None,
    data_dir: str | Path | None = None,
    device: str | None = None,
    progress: Reporter | None = None,
    allow_code: bool = False,
) -> AuditReport:
    """Score the model of a folder on its own split, beside its original and a retrained model.

    forget: for an original, what one would ask it to forget; needed where ids are redacted.
    also: further scores, as `audit` takes them.
    trigger, target: of a backdoor from elsewhere, of which the data themselves say nothing; attack
    success is then scored too.
    Raises ConfigError where these do not fit the data, SplitError for a reference whose split differs.
    """
    check_extra(also, original=original is not None, retrained=retrained is not None)
    check_features(features)
    papers = read_papers(path, data=data, data_dir=data_dir, allow_code=allow_code)
    allowed: dict[str, Any] = {"data_dir": papers.data_dir, "allow_code": allow_code}
    beside = [
        None if other is None else read_papers(other, data=papers.data, **allowed)
        for other in (original, retrained)
    ]
    _check_papers(papers, beside, forget)
    _check_backdoor(papers, trigger, target)
    loaded = open_papers(papers, progress=progress)
    notes = []
    if trigger is not None and target is not None:
        poison = _typed_backdoor(loaded, trigger, target)
        loaded = replace(loaded, data=replace(loaded.data, poison=poison))
        if loaded.data.test_drawn:
            notes.append(DRAWN)

    split = _audited_split(loaded, forget, forget_seed)
    # the samples are in memory already; each model keeps its own normalisation
    before, reference = (
        None if one is None else open_papers(replace(one, data=loaded.data)) for one in beside
    )
    own = _Learned(loaded.path, split.retain, split.forget)
    _check_learned(own, _learned(before), _learned(reference))
    report = _report(
        loaded,
        split,
        before,
        reference,
        run_time(loaded.card, reference.card if reference else None),
        paired=is_paired(loaded.card, reference.card) if reference else None,
        features=features,
        also=also,
        device=device,
        progress=progress,
    )
    return replace(report, notes=tuple(notes))


@dataclass(frozen=True)
class _Learned:
    """Ids that a model has learned from and retains, and those that it forgot."""

    path: Path
    retain: Collection[str]
    forget: Collection[str]


def _learned(one: Papers | Loaded | None) -> _Learned | None:
    if one is None:
        return None
    if isinstance(one, Papers):
        return _Learned(one.path, one.split["retain"], one.split["forget"])
    return _Learned(one.path, one.split.retain, one.split.forget)


def _check_learned(
    model: _Learned | None, before: _Learned | None, reference: _Learned | None
) -> None:
    """Raise SplitError for a reference or an original that learned from other samples."""
    if model is None:
        return
    if reference is not None and set(reference.retain) != set(model.retain):
        raise SplitError(
            f"{reference.path} learned from other samples than {model.path} retains, so it is no "
            "reference for it; retrain with the same --forget and --forget-seed"
        )
    if before is not None and set(before.retain) != {*model.retain, *model.forget}:
        raise SplitError(
            f"{before.path} did not learn from the samples that {model.path} retains and forgot; "
            "name the folder that this one was made from"
        )


def _check_papers(papers: Papers, beside: Sequence[Papers | None], forget: str | None) -> None:
    """Raise SplitError for what the folders themselves contradict, so far as their ids are open."""
    _check_asked(papers, forget)
    redacted = any(one is not None and "salt" in one.split for one in (papers, *beside))
    if forget is None and not redacted:  # what a request asks for, only the data can tell
        before, reference = map(_learned, beside)
        _check_learned(_learned(papers), before, reference)


def _check_asked(papers: Papers, forget: str | None) -> None:
    """Raise SplitError for a request that is missing, or one too many."""
    forgot = bool(papers.split.get("forget"))
    if forget is not None:
        check_names(forget, papers.card.classes)
        if forgot and "salt" not in papers.split:
            raise SplitError(f"{papers.path} has forgotten already; leave --forget out")
    elif forgot and "salt" in papers.split:
        raise SplitError(
            f"{papers.path} keeps hashes of ids only; give the request again with --forget"
        )
    elif not forgot:
        raise SplitError(
            f"{papers.path} has forgotten nothing yet; say with --forget what it would be asked to, "
            "or audit a folder that `expunge unlearn` wrote"
        )


def _check_backdoor(papers: Papers, trigger: str | None, target: str | None) -> None:
    """Raise ConfigError for half a backdoor, or one too many; DataError for one that there is not."""
    known = isinstance(papers.data, str) and DataSpec.parse(papers.data).poison is not None
    if known and (trigger is not None or target is not None):
        raise ConfigError(_known_backdoor(papers.path))
    if (trigger is None) != (target is None):
        raise ConfigError("--trigger and --target belong together; give both or neither")
    if trigger is not None and target is not None:
        read_trigger(trigger)
        resolve_class(target, papers.card.classes)


def _known_backdoor(path: Path) -> str:
    return f"the data of {path} say their trigger and target; leave --trigger and --target out"


def audit_forgotten(
    done: Forgotten,
    *,
    also: Sequence[str] = (),
    device: str | None = None,
    progress: Reporter | None = None,
) -> AuditReport:
    """Scores of what `unlearn_folder` made, beside the original and the retrained model."""
    from expunge.audits.panel import Subject

    reference = done.reference
    cost = cost_score(
        done.result.record.cost.to_dict(), reference.record.cost.to_dict() if reference else None
    )
    return _report(
        Subject(done.result.model, done.data, done.loaded.mask),
        done.result.split,
        done.loaded,
        Subject(reference.model, done.data, done.loaded.mask) if reference else None,
        cost,
        paired=done.paired,
        features=("confidence",),
        also=also,
        device=device,
        progress=progress,
    )


def _report(
    model: Subject | Loaded,
    split: Split,
    original: Subject | Loaded | None,
    retrained: Subject | Loaded | None,
    cost: Score | None,
    *,
    paired: bool | None,
    features: Sequence[str],
    also: Sequence[str],
    device: str | None,
    progress: Reporter | None,
) -> AuditReport:
    """Observe each model once, with the normalisation that it was trained with, and score."""
    from expunge.api import audit_panel
    from expunge.audits.near_empty import near_empty_report
    from expunge.audits.panel import Subject, observe_panel
    from expunge.training.run import Run, accelerator_on

    run = Run(names=("audit", 0), accelerator=accelerator_on(device), progress=progress or Silent())

    def subject(one: Subject | Loaded | None) -> Subject | None:
        return None if one is None else Subject(one.model, one.data, one.mask)

    panel = observe_panel(
        Subject(model.model, model.data, model.mask),
        split,
        run,
        original=subject(original),
        retrained=subject(retrained),
        paired=paired,
    )
    scores = audit_panel(panel, features=features, also=also)
    few = len(split.forget) < NEAR_EMPTY
    losses = near_empty_report(panel.outputs, panel.retrained_outputs) if few else []
    return AuditReport(
        [*scores, *([cost] if cost else [])], losses, split, model.data.classes, panel
    )


def _typed_backdoor(loaded: Loaded, trigger: str, target: str) -> Poisoning:
    """A backdoor as typed; which samples carried it is not known."""
    if loaded.data.poison is not None:
        raise ConfigError(_known_backdoor(loaded.path))
    from expunge.data.poison import Poisoning
    from expunge.data.poisoned import typed_trigger

    index = resolve_class(target, loaded.data.classes)
    return Poisoning(frozenset(), typed_trigger(trigger, loaded.data.test), index)


def is_paired(card: ModelCard, reference: ModelCard) -> bool | None:
    """Whether two models began with the same initial weights and order; None: unknown."""
    names = initial_names(card), initial_names(reference)
    return None if None in names else names[0] == names[1]


def run_time(card: ModelCard, reference: ModelCard | None = None) -> Score | None:
    """RTE from the last step of a card: seconds, the rest of the cost in detail."""
    return cost_score(card.lineage[-1].cost, reference.lineage[-1].cost if reference else None)


def cost_score(cost: Mapping[str, Any], reference: Mapping[str, Any] | None) -> Score | None:
    """RTE from a recorded cost; None for an imported model, whose cost nobody measured."""
    if not cost.get("seconds"):
        return None
    before = float(reference["seconds"]) if reference and reference.get("seconds") else None
    return Score("RTE", float(cost["seconds"]), 1, None, None, "seconds", "low", dict(cost), before)


def _audited_split(loaded: Loaded, forget: str | None, forget_seed: int) -> Split:
    """The split to score on: the folder's own, or a request on an original."""
    from expunge.data.split import Split

    split = loaded.split
    if forget is None:
        return split
    if not split.forget:
        return Split.parse(loaded.data, forget, seed=forget_seed, base=split)
    # redacted, and as the original had them: in the order of the data, set-aside samples back in
    # validation
    order = loaded.data.train.position
    learned = sorted((*split.retain, *split.forget), key=lambda name: order[name])
    base = Split(tuple(learned), (), (*split.validation, *split.excluded))
    asked = Split.parse(loaded.data, forget, seed=forget_seed, base=base)
    if set(asked.forget) != set(split.forget):
        raise SplitError(f"--forget {forget!r} is not what {loaded.path} forgot")
    return split
