"""The card and the split of a model folder: everything about a model but its weights, as plain data."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from expunge.data.columns import TableEncoding
from expunge.data.drawing import Drawing, Filter, Ground
from expunge.data.parts import SPLIT_PARTS
from expunge.data.pseudonyms import keys_folder
from expunge.disk.ours import FolderKind, check_replaceable
from expunge.disk.reading import MIB, UnreadableError, check_regular, read_json, reading
from expunge.disk.whole import recover, short_of
from expunge.errors import ModelError, SplitError, UserError
from expunge.names.code import check_name
from expunge.names.libraries import names_code
from expunge.trained.record import Record
from expunge.training.kept import GROUP, file_of

FORMAT = 6
READABLE = (1, 2, 3, 4, 5, 6)
"""Format 1 knew no task and no artifacts, and its records no warnings; 2 kept salted hashes of redacted
ids in place of pseudonyms, and half of each digest; 3 did not say what each request had struck, and knew
no test set but the data's own and drawn ones; 4 knew no method that takes part in training;
5 kept the first digits of fingerprints and of digests of splits (`expunge.names.digests`)."""
AGAIN = "copy the whole folder again"
SPLIT_BYTES, MOST_ENTRIES = 128 * MIB, 10_000
"""Of a split's file; of one mapping in a card, each of whose entries may be wrong."""
SHORT, LONG, MOST_STEPS = 500, 4096, 1000
Short = Annotated[str, Field(max_length=SHORT)]
Long = Annotated[str, Field(max_length=LONG)]
Digest = Annotated[str, Field(pattern=r"^([0-9a-f]{32}|[0-9a-f]{64})?$")]
Extent = Annotated[int, Field(ge=1, lt=2**40)]
Positive = Annotated[float, Field(gt=0)]

CARD, SPLIT, TOKENIZER = "model.json", "split.json", "tokenizer"
ABOUT = ("digest", "salt", "pseudonyms")
"""Texts of a split beside its ids."""
WEIGHTS, MASK, ARTIFACTS = "model.safetensors", "mask.safetensors", "artifacts/tensors.safetensors"
STATISTIC = "artifacts/statistic-{}.safetensors"
"""Of the model that lies there, by the statistic's name: no card speaks of it."""
_STATISTIC = re.compile(r"artifacts/\.?statistic-[a-z_.]+\.(safetensors|expunge-new-[0-9a-f]{8})")
ARTIFACTS_FOLDER = "artifacts"
FOLDER = FolderKind(
    "model folder",
    CARD,
    re.compile(
        r"(model|split|ledger)\.json|(model|mask)\.safetensors|artifacts/([a-z0-9_-]+\.safetensors)?"
        r"|artifacts/\.statistic-[a-z_.]+\.expunge-new-[0-9a-f]{8}"
        r"|tokenizer/([\w-][\w.-]*)?"
    ),
)


class DataCard(BaseModel):
    """Which data a model was trained on. data_dir is a hint: another machine has another.

    task: `module:Class` of what a sample's loss and the model's output mean; None: classification.
    resize, ground: how encoded images became pixels, `data.drawing.Drawing`; of folders that do not say,
    as it was done then.
    test: data that it is tested on, "none" for no test set; None: their own, or what was drawn of them.
    table: which inputs the columns of a table are; None for other data.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    spec: Long | None
    data_dir: Long | None = None
    fingerprint: Short
    positional: bool
    test_fingerprint: Short
    task: Short | None = None
    test: Long | None = None
    resize: Filter = "bilinear"
    ground: Ground | None = None
    table: TableEncoding | None = None

    @property
    def drawing(self) -> Drawing:
        """How encoded images became pixels."""
        return Drawing(self.resize, self.ground)


class HubCard(BaseModel):
    """What makes a model of transformers again.

    kind: what it classifies. config: its settings, classes left out. base: folder or name of pretrained
    weights that a fresh one begins with, and their digest; empty: none. length: the most tokens of a
    text. files: of the tokenizer, name -> digest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["text", "image"]
    config: dict[Short, Any]
    base: Long = ""
    digest: Digest = ""
    length: Extent | None = None
    files: dict[Short, Digest] = Field(default_factory=dict)


class TrainingCard(BaseModel):
    """The method that a model was trained by: its name or `module:Class`, and its settings."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: Short
    settings: dict[Short, Any] = Field(default_factory=dict)


class KeptCard(BaseModel):
    """A group of tensors that this method kept: the digest of its file, and whose it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    private: bool = False


