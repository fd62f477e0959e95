"""A ledger that is served, in this process or at a port, and one with a request in every state."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import uvicorn
from certificate_facts import FILES, facts
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi.testclient import TestClient
from sqlalchemy import func, insert, select, update

from expunge.cli.serve import listening
from expunge.requests import intake
from expunge.requests.certificate_page import certificate_page
from expunge.requests.certifying import files_of
from expunge.requests.clocks import LawClocks
from expunge.requests.deadlines import due_dates
from expunge.requests.dsse import sign_payload
from expunge.requests.events import sha256
from expunge.requests.intake import DeletionRequest
from expunge.requests.ledger import Ledger
from expunge.requests.moving import request_row
from expunge.requests.receiving import policies_of
from expunge.requests.server.app import make_app
from expunge.requests.server.pages import COOKIE
from expunge.requests.server.tokens import add_token
from expunge.requests.statement import make_statement, statement_payload
from expunge.requests.tables import batch_requests, batches, certificates, models, requests

TOLD = {"organisation": "Example & Sons", "role": "controller", "law": "gdpr", "positional": "no"}
SECRET = "patient-4711"
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>" + "very-long-" * 12


class Served:
    """A ledger that is served, and a client that calls it by one of its tokens."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger.create(folder / "ledger", TOLD, data_set="table")
        roles = {"ann": "submitter", "bob": "submitter", "amy": "approver", "rob": "reader"}
        self.tokens = {name: add_token(self.ledger, name, role) for name, role in roles.items()}
        self.client = TestClient(make_app(self.ledger), follow_redirects=False)

    def call(self, who: str, method: str, path: str, **given: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.tokens[who]}"} | given.pop("headers", {})
        return self.client.request(method, f"/v1{path}", headers=headers, **given)

    def submit(self, who: str, key: str, **body: Any) -> Any:
        body = {"ids": [SECRET], **body}
        return self.call(who, "POST", "/requests", json=body, headers={"Idempotency-Key": key})

    def count(self, table: Any, **values: Any) -> int:
        found = select(func.count()).select_from(table).filter_by(**values)
        with self.ledger.read() as connection:
            return connection.scalar(found) or 0

    def look(self, who: str, path: str) -> Any:
        return self.client.get(path, headers={"Cookie": f"{COOKIE}={self.tokens[who]}"})


def enter_certificate(ledger: Ledger, number: int, digest: str) -> None:
    """That a request was forgotten in batch 1, which has a certificate; its files are not written."""
    with ledger.write("batch") as writing:
        one = writing.connection
        row = {"digest": 64 * "0", "folder": "m", "card_digest": "", "made_at": writing.at}
        one.execute(insert(models).values(**row))
        row = {"state": "released", "method": "retrain", "settings": "{}", "created_at": writing.at}
        one.execute(insert(batches).values(**row, model_before=64 * "0"))
        one.execute(insert(batch_requests).values(batch=1, request=number))
        row = {"batch": 1, "payload_digest": digest, "file": "f", "issued_at": writing.at}
        one.execute(insert(certificates).values(**row))
        writing.event("batch opened", {"batch": 1, "requests": [number]})


def fill(ledger: Ledger) -> dict[str, int]:
    """A request in each state that a page shows differently, and one whose texts would run if they
    could; returns their numbers by what they are.
    """
    now = datetime.now(UTC)

    def ask(what: str, days: float, source: str = "the web form", samples: int = 1) -> int:
        """`days` ago."""
        at = now - timedelta(days=days)
        dates = due_dates(at, "gdpr", policies_of(ledger))
        ids = tuple(f"{what}-{one}" for one in range(samples))
        asked = DeletionRequest(ids, source, at, dates.due_at, "gdpr", dates.confirm_by, what)
        return intake.add(ledger, asked, actor="front-desk").number

    told = {
        "new": ask("new", 1),
        "soon": ask("soon", 27, "e-mail", 3),
        "overdue": ask("overdue", 75, "a letter", 1234),
        "held": ask("held", 10, "e-mail"),
        "struck": ask("struck", 8, samples=12),
        "refused": ask("refused", 20),
        "withdrawn": ask("withdrawn", 30),
        "certified": ask("certified", 40, samples=5),
        "hostile": ask("hostile", 2, HOSTILE),
    }
    intake.hold(ledger, told["held"], "a court's order of 3 May", actor="amy")
    intake.hold(ledger, told["hostile"], HOSTILE, actor="amy")
    intake.refuse(ledger, told["refused"], "nobody could be told from the ids", actor="amy")
    intake.withdraw(ledger, told["withdrawn"], "a mistake", actor="amy")
    for one in ("struck", "certified"):
        intake.approve(ledger, told[one], actor="amy")
    _certify(ledger, told["certified"])
    return told


def _certify(ledger: Ledger, number: int) -> None:
    """With a certificate as it is issued, of made-up facts, and the page beside it."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    statement = make_statement(FILES, facts())
    payload, files = statement_payload(statement), files_of(ledger, 1)
    enter_certificate(ledger, number, sha256(payload))
    with ledger.write("batch") as writing:
        changed = update(requests).where(requests.c.id == number)
        writing.connection.execute(changed.values(state="certified"))
        asked = [request_row(writing.connection, number)]
    names = {"certificate": files.certificate.name, "public": files.key.name}
    page = certificate_page(
        statement,
        asked,
        batch=1,
        key=key.public_key(),
        clocks=LawClocks.of(ledger),
        undone="",
        **names,
    )
    files.certificate.parent.mkdir()
    files.certificate.write_bytes(sign_payload(payload, key))
    files.page.write_text(page)


@contextmanager
def at_a_port(ledger: Ledger) -> Iterator[str]:
    """The address at which the server of a ledger answers, on this machine."""
    with listening("127.0.0.1", 0) as listener:
        settings = uvicorn.Config(make_app(ledger), access_log=False, log_level="warning")
        server = uvicorn.Server(settings)
        thread = Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            while not server.started:
                time.sleep(0.01)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
