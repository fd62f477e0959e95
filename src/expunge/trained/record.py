"""How a model came about: one record for each step, oldest first."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from expunge.data.pseudonyms import Key
from expunge.scores.table import NEAR_EMPTY
from expunge.trained.telling import names_any, tells
from expunge.training.cost import Cost
from expunge.version import VERSION

if TYPE_CHECKING:
    from expunge.data.answer import Answered

SeedNames = tuple[str | int, ...]


def now() -> str:
    """The time, to the second, as records have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Record(BaseModel):
    """One step in the making of a model.

    Attributes:
        step: "train", "import", "prune" or the method's name.
        parent: digest of the weights that it began with, where these were saved.
        settings: of the recipe, the pruner or the method.
        names: the seed names.
        split: digest of the split after it, keyed in a redacted folder.
        forgotten: how many samples it forgot.
        request: what the request that it met is called; empty in records of earlier versions.
        asked: the request as typed; empty in a redacted folder.
        scope, guarantee: of the method, with its settings; empty in records of other steps, and of
            earlier versions.
        cost: see `Cost`.
        warnings: what a person should know, one sentence each.
        log: what else was found on the way.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: str
    parent: str | None = None
    settings: dict[str, Any] = {}
    names: Annotated[SeedNames, Field(fail_fast=True)] = ()
    date: str = Field(default_factory=now)
    version: str = VERSION
    split: str = ""
    forgotten: int = 0
    request: str = ""
    asked: str = ""
    scope: str = ""
    guarantee: str = ""
    cost: Cost = Cost(0.0)
    warnings: Annotated[tuple[str, ...], Field(fail_fast=True)] = ()
    log: dict[str, Any] = {}


History = tuple[Record, ...]


COPIES = "exact_copies"
"""In a log: pairs of ids, what was forgotten and the exact copy of it that stays."""
SHOWN_COPIES = 20
"""Of these."""
ANSWER, ANSWERED = "answer", "answered_ids"
"""In a log: how many samples of each kind the request named; some of those that were not forgotten."""
OUR_STEPS = (
    *("train", "import", "prune", "retrain", "finetune", "gradient_ascent"),
    *(
        "neggrad_plus",
        "l1_sparse",
        "influence",
        "fisher",
        "unsir",
        "random_label",
        "salun",
        "scrub",
    ),
    *("perturb", "msg", "ssd", "delete", "euk", "cfk", "amun", "bad_teacher", "lotus"),
    *("boundary_shrink", "boundary_expand", "sfron", "certified_head", "sisa", "noisy_finetune"),
    *("fcs", "regun", "fine_pruning", "anp", "ibau"),
    *("head_zeroed", "last_epoch"),
)
"""Steps whose log and warnings name no sample but in `COPIES`: what others log, nobody knows."""
Pairing = Literal["batches", "order", "none"]
"""What a retraining shares with a training. batches: initial weights, order, batches and augmentation,
so that only the removal differs. order: initial weights and order, but batches are filled up again, as
earlier versions did it. none: not even the initial weights."""
LEFT_OUT = "left out, for it may name samples"
BY_PLACE = "request-"
"""Begins the name of a request that nobody named."""
_PATHS = re.compile(r"(?<![\w.])(~|\.{1,2})?(/[^\s/'\";,:()]+){2,}/?")
_NAMED_COPIES = re.compile(r"(stay in the retain set): .*\(copy of .*", re.DOTALL)
_OF_ANY_REQUEST = re.compile(
    r"only \d+ samples to forget: scores [a-z ,]+ under \d+"
    r"|\d+ exact copies of forget samples stay in the retain set(; add them [a-z ]+)?"
    r"|[\d,]+ of the [\d,]+ samples asked for are (of the test set|unknown): [a-z ,]+"
)
"""Warnings that any request may have; their numbers are no ids."""


def next_name(place: int, taken: Collection[str]) -> str:
    """What a request is called by its place in the chain, counted from 1, or the next that is free."""
    return next(name for at in count(place) if (name := f"{BY_PLACE}{at}") not in taken)


def neutral_names(history: Sequence[Record]) -> dict[str, str]:
    """Names of requests that somebody chose -> those by their places, which say nothing."""
    names = [one.request for one in history if one.forgotten]
    taken, found = set(names), {}
    for place, name in enumerate(names, start=1):
        if name and not re.fullmatch(rf"{BY_PLACE}\d+", name):
            found[name] = next_name(place, taken)
            taken.add(found[name])
    return found


def without_ids(
    record: Record, key: Key, ids: Collection[str], names: Mapping[str, str] = MappingProxyType({})
) -> Record:
    """A record as a redacted folder keeps it: no id is in it, and no digest that can be guessed.

    ids: of the samples that it may name. names: of requests -> what they are called there.
    """
    warnings = tuple(_PATHS.sub("...", _NAMED_COPIES.sub(r"\1", one)) for one in record.warnings)
    log = {name: value for name, value in record.log.items() if name not in (COPIES, ANSWERED)}
    if record.step not in OUR_STEPS:
        log = {}
        warnings = tuple(
            f"a warning was {LEFT_OUT}"
            if (names_any(one, ids) or tells(one, ids)) and not _OF_ANY_REQUEST.fullmatch(one)
            else one
            for one in warnings
        )
    return record.model_copy(
        update={
            "log": log,
            "warnings": warnings,
            "settings": {
                name: _told(value, ids, record) if record.step != "import" else LEFT_OUT
                for name, value in record.settings.items()
            },
            "split": key.digest(record.split),
            "asked": "",
            "request": names.get(record.request, record.request),
        }
    )


def _told(value: Any, ids: Collection[str], record: Record) -> Any:
    """A setting as it is told: a single number, or what names no sample and no path."""
    if isinstance(value, str):
        return LEFT_OUT if names_any(value, ids) or "/" in value else value
    if isinstance(value, Mapping):
        return {
            LEFT_OUT if names_any(str(name), ids) else name: _told(one, ids, record)
            for name, one in value.items()
        }
    if isinstance(value, list | tuple):
        rows = record.step not in OUR_STEPS and any(names_any(str(one), ids) for one in value)
        return LEFT_OUT if rows else [_told(one, ids, record) for one in value]
    return value


def saw_data(history: Sequence[Record]) -> bool | None:
    """Whether the mask of a sparse model was found with sight of training data; None: unknown."""
    steps = [record.log for record in history if record.step == "prune"]
    if not steps:
        return None
    return any(bool(log.get("saw_data", True)) for log in steps)


def began_anew(record: Record) -> bool:
    """Whether a step left nothing of the model before it, and read no struck sample: a retraining."""
    return record.step == "retrain" or (record.step == "euk" and record.guarantee == "exact")


def proved(history: Sequence[Record]) -> str:
    """What is proved of a model's forgetting: of each request since it was last trained anew.

    "none" where one of the methods proves nothing, or nobody recorded what it proves; empty for a model
    that forgot nothing.
    """
    claims: list[str] = []
    for record in history:
        if began_anew(record):
            claims = []
        if record.forgotten:
            claims.append(record.guarantee or ("exact" if record.step == "retrain" else "none"))
    unproved = [one for one in claims if one.startswith("none")]
    return unproved[-1] if unproved else ", then ".join(dict.fromkeys(claims))


def initial_names(history: Sequence[Record]) -> SeedNames | None:
    """Seed names of the training that a model began with; None for one imported or pruned."""
    names: SeedNames | None = None
    for record in history:
        if record.step in ("train", "retrain"):
            names = record.names
        if record.step == "prune":  # it begins with weights that were rewound
            names = None
    return names


def pairing(history: Sequence[Record], retrained: Sequence[Record]) -> Pairing | None:
    """What a retrained model's training shares with that which another began with.

    None where nobody knows: the other was imported, or began with weights that were rewound.
    """
    theirs = initial_names(retrained)
    steps = [one for one in history if one.step in ("train", "retrain")] or [history[0]]
    mine = steps[-1].names if steps[-1].step in ("train", "retrain", "prune") else None
    if not theirs or not mine:
        return None
    if theirs != mine:
        return "none"
    if initial_names(history) is None:
        return None
    trained = [row for row, one in enumerate(retrained) if one.step in ("train", "retrain")]
    last = retrained[trained[-1]]
    between = retrained[trained[-2] + 1 : trained[-1]] if len(trained) > 1 else ()
    if any(one.forgotten for one in between):  # its batches are those of what was left by then
        return "order"
    struck = [one.settings.get("paired") is True for one in (steps[-1], last)]
    return "batches" if struck == [False, True] else "order"


def warnings_for(answer: Answered, copies: Sequence[tuple[str, str]]) -> list[str]:
    """What a person should know about a forget request before trusting its scores.

    copies: pairs of ids, what is forgotten and the exact copy of it that stays. No id is in a warning,
    for warnings stand in folders that keep hashes alone.
    """
    found, count = [], len(answer.split.forget)
    if count < NEAR_EMPTY and not answer.unnamed:
        found.append(
            f"only {count} samples to forget: scores come with wide intervals, and no "
            f"verdict on forgetting is given under {NEAR_EMPTY}"
        )
    if copies:
        found.append(
            f"{len(copies)} exact copies of forget samples stay in the retain set; add them to the "
            "request if they belong to it"
        )
    return [*found, *answer.warnings]


def told_of(answer: Answered, copies: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """What a record's log says of the request itself. copies: as `warnings_for` takes them."""
    found = {ANSWER: answer.plain(), ANSWERED: answer.names(), COPIES: copies[:SHOWN_COPIES]}
    return {name: value for name, value in found.items() if value}
