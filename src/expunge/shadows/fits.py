"""Whether a bank is the one for a model, which may have forgotten, more than once."""

from __future__ import annotations

from typing import Any

from expunge.errors import ConfigError
from expunge.names.digests import same_digest
from expunge.place import Place
from expunge.shadows.bank import Bank
from expunge.shadows.card import common_to
from expunge.trained.trained import Trained
from expunge.training.precision import resolve_precision
from expunge.training.run import accelerator_on

WORDS = {
    "data": "other training data",
    "test": "another test set",
    "inputs": "otherwise normalised inputs",
    "task": "another task",
    "architecture": "another architecture",
    "code": "other code of model or task",
    "base": "another pretrained base",
    "recipe": "another recipe",
    "mask": "another pruning mask",
}
"""What a bank is of that does not fit, by field of its card."""


def check_bank(bank: Bank, model: Trained, *, purged: bool = False) -> None:
    """Raise ConfigError for a bank of another original than a model's own.

    It fits where data, architecture, recipe and mask are the same, and its models were drawn from all
    that the model retained and forgot. purged: whether it may have been purged of what was forgotten,
    which no audit can then look at.
    """
    if model.recipe is None:
        raise ConfigError(
            f"{model.name} does not say how it was trained, so nobody can tell whether {bank.folder} is "
            "its bank; leave the bank out"
        )
    told, have = bank.card.model_dump(), common_to(model, model.recipe)
    odd = next((words for name, words in WORDS.items() if not _same(have[name], told[name])), None)
    if odd is not None:
        raise ConfigError(
            f"{bank.folder} is a bank of {odd} than {model.name} has; build one for its original with "
            "`expunge bank build`"
        )
    known = {*bank.ids[: bank.learned]}
    lost = sum(name not in known for name in (*model.split.retain, *model.split.forget))
    if lost > bank.ids[: bank.learned].count(""):
        raise ConfigError(
            f"the models of {bank.folder} were not drawn from {lost:,} samples that {model.name} "
            "learned from; build a bank for its original with `expunge bank build`"
        )
    if lost and not purged:
        raise ConfigError(
            f"{bank.folder} was purged of {lost:,} samples that {model.name} learned from or "
            "forgot, so it can say nothing of them; audit before a purge, or leave the bank out"
        )


def _same(found: Any, told: Any) -> bool:
    """Texts may be digests that an earlier version told."""
    both = isinstance(found, str) and isinstance(told, str)
    return same_digest(found, told) if both else found == told


def check_precision(bank: Bank, model: Trained, place: Place) -> None:
    """Raise ConfigError on a machine whose models would be others than those of the bank.

    model: the bank's original, or what it became.
    """
    if model.recipe is None:  # of which there is no bank
        return
    device = accelerator_on(place.device).device
    here = resolve_precision(model.recipe.precision, model.model, device)
    if here != bank.card.precision:
        raise ConfigError(
            f"the bank is trained in {bank.card.precision}, and the machine at work trains in {here}; "
            "take machines of one kind"
        )
