"""The application: calls and pages, what every answer carries, and how mistakes are told.

Nothing that holds an id or a token is logged: of an error that nobody foresaw, its kind and its place.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Awaitable, Callable

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from expunge.errors import RequestError, UserError
from expunge.requests.clocks import policies_of
from expunge.requests.ledger import Ledger
from expunge.requests.server.api import api
from expunge.requests.server.pages import POLICY, error_page, page_routes

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
BROKEN = "something went wrong that nobody foresaw; look at the server's log"
AGAIN = "the ledger's database does not answer just now; nothing of this is kept, send it again"
log = logging.getLogger("expunge.server")


def make_app(ledger: Ledger) -> FastAPI:
    """An application that serves a ledger, to be run by any ASGI server.

    Raises ConfigError for policies of the ledger that cannot be read, before anybody sends anything.
    """
    policies_of(ledger)
    app = FastAPI(title="expunge", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.ledger = ledger
    app.state.turn = threading.Lock()
    app.include_router(api)
    app.include_router(page_routes)
    app.middleware("http")(_guarded)
    app.exception_handler(HTTPException)(_refused)
    app.exception_handler(RequestValidationError)(_invalid)
    app.exception_handler(UserError)(_mistaken)
    return app


async def _guarded(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    try:
        response = await answer(request)
    except Exception as error:  # whatever else it is, the sender learns nothing of it
        last = traceback.extract_tb(error.__traceback__)[-1]
        log.error("%s at %s:%s", type(error).__name__, last.filename, last.lineno)
        response = _told(request, 500, BROKEN)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


async def _refused(request: Request, error: HTTPException) -> Response:
    return _told(request, error.status_code, error.detail, error.headers)


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    problem = error.errors()[0]
    if problem["loc"][0] == "path":
        return _told(request, 404, "that is no number")
    return _told(request, 400, f"{problem['loc'][-1]}: {problem['msg']}")


async def _mistaken(request: Request, error: UserError) -> Response:
    if isinstance(error.__cause__, SQLAlchemyError):
        log.error("%s from the database", type(error.__cause__).__name__)
        return _told(request, 503, AGAIN, {"Retry-After": "5"})
    return _told(request, 409 if isinstance(error, RequestError) else 400, str(error))


def _told(request: Request, status: int, said: str, headers: object = None) -> Response:
    """As JSON to a program, as a page to a person."""
    more = dict(headers) if isinstance(headers, dict) else {}
    if request.url.path.startswith("/v1"):
        return JSONResponse({"error": said}, status, more)
    if status == 303:
        return Response(status_code=303, headers=more)
    return error_page(status, said)
