"""Cleansing a backdoored model: forget the poisoned samples, and measure whether the trigger works.

Where no poison is named, a method that reads what is retained alone cleanses by that, taken for clean.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.data.poison import NEXT, Poison, Poisoning, Target, read_target, said_target
from expunge.data.request import check_names, private_words
from expunge.data.triggers import read_trigger
from expunge.errors import ConfigError
from expunge.folders.clean_alone import check_clean_alone, clean_note, unnamed_poisoning
from expunge.folders.extending import check_list, extended
from expunge.folders.make import Beside, Forgotten, unlearn_folder
from expunge.loading import loading
from expunge.place import HERE, Place
from expunge.trained.card import check_target
from expunge.trained.opening import open_papers
from expunge.trained.papers import read_papers

if TYPE_CHECKING:
    from expunge.audits.scores import Scores
    from expunge.data.answer import Answered
    from expunge.data.split import Split
    from expunge.methods import Method
    from expunge.trained.trained import Trained


@dataclass(frozen=True)
class Cleansed:
    """What `cleanse_folder` did. notes: what the person should know, one sentence each."""

    done: Forgotten
    poisoning: Poisoning
    notes: tuple[str, ...]

    @property
    def unnamed(self) -> bool:
        """Whether no poison was named, so that nothing was asked to be forgotten."""
        return not self.done.result.split.forget


@dataclass(frozen=True)
class Known:
    """What somebody knows of a poison, as typed.

    Attributes:
        poison: the poison of the folder's data as it is written behind them (`patch:size=4`), which
            must agree with them; `ids:FILE` of poisoned samples; None: as the folder's data say.
        fraction: forget only that share in (0, 1] of these samples, drawn by a seed.
        trigger, target: of data that were poisoned elsewhere, so that attack success can be
            measured; the target is by default the class that all the samples named are labelled as.
        extend: a file of ids to write, of the known samples and of suspects like them; all of these are
            forgotten.
    """

    poison: str | None = None
    fraction: float | None = None
    trigger: str | None = None
    target: str | None = None
    extend: Path | None = None


@dataclass(frozen=True)
class Prepared:
    """A model and what it is to be cleansed of.

    asked: None where no poison is named. known: of those asked for the ones that somebody named, and no
    suspects; None: all. notes: what the person should know.
    """

    original: Trained
    asked: Split | Answered | None
    poisoning: Poisoning
    notes: tuple[str, ...]
    known: frozenset[str] | None = None

    @property
    def split(self) -> Split:
        """What is to be forgotten, and what stays."""
        return self.original.answered(self.asked).split


def cleanse_folder(
    path: str | Path,
    method: Method,
    out: str | Path,
    *,
    known: Known = Known(),
    seed: int = 0,
    forget_seed: int = 0,
    beside: Beside | None = None,
    data: str | None = None,
    tell: Callable[[str], object] | None = None,
    place: Place = HERE,
) -> Cleansed:
    """Make the model of a folder forget poisoned samples, and write the new model's folder.

    known: what is known of the poison; a list is read as that of a request. Where the data have none
    and none is named, the method must read what is retained alone, which is taken for clean.
    forget_seed: of the draw of a known fraction. The rest as `unlearn_folder` takes it.

    Raises ConfigError where these do not fit each other.
    """
    check_target(Path(out), overwrite=place.overwrite)
    found = prepare(path, known, forget_seed=forget_seed, data=data, tell=tell, place=place)
    if found.asked is None:
        check_clean_alone(method, beside)
    done = unlearn_folder(
        found.original,
        found.asked,
        method,
        out,
        seed=seed,
        beside=beside or Beside(),
        tell=tell,
        place=place,
    )
    return Cleansed(done, found.poisoning, found.notes)


def prepare(
    path: str | Path,
    known: Known,
    *,
    forget_seed: int = 0,
    data: str | None = None,
    tell: Callable[[str], object] | None = None,
    place: Place = HERE,
) -> Prepared:
    """Open a folder and read what is known of the poison; as `cleanse_folder` takes it."""
    papers = read_papers(path, data=data, place=place)
    poison = known.poison
    listed = poison is not None and poison.startswith("ids:")
    if poison is not None and listed:
        check_names(poison)
    _check_typed(None if listed else poison, known.fraction, known.trigger)
    if known.target is not None:
        read_target(known.target, papers.card.classes)
    if known.extend is not None:
        check_list(known.extend, papers, place)
    with loading():
        from expunge.data.split import Split, some_of

    original = open_papers(papers, progress=place.progress)
    if poison is None and original.data.poison is None:
        return _by_clean_data(original, known)
    named: Answered | None = None
    if poison is not None and listed:
        named = original.answered(poison)
        original = replace(original, private=(*original.private, *private_words(poison)))
    original, named, tested = _without_poisoned_tests(original, named)
    poisoning = _poisoning(original, known, None if named is None else _learned(original, named))
    original = replace(original, data=replace(original.data, poison=poisoning))
    base = original.split.settled()
    asked = named.split if named is not None else Split.poison(original.data, base=base)
    if named is not None and (known.fraction is not None or known.extend is not None):
        for line in named.lines(redacted=original.redacted):  # of the whole list, as it was typed
            (tell or str)(line)
        tested += named.warnings
        named = replace(named, asked=None, tested=(), unknown=())
    if known.fraction is not None and known.fraction < 1:
        asked = base.forgetting(some_of(asked.forget, known.fraction, forget_seed))
    sure = frozenset(asked.forget)
    if known.extend is not None:
        asked, poisoning, told = extended(original, asked, known.extend, place)
        original = replace(original, data=replace(original.data, poison=poisoning))
        tested += told
    notes = (
        *_notes(original, poisoning, asked),
        *_audited_with(known, original, poisoning),
        *tested,
    )
    return Prepared(
        original, asked if named is None else replace(named, split=asked), poisoning, notes, sure
    )


def _by_clean_data(original: Trained, known: Known) -> Prepared:
    """Nothing is named: what is retained is taken for clean."""
    if known.fraction is not None or known.extend is not None:
        raise ConfigError(
            "--known-fraction and --extend-poison are about poison that is named, and none is; name it "
            "with --poison ids:FILE"
        )
    laid = unnamed_poisoning(original, known.trigger, known.target)
    original = replace(original, data=replace(original.data, poison=laid))
    return Prepared(
        original, None, laid, (clean_note(original), *_audited_with(known, original, laid))
    )


def _audited_with(known: Known, model: Trained, poisoning: Poisoning) -> list[str]:
    """What to type for a later audit of a backdoor of which the data say nothing."""
    if known.trigger is None or poisoning.target is None:
        return []
    target = poisoning.target
    named = NEXT if target == NEXT else model.data.classes[target]
    typed = ["--trigger", known.trigger, "--target", named]
    return [f"a later audit scores this backdoor with {shlex.join(typed)}"]


def _check_typed(poison: str | None, known_fraction: float | None, trigger: str | None) -> None:
    """Raise DataError or ConfigError for what no data could make sense of."""
    if poison is not None:
        Poison.parse(poison)
    if known_fraction is not None and not 0 < known_fraction <= 1:
        raise ConfigError(f"the known fraction lies above 0, up to 1, not {known_fraction:g}")
    if trigger is not None:
        read_trigger(trigger)


def _learned(loaded: Trained, named: Answered) -> list[str]:
    """Of samples named those of the training data, struck before or not."""
    struck = [one for ids in named.before.values() for one in ids]
    names = [*named.split.forget, *named.validation, *struck]
    return [
        one for one, row in zip(names, loaded.data.train.rows_of(names), strict=True) if row >= 0
    ]


def _without_poisoned_tests(
    loaded: Trained, named: Answered | None
) -> tuple[Trained, Answered | None, list[str]]:
    """Where the test set was drawn from the poisoned file, it must not judge by poisoned samples.

    Returns the folder with a test set without the samples named, what is left of these, and notes.
    """
    import numpy as np

    data = loaded.data
    if named is None or not data.test_drawn:
        return loaded, named, []
    notes = [
        "the test set was set aside from the same file: what is poisoned in it and not named counts "
        "as clean, in SA, TA and ASR"
    ]
    if not named.tested:
        return loaded, named, notes
    gone = data.test.rows_of(named.tested)
    notes.insert(
        0, f"{len(gone):,} of the samples named are test samples; nothing is measured on them"
    )
    keep = np.setdiff1d(np.arange(len(data.test)), gone)
    clean = replace(data, test=data.test.subset(keep))
    return replace(loaded, data=clean), replace(named, tested=()), notes


def _poisoning(loaded: Trained, typed: Known, names: Collection[str] | None) -> Poisoning:
    """What is known of the poison: from the data themselves, or from what was typed."""
    poison, trigger, target = typed.poison, typed.trigger, typed.target
    known = loaded.data.poison
    if known is not None:
        if trigger is not None or target is not None:
            raise ConfigError(
                f"the data of {loaded.name} say their trigger and target; leave --trigger and "
                "--target out"
            )
        if poison is not None and names is None:
            _check_agrees(loaded, Poison.parse(poison), known.poison)
        return known
    if names is None:
        asked = f", so it never saw {poison!r}" if poison else ""
        raise ConfigError(
            f"{loaded.name} learned from data without a poison of ours{asked}; name the samples that "
            "are poisoned with --poison ids:FILE"
        )
    import numpy as np

    from expunge.data.poisoned import typed_trigger

    samples, classes = loaded.data.train, loaded.data.classes
    labels = np.unique(samples.labels[samples.rows_of(list(names))])
    aim: Target | None = int(labels[0]) if len(labels) == 1 else None
    if target is not None:
        wanted = read_target(target, classes)
        if wanted != NEXT and aim not in (None, wanted):
            raise ConfigError(
                f"all samples named are labelled {classes[labels[0]]!r}, which is what a poison does, "
                f"and --target says {classes[wanted]!r}; leave --target out, or mend it"
            )
        aim = wanted
    if trigger is not None and aim is None:
        raise ConfigError(
            f"the samples named have labels of {len(labels)} classes, so the target is unclear; say it "
            "with --target"
        )
    # a trigger that does not fit is known before anything is trained
    laid = typed_trigger(trigger, loaded.data.test) if trigger is not None else None
    own = frozenset(names if laid is not None and laid.clean_label else ())
    return Poisoning(frozenset(names), laid, aim, own)


def _check_agrees(loaded: Trained, typed: Poison, made: Poison | None) -> None:
    classes = loaded.data.classes
    if made is None or typed.settled(classes) == made.settled(classes):
        return
    raise ConfigError(
        f"{loaded.name} learned from data poisoned with {made}, not with {typed}; leave --poison out"
    )


def _notes(loaded: Trained, poisoning: Poisoning, split: Split) -> list[str]:
    target = said_target(poisoning.target, loaded.data.classes)
    labelled = (
        f"of {target}, with their right labels"
        if poisoning.clean_label
        else f"labelled as {target}"
    )
    what = poisoning.trigger if poisoning.trigger is not None else "an unknown trigger"
    learned = len(poisoning.ids.intersection((*split.retain, *split.forget)))
    notes = [
        f"poison: {what}, {labelled}, on {len(poisoning.ids):,} training samples, "
        f"{learned:,} of which the model learned from"
    ]
    rest = len(poisoning.ids.intersection(split.retain))
    if rest:
        notes.append(f"{rest:,} poisoned samples are not asked for and stay in the retain set")
    strange = len(set(split.forget) - poisoning.ids)
    if strange:
        notes.append(f"{strange:,} of the samples named are not poisoned; they are forgotten too")
    return notes


def backdoor_lines(found: Scores) -> list[str]:
    """Backdoor scores before and after with their 95 % intervals, one sentence each."""
    from expunge.audits.backdoor import Backdoor, percent

    panel = found.panel
    original = panel.beside(panel.original)
    before = {score.name: score for score in Backdoor().scores(original)} if original else {}
    return [
        f"{score.name}: {percent(before[score.name])} before, {percent(score)} after"
        for score in Backdoor().scores(panel)
        if score.name in before
    ]
