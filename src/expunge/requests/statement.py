"""What is signed: an in-toto Statement v1 (github.com/in-toto/attestation, spec/v1/statement.md).

Its subjects are the files of the model, its predicate tells how the model came to forget. It is written
in one way alone: keys sorted, no spaces, UTF-8, nothing for what is left out; the same facts give the
same bytes. Another way of writing it is refused, too: two readers of a text that says a key twice may
each see another value. in-toto would have unknown fields passed over; here they are refused, since they
would be signed, and not shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from expunge.disk.reading import MIB, UnreadableError, parse_json, reading
from expunge.errors import CertificateError
from expunge.names.text import clean_name
from expunge.requests.claims import claimed_too_much, limits, may_be_said
from expunge.requests.facts import (
    MOST,
    UNKNOWN,
    CertificatePart,
    ForgettingFacts,
    Performer,
    Sha256,
    Text,
)
from expunge.trained.card import CARD, WEIGHTS
from expunge.trained.telling import names_any

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:expunge:forgetting:v1"
PAYLOAD_BYTES = 2 * MIB
_PERSONAL = re.compile(r"[^\s@]+@[^\s@]+\.[a-z]{2,}|[/\\](home|users)[/\\][^/\\\s]+", re.IGNORECASE)
"""E-mail addresses, and home folders, which bear a person's name."""

_CHOSEN = re.compile(r"predicate\.(performer\.(organisation|role)|data\.name|places\.\d+\.where)")
"""Where texts stand that somebody chose."""
_OURS = re.compile(
    rf"^(none|not named|of your own|{UNKNOWN})$|/models/(batch-\d+-[a-z]+|control-[0-9a-f]+)$"
)
"""What is ours of these: what stands for nothing, and folders that a ledger makes."""

FileName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$")
]
"""Of a file below the model folder."""
Sentences = Annotated[tuple[Text, ...], Field(min_length=1, max_length=MOST)]


class FileDigest(CertificatePart):
    """The full SHA-256 of a file."""

    sha256: Sha256


class Subject(CertificatePart):
    """A file that the statement is about, by its name in the model folder."""

    name: FileName
    digest: FileDigest


class Predicate(ForgettingFacts):
    """The facts, what may be said of them, and what it does not mean."""

    said: Sentences
    limits: Sentences

    @model_validator(mode="after")
    def _modest(self) -> Predicate:
        if (word := claimed_too_much(self.said)) is not None:
            raise ValueError(f"said holds {word!r}, which nobody can say of a model")
        return self


class Statement(CertificatePart):
    """A certificate's content; make one with `make_statement`."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field(alias="_type")
    subject: Annotated[tuple[Subject, ...], Field(min_length=1, max_length=MOST)]
    predicate_type: Literal["urn:expunge:forgetting:v1"] = Field(alias="predicateType")
    predicate: Predicate

    @model_validator(mode="after")
    def _agrees(self) -> Statement:
        digests = self.digests
        if len(digests) != len(self.subject):
            raise ValueError("subject names a file twice")
        if missing := {WEIGHTS, CARD} - digests.keys():
            raise ValueError(f"subject lacks {min(missing)}")
        if digests[WEIGHTS] != self.predicate.models.after:
            raise ValueError(f"predicate.models.after is not the digest of {WEIGHTS} in subject")
        for where, text in _texts(self.plain(), ""):
            if (match := _PERSONAL.search(text)) is not None:
                raise ValueError(
                    f"{where} holds {match[0]!r:.100}, and a certificate holds no personal data"
                )
            if clean_name(text) != text:
                raise ValueError(f"{clean_name(where)} holds signs that cannot be shown in a line")
        return self

    @property
    def digests(self) -> dict[str, str]:
        """File -> its SHA-256."""
        return {one.name: one.digest.sha256 for one in self.subject}

    def plain(self) -> dict[str, Any]:
        """As plain data, with in-toto's names; what is left out is not there."""
        return self.model_dump(mode="json", by_alias=True)


