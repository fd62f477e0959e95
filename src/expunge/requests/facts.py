"""What a certificate tells, part by part: plain, bounded, checked where two parts must agree.

No personal data: people are counted, ids are in a hash whose nonces lie elsewhere, whoever performed it
is an organisation and a role. Times are UTC to the second, digests are full SHA-256 in hexadecimal
digits. What a part has not is left out, so that later versions may add parts that older ones lack.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from expunge.names.text import clean_name

LONGEST, MOST = 2000, 1000
"""Letters of a text; entries of a list or a mapping."""


def _one_line(text: str) -> str:
    if clean_name(text) != text:
        raise ValueError("it holds signs that cannot be shown in a line")
    return text


def _moment(text: str) -> str:
    if datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").strftime("%Y-%m-%dT%H:%M:%SZ") != text:
        raise ValueError("it is not written as 2026-11-27T09:30:00Z")
    return text


def _day(text: str) -> str:
    if date.fromisoformat(text).isoformat() != text:
        raise ValueError("it is not written as 2026-11-27")
    return text


Text = Annotated[str, Field(min_length=1, max_length=LONGEST), AfterValidator(_one_line)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Moment = Annotated[str, AfterValidator(_moment)]
"""As 2026-11-27T09:30:00Z."""
Day = Annotated[str, AfterValidator(_day)]
"""As 2026-11-27, in the controller's time zone."""
Amount = Annotated[int, Field(ge=0, lt=2**40)]
Some = Annotated[int, Field(ge=1, lt=2**40)]
Few = Field(max_length=MOST)

ProcedureKind = Literal["retraining", "sisa", "approximate", "epsilon-delta", "none"]
"""none: the model that serves had learned nothing of it, and stays."""
Copied = Literal["old weights", "backups", "bank", "derived models"]
UNKNOWN = "this ledger knows of none"
"""Where copies are that nobody told a ledger of."""
COPIES: tuple[Copied, ...] = ("old weights", "backups", "bank", "derived models")


class CertificatePart(BaseModel):
    """A part of a certificate. A field that it does not know is refused, for whoever reads it would
    not see what was signed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_serializer(mode="wrap")
    def _as_told(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in plain(self).items() if value is not None}


class Performer(CertificatePart):
    """Who performed it: an organisation, and what it is in this (controller, processor); no person."""

    organisation: Text
    role: Text


class ModelPair(CertificatePart):
    """SHA-256 of the weights' files before and after."""

    before: Sha256
    after: Sha256


class EpsilonDelta(CertificatePart):
    """A bound that was derived, never measured: epsilon in nats, delta a probability, and what must hold
    for it.
    """

    epsilon: Annotated[float, Field(ge=0)]
    delta: Annotated[float, Field(ge=0, lt=1)]
    assumptions: Annotated[tuple[Text, ...], Field(min_length=1, max_length=MOST)]


class Procedure(CertificatePart):
    """How it was done. version: of expunge. environment: what else matters, name -> version.
    privacy: for the kind "epsilon-delta", and no other.
    """

    kind: ProcedureKind
    method: Text
    settings: Annotated[dict[Text, JsonValue], Few]
    version: Text
    environment: Annotated[dict[Text, Text], Few]
    privacy: EpsilonDelta | None = None

    @model_validator(mode="after")
    def _bounded(self) -> Procedure:
        if (self.kind == "epsilon-delta") != (self.privacy is not None):
            raise ValueError("privacy is told for the kind 'epsilon-delta', and for no other")
        return self


class ForgottenData(CertificatePart):
    """What was forgotten. fingerprint: of the data before the ids were struck. requests: how many.
    asked: ids that they named, and copies that joined them. size: those that are excluded, in the list
    that `root` stands for (`requests.merkle`); of the others nobody could say later which they were.
    found: those that the data still had. retained: samples of the recorded set without them.
    """

    name: Text
    fingerprint: Text
    requests: Some
    asked: Some
    found: Amount
    retained: Amount
    root: Sha256
    size: Amount

    @model_validator(mode="after")
    def _counted(self) -> ForgottenData:
        if not self.found <= self.size <= self.asked:
            raise ValueError(
                f"{self.found:,} were found of a list of {self.size:,}, and {self.asked:,} asked for"
            )
        return self


class DuplicateLayer(CertificatePart):
    """How copies under other ids were looked for, and what people decided of each that was proposed.

    name: "exact" (equal content), "perceptual" (a hash of pictures) or "embeddings" (what the model
    sees). requests: for how many it was looked for; 0: not looked for. threshold: in the layer's own
    unit, the most of 64 bits that differ, or the cosine above which two samples are alike; none of
    exact copies. one_in: of so many random pairs of the data at most one is within it. added: the same
    person's, or asked for themselves, forgotten too. kept: another's right. unclear: nobody could tell.
    undecided: nobody has said; all three are disclosed. Older certificates count what is undecided as
    unclear.
    """

    name: Text
    requests: Amount | None = None
    threshold: float | None = None
    one_in: Some | None = None
    proposed: Amount
    added: Amount
    kept: Amount
    unclear: Amount
    undecided: Amount | None = None

    @model_validator(mode="after")
    def _decided(self) -> DuplicateLayer:
        if self.proposed != self.added + self.kept + self.unclear + (self.undecided or 0):
            raise ValueError("proposed is not added + kept + unclear + undecided")
        return self


