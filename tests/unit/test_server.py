"""The server of a ledger: who may do what, what is refused, and that it holds no model code."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from subprocess import PIPE
from threading import Barrier, Thread
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from server_helpers import SECRET, Served, enter_certificate
from sqlalchemy import insert, select, update
from sqlalchemy.exc import OperationalError

from expunge.cli import serve
from expunge.cli.tree import made
from expunge.errors import ConfigError, RequestError
from expunge.requests import intake
from expunge.requests.certifying import files_of
from expunge.requests.dsse import PAYLOAD_TYPE
from expunge.requests.overview import due_in_words
from expunge.requests.release import promote
from expunge.requests.server import asking
from expunge.requests.server.api import api
from expunge.requests.server.pages import COOKIE
from expunge.requests.server.tokens import add_token, revoke_token, token_rows
from expunge.requests.tables import (
    certificates,
    events,
    models,
    request_items,
    requests,
    struck,
    tokens,
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("served")
        patch.setenv("EXPUNGE_KEYS", str(folder / "keys"))
        yield Served(folder)


@pytest.fixture(scope="module")
def certified(served: Served) -> int:
    """A request that was forgotten in batch 1, whose certificate lies where it should."""
    number = served.submit("ann", "certified").json()["request"]
    envelope = {"payloadType": PAYLOAD_TYPE, "payload": "eyJhIjoiPGI+In0=", "signatures": []}
    file = files_of(served.ledger, 1).certificate
    file.parent.mkdir()
    file.write_text(json.dumps(envelope))
    enter_certificate(served.ledger, number, 64 * "a")
    with served.ledger.write("batch") as writing:
        writing.event("batch opened", {"batch": 11, "requests": [number * 10]})
    return number


def test_a_request_goes_from_its_sender_to_the_list_of_the_struck(served: Served) -> None:
    sent = served.submit("ann", "one", ids=[SECRET, SECRET, "b"], source="the web form")
    told = sent.json()
    assert sent.status_code == 201 and sent.headers["Location"] == f"/v1/requests/{told['request']}"
    assert (told["state"], told["samples"], told["law"]) == ("received", 2, "gdpr")
    assert told["days_left"] > 20 and told["source"] == "the web form"
    number = told["request"]
    assert served.count(struck, request=number) == 0, "a request that comes in is only received"
    held = served.call("amy", "POST", f"/requests/{number}/hold", json={"ground": "a court"})
    assert held.json()["held"] == "a court"
    assert served.call("amy", "POST", f"/requests/{number}/approve").status_code == 409
    again = served.call("amy", "POST", f"/requests/{number}/hold", json={"ground": ""})
    assert again.json()["held"] is None
    for _ in range(2):
        approved = served.call("amy", "POST", f"/requests/{number}/approve")
        assert (approved.status_code, approved.json()["state"]) == (200, "struck")
    hmacs = {served.ledger.key.hmac(one) for one in (SECRET, "b")}
    with served.ledger.read() as connection:
        rows = connection.execute(select(struck.c.id_hmac).where(struck.c.request == number))
        assert {one for (one,) in rows} == hmacs
    late = served.call("amy", "POST", f"/requests/{number}/refuse", json={"reason": "no"})
    assert late.status_code == 409 and "cannot become refused" in late.json()["error"]
    told = served.call("rob", "GET", f"/evidence/{number}").json()
    assert [one["actor"] for one in told["events"]] == ["ann", *["amy"] * 5]
    assert told["certificate"] is None


def test_a_request_is_refused_or_withdrawn_once(served: Served) -> None:
    for what, state in (("refuse", "refused"), ("withdraw", "withdrawn")):
        number = served.submit("ann", what).json()["request"]
        path = f"/requests/{number}/{what}"
        assert served.call("amy", "POST", path).status_code == 400
        done = served.call("amy", "POST", path, json={"reason": "by <b>letter"}).json()
        assert (done["state"], done["reason"]) == (state, "by <b>letter")
        assert served.call("amy", "POST", path, json={"reason": "x"}).status_code == 409
        seen = served.call("ann", "GET", f"/requests/{number}").json()
        assert seen["state"] == state and "held" not in seen


EVERYBODY = {"submitter", "approver", "reader"}
CALLS = {
    "POST /requests": {"submitter"},
    "GET /requests": EVERYBODY,
    "GET /requests/{number}": EVERYBODY,
    "POST /requests/{number}/approve": {"approver"},
    "POST /requests/{number}/refuse": {"approver"},
    "POST /requests/{number}/withdraw": {"approver"},
    "POST /requests/{number}/hold": {"approver"},
    "GET /batches": {"approver", "reader"},
    "GET /certificates/{number}": {"reader"},
    "GET /evidence/{number}": {"reader"},
}


def test_every_call_is_in_the_table_of_who_may() -> None:
    there = {f"{how} {one.path}" for one in api.routes for how in one.methods}  # type: ignore[attr-defined]
    assert there == {one.replace(" ", " /v1") for one in CALLS} | {"GET /v1/health"}


@pytest.mark.parametrize("call", CALLS)
def test_who_may_not_is_refused(call: str, served: Served) -> None:
    method, path = call.format(number=99_999).split()
    for who, role in (("ann", "submitter"), ("amy", "approver"), ("rob", "reader")):
        got = served.call(who, method, path)  # without a body, of a request that there is not
        assert (got.status_code == 403) == (role not in CALLS[call]), (who, got.text)
        assert got.status_code in (200, 400, 403, 404)
    for headers in (
        {},
        {"Authorization": "Bearer no"},
        {"Authorization": served.tokens["rob"]},
        {
            "Cookie": f"{COOKIE}={served.tokens['rob']}"
        },  # a page elsewhere may make a browser send it
    ):
        got = served.client.request(method, f"/v1{path}", headers=headers)
        assert got.status_code == 401 and got.headers["WWW-Authenticate"] == "Bearer"
        assert list(got.json()) == ["error"]


def test_a_sender_sees_its_own_requests_alone(served: Served) -> None:
    own = served.submit("ann", "same").json()["request"]
    other = served.submit("bob", "same").json()["request"]
    assert own != other, "the key of one sender is not another's"
    numbers = [one["request"] for one in served.call("bob", "GET", "/requests").json()["requests"]]
    assert other in numbers and own not in numbers
    for number in (own, 99_999):  # which of the two it is, nobody learns
        got = served.call("bob", "GET", f"/requests/{number}")
        assert (got.status_code, "another's" in got.json()["error"]) == (404, True)
    assert served.look("bob", f"/requests/{own}").status_code == 404
    pages = [served.look("bob", path) for path in ("/", f"/requests/{other}")]
    assert [page.status_code for page in pages] == [200, 200]
    assert not any("What happened" in page.text for page in pages)
    everything = served.call("rob", "GET", "/requests", params={"limit": 1000}).json()
    assert everything["next"] is None and {own, other} <= {
        one["request"] for one in everything["requests"]
    }
    first = served.call("rob", "GET", "/requests", params={"limit": 1}).json()
    second = served.call("rob", "GET", "/requests", params={"limit": 1, "after": first["next"]})
    assert first["requests"] + second.json()["requests"] == everything["requests"][:2]


def test_a_small_letter_is_no_capital(served: Served) -> None:
    served.tokens["BOB"] = add_token(served.ledger, "BOB", "submitter")
    served.submit("bob", "small")
    assert served.call("BOB", "GET", "/requests").json()["requests"] == []


def test_the_same_key_is_the_same_request(served: Served) -> None:
    at = "2026-11-02T09:00:00+01:00"
    first = served.submit("ann", "again", ids=["a", "b"], received_at=at)
    assert first.status_code == 201 and first.json()["received_at"] == "2026-11-02T08:00:00Z"
    for body in ({"ids": ["b", "a"]}, {"ids": ["a", "b"], "received_at": at}):
        again = served.submit("ann", "again", **body)
        assert (again.status_code, again.json()) == (200, first.json())
    for body in (
        {"ids": ["a"]},
        {"ids": ["a", "b"], "law": "ccpa"},
        {"ids": ["a", "b"], "source": "x"},
        {"ids": ["a", "b"], "received_at": "2026-11-03T09:00:00Z"},
    ):
        other = served.submit("ann", "again", **body)
        assert other.status_code == 409 and "key of its own" in other.json()["error"], body
        assert "server/" not in other.json()["error"]


def test_two_at_once_are_one_request(served: Served) -> None:
    ready = Barrier(4)

    def send(_: int) -> Any:
        ready.wait()
        return served.submit("ann", "at-once")

    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(send, range(4)))
    assert sorted(one.status_code for one in got) == [200, 200, 200, 201]
    assert len({one.json()["request"] for one in got}) == 1
    assert served.count(requests, idempotency_key="server/ann/at-once") == 1


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "no JSON"),
        (b"\xff", "no JSON"),
        (b"[" * 5000, "no JSON"),
        (b"[]", "fields are"),
        (b"{}", "ids: field required"),
        (b'{"ids": []}', "ids: list should have at least 1"),
        (b'{"ids": "patient-4711"}', "ids: input should be a valid array"),
        (b'{"ids": [4711]}', "ids.0: input should be a valid string"),
        (b'{"ids": ["patient-4711", " "]}', "ids.1: it is empty"),
        (b'{"ids": ["a"], "patient-4711": 1}', "extra inputs are not permitted"),
        (b'{"ids": ["a"], "received_at": "2026-11-02T09:00:00"}', "timezone"),
        (b'{"ids": ["a"], "received_at": "2126-11-02T09:00:00Z"}', "future"),
        (b'{"ids": ["a"], "received_at": "1926-11-02T09:00:00Z"}', "years 2000"),
        (b'{"ids": ["a"], "law": "patient"}', "no policy for the law"),
        (json.dumps({"ids": ["patient-4711" * 50]}).encode(), "ids.0: string should have at most"),
        (json.dumps({"ids": ["a"] * (asking.MOST_IDS + 1)}).encode(), "list should have at most"),
        (json.dumps({"ids": ["a"], "source": "s" * 201}).encode(), "source: string should have"),
    ],
)
def test_a_bad_body_is_told_in_one_line_without_its_ids(
    body: bytes, says: str, served: Served
) -> None:
    before = served.count(requests)
    headers = {"Idempotency-Key": "bad"}
    got = served.call("ann", "POST", "/requests", content=body, headers=headers)
    assert got.status_code == 400 and says in got.json()["error"], got.text
    assert SECRET not in got.text and "\n" not in got.json()["error"]
    assert served.count(requests) == before


def test_signs_that_no_terminal_shows_are_written_out(served: Served) -> None:
    body = b'{"ids": ["a\\u0000b", "\\ud800"], "source": "x\\u0000\\u202e"}'
    headers = {"Idempotency-Key": "signs"}
    got = served.call("ann", "POST", "/requests", content=body, headers=headers)
    assert got.status_code in (201, 400)
    assert got.status_code == 400 or got.json()["source"] == "x\\x00\\u202e"


def test_what_is_too_large_is_not_read_to_its_end(served: Served) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(17):  # without a length in the header
            yield b"x" * 2**16

    for content in (b"x" * (2**20 + 1), pieces()):
        headers = {"Idempotency-Key": "large"}
        got = served.call("ann", "POST", "/requests", content=content, headers=headers)
        assert got.status_code == 413 and "1,048,576" in got.json()["error"]
    got = served.client.post("/login", content=b"token=" + b"x" * 5000)
    assert got.status_code == 413


@pytest.mark.parametrize("key", ["", "a" * 201, "with space", "m\u00fcller"])
def test_a_key_is_needed(key: str, served: Served) -> None:
    got = served.call(
        "ann", "POST", "/requests", json={"ids": ["a"]}, headers={"Idempotency-Key": key.encode()}
    )
    assert got.status_code == 400 and "Idempotency-Key" in got.json()["error"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/requests/0", 404),
        ("/requests/one", 404),
        (f"/requests/{2**70}", 404),
        ("/requests?limit=0", 400),
        ("/requests?after=x", 400),
        ("/nothing", 404),
        ("/requests/1/approve", 405),
        ("/certificates/99", 404),
        ("/evidence/99999", 404),
    ],
)
def test_a_wrong_address_is_told_as_json(path: str, code: int, served: Served) -> None:
    got = served.call("rob", "GET", path)
    assert (got.status_code, list(got.json())) == (code, ["error"])


def test_data_with_row_numbers_are_struck_at_the_terminal(served: Served) -> None:
    number = served.submit("ann", "positional").json()["request"]
    for value in ("yes", "no"):
        with served.ledger.write() as writing:
            served.ledger.set(writing, "positional", value)
        got = served.call("amy", "POST", f"/requests/{number}/approve")
        if value == "yes":
            assert got.status_code == 409 and f"request approve {number}" in got.json()["error"]
            assert served.count(struck, request=number) == 0
    assert got.status_code == 200


def test_evidence_holds_the_certificate_and_no_other_requests_events(
    served: Served, certified: int
) -> None:
    told = served.call("rob", "GET", f"/evidence/{certified}").json()
    assert [one["kind"] for one in told["events"]] == ["request received", "batch opened"]
    assert told["certificate"]["envelope"]["payload"] == "eyJhIjoiPGI+In0="
    file = served.call("rob", "GET", "/certificates/1")
    assert file.content == files_of(served.ledger, 1).certificate.read_bytes()
    (batch,) = served.call("amy", "GET", "/batches").json()["batches"]
    assert batch["requests"] == [certified] and batch["issued_at"]


def test_a_certificate_that_is_gone_or_revoked_is_told(served: Served, certified: int) -> None:
    file = files_of(served.ledger, 1).certificate
    hidden = file.rename(file.with_suffix(".away"))
    gone = served.call("rob", "GET", "/certificates/1")
    assert gone.status_code == 409 and str(served.ledger.folder) not in gone.text
    hidden.rename(file)
    for at, why, code in (("2026-11-27T00:00:00Z", "a <mistake>", 410), (None, None, 200)):
        with served.ledger.write() as writing:
            writing.connection.execute(
                update(certificates).values(revoked_at=at, revoked_reason=why)
            )
        assert served.call("rob", "GET", "/certificates/1").status_code == code
        page = served.look("rob", "/certificates/1")
        assert ("Revoked" in page.text, "&lt;mistake&gt;" in page.text) == (code == 410,) * 2


# --- pages


def test_a_page_escapes_what_it_shows_and_lets_nothing_run(served: Served, certified: int) -> None:
    script = "<script>alert(1)</script>"
    number = served.submit("ann", "script", source=script).json()["request"]
    served.call("amy", "POST", f"/requests/{number}/hold", json={"ground": script})
    pages = ("/", f"/requests/{number}", "/certificates/1", "/login", "/nothing")
    for path in pages:
        page = served.look("rob", path)
        assert "<script" not in page.text and SECRET not in page.text
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy and "script" not in policy
        style = page.text.partition("<style>")[2].partition("</style>")[0]
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["X-Content-Type-Options"] == "nosniff"
    page = served.look("rob", "/")
    assert "&lt;script&gt;" in page.text and "Example &amp; Sons" in page.text
    assert "of batch 1" in page.text and "of batch" not in served.look("amy", "/").text
    assert "(&lt;script&gt;" in served.look("rob", f"/requests/{number}").text
    assert "&lt;b&gt;" in served.look("rob", "/certificates/1").text


def test_the_page_beside_a_certificate_is_shown_as_it_is(served: Served, certified: int) -> None:
    file = files_of(served.ledger, 1).page
    assert served.look("rob", "/certificates/1/page").status_code == 409
    file.write_text("<p>done</p>")
    page = served.look("rob", "/certificates/1/page")
    assert page.text == "<p>done</p>" and "sandbox" in page.headers["Content-Security-Policy"]
    saved = served.look("rob", "/certificates/1/file")
    assert saved.headers["Content-Disposition"] == 'attachment; filename="batch-0001.dsse.json"'
    for path in ("", "/file", "/page"):
        assert served.look("amy", f"/certificates/1{path}").status_code == 403
    assert "/certificates/1/page" in served.look("rob", "/certificates/1").text


def test_what_is_overdue_is_said_in_words(served: Served) -> None:
    served.submit("ann", "old", received_at="2020-01-02T09:00:00Z")
    page = served.look("rob", "/").text
    assert page.index("overdue by") < page.index(">in ")
    sent = served.submit("ann", "west", law="ccpa", received_at="2026-01-05T20:00:00Z").json()
    assert sent["due_at"] == "2026-02-20T07:59:59Z"  # there the evening before, as people read it
    assert sent["due"] == "2026-02-19 23:59 America/Los_Angeles"
    assert (
        "2026-02-19 23:59 America/Los_Angeles"
        in served.look("rob", f"/requests/{sent['request']}").text
    )
    assert (
        '2026-02-19 <span class="soft">America/Los_Angeles</span>' in served.look("rob", "/").text
    )
    told = {
        -2: "overdue by 2 days",
        -1: "overdue by 1 day",
        0: "today",
        1: "tomorrow",
        9: "in 9 days",
    }
    assert {days: due_in_words(days) for days in told} == told and due_in_words(None) == ""


def test_pages_say_what_the_live_model_contains_and_whose_duplicate_a_request_is(
    tmp_path: Path,
) -> None:
    own = Served(tmp_path)
    first = own.submit("ann", "1").json()["request"]
    second = own.submit("bob", "1").json()["request"]
    with own.ledger.write("begin") as writing:
        row = {"digest": 64 * "0", "folder": "m", "card_digest": "", "made_at": writing.at}
        writing.connection.execute(insert(models).values(**row))
        promote(writing, 64 * "0", batch=None, reason="begun")
    for number in (first, second):
        own.call("amy", "POST", f"/requests/{number}/approve")
    page = own.look("rob", "/").text
    assert "live: contains up to 1 struck" in page and f"duplicate of {first}" in page
    sender = own.look("bob", "/").text
    assert "duplicate" in sender and "duplicate of" not in sender and "contains" not in sender
    assert own.call("bob", "GET", f"/requests/{second}").json()["days_left"] is not None


def test_logging_in_and_out(served: Served) -> None:
    browser = TestClient(served.client.app, follow_redirects=False)
    for path in ("/", "/requests/1", "/certificates/1"):
        sent = browser.get(path)
        assert (sent.status_code, sent.headers["Location"]) == (303, "/login")
    assert browser.post("/login", data={"token": "no"}).status_code == 401
    foreign = {"Sec-Fetch-Site": "cross-site"}
    right = {"token": f" {served.tokens['rob']} "}
    assert browser.post("/login", data=right, headers=foreign).status_code == 403
    entered = browser.post("/login", data=right)
    assert (entered.status_code, entered.headers["Location"]) == (303, "/")
    flags = {one.strip().lower() for one in entered.headers["Set-Cookie"].split(";")[1:]}
    assert flags == {"httponly", "samesite=strict", "path=/"}
    safe = TestClient(served.client.app, base_url="https://here", follow_redirects=False)
    assert "Secure" in safe.post("/login", data=right).headers["Set-Cookie"]
    assert "rob, reader" in browser.get("/").text
    browser.post("/logout")
    assert browser.get("/").status_code == 303


# --- tokens


def test_of_a_token_only_a_digest_is_kept_and_a_revoked_one_is_refused(served: Served) -> None:
    token = served.tokens["eve"] = add_token(served.ledger, "eve", "reader")
    assert served.call("eve", "GET", "/requests").status_code == 200
    page = {"Cookie": f"{COOKIE}={token}"}
    assert served.client.get("/", headers=page).status_code == 200
    for _ in range(2):
        revoke_token(served.ledger, "eve")
    assert served.call("eve", "GET", "/requests").status_code == 401
    assert served.client.get("/", headers=page).status_code == 303
    assert served.count(events, kind="token revoked") == 1
    with pytest.raises(RequestError, match="given before"):
        add_token(served.ledger, "eve", "reader")
    with pytest.raises(RequestError, match="no role"):
        add_token(served.ledger, "eva", "king")
    with pytest.raises(RequestError, match="cannot name"):
        add_token(served.ledger, "e/va", "reader")
    with pytest.raises(RequestError, match="no token"):
        revoke_token(served.ledger, "eva")
    assert next(row for row in token_rows(served.ledger) if row[0] == "eve")[3]
    with served.ledger.read() as connection:
        kept = [*connection.execute(select(tokens)), *connection.execute(select(events))]
        kept += (
            connection.execute(select(request_items)).all()
            + connection.execute(select(requests)).all()
        )
    assert token not in str(kept) and SECRET not in str(kept)


# --- what nobody foresaw


def test_nothing_of_an_unforeseen_error_is_told_or_logged(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ValueError(SECRET)

    monkeypatch.setattr(intake, "add", broken)
    with caplog.at_level(logging.DEBUG, "expunge.server"):
        got = served.submit("ann", "broken")
    assert got.status_code == 500 and "log" in got.json()["error"]
    assert "ValueError at" in caplog.text and SECRET not in got.text + caplog.text


def test_a_database_that_is_away_is_told_as_such(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert served.client.get("/v1/health").json() == {"status": "ok"}

    def away(*_: Any, **__: Any) -> None:
        raise OperationalError(SECRET, None, Exception(SECRET))

    monkeypatch.setattr("expunge.requests.ledger.insert", away)
    monkeypatch.setattr("expunge.requests.intake.insert", away)
    got = served.submit("ann", "away")
    assert (got.status_code, got.headers["Retry-After"]) == (503, "5")
    assert SECRET not in got.text and str(served.ledger.folder) not in got.text


def test_the_command_serves_until_it_is_ended_and_imports_no_model_code(served: Served) -> None:
    folder = str(served.ledger.folder)
    told = ["-X", "importtime", "-W", "error", "-m", "expunge", "serve", "--ledger", folder]
    with subprocess.Popen(
        [sys.executable, *told, "--port", "0"], stdout=PIPE, stderr=PIPE, text=True
    ) as running:
        errors: list[str] = []
        reader = Thread(target=lambda: errors.extend(running.stderr or ()))
        reader.start()
        assert running.stdout is not None
        at = re.findall(r"http://127\.0\.0\.1:\d+", running.stdout.readline())
        with httpx.Client(base_url=at[0] if at else "") as client:

            def call(who: str, path: str, body: Any = None) -> int:
                headers = {
                    "Authorization": f"Bearer {served.tokens[who]}",
                    "Idempotency-Key": "run",
                }
                method = "GET" if body is None else "POST"
                return client.request(method, path, json=body, headers=headers).status_code

            codes = [call("rob", "/v1/health"), call("ann", "/v1/requests", {"ids": ["run"]})]
            codes.append(call("amy", "/v1/requests/1/hold", {"ground": ""}))
            codes.append(call("rob", "/v1/evidence/1"))
            codes.append(client.post("/login", data={"token": served.tokens["rob"]}).status_code)
            codes.append(client.get("/").status_code)
        running.terminate()
        reader.join()
    imported = {line.rpartition("|")[2].strip() for line in errors if "|" in line}
    assert codes == [200, 201, 200, 200, 303, 200]
    assert running.returncode == 0 and all(one.startswith("import time:") for one in errors), errors
    assert "fastapi" in imported and not {"torch", "numpy", "pandas", "sklearn"} & imported


def test_other_machines_are_let_in_only_if_somebody_insists() -> None:
    assert all(serve.is_loopback(one) for one in ("127.0.0.1", "127.9.9.9", "::1", "localhost"))
    others = ("0.0.0.0", "::", "192.168.0.1", "example.org", "", "localhost.example.org")
    assert not any(serve.is_loopback(one) for one in others)
    with pytest.raises(ConfigError, match=r"TLS.*--anywhere"):
        made("serve")(["--host", "0.0.0.0"], standalone_mode=False)


def test_a_port_that_is_taken_is_told() -> None:
    with serve.listening("127.0.0.1", 0) as listener, pytest.raises(RequestError, match="--port"):
        serve.listening("127.0.0.1", listener.getsockname()[1])