class ModelCard(BaseModel):
    """Everything about a model but its weights.

    architecture: a name or `module:function`; None for a module made in Python, which must be
    given again to load. shape: of one input. seed: of the original training. lineage: how it came
    about, oldest first. weights, mask, artifacts: digests of these files, empty where there is none.
    hub: of a model of transformers alone. trained_by: a method that took part in training; None where
    none did. kept: what it keeps, by name, in artifacts/.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    format: int = FORMAT
    architecture: Short | None
    shape: Annotated[tuple[Extent, ...], Field(max_length=16, fail_fast=True)]
    classes: Annotated[tuple[str, ...], Field(min_length=1, fail_fast=True)]
    data: DataCard
    mean: Annotated[tuple[float, ...], Field(fail_fast=True)] | None = None
    std: Annotated[tuple[Positive, ...], Field(fail_fast=True)] | None = None
    recipe: dict[str, Any] | None = None
    seed: int | None = None
    split_seed: int | None = None
    lineage: Annotated[
        tuple[Record, ...], Field(min_length=1, max_length=MOST_STEPS, fail_fast=True)
    ]
    weights: Digest = ""
    mask: Digest = ""
    artifacts: Digest = ""
    hub: HubCard | None = None
    trained_by: TrainingCard | None = None
    kept: dict[Annotated[str, Field(pattern=GROUP)], KeptCard] = Field(default_factory=dict)


def read_split(folder: Path) -> dict[str, Any]:
    """The split of a model folder as plain data, checked: lists of texts, and what names its key."""
    file = folder / SPLIT
    split = _read_json(file, SplitError, most=SPLIT_BYTES)
    for name in (*SPLIT_PARTS, *(["test"] if "test" in split else [])):
        ids = split.get(name)
        if not isinstance(ids, list):
            raise SplitError(f"{file} lacks a list {name!r}; {AGAIN}")
        if set(map(type, ids)) - {str} or max(map(len, ids), default=0) > LONG:
            raise SplitError(f"{file}: {name!r} holds an id that is no text of a line; {AGAIN}")
    _check_struck(file, split.get("struck", []))
    odd = split.keys() - {*SPLIT_PARTS, "test", "struck", *ABOUT}
    if odd:
        raise SplitError(f"{file} has {min(odd)[:SHORT]!r}, which no split has; {AGAIN}")
    for name in ABOUT:
        if not isinstance(split.get(name, ""), str):
            raise SplitError(f"{file}: {name!r} is no text; {AGAIN}")
    return split


def _check_struck(file: Path, struck: object) -> None:
    """Raise SplitError for what is no list of what each request of a chain struck."""
    listed = isinstance(struck, list) and len(struck) <= MOST_STEPS
    for one in struck if isinstance(struck, list) and listed else [None]:
        found: dict[str, Any] = one if isinstance(one, dict) else {}
        parts = [found.get("forgotten"), found.get("aside")]
        texts = [text for part in parts if isinstance(part, list) for text in part]
        whole = all(isinstance(part, list) for part in parts)
        if not whole or not all(isinstance(text, str) for text in (found.get("request"), *texts)):
            raise SplitError(f"{file}: 'struck' is no list of what requests struck; {AGAIN}")


def read_card(folder: Path) -> ModelCard:
    """The card of a model folder, checked. Raises ModelError for what is none."""
    file = folder / CARD
    recover(folder)  # a kill may have left it without its name
    with reading(file, AGAIN, ModelError):
        if not os.path.lexists(file):
            what = f"is not a model folder (no {CARD})" if folder.exists() else "does not exist"
            raise ModelError(f"{folder} {what}; make one with `expunge train` or `expunge import`")
    content = _read_json(file, ModelError)
    version = content.get("format")
    if type(version) is not int or version not in READABLE:
        raise ModelError(
            f"{folder} has format {str(version)[:20]}, this version reads up to {FORMAT}; install the "
            "version of expunge that wrote it"
        )
    with reading(file, AGAIN, ModelError):
        _check_breadth(content)
        try:
            card = ModelCard.model_validate(content | {"format": FORMAT})
        except ValidationError as error:
            problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
            name = ".".join(str(part) for part in problem["loc"])[:100]
            raise ModelError(f"{file}: {name}: {problem['msg']}; {AGAIN}") from error
    if (card.mean is None) != (card.std is None):
        raise ModelError(f"{file} has one of mean and std alone; {AGAIN}")
    if version > 1 and not card.weights:
        raise ModelError(f"{file} does not say what its weights are (their digest); {AGAIN}")
    return card


def check_files(folder: Path, card: ModelCard) -> None:
    """Raise ModelError for a folder that lacks a file which its card speaks of, or has one too many."""
    known = {WEIGHTS: True, MASK: bool(card.mask), ARTIFACTS: bool(card.artifacts)}
    for name, digest in (card.hub.files if card.hub is not None else {}).items():
        file = folder / TOKENIZER / name
        if "/" in name or not os.path.lexists(file):
            raise ModelError(f"{folder} has no {TOKENIZER}/{name[:SHORT]}; {AGAIN}")
        with reading(file, AGAIN, ModelError):
            check_regular(file, within=folder)
            if digest_file(file) != digest:
                raise UnreadableError("it is not the file that model.json describes")
    for name, expected in known.items():
        file = folder / name
        if expected and not os.path.lexists(file):
            raise ModelError(f"{folder} has no {name}; {AGAIN}")
        if expected:
            with reading(file, AGAIN, ModelError):
                check_regular(file, within=folder)
        elif os.path.lexists(file):
            raise ModelError(f"{folder} has {name}, of which its {CARD} does not speak; {AGAIN}")
    # what a method keeps may have stayed elsewhere: it is missed where it is needed
    told = {
        f"{ARTIFACTS_FOLDER}/{file_of(name, one.private)}" for name, one in card.kept.items()
    } | {ARTIFACTS}
    beside = {f"{ARTIFACTS_FOLDER}/{name}" for name in _listed(folder / ARTIFACTS_FOLDER)}
    if odd := sorted(one for one in beside - told if not _STATISTIC.fullmatch(one)):
        raise ModelError(
            f"{folder} has {odd[0][:SHORT]}, of which its {CARD} does not speak; {AGAIN}"
        )


def _listed(folder: Path) -> list[str]:
    """Names in a folder, none of one that is not there."""
    try:
        return os.listdir(folder)
    except OSError:
        return []


def check_code(card: ModelCard, *, allow_code: bool) -> None:
    """Raise ModelError for an architecture that nobody named, or that is code without consent."""
    if card.architecture is None:
        raise ModelError(
            "the model folder does not say how to build its model, which was made in Python; load it "
            "there with fresh=..."
        )
    if names_code(card.architecture) and not allow_code:
        check_name(card.architecture, allow_code=False, what="model", error=ModelError)


def check_target(target: Path, *, overwrite: bool, apart: Mapping[str, Path] | None = None) -> None:
    """Raise ModelError early if a folder could not be written later, or must not be replaced.

    apart: folders, by what they are, that it must not be, hold or lie in.
    """
    if os.path.lexists(target / "cell.json"):
        raise ModelError(f"{target} is a cell of a study; choose another name")
    # a key to pseudonyms does not lie in what it opens
    away = {**(apart or {}), "the folder of keys": keys_folder()}
    check_replaceable(target, FOLDER, overwrite=overwrite, error=ModelError, apart=away)


def check_room(target: Path, source: Path | None, *, models: int = 1) -> None:
    """Raise ModelError early where so many models as large as that of `source` would not fit beside
    the target; nothing of a source that is no folder.
    """
    if source is None or not (source / WEIGHTS).is_file():
        return
    kept = (source / ARTIFACTS_FOLDER / name for name in _listed(source / ARTIFACTS_FOLDER))
    size = (source / WEIGHTS).stat().st_size + sum(
        one.stat().st_size for one in kept if one.is_file()
    )
    if (why := short_of(target, models * size)) is not None:
        raise ModelError(f"{target} has no room ({why}); make some, or choose another folder")


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Plain data as a JSON file. What UTF-8 has no signs for is escaped."""
    fields = (f" {json.dumps(name)}: {_indented(value)}" for name, value in content.items())
    text = "{\n" + ",\n".join(fields) + "\n}\n"
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _indented(value: Any) -> str:
    """A field's value as JSON, a line for each part."""
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        # ids are many, and json is slow where it has to indent: so this it does not know of
        lines = json.dumps(value, ensure_ascii=False, separators=(",\n  ", ": "))
        return f"[\n  {lines[1:-1]}\n ]"
    return json.dumps(value, indent=1, ensure_ascii=False).replace("\n", "\n ")


def _read_json(file: Path, error: type[UserError], **limits: int) -> dict[str, Any]:
    with reading(file, AGAIN, error):
        content = read_json(file, within=file.parent, **limits)
    if not isinstance(content, dict):
        raise error(f"{file} does not hold an object; {AGAIN}")
    return content


def _check_breadth(value: Any) -> None:
    """Raise UnreadableError for a mapping larger than any in a card."""
    if isinstance(value, dict) and len(value) > MOST_ENTRIES:
        raise UnreadableError(f"a part of it has {len(value):,} entries")
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            _check_breadth(one)
