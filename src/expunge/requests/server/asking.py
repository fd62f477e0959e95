"""What comes in with a call of the server: who calls, the ledger, and a body of bounded size."""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Callable
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Annotated, Any, TypeVar

from fastapi import Depends, Header, HTTPException, Path, Request
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from expunge.disk.reading import MIB
from expunge.names.text import clean_name
from expunge.requests.ledger import Ledger
from expunge.requests.server.tokens import Caller, caller_of

MOST_IDS = 10_000
FORM_BYTES = 4096
LAG = timedelta(minutes=5)
"""By which another computer's clock may be ahead."""
LARGEST = 2**31 - 1
"""Of a number in both databases."""

RowNumber = Annotated[int, Path(ge=1, le=LARGEST)]


def ledger_of(request: Request) -> Ledger:
    """The ledger that is served."""
    ledger: Ledger = request.app.state.ledger
    return ledger


def turn_of(request: Request) -> Lock:
    """Whoever holds it writes, so that of many calls one alone waits for the database."""
    turn: Lock = request.app.state.turn
    return turn


def known(ledger: Ledger, token: str) -> Caller | None:
    """Whose token it is, at this moment."""
    with ledger.read() as connection:
        return caller_of(connection, token)


def bearer(request: Request, authorization: Annotated[str, Header()] = "") -> Caller:
    """Who calls, by the header `Authorization: Bearer TOKEN`; else 401."""
    scheme, _, token = authorization.partition(" ")
    found = known(ledger_of(request), token.strip()) if scheme.lower() == "bearer" else None
    if found is None:
        raise HTTPException(
            401,
            "send a valid token as `Authorization: Bearer TOKEN`",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return found


def needing(*duties: str) -> Callable[[Caller], Caller]:
    """A dependency: who calls, with one of these duties; else 403."""

    def check(caller: Annotated[Caller, Depends(bearer)]) -> Caller:
        if not caller.may(*duties):
            raise HTTPException(403, f"a token of the role {caller.role} may not do this")
        return caller

    return check


Submitter = Annotated[Caller, Depends(needing("submit"))]
Anyone = Annotated[Caller, Depends(needing("submit", "see"))]
Seer = Annotated[Caller, Depends(needing("see"))]
Approver = Annotated[Caller, Depends(needing("decide"))]
Reader = Annotated[Caller, Depends(needing("prove"))]


async def _body(request: Request) -> bytes:
    return await bounded(request.stream(), MIB)


Body = Annotated[bytes, Depends(_body)]


async def bounded(stream: AsyncIterable[bytes], most: int) -> bytes:
    """All of a stream; 413 as soon as it is too long, whatever its header said."""
    content = bytearray()
    async for piece in stream:
        content += piece
        if len(content) > most:
            raise HTTPException(
                413, f"the body is larger than {most:,} bytes; send fewer at a time"
            )
    return bytes(content)


def _idempotency_key(value: Annotated[str, Header(alias="Idempotency-Key")] = "") -> str:
    if not re.fullmatch(r"[!-~]{1,200}", value):
        raise HTTPException(
            400,
            "send a header Idempotency-Key of 1 to 200 visible ASCII letters, the same one whenever "
            "the same request is sent again",
        )
    return value


SentKey = Annotated[str, Depends(_idempotency_key)]


def _one_line(text: str) -> str:
    if not text.strip():
        raise ValueError("it is empty")
    return clean_name(text.strip())


def _past(at: datetime) -> datetime:
    if at > datetime.now(UTC) + LAG:
        raise ValueError("it lies in the future")
    return at


class _Sent(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class SentRequest(_Sent):
    """What is sent to submit a request.

    Attributes:
        ids: of samples, as the data have them.
        law: by whose deadlines; None for the ledger's.
        received_at: when the person asked; None for now.
        source: where it came from; None for the token's name.
    """

    ids: list[Annotated[str, Field(max_length=500), AfterValidator(_one_line)]] = Field(
        min_length=1, max_length=MOST_IDS
    )
    law: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    received_at: Annotated[AwareDatetime, AfterValidator(_past)] | None = None
    source: Annotated[str, Field(max_length=200), AfterValidator(_one_line)] | None = None


class SentReason(_Sent):
    """Why a request is refused or withdrawn."""

    reason: Annotated[str, Field(max_length=1000), AfterValidator(_one_line)]


class SentGround(_Sent):
    """Why a request waits; empty: no longer."""

    ground: Annotated[str, Field(max_length=1000), AfterValidator(clean_name)]


Sent = TypeVar("Sent", bound=BaseModel)


def read_sent(kind: type[Sent], body: bytes) -> Sent:
    """A body of JSON; 400 says what is wrong with which field, and repeats nothing of it."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        problem: Any = error.errors(include_url=False, include_input=False, include_context=False)[
            0
        ]
    if problem["type"] == "json_invalid":
        raise HTTPException(400, "the body is no JSON in UTF-8")
    # of an unknown field not even the name, which a sender may have mixed up with a value
    parts = [one for one in problem["loc"] if isinstance(one, int) or one in kind.model_fields]
    name = ".".join(map(str, parts)) or "the body"
    said = str(problem["msg"]).removeprefix("Value error, ")
    fields = ", ".join(kind.model_fields)
    raise HTTPException(400, f"{name}: {said[:1].lower()}{said[1:]}; the fields are: {fields}")
