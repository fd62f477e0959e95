"""Cleansing by clean data alone: no poison is named, and what is retained is taken for clean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from expunge.data.classes import resolve_class
from expunge.data.poison import Poisoning
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

    index = resolve_class(target, original.data.classes)
    return Poisoning(frozenset(), typed_trigger(trigger, original.data.test), index)


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