def make_statement(digests: Mapping[str, str], facts: ForgettingFacts) -> Statement:
    """The statement of these facts, with what may be said of them.

    digests: file in the model folder -> its full SHA-256; the weights and the card must be there.
    Raises CertificateError where two of them do not agree, or hold personal data.
    """
    try:
        parts = {name: getattr(facts, name) for name in ForgettingFacts.model_fields}
        return Statement.model_validate(
            {
                "_type": STATEMENT,
                "subject": tuple(
                    Subject(name=name, digest=FileDigest(sha256=digests[name]))
                    for name in sorted(digests)
                ),
                "predicateType": PREDICATE,
                "predicate": Predicate(**parts, said=may_be_said(facts), limits=limits(facts)),
            }
        )
    except ValidationError as error:
        raise CertificateError(
            f"no certificate can say this: {first_mistake(error)}; mend it in the ledger"
        ) from None


def performer_of(organisation: str, role: str) -> Performer:
    """Who performs, as certificates name it. Raises CertificateError for what names a person, or cannot
    be told in a line.
    """
    try:
        for text in (organisation, role):
            if (match := _PERSONAL.search(text)) is not None:
                raise CertificateError(
                    f"{text!r:.200} holds {match[0]!r:.100}, and a certificate holds no personal data; "
                    "name the organisation, and its role"
                )
        return Performer(organisation=organisation, role=role)
    except ValidationError as error:
        raise CertificateError(
            f"no certificate can name {organisation!r:.200} as {role!r:.200}: {first_mistake(error)}; "
            "write each in a line"
        ) from None


def check_no_id(statement: Statement, ids: Collection[str]) -> None:
    """Raise CertificateError for a statement in a text of which an id stands as a word of its own.

    Looks at texts that a user chose: in ours an id may stand that is a common word. Numbers name nobody.
    """
    names = [one for one in ids if not one.isdigit()]
    for where, text in _texts(statement.plain(), ""):
        if _CHOSEN.fullmatch(where) and names_any(_OURS.sub("", text), names):
            raise CertificateError(
                f"the certificate would name an id, in {where}; choose a text that names nobody"
            )


def statement_payload(statement: Statement) -> bytes:
    """The bytes that are signed. Raises CertificateError for what could not be read again."""
    payload = _canonical(statement.plain())
    try:
        same = read_statement(payload) == statement
    except CertificateError as error:
        raise CertificateError(f"this certificate could not be read again: {error}") from error
    if not same:
        raise CertificateError(
            "this certificate would say something else when it is read again; write its settings in "
            "plain numbers and texts"
        )
    return payload


def read_statement(payload: bytes) -> Statement:
    """A statement from its bytes. Raises CertificateError for what is none, or is written otherwise."""
    with reading("the statement", "ask for the certificate again", CertificateError):
        if len(payload) > PAYLOAD_BYTES:
            raise UnreadableError(f"it is larger than {PAYLOAD_BYTES // MIB} MiB")
        if _canonical(parse_json(payload)) != payload:
            raise UnreadableError(
                "it is not written as certificates are: keys sorted and told once, no spaces"
            )
        try:
            return Statement.model_validate_json(payload)
        except ValidationError as error:
            raise UnreadableError(first_mistake(error)) from None


def _canonical(content: Any) -> bytes:
    text = json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode("utf-8")


def _texts(content: Any, where: str) -> Iterator[tuple[str, str]]:
    """Every text of plain data, keys too, and where it stands."""
    if isinstance(content, str):
        yield where, content
    elif isinstance(content, dict):
        for key, one in content.items():
            place = f"{where}.{key}" if where else key
            yield place, key
            yield from _texts(one, place)
    elif isinstance(content, list):
        for row, one in enumerate(content):
            yield from _texts(one, f"{where}.{row}")


def first_mistake(error: ValidationError) -> str:
    """Where the first mistake is, and what it is."""
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = clean_name(".".join(str(part) for part in problem["loc"]))[:200]
    if problem["type"] == "extra_forbidden":
        return f"it has the field {place!r}, which this version does not know"
    told = problem["msg"].removeprefix("Value error, ")
    told = told[:1].lower() + told[1:]
    return f"{place}: {told}" if place else told
