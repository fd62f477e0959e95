"""The card and the split of a model folder: everything about a model but its weights, as plain data."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from expunge.disk.ours import FolderKind, check_replaceable
from expunge.errors import ModelError
from expunge.names.code import check_name
from expunge.trained.record import Record

FORMAT = 2
READABLE = (1, 2)
"""Format 1 knew no task and no artifacts, and its records no warnings."""


CARD, SPLIT = "model.json", "split.json"
WEIGHTS, MASK, ARTIFACTS = "model.safetensors", "mask.safetensors", "artifacts/tensors.safetensors"
FOLDER = FolderKind(
    "model folder",
    CARD,
    re.compile(r"(model|split)\.json|(model|mask)\.safetensors|artifacts/(tensors\.safetensors)?"),
)


class DataCard(BaseModel):
    """Which data a model was trained on. data_dir is a hint: another machine has another.

    task: `module:Class` of what a sample's loss and the model's output mean; None: classification.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: str | None
    data_dir: str | None = None
    fingerprint: str
    positional: bool
    test_fingerprint: str
    task: str | None = None


class ModelCard(BaseModel):
    """Everything about a model but its weights.

    architecture: a name or `module:function`; None for a module made in Python, which must be
    given again to load. shape: of one input. seed: of the original training. lineage: how it came
    about, oldest first. weights, mask, artifacts: digests of these files, empty where there is none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    architecture: str | None
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    data: DataCard
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    recipe: dict[str, Any] | None = None
    seed: int | None = None
    split_seed: int | None = None
    lineage: tuple[Record, ...] = Field(min_length=1)
    weights: str = ""
    mask: str = ""
    artifacts: str = ""


def read_split(folder: Path) -> dict[str, Any]:
    """The split of a model folder as plain data."""
    return _read_json(folder / "split.json")


def read_card(folder: Path) -> ModelCard:
    """The card of a model folder, checked."""
    if not (folder / "model.json").is_file():
        what = "is not a model folder (no model.json)" if folder.exists() else "does not exist"
        raise ModelError(f"{folder} {what}; make one with `expunge train` or `expunge import`")
    content = _read_json(folder / "model.json")
    version = content.get("format")
    if version not in READABLE:
        raise ModelError(
            f"{folder} has format {version}, this version reads up to {FORMAT}; install the version "
            "of expunge that wrote it"
        )
    try:
        return ModelCard.model_validate(content | {"format": FORMAT})
    except ValidationError as error:
        problem = error.errors()[0]
        name = ".".join(str(part) for part in problem["loc"])
        raise ModelError(f"{folder}/model.json: {name}: {problem['msg']}") from error


def check_files(folder: Path, card: ModelCard) -> None:
    """Raise ModelError for a folder that lacks a file which its card speaks of."""
    names = [WEIGHTS, *([MASK] if card.mask else []), *([ARTIFACTS] if card.artifacts else [])]
    for name in names:
        if not (folder / name).is_file():
            raise ModelError(f"{folder} has no {name}; copy the whole folder again")


def check_code(card: ModelCard, *, allow_code: bool) -> None:
    """Raise ModelError for an architecture that nobody named, or that is code without consent."""
    if card.architecture is None:
        raise ModelError(
            "the model folder does not say how to build its model, which was made in Python; load it "
            "there with fresh=..."
        )
    if ":" in card.architecture and not allow_code:
        check_name(card.architecture, allow_code=False, what="model", error=ModelError)


def check_target(target: Path, *, overwrite: bool, apart: Mapping[str, Path] | None = None) -> None:
    """Raise ModelError early if a folder could not be written later, or must not be replaced.

    apart: folders, by what they are, that it must not be, hold or lie in.
    """
    if (target / "cell.json").exists():
        raise ModelError(f"{target} is a cell of a study; choose another name")
    check_replaceable(target, FOLDER, overwrite=overwrite, error=ModelError, apart=apart)


def digest_file(path: Path) -> str:
    """Digest of a file's bytes, 32 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:32]


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Plain data as a JSON file."""
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path} ({error}); copy the whole folder again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path} does not hold an object; copy the whole folder again")
    return content
