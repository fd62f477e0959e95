"""What the small files of a study must hold, checked when they are read: cells, failures, data.

Cells of earlier versions lack some of it, and pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from expunge.disk.reading import UnreadableError
from expunge.names.text import clean_name
from expunge.scores.words import AuditWord
from expunge.study.cells import Facts, Kind, is_key

_Number = Annotated[float, Field(ge=-1e30, le=1e30, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, le=10**15)]
_Key = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
_Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
BINS = 20
"""Of a histogram in a cell's details, as `audits.details` makes them; that module imports torch."""
_Names = Annotated[list[str], Field(max_length=10**6)]


class _Part(BaseModel):
    """JSON has its types: nothing is made into another. What is not named here may be anything."""

    model_config = ConfigDict(strict=True, frozen=True, extra="allow")


class _Detail(_Part):
    m: _Count | None = None
    steps: _Count | None = None
    reached: bool | None = None
    retrained_reached: bool | None = None


class _Finding(_Part):
    word: AuditWord
    why: str
    p: _Number | None = None
    decidable: bool = True


class _Score(_Part):
    name: str
    value: _Number | None
    low: _Number | None = None
    high: _Number | None = None
    n: _Count
    unit: str | None = None
    target: str | None = None
    reference: _Number | None = None
    bound: Literal["at least", "at most"] | None = None
    reference_bound: Literal["at least", "at most"] | None = None
    detail: _Detail | None = None
    finding: _Finding | None = None


class _Cost(_Part):
    seconds: _Number
    device: str


class _Sample(_Part):
    id: str
    label: str
    predicted: str
    probability: _Number
    true_probability: _Number


class _Details(_Part):
    class_accuracy: list[_Number | None]
    confidence: dict[str, Annotated[list[_Count], Field(min_length=BINS, max_length=BINS)]]
    gallery: list[_Sample]
    classes: _Names


class _Cell(_Part):
    kind: Kind
    config: dict[str, Any]
    needs: list[_Key]
    seed: int
    scores: list[_Score]
    cost: _Cost
    warnings: list[str]
    log: dict[str, Any]
    date: str
    version: str
    torch: str
    machine: str = ""
    source: str = ""
    audits: dict[str, str] = {}
    made_from: dict[_Key, str] = {}
    recipe: dict[str, Any] | None = None
    saw_data: bool | None = None
    details: _Details | None = None
    forgotten_classes: _Names = []
    whole_classes: bool | None = None
    files: dict[str, _Digest] = {}


class Failure(_Part):
    """A cell that could not be made.

    Attributes:
        error: type of what was raised.
        message: of that.
        run: the run in which it was.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    error: str
    message: str
    run: str


class _Attempt(_Part):
    run: str


class _Source(_Part):
    """Of data: fingerprints and classes. Of a request that points to a file: a digest of that."""

    fingerprints: Annotated[list[str], Field(min_length=2, max_length=2)] | None = None
    classes: _Names | None = None
    content: str | None = None


_SOURCES = TypeAdapter(dict[str, _Source])


def check_cell(content: Any, key: str) -> dict[str, Any]:
    """What a cell's file holds, as it is. Raises UnreadableError for what no cell says, or one of
    another key than its own: the key stands for everything that the result depends on.
    """
    try:
        cell = _Cell.model_validate(content)
    except ValidationError as error:
        raise UnreadableError(_first(error)) from None
    if not is_key(key, cell.kind, cell.config, cell.needs):
        raise UnreadableError("it is another cell's, or its config was changed")
    found: dict[str, Any] = content
    return found


def check_failure(content: Any) -> Failure:
    """Why a cell could not be made. Raises UnreadableError for what is none."""
    try:
        return Failure.model_validate(content)
    except ValidationError as error:
        raise UnreadableError(_first(error)) from None


def check_attempt(content: Any) -> str:
    """The run that began a cell. Raises UnreadableError for what no note of that says."""
    try:
        return _Attempt.model_validate(content).run
    except ValidationError as error:
        raise UnreadableError(_first(error)) from None


def check_sources(content: Any) -> tuple[dict[str, Facts], dict[str, str]]:
    """What a run found its data to be, by specification, and digests of what its requests point to.

    Raises UnreadableError for what is none.
    """
    try:
        found = _SOURCES.validate_python(content)
    except ValidationError as error:
        raise UnreadableError(_first(error)) from None
    facts = {
        spec: Facts((one.fingerprints[0], one.fingerprints[1]), tuple(one.classes))
        for spec, one in found.items()
        if one.fingerprints is not None and one.classes is not None
    }
    return facts, {text: one.content for text, one in found.items() if one.content is not None}


def plain_sources(facts: Mapping[str, Facts], contents: Mapping[str, str]) -> dict[str, Any]:
    """The same as plain data."""
    found: dict[str, dict[str, Any]] = {
        spec: {"fingerprints": list(one.fingerprints), "classes": list(one.classes)}
        for spec, one in facts.items()
    }
    for text, digest in contents.items():
        found.setdefault(text, {})["content"] = digest
    return found


def _first(error: ValidationError) -> str:
    """Where the first mistake is, and what it is."""
    problem = error.errors()[0]
    place = ".".join(str(part) for part in problem["loc"])
    said = problem["msg"][:1].lower() + problem["msg"][1:]
    return clean_name(f"{place}: {said}" if place else said)
