"""The gate: the checks that a model must pass, in a file that is fixed before anything is measured.

    scores: {UA: 5, RA: 2, TA: 2, MIA: 5}
    whole_classes: {probe: 5}

Its digest stands wherever a verdict does. Another file makes another gate, and the old one stays.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from sqlalchemy import Connection, insert, select

from expunge.audits import AUDITS
from expunge.disk.reading import read_yaml, reading
from expunge.errors import ConfigError, RequestError, listed, nearest
from expunge.requests.events import canonical, sha256
from expunge.requests.ledger import Ledger
from expunge.requests.tables import gates
from expunge.scores.finding import ALPHA, ENOUGH
from expunge.scores.joint import OUTPUTS
from expunge.scores.margins import LEAST, STATED, Margins
from expunge.scores.table import AVERAGED, SCORES

DrawKind = Literal["random", "class"]
"""Of requests: samples here and there, or one whole class."""
CURRENT = "gate"
"""The setting of a ledger that names the gate which holds."""
MOST_MODELS = 100
_AT_HAND = frozenset({"outputs", "model", "original"})
MAKERS: Mapping[str, str] = {
    info.name: audit.name
    for audit in AUDITS.values()
    if audit.needs <= _AT_HAND
    for info in audit.info
    if info.name in STATED.by_score
}
"""Scores that a gate may require -> the audit that makes them: no retrained model of the same forget
set is there to compare with, and no bank.
"""
BEHIND = frozenset(name for name, audit in MAKERS.items() if AUDITS[audit].family != OUTPUTS)
"""Of these, those that look behind what a model says."""


def _stated(*names: str) -> dict[str, float]:
    return {name: float(STATED.by_score[name]) for name in names}


class Gate(BaseModel):
    """What a method, and then each model that it made, must pass.

    Attributes:
        scores: required ones -> the difference from retraining that does not matter, in points.
        whole_classes: as `scores`, required besides where whole classes are forgotten; one of them
            looks behind the outputs, for a zeroed row of the last layer passes all others.
        alpha: of the two one-sided tests, and of the intervals of acceptance.
        unlearnings, retrainings: models that a qualification compares.
        acceptance: the strength of the audits of each model.
        controls: what shows that the checks work; without it nothing passes.
        expires_after: the share of what was learned that, struck since, ends a qualification.
        largest: samples of a batch, at most; null: what a qualification was made for.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    scores: dict[str, float] = Field(default_factory=lambda: _stated(*AVERAGED), min_length=1)
    whole_classes: dict[str, float] = Field(default_factory=lambda: _stated("probe"))
    alpha: float = Field(default=ALPHA, gt=0, le=ALPHA)
    unlearnings: int = Field(default=8, ge=ENOUGH, le=MOST_MODELS)
    retrainings: int = Field(default=8, ge=ENOUGH, le=MOST_MODELS)
    acceptance: Literal["quick", "standard", "thorough"] = "standard"
    controls: Literal["a stored retrain passes, the original fails"] = (
        "a stored retrain passes, the original fails"
    )
    expires_after: float = Field(default=0.05, gt=0, le=0.5)
    largest: int | None = Field(default=None, ge=1)

    @field_validator("scores", "whole_classes")
    @classmethod
    def _known(cls, margins: dict[str, float]) -> dict[str, float]:
        for name, margin in margins.items():
            if name not in MAKERS:
                raise ValueError(
                    f"a gate cannot require {name!r}{nearest(name, MAKERS)}; it can: {listed(MAKERS)}"
                )
            least = LEAST if SCORES[name].unit == "percent" else 0.0
            if not (math.isfinite(margin) and margin > 0 and margin >= least):
                wanted = f"{LEAST:g} point or more" if least else "a number above 0"
                raise ValueError(f"{name}: {margin:g} is no margin; give {wanted}")
        return margins

    @model_validator(mode="after")
    def _looks_behind(self) -> Gate:
        if BEHIND.isdisjoint((*self.scores, *self.whole_classes)):
            raise ValueError(
                "whole_classes requires no score that looks behind the outputs, and a model whose last "
                f"layer alone was changed would pass; add one of {listed(sorted(BEHIND))}"
            )
        return self

    def required(self, kind: DrawKind) -> dict[str, float]:
        """Score -> margin, for requests of a kind, in the order of the table of scores."""
        own = {**self.scores, **(self.whole_classes if kind == "class" else {})}
        return {name: own[name] for name in MAKERS if name in own}

    @property
    def margins(self) -> Margins:
        """For audits: these, and the stated ones of all other scores."""
        return Margins({**STATED.by_score, **self.whole_classes, **self.scores})

    @property
    def spec(self) -> str:
        """The one text that stands for it, whatever the order of its file."""
        return canonical(self.model_dump(mode="json"))

    @property
    def digest(self) -> str:
        """Full SHA-256 of `spec`."""
        return sha256(self.spec)


def read_gate(file: str | Path | None = None) -> Gate:
    """A gate of a YAML file; what it leaves out is as by default, and so is all without a file.

    Raises ConfigError, which names the file, the field and the remedy.
    """
    if file is None:
        return Gate()
    with reading(file, "give a YAML file of a gate, such as `scores: {UA: 5}`", ConfigError):
        content, _ = read_yaml(Path(file))
    if not isinstance(content, dict):
        raise ConfigError(f"{file} holds no gate; write one field a line, such as `alpha: 0.05`")
    return _checked(content, str(file))


def _checked(content: Mapping[str, Any], file: str) -> Gate:
    try:
        return Gate.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        close = nearest(name, Gate.model_fields)
        raise ConfigError(
            f"{file}: there is no field {name!r}{close}; there are: {listed(Gate.model_fields)}"
        )
    said = str(problem["msg"]).removeprefix("Value error, ")
    said = said[:1].lower() + said[1:]
    raise ConfigError(f"{file}: {name}: {said}" if name else f"{file}: {said}")


def define(ledger: Ledger, gate: Gate, *, actor: str | None = None) -> str:
    """Fix a gate: it holds from now on, and its digest is returned; again, it changes nothing."""
    digest = gate.digest
    with ledger.write(actor) as writing:
        there = writing.connection.scalar(select(gates.c.digest).where(gates.c.digest == digest))
        if there is None:
            event = writing.event("gate defined", {"gate": digest, "spec": gate.spec})
            row = {"digest": digest, "spec": gate.spec, "committed_at": writing.at}
            writing.connection.execute(insert(gates).values(**row, event=event.seq))
        if ledger.setting_in(writing.connection, CURRENT) != digest:
            ledger.set(writing, CURRENT, digest)
    return digest


def current_gate(ledger: Ledger, connection: Connection) -> Gate:
    """The gate that holds. Raises RequestError where none is fixed, or its row was changed."""
    digest = ledger.setting_in(connection, CURRENT)
    if not digest:
        raise RequestError("no gate is fixed yet; fix one with `expunge gate define`")
    return gate_of(connection, digest)


def gate_of(connection: Connection, digest: str) -> Gate:
    """A gate by its digest. Raises RequestError where its row is gone or was changed."""
    spec = connection.scalar(select(gates.c.spec).where(gates.c.digest == digest))
    if spec is None or sha256(spec) != digest:
        raise RequestError(
            f"the gate {digest[:12]} is not in the ledger as it was fixed; bring it back from a backup"
        )
    return _checked(json.loads(spec), f"the gate {digest[:12]}")
