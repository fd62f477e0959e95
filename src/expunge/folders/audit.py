"""Audits of model folders: what lies on the disk, beside its original and a retrained model."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.audits import Audit, chosen_audits, there
from expunge.audits.strength import Strength
from expunge.data.poison import Poisoning, read_target
from expunge.data.request import check_names
from expunge.data.spec import DataSpec
from expunge.data.triggers import read_trigger
from expunge.errors import ConfigError, SplitError
from expunge.folders.deeper import NO_MORE, Audited, Deeper, learned_of
from expunge.folders.make import Forgotten
from expunge.names.code import TYPED
from expunge.place import HERE, Place
from expunge.trained.learned import check_learned
from expunge.trained.opening import open_papers
from expunge.trained.papers import Papers, read_papers

if TYPE_CHECKING:
    from expunge.audits.scores import Scores
    from expunge.data.split import Split
    from expunge.trained.trained import Trained


DRAWN = (
    "the test set was set aside from the same file: what is poisoned in it counts as clean, in SA, TA "
    "and ASR"
)


@dataclass(frozen=True)
class Request:
    """What an original would be asked to forget, as typed. seed: of a random draw."""

    text: str
    seed: int = 0


@dataclass(frozen=True)
class TypedBackdoor:
    """A backdoor from elsewhere, of which the data themselves say nothing, as typed."""

    trigger: str | None = None
    target: str | None = None


def audit_folder(
    path: str | Path,
    *,
    original: str | Path | None = None,
    retrained: str | Path | Sequence[str | Path] = (),
    floor: bool = False,
    forget: Request | None = None,
    all_forgotten: bool = False,
    also: Sequence[str | Audit] = (),
    deeper: Deeper = NO_MORE,
    backdoor: TypedBackdoor = TypedBackdoor(),
    data: str | None = None,
    place: Place = HERE,
) -> Scores:
    """Score the model of a folder on its own split, beside its original and a retrained model.

    retrained: the reference, and further retrained models from other seeds. floor: one more is made, and
    not kept. forget: for an original, what one would ask it to forget. all_forgotten: score on all that
    the chain of requests ever forgot, not on the last one alone; the original is then that of the first.
    also: further audits, as `audit` takes them. deeper: a strength, and what further audits need.
    backdoor: attack success is then scored too.
    Raises ConfigError where these do not fit the data, SplitError for a reference whose split differs.
    """
    retrained = [retrained] if isinstance(retrained, str | Path) else list(retrained)
    margins = deeper.check()
    bank = deeper.bank_of(original or path, also)
    needs = there(original, retrained[0] if retrained else None) | deeper.needs(bank, original)
    chosen_audits(also, beside=needs, allow_code=TYPED)
    papers = read_papers(path, data=data, place=place)
    near = replace(place, data_dir=papers.data_dir)
    beside = [
        None if other is None else read_papers(other, data=papers.data, place=near)
        for other in (original, *retrained)
    ]
    asked = None if forget is None else forget.text
    _check_papers(papers, beside, asked, all_forgotten=all_forgotten)
    _check_floor(papers, beside, floor)
    _check_backdoor(papers, backdoor)
    model = open_papers(papers, progress=place.progress)
    notes = []
    if backdoor.trigger is not None and backdoor.target is not None:
        poison = _typed_backdoor(model, backdoor.trigger, backdoor.target)
        model = replace(model, data=replace(model.data, poison=poison))
        if model.data.test_drawn:
            notes.append(DRAWN)

    # the samples are in memory already; each model keeps its own normalisation
    before, *references = (
        None
        if one is None
        else open_papers(
            replace(one, data=model.data), all_there=one is not beside[0] or not all_forgotten
        )
        for one in beside
    )
    if all_forgotten:
        split, before, told = _whole_chain(model, before)
    else:
        split, told = _audited_split(model, forget)
    notes += told
    known = [one for one in references if one is not None]
    if floor:
        known.append(_second(before or model, split, known, place))
    audited = replace(model, split=split)
    learned = None if model.redacted else learned_of(papers)
    further = deeper.open(Audited(audited, before, learned, also), bank, place)
    strength = Strength(deeper.strength, margins=margins, beside=further)
    scores = _judged(audited, before, known, also, place, strength)
    return replace(scores, notes=(*scores.notes, *notes))


def _judged(
    model: Trained,
    original: Trained | None,
    retrained: Sequence[Trained],
    also: Sequence[str | Audit],
    place: Place,
    strength: Strength,
) -> Scores:
    from expunge.api import audit

    return audit(
        model,
        original=original,
        retrained=retrained,
        also=also,
        strength=strength,
        place=place,
        allow_code=TYPED,
    )


def _second(
    original: Trained, split: Split, references: Sequence[Trained], place: Place
) -> Trained:
    """A retrained model from seeds that none of the references has."""
    from expunge.api import unlearn

    used = [tuple(one.record.names) for one in references]
    names = next(new for n in itertools.count() if (new := ("retrain", n, "floor")) not in used)
    with tempfile.TemporaryDirectory() as room:  # for what a method keeps, which nobody needs here
        place = replace(place, room=Path(room))
        return unlearn(original, split, "retrain", names=names, place=place, allow_code=TYPED)


def _check_floor(papers: Papers, beside: Sequence[Papers | None], floor: bool) -> None:
    """Raise ConfigError for a second retrained model that cannot be made."""
    if not floor:
        return
    before = beside[0] or (None if papers.split.get("forget") else papers)
    if before is None or not beside[1:]:
        raise ConfigError(
            "--with-floor makes a second retrained model from the original; give --original and "
            "--retrained too"
        )
    if before.card.recipe is None:
        raise ConfigError(
            f"{before.path} has no recipe, so nothing can be retrained; leave --with-floor out"
        )


def _whole_chain(
    model: Trained, original: Trained | None
) -> tuple[Split, Trained | None, list[str]]:
    """The split of all that was ever forgotten, so far as the data still have it, the original on that,
    and what to say. Raises SplitError where nobody recorded what each request struck.
    """
    known = {one.request for one in model.struck}
    lost = [one for one in model.history if one.forgotten and one.request not in known]
    if lost:
        raise SplitError(
            f"{len(lost)} of the requests to {model.name} were met by an earlier version, which did not "
            "record what they struck; leave --all-forgotten out"
        )
    forgotten = [name for one in model.struck for name in one.forgotten]
    there = (model.data.train.rows_of(forgotten) >= 0).tolist()
    gone = {name for name, found in zip(forgotten, there, strict=True) if not found}
    kept = tuple(name for name in forgotten if name not in gone)
    if not kept:
        raise SplitError(
            f"none of the {len(gone):,} samples that {model.name} forgot are in the data any more, so "
            "nothing can be measured on them; give the data with them"
        )
    excluded = {*model.split.excluded, *gone}.difference(kept)
    split = replace(model.split, forget=kept, excluded=tuple(sorted(excluded)))
    notes = [f"scored on all that {len(model.struck)} requests forgot: {len(kept):,} samples"]
    if gone:
        notes.append(
            f"{len(gone):,} more are not in the data any more; nothing is measured on them"
        )
        if original is not None:
            original = _without_gone(original, model, gone)
    return split, original, notes


def _without_gone(original: Trained, model: Trained, gone: Set[str]) -> Trained:
    """The original as one that did not learn from samples that are gone from the data.

    gone: what these are called in the model, which may have pseudonyms where the original has ids.
    """
    own = original.split
    rows = model.data.train.rows_of(own.retain)
    lost = {
        name
        for name, row in zip(own.retain, rows, strict=True)
        if row < 0 and not gone.isdisjoint((name, model.once_gone(name)))
    }
    learned = tuple(name for name in own.retain if name not in lost)
    return replace(original, split=replace(own, retain=learned, excluded=(*own.excluded, *lost)))


def _check_papers(
    papers: Papers, beside: Sequence[Papers | None], forget: str | None, *, all_forgotten: bool
) -> None:
    """Raise SplitError for what the folders themselves contradict, so far as their ids are open."""
    if all_forgotten and forget is not None:
        raise ConfigError("--all-forgotten says what was asked already; leave --forget out")
    if all_forgotten and papers.split.get("struck"):  # of which the data must be asked
        return
    _check_asked(papers, forget)
    redacted = any(one is not None and one.redacted for one in (papers, *beside))
    if forget is None and not redacted:  # what a request asks for, only the data can tell
        own, before, *references = map(learned_of, (papers, *beside))
        for reference in references or [None]:
            if own is not None:
                check_learned(own, before, reference)


def _check_asked(papers: Papers, forget: str | None) -> None:
    """Raise SplitError for a request that is missing, or one too many."""
    forgot = bool(papers.split.get("forget"))
    if forget is not None:
        check_names(forget, papers.card.classes)
        if forgot and not papers.redacted:
            raise SplitError(f"{papers.path} has forgotten already; leave --forget out")
    elif not forgot:
        raise SplitError(
            f"{papers.path} has forgotten nothing yet; say with --forget what it would be asked to, "
            "or audit a folder that `expunge unlearn` wrote"
        )


def _check_backdoor(papers: Papers, typed: TypedBackdoor) -> None:
    """Raise ConfigError for half a backdoor, or one too many; DataError for one that there is not."""
    trigger, target = typed.trigger, typed.target
    known = isinstance(papers.data, str) and DataSpec.parse(papers.data).poison is not None
    if known and (trigger is not None or target is not None):
        raise ConfigError(_known_backdoor(papers.path))
    if (trigger is None) != (target is None):
        raise ConfigError("--trigger and --target belong together; give both or neither")
    if trigger is not None and target is not None:
        read_trigger(trigger)
        read_target(target, papers.card.classes)


def _known_backdoor(path: Path | str) -> str:
    return f"the data of {path} say their trigger and target; leave --trigger and --target out"


def audit_forgotten(
    done: Forgotten,
    *,
    also: Sequence[str | Audit] = (),
    strength: str | None = None,
    place: Place = HERE,
) -> Scores:
    """Scores of what `unlearn_folder` made, beside the original, its bank and the retrained model."""
    references = [one for one in (done.reference, done.floor) if one is not None]
    deeper, made = Deeper(strength), done.result
    bank = deeper.bank_of(done.original.path, also)
    further = deeper.open(Audited(made, done.original, None, also), bank, place)
    deep = Strength(strength, beside=further)
    return _judged(made, done.original, references, also, place, deep)


def _typed_backdoor(loaded: Trained, trigger: str, target: str) -> Poisoning:
    """A backdoor as typed; which samples carried it is not known."""
    if loaded.data.poison is not None:
        raise ConfigError(_known_backdoor(loaded.name))
    from expunge.data.poisoned import typed_trigger

    aim = read_target(target, loaded.data.classes)
    return Poisoning(frozenset(), typed_trigger(trigger, loaded.data.test), aim)


def _audited_split(loaded: Trained, forget: Request | None) -> tuple[Split, list[str]]:
    """The split to score on, the folder's own or of a request; what to say of the request."""
    from expunge.data.answer import answer
    from expunge.data.split import Split

    split = loaded.split
    if forget is None and not loaded.redacted:
        return split, []
    if forget is not None and not split.forget:
        asked = loaded.answered(forget.text, seed=forget.seed)
        lines = asked.lines(redacted=loaded.redacted)
        return asked.split, lines if len(lines) > 1 else []
    train = loaded.data.train
    gone = int((train.rows_of(split.forget) < 0).sum())
    if gone:
        raise SplitError(
            f"{gone} of the samples that {loaded.name} forgot are not in the data any more, so "
            "nothing can be measured on them; give the data with them, or audit an open folder"
        )
    if forget is None:
        return split, []
    # as the original had them: in the order of the data, set-aside samples back in validation
    learned = train.ids[sorted(train.rows_of((*split.retain, *split.forget)).tolist())].tolist()
    base = Split(tuple(learned), (), (*split.validation, *split.excluded))
    again = answer(loaded.data, forget.text, seed=forget.seed, base=base).split
    if set(again.forget) != set(split.forget):
        raise SplitError(f"--forget {forget.text!r} is not what {loaded.name} forgot")
    return split, []