class GateResult(CertificatePart):
    """One check of the gate. value, low, high: an estimate and its interval, in `unit`. margin: of a
    qualification, the largest difference from retrained models that passes. limit: of another check, the
    value that it must not pass.
    """

    score: Text
    check: Literal["qualification", "acceptance", "sanity check"]
    value: float
    low: float | None = None
    high: float | None = None
    margin: Annotated[float, Field(gt=0)] | None = None
    limit: float | None = None
    unit: Text
    passed: bool


class GateControl(CertificatePart):
    """A model of which it is known whether it must pass: a retrained one must, the original must not."""

    name: Text
    must_pass: bool
    passed: bool


class GateOutcome(CertificatePart):
    """What the model that is certified had to pass. digest: of the gate's file. fixed_at: when that was
    fixed. joint_pass_rate: the share of retrained models that would pass all of it. bank_models: of the
    bank of shadow models beside which it was measured, 0 without a bank; left out where nothing that was
    looked at takes one.
    """

    digest: Sha256
    fixed_at: Moment
    verdict: Literal["equivalent", "sanity check passed"]
    alpha: Annotated[float, Field(gt=0, lt=1)] | None = None
    joint_pass_rate: Annotated[float, Field(ge=0, le=1)] | None = None
    results: Annotated[tuple[GateResult, ...], Field(min_length=1, max_length=MOST)]
    controls: Annotated[tuple[GateControl, ...], Few]
    bank_models: Amount | None = None

    @model_validator(mode="after")
    def _passed(self) -> GateOutcome:
        failed = [one.score for one in self.results if not one.passed]
        if failed:
            raise ValueError(f"the gate was not passed ({failed[0]}), so nothing can be certified")
        odd = [one.name for one in self.controls if one.passed != one.must_pass]
        if odd:
            raise ValueError(f"the control {odd[0]!r} came out wrong, so the gate is invalid")
        if self.verdict == "equivalent":
            if {one.must_pass for one in self.controls} != {True, False}:
                raise ValueError(
                    "'equivalent' takes a control that must pass and one that must not"
                )
            if self.alpha is None or not self.margins:
                raise ValueError("'equivalent' takes alpha and a qualification with a margin")
        return self

    @property
    def margins(self) -> tuple[GateResult, ...]:
        """The results that compare with retrained models within a margin."""
        return tuple(
            one for one in self.results if one.check == "qualification" and one.margin is not None
        )


class Fallback(CertificatePart):
    """An attempt that was dropped for retraining: its method, and why."""

    method: Text
    verdict: Literal["not equivalent", "undecided", "invalid"]
    at: Moment


class CopyPlace(CertificatePart):
    """Where something that learned from the records is. where: "none" where there is none. until: the
    day on which it is deleted; left out: no day is set.
    """

    what: Copied
    where: Text
    until: Day | None = None


class Timeline(CertificatePart):
    """When it was asked and done. due: of the request that was due first. extended: whether a deadline
    was.
    """

    laws: Annotated[tuple[Text, ...], Field(min_length=1, max_length=MOST)]
    received_first: Moment
    received_last: Moment
    due: Day
    extended: bool
    struck_at: Moment
    forgotten_at: Moment
    released_at: Moment


class ChainHead(CertificatePart):
    """The last event of the ledger when this was signed."""

    seq: Some
    hash: Sha256


class ForgettingFacts(CertificatePart):
    """All that a certificate tells, but the sentences that follow from it. samples_read: part of the
    data -> how many of its samples the method read.
    """

    performer: Performer
    models: ModelPair
    procedure: Procedure
    data: ForgottenData
    duplicates: Annotated[tuple[DuplicateLayer, ...], Few]
    gate: GateOutcome
    fallback: Fallback | None = None
    samples_read: Annotated[dict[Text, Amount], Few]
    places: Annotated[tuple[CopyPlace, ...], Few]
    timeline: Timeline
    chain: ChainHead

    @model_validator(mode="after")
    def _agree(self) -> ForgettingFacts:
        kind = self.procedure.kind
        if kind == "approximate" and self.gate.verdict != "equivalent":
            raise ValueError(
                "an approximate method is certified where it was found equivalent alone"
            )
        if (kind == "none") != (self.models.before == self.models.after):
            raise ValueError("the model stays the same for the kind 'none', and for no other")
        if self.fallback is not None and kind not in ("retraining", "sisa"):
            raise ValueError("what an attempt is dropped for is retraining")
        missing = [what for what in COPIES if what not in {one.what for one in self.places}]
        if missing:
            raise ValueError(f"places does not say where {missing[0]} are; say 'none' if none are")
        return self
