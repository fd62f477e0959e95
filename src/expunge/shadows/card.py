"""What decides the models of a bank: a bank is used for no other original."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from expunge.errors import ConfigError
from expunge.methods import Method
from expunge.models.hub import HubModel
from expunge.trained.trained import Trained
from expunge.training.precision import resolve_precision
from expunge.training.recipe import Recipe
from expunge.version import VERSION

FORMAT = 1


class BankCard(BaseModel):
    """bank.json.

    data, test: fingerprints. inputs: mean and standard deviation of each channel by which they are
    normalised. architecture: its name, or how the module prints; base: digest of what it starts from,
    of a pretrained one. precision: of training, as it is on the machine that builds. mask: digest of a
    sparse original's. learned, validation: digests of the ids that the original learned from, and of
    those that were held out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(ge=1, le=FORMAT)
    version: str
    seed: int
    data: str
    test: str
    inputs: tuple[tuple[float, ...], tuple[float, ...]] | None
    architecture: str
    base: str
    recipe: dict[str, Any]
    precision: str
    mask: str
    learned: str
    validation: str

    def digest(self) -> str:
        """SHA-256 of all of it but the version, 64 hexadecimal digits."""
        text = json.dumps(self.model_dump(mode="json", exclude={"version"}), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def check_told(
    name: str,
    *,
    recipe: bool,
    forgot: bool,
    redacted: bool,
    trained_by: Method | None,
) -> None:
    """Raise ConfigError for a model that no bank is made for; all of it stands in its folder's papers.

    recipe: whether it says how it was trained. forgot: whether it was made to forget anything.
    """
    if redacted:
        raise ConfigError(
            f"{name} is redacted, and a bank holds ids; give the folder before it was, or none"
        )
    if forgot:
        raise ConfigError(
            f"{name} has forgotten, and a bank is of the model before; give the folder that it was made "
            "from: its bank serves all that is forgotten from it"
        )
    if trained_by is not None:
        raise ConfigError(
            f"{name} was trained by {trained_by.name}, and a bank trains plain models; audits that need "
            "a bank cannot judge it"
        )
    if not recipe:
        raise ConfigError(
            f"{name} does not say how it was trained, and a bank trains such models; import it with "
            "--recipe"
        )


def recipe_of(original: Trained) -> Recipe:
    """How an original was trained. Raises ConfigError for a model that no bank can be made for."""
    recipe = original.recipe
    check_told(
        original.name,
        recipe=recipe is not None and original.fresh is not None,
        forgot=bool(original.split.forget or original.struck),
        redacted=original.redacted,
        trained_by=original.trained_by,
    )
    if recipe is None:  # which was just refused
        raise ConfigError(f"{original.name} has no recipe")
    return recipe


def card_of(original: Trained, seed: int, device: torch.device) -> BankCard:
    """The card of a bank for a model. Raises ConfigError as `recipe_of` does."""
    recipe = recipe_of(original)
    return BankCard(
        format=FORMAT,
        version=VERSION,
        seed=seed,
        **told_of(original, recipe),
        precision=resolve_precision(recipe.precision, original.model, device),
        learned=_digest(original.split.retain),
        validation=_digest(original.split.validation),
    )


def told_of(model: Trained, recipe: Recipe) -> dict[str, Any]:
    """What a model and all that is made of it by forgetting have in common, as a card has it."""
    normal, made = model.data.normalisation, model.fresh
    return {
        "data": model.data.train.fingerprint,
        "test": model.data.test.fingerprint,
        "inputs": None if normal is None else (tuple(normal.mean), tuple(normal.std)),
        "architecture": model.architecture or repr(model.model),
        "base": made.digest if isinstance(made, HubModel) else "",
        "recipe": recipe.model_dump(mode="json"),
        "mask": _mask_digest(model),
    }


def _digest(ids: Iterable[str]) -> str:
    return hashlib.sha256("\x1f".join(sorted(ids)).encode()).hexdigest()


def _mask_digest(model: Trained) -> str:
    """Of a sparse model's mask; empty of a dense one."""
    if model.mask is None:
        return ""
    digest = hashlib.sha256()
    for name, kept in sorted(model.mask.items()):
        digest.update(f"{name}\x1f{tuple(kept.shape)}\x1f".encode())
        digest.update(kept.cpu().numpy().tobytes())
    return digest.hexdigest()
