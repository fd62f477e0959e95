"""What decides the models of a bank: a bank is used for no other original."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from expunge.errors import ConfigError
from expunge.trained.trained import Trained
from expunge.training.precision import resolve_precision
from expunge.training.recipe import Recipe
from expunge.version import VERSION

FORMAT = 1


class BankCard(BaseModel):
    """bank.json.

    data, test: fingerprints. architecture: its name, or how the module prints. precision: of training,
    as it is on the machine that builds. learned: digest of the ids that the original learned from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(ge=1, le=FORMAT)
    version: str
    seed: int
    data: str
    test: str
    architecture: str | None
    recipe: dict[str, Any]
    precision: str
    mask: str
    learned: str

    def digest(self) -> str:
        """SHA-256 of all of it but the version, 64 hexadecimal digits."""
        text = json.dumps(self.model_dump(mode="json", exclude={"version"}), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def learned_by(original: Trained) -> tuple[str, ...]:
    """Ids that a model learned from, those that it forgot last among them."""
    return (*original.split.retain, *original.split.forget)


def check_can(original: Trained) -> Recipe:
    """How it was trained. Raises ConfigError for a model whose training nobody can repeat, or which
    keeps no ids.
    """
    if original.recipe is None or original.fresh is None:
        raise ConfigError(
            f"{original.name} does not say how it was trained, and a bank trains such models; import it "
            "with --recipe"
        )
    if original.redacted:
        raise ConfigError(
            f"{original.name} is redacted, and a bank holds ids; give the folder before it was"
        )
    return original.recipe


def card_of(original: Trained, seed: int, device: torch.device) -> BankCard:
    """The card of a bank for a model. Raises ConfigError as `check_can` does."""
    recipe = check_can(original)
    return BankCard(
        format=FORMAT,
        version=VERSION,
        seed=seed,
        data=original.data.train.fingerprint,
        test=original.data.test.fingerprint,
        architecture=original.architecture or repr(original.model),
        recipe=recipe.model_dump(mode="json"),
        precision=resolve_precision(recipe.precision, original.model, device),
        mask=_mask_digest(original),
        learned=hashlib.sha256("\x1f".join(sorted(learned_by(original))).encode()).hexdigest(),
    )


def _mask_digest(original: Trained) -> str:
    """Of a sparse original's mask; empty of a dense one."""
    if original.mask is None:
        return ""
    digest = hashlib.sha256()
    for name, kept in sorted(original.mask.items()):
        digest.update(f"{name}\x1f{tuple(kept.shape)}\x1f".encode())
        digest.update(kept.cpu().numpy().tobytes())
    return digest.hexdigest()
