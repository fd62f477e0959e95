"""Cleansing by clean data alone: no poison is named, and what is retained is taken for clean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from expunge.data.poison import Poisoning, read_target
from expunge.errors import ConfigError
from expunge.folders.make import Beside, Forgotten
from expunge.methods.scope import check_unnamed
from expunge.place import HERE, Place

if TYPE_CHECKING:
    from expunge.audits.scores import Scores
    from expunge.methods import Method
    from expunge.trained.trained import Trained


def check_clean_alone(method: Method | None, beside: Beside | None) -> None:
    """Raise ConfigError for what makes no sense where no poison is named. method: None: not chosen."""
    if beside is not None and (beside.reference or beside.shown):
        raise ConfigError(
            "a reference and a page are about samples that were named, and no poison is; name it with "
            "--poison, or leave --with-reference, --with-floor and --report out"
        )
    if method is None:
        return
    try:
        check_unnamed(method)
    except ConfigError as error:
        raise ConfigError(
            f"no poison is named, and the data have none of ours. {error}; poisoned samples are named "
            "with --poison ids:FILE"
        ) from None


def unnamed_poisoning(original: Trained, trigger: str | None, target: str | None) -> Poisoning:
    """What is known of the poison in data that name none of it: its trigger and target, as typed.

    Raises ConfigError for one without the other, DataError for a trigger that does not fit.
    """
    if (trigger is None) != (target is None):
        raise ConfigError(
            "no poison is named, so --trigger and --target belong together; give both or neither"
        )
    if trigger is None or target is None:
        return Poisoning(frozenset())
    from expunge.data.poisoned import typed_trigger

    aim = read_target(target, original.data.classes)
    return Poisoning(frozenset(), typed_trigger(trigger, original.data.test), aim)


def clean_note(original: Trained) -> str:
    """What is taken for granted."""
    return (
        f"no poison is named: the {len(original.split.retain):,} samples that {original.name} retains "
        "are taken for clean; a poisoned one among them keeps the backdoor alive"
    )


def audit_clean_alone(done: Forgotten, *, place: Place = HERE) -> Scores:
    """Accuracy and, where a trigger is known, attack success, before and after."""
    from expunge.audits.accuracy import Accuracy
    from expunge.audits.backdoor import Backdoor
    from expunge.audits.panel import Panel
    from expunge.audits.scores import score_panel
    from expunge.training.run import Run, accelerator_on

    made = done.result
    run = Run(
        names=("audit", 0),
        task=made.data.task,
        label="audit",
        progress=place.progress,
        accelerator=accelerator_on(place.device),
    )
    return score_panel(
        Panel(made, made.split, run, original=done.original), [Accuracy(), Backdoor()]
    )


def triggers_left(done: Forgotten, *, place: Place = HERE) -> list[str]:
    """Whether triggers that are inverted from the models still work, in lines, the verdict last.

    Of the model before, those of the suspected classes are tried on both, or the smallest one where none
    is suspected; and triggers are sought anew in the model after. The best that can be said is that none
    that is found still works. Clean samples are those of the test set, or what is retained without one.
    """
    from expunge.backdoor.detection import SUSPECT
    from expunge.backdoor.inspected import Inspected
    from expunge.backdoor.inversion import detect_inverted, trigger_success
    from expunge.data.parts import Part
    from expunge.scores.table import WORKS

    original, made = done.original, done.result
    train, classes = original.data.train, original.data.classes
    clean = original.data.test
    if not len(clean):
        clean = train.subset(made.split.rows(train, Part.RETAIN))
    before, triggers = detect_inverted(Inspected.of(original, clean=clean, place=place))
    if not triggers:
        return [f"cannot tell: {before.why}"]
    tried = [one for one in triggers if one.target in before.suspects]
    tried = [one for one in tried or [min(triggers, key=lambda one: one.norm)] if one.works]
    if not tried:
        return ["cannot tell: no trigger was found that works on the model before"]
    left = [100 * trigger_success(made, clean, one, place=place) for one in tried]
    after, _ = detect_inverted(Inspected.of(made, clean=clean, place=place))
    lines = [
        f"inspected before: {before.word}: {before.why}",
        f"inspected after: {after.word}: {after.why}",
        *(
            f"trigger inverted before for class {classes[one.target]!r}: works on "
            f"{100 * one.success:.1f} % before, on {share:.1f} % after"
            for one, share in zip(tried, left, strict=True)
        ),
    ]
    if after.word == SUSPECT:
        return [*lines, "not cleansed: a trigger is still found in the model"]
    if max(left) >= WORKS:
        return [*lines, "not cleansed: a trigger that was found before still works"]
    if before.word != SUSPECT:
        return [
            *lines,
            "cannot tell: no class was suspected before, so nothing shows what was cleansed",
        ]
    return [
        *lines,
        "no trigger that inspect finds still works, which is no proof that none does; with --trigger "
        "and --target its success is measured",
    ]
