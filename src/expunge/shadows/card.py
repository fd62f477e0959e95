"""What decides the models of a bank: a bank is used for no other original."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from expunge.data.spec import UNNAMED
from expunge.data.task import task_named
from expunge.errors import ConfigError
from expunge.models.hub import HubModel
from expunge.names.digests import earlier_digest
from expunge.shadows.able import check_able
from expunge.trained.kept import OF_TORCH, code_of
from expunge.trained.trained import Trained
from expunge.training.precision import resolve_precision
from expunge.training.recipe import Recipe
from expunge.version import VERSION

FORMAT = 1
OURS = OF_TORCH | {"expunge"}


class BankCard(BaseModel):
    """bank.json.

    data, test: fingerprints. inputs: mean and standard deviation of each channel by which they are
    normalised. task: its name, or its class and settings. architecture: its name, or how the module
    prints. code: digests of the files that a task or layers of somebody's own are in. base: digest of
    what a pretrained one starts from. precision: of training, as it is on the machine that builds.
    mask: digest of a sparse original's. learned, validation: digests of the ids that the original
    learned from, and of those that were held out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(ge=1, le=FORMAT)
    version: str
    seed: int
    data: str
    test: str
    inputs: tuple[tuple[float, ...], tuple[float, ...]] | None
    task: str
    architecture: str
    code: tuple[str, ...]
    base: str
    recipe: dict[str, Any]
    precision: str
    mask: str
    learned: str
    validation: str

    def digest(self) -> str:
        """SHA-256 of all of it but the version, 64 hexadecimal digits.

        Fingerprints count as earlier versions wrote them, so that banks that these began go on.
        """
        return self._digest(earlier_digest)

    def is_named(self, digest: str | None) -> bool:
        """Whether it is this card's digest, perhaps by an earlier version, which took what it had."""
        return digest in (self.digest(), self._digest(str))

    def _digest(self, taken: Callable[[str], str]) -> str:
        told = self.model_dump(mode="json", exclude={"version"})
        told |= {"data": taken(self.data), "test": taken(self.test)}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def recipe_of(original: Trained) -> Recipe:
    """How an original was trained. Raises ConfigError for a model that no bank can be made for."""
    recipe = original.recipe
    check_able(
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
        **common_to(original, recipe),
        precision=resolve_precision(recipe.precision, original.model, device),
        learned=_digest(original.split.retain),
        validation=_digest(original.split.validation),
    )


def common_to(model: Trained, recipe: Recipe) -> dict[str, Any]:
    """What a model and all that is made of it by forgetting have in common, as a card has it."""
    normal, made = model.data.normalisation, model.fresh
    return {
        "data": model.data.train.fingerprint,
        "test": model.data.test.fingerprint,
        "inputs": None if normal is None else (tuple(normal.mean), tuple(normal.std)),
        "task": _task(model),
        "architecture": model.architecture or repr(model.model),
        "code": _code(model),
        "base": made.digest if isinstance(made, HubModel) else "",
        "recipe": recipe.model_dump(mode="json"),
        "mask": _mask_digest(model),
    }


def _task(model: Trained) -> str:
    """What tells a model's task from others. Raises ConfigError for one that nothing tells."""
    task = model.data.task
    name = task_named(task, model.data.task_name)
    if name != UNNAMED:
        return name or ""
    kind = type(task)
    try:
        return f"{kind.__module__}:{kind.__qualname__} {json.dumps(vars(task), sort_keys=True)}"
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"nobody can tell the task of {model.name} from others, so no bank is its own; give it a "
            "name, as `module:object`"
        ) from error


def _code(model: Trained) -> tuple[str, ...]:
    """Digests of the files that a model's and a task's code is in, torch and Expunge not among them.

    Raises ConfigError for code that is in no file.
    """
    things = (*model.model.modules(), model.data.task)
    names = {type(one).__module__ for one in things}
    if model.architecture and ":" in model.architecture:
        names.add(model.architecture.partition(":")[0])
    names = {name for name in names if name.partition(".")[0] not in OURS}
    for name in sorted(names):
        if getattr(sys.modules.get(name), "__file__", None) is None:
            raise ConfigError(
                f"the code of {model.name} is in no file ({name}), so nobody can tell whether a bank is "
                "its own; put it into one"
            )
    return tuple(code_of(names))


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
