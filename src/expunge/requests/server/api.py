"""The calls under /v1: JSON in, JSON out. Requests are received and decided, and nothing is learned.

Whatever is changed is an event, by the name of the token. A request that comes in is only received; when
an approver says so, its ids are struck.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError

from expunge.errors import RequestError
from expunge.requests import intake
from expunge.requests.clocks import LawClocks, policies_of
from expunge.requests.deadlines import due_dates
from expunge.requests.events import head
from expunge.requests.intake import Added, DeletionRequest
from expunge.requests.ledger import Ledger, stamp
from expunge.requests.moving import request_row
from expunge.requests.server.asking import (
    LARGEST,
    Anyone,
    Approver,
    Body,
    Reader,
    RowNumber,
    Seer,
    SentGround,
    SentKey,
    SentReason,
    SentRequest,
    Submitter,
    ledger_of,
    read_sent,
    turn_of,
)
from expunge.requests.server.seen import (
    SeenFacts,
    batch_facts,
    certificate_bytes,
    certificate_facts,
    evidence_of,
    own_key,
    request_for,
    requests_for,
)
from expunge.requests.server.tokens import Caller

NOT_THERE = "there is no such request, or it is another's"
api = APIRouter(prefix="/v1", default_response_class=JSONResponse)


@api.get("/health")
def _health(request: Request) -> dict[str, str]:
    with ledger_of(request).read() as connection:
        head(connection)
    return {"status": "ok"}


@api.post("/requests")
def _submit(request: Request, caller: Submitter, key: SentKey, body: Body) -> JSONResponse:
    ledger, sent = ledger_of(request), read_sent(SentRequest, body)
    asked = _asked(ledger, caller, sent, key)
    try:
        with turn_of(request):
            done = intake.add(ledger, asked, actor=caller.name)
    except RequestError as error:
        if isinstance(error.__cause__, SQLAlchemyError):
            raise
        raise HTTPException(409, str(error).replace(own_key(caller.name), "")) from error
    _check_moment(ledger, sent, done)
    told = _told(ledger, caller, done.number)
    where = {"Location": f"/v1/requests/{done.number}"}
    return JSONResponse(told, 201 if done.fresh else 200, where)


def _asked(ledger: Ledger, caller: Caller, sent: SentRequest, key: str) -> DeletionRequest:
    at = sent.received_at or datetime.now(UTC)
    law = sent.law or ledger.setting("law")
    dates = due_dates(at, law, policies_of(ledger))
    return DeletionRequest(
        ids=tuple(dict.fromkeys(sent.ids)),
        source=sent.source or caller.name,
        received_at=at,
        due_at=dates.due_at,
        law=law,
        confirm_by=dates.confirm_by,
        key=own_key(caller.name, key),
    )


def _check_moment(ledger: Ledger, sent: SentRequest, done: Added) -> None:
    """A moment that was given is part of a request, and one that was not is no difference."""
    if done.fresh or sent.received_at is None:
        return
    with ledger.read() as connection:
        received = request_row(connection, done.number)["received_at"]
    if received != stamp(sent.received_at):
        raise HTTPException(
            409,
            f"request {done.number} came under this key and was received {received}; give another "
            "request a key of its own",
        )


@api.get("/requests")
def _requests(
    request: Request,
    caller: Anyone,
    after: Annotated[int, Query(ge=0, le=LARGEST)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    clocks = LawClocks.of(ledger_of(request))
    with ledger_of(request).read() as connection:
        found = requests_for(connection, caller, clocks, after=after, limit=limit + 1)
    more = len(found) > limit
    return {"requests": found[:limit], "next": found[limit - 1]["request"] if more else None}


@api.get("/requests/{number}")
def _request(request: Request, caller: Anyone, number: RowNumber) -> SeenFacts:
    return _told(ledger_of(request), caller, number)


@api.post("/requests/{number}/approve")
def _approve(request: Request, caller: Approver, number: RowNumber) -> SeenFacts:
    ledger = ledger_of(request)
    if ledger.setting("positional") == "yes":
        raise HTTPException(
            409,
            "the ids of this ledger's data are row numbers, so samples are struck by their content, "
            f"which is not at hand here; do `expunge request approve {number}` at the terminal",
        )
    return _decided(
        request, caller, number, lambda: intake.approve(ledger, number, actor=caller.name)
    )


@api.post("/requests/{number}/refuse")
def _refuse(request: Request, caller: Approver, number: RowNumber, body: Body) -> SeenFacts:
    ledger, why = ledger_of(request), read_sent(SentReason, body).reason
    return _decided(
        request, caller, number, lambda: intake.refuse(ledger, number, why, actor=caller.name)
    )


@api.post("/requests/{number}/withdraw")
def _withdraw(request: Request, caller: Approver, number: RowNumber, body: Body) -> SeenFacts:
    ledger, why = ledger_of(request), read_sent(SentReason, body).reason
    return _decided(
        request, caller, number, lambda: intake.withdraw(ledger, number, why, actor=caller.name)
    )


@api.post("/requests/{number}/hold")
def _hold(request: Request, caller: Approver, number: RowNumber, body: Body) -> SeenFacts:
    ledger, why = ledger_of(request), read_sent(SentGround, body).ground
    return _decided(
        request, caller, number, lambda: intake.hold(ledger, number, why, actor=caller.name)
    )


def _decided(
    request: Request, caller: Caller, number: int, decide: Callable[[], object]
) -> SeenFacts:
    _told(ledger_of(request), caller, number)
    with turn_of(request):
        decide()
    return _told(ledger_of(request), caller, number)


def _told(ledger: Ledger, caller: Caller, number: int) -> SeenFacts:
    clocks = LawClocks.of(ledger)
    with ledger.read() as connection:
        found = request_for(connection, caller, clocks, number)
    if found is None:
        raise HTTPException(404, NOT_THERE)
    return found


@api.get("/batches")
def _batches(request: Request, caller: Seer) -> dict[str, Any]:
    with ledger_of(request).read() as connection:
        return {"batches": batch_facts(connection)}


@api.get("/certificates/{number}")
def _certificate(request: Request, caller: Reader, number: RowNumber) -> Response:
    ledger = ledger_of(request)
    with ledger.read() as connection:
        issued = certificate_facts(connection, number)
    if issued is None:
        raise HTTPException(404, f"batch {number} has no certificate")
    if issued["revoked_at"] is not None:
        raise HTTPException(
            410, f"revoked {issued['revoked_at']}: {issued['revoked_reason']}; see it as evidence"
        )
    return Response(certificate_bytes(ledger, number), media_type="application/json")


@api.get("/evidence/{number}")
def _evidence(request: Request, caller: Reader, number: RowNumber) -> SeenFacts:
    found = evidence_of(ledger_of(request), caller, number)
    if found is None:
        raise HTTPException(404, NOT_THERE)
    return found
