"""What a person sees in a browser: requests, when they are due, what happened, and certificates.

Made here whole, without a script. The token lies in a cookie that no script reads and no other site's
page sends along. Nothing is changed by a page, and no id of a sample is on one.
"""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from http import HTTPStatus
from importlib.resources import files
from typing import Annotated, Any
from urllib.parse import parse_qs

import jinja2
from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from expunge.disk.reading import parse_json
from expunge.names.text import clean
from expunge.requests.certifying import files_of
from expunge.requests.clocks import LawClocks
from expunge.requests.ledger import to_the_minute
from expunge.requests.lineage import live_within
from expunge.requests.overview import due_in_words, events_about, state_told
from expunge.requests.server.asking import FORM_BYTES, RowNumber, bounded, known, ledger_of
from expunge.requests.server.seen import (
    certificate_bytes,
    certificate_facts,
    certificate_page_bytes,
    certified_in,
    most_urgent,
    request_for,
)
from expunge.requests.server.tokens import Caller

COOKIE = "expunge_token"
MOST_ROWS = 500
SOON_DAYS = 7
"""What is due within so many days stands out."""
TEMPLATES = files("expunge.requests.server") / "templates"
STYLE = (TEMPLATES / "style.css").read_text(encoding="utf-8").strip()
_DIGEST = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'sha256-{_DIGEST}'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
FOREIGN_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
"""Of a page that was written elsewhere, with a style of its own."""
page_routes = APIRouter(default_response_class=HTMLResponse)


def _viewer(request: Request) -> Caller:
    found = known(ledger_of(request), request.cookies.get(COOKIE, ""))
    if found is None:
        raise HTTPException(303, headers={"Location": "/login"})
    return found


Viewer = Annotated[Caller, Depends(_viewer)]


def _prover(caller: Viewer) -> Caller:
    if not caller.may("prove"):
        raise HTTPException(403, f"a token of the role {caller.role} may not see certificates")
    return caller


Prover = Annotated[Caller, Depends(_prover)]


async def _form(request: Request) -> dict[str, str]:
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise HTTPException(403, "the form was sent from another site's page")
    sent = await bounded(request.stream(), FORM_BYTES)
    return {name: one[0] for name, one in parse_qs(sent.decode("utf-8", "replace")).items()}


Form = Annotated[dict[str, str], Depends(_form)]


@page_routes.get("/")
def _overview(request: Request, caller: Viewer) -> HTMLResponse:
    clocks = LawClocks.of(ledger_of(request))
    with ledger_of(request).read() as connection:
        rows, total = most_urgent(connection, caller, clocks, MOST_ROWS)
        within = live_within(connection) if caller.may("see") else ""
        organisation = ledger_of(request).setting_in(connection, "organisation")
        issued = certified_in(connection) if caller.may("prove") else {}
    told: dict[str, Any] = {
        "rows": rows,
        "total": total,
        "organisation": organisation,
        "within": within,
        "certified": issued,
    }
    return _page("requests", caller, **told)


@page_routes.get("/requests/{number}")
def _request_page(request: Request, caller: Viewer, number: RowNumber) -> HTMLResponse:
    clocks = LawClocks.of(ledger_of(request))
    with ledger_of(request).read() as connection:
        row = request_for(connection, caller, clocks, number)
        if row is None:
            raise HTTPException(404, "there is no such request, or it is another's")
        issued = certified_in(connection).get(number) if caller.may("prove") else None
        happened = events_about(connection, number) if caller.may("prove") else None
    return _page("request", caller, row=row, certified=issued, events=happened)


@page_routes.get("/certificates/{number}")
def _certificate_page(request: Request, caller: Prover, number: RowNumber) -> HTMLResponse:
    ledger = ledger_of(request)
    issued = _issued(request, number)
    payload = parse_json(certificate_bytes(ledger, number))["payload"]
    statement = json.dumps(parse_json(base64.b64decode(payload)), indent=2, ensure_ascii=False)
    beside = files_of(ledger, number).page.is_file()
    return _page("certificate", caller, issued=issued, statement=statement, beside=beside)


@page_routes.get("/certificates/{number}/file")
def _certificate_file(request: Request, caller: Prover, number: RowNumber) -> Response:
    _issued(request, number)
    name = files_of(ledger_of(request), number).certificate.name
    return Response(
        certificate_bytes(ledger_of(request), number),
        media_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@page_routes.get("/certificates/{number}/page")
def _written_page(request: Request, caller: Prover, number: RowNumber) -> HTMLResponse:
    _issued(request, number)
    content = certificate_page_bytes(ledger_of(request), number)
    return HTMLResponse(content, headers={"Content-Security-Policy": FOREIGN_POLICY})


def _issued(request: Request, number: int) -> dict[str, Any]:
    with ledger_of(request).read() as connection:
        issued = certificate_facts(connection, number)
    if issued is None:
        raise HTTPException(404, f"batch {number} has no certificate")
    return issued


@page_routes.get("/login")
def _login_page() -> HTMLResponse:
    return _page("login", None, wrong=False)


@page_routes.post("/login")
def _login(request: Request, form: Form) -> Response:
    token = form.get("token", "").strip()
    if known(ledger_of(request), token) is None:
        return _page("login", None, wrong=True, status=401)
    response = Response(status_code=303, headers={"Location": "/"})
    secure = request.url.scheme == "https"  # on loopback there is no TLS, and none to listen
    response.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=secure)
    return response


@page_routes.post("/logout")
def _logout(form: Form) -> Response:
    response = Response(status_code=303, headers={"Location": "/login"})
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


def error_page(status: int, said: str) -> HTMLResponse:
    """What went wrong, as a page."""
    title = HTTPStatus(status).phrase
    return _page("error", None, title=title, said=said, status=status)


def _page(name: str, caller: Caller | None, *, status: int = 200, **told: Any) -> HTMLResponse:
    template = _templates().get_template(f"{name}.html.j2")
    return HTMLResponse(template.render(caller=caller, **told), status)


@cache
def _templates() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (TEMPLATES / name).read_text(encoding="utf-8")),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["style"] = Markup(STYLE)  # a file of this package
    environment.filters |= {"due": due_in_words, "urgency": _urgency, "minute": to_the_minute}
    environment.filters["state"] = state_told
    return environment


def _urgency(days: int) -> str:
    """Class of what is due in so many days."""
    return "late" if days < 0 else "soon" if days <= SOON_DAYS else "soft"


def _shown(value: Any) -> Any:
    """A text from elsewhere is cleaned before it is escaped."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value
