"""A ledger loses nothing, does nothing twice, and lets nobody change what has happened; in SQLite and in
PostgreSQL.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from commands import expunge
from kills import Blow, Moments
from ledger_helpers import (
    DUE,
    KILLED,
    MANY,
    Fake,
    asked,
    count,
    dying_at,
    faked,
    forked,
    learned,
    ledger_at,
)
from request_kills import watch
from sqlalchemy import CheckConstraint, inspect, select, text
from sqlalchemy.exc import DBAPIError

from expunge import api
from expunge.cli.request import read_moment, read_received
from expunge.data.load import load_data
from expunge.data.split import Split
from expunge.data.suppressed import BESIDE, LedgerKey
from expunge.errors import ConfigError, RequestError
from expunge.methods import make_method
from expunge.place import Place
from expunge.requests import batches as batches_module
from expunge.requests import signers
from expunge.requests import steps as steps_module
from expunge.requests.batches import BatchState, abandon, frozen_batch, run_batch
from expunge.requests.beginning import begin
from expunge.requests.checking import check_ledger
from expunge.requests.dsse import key_id
from expunge.requests.duplicates import answer_duplicates, duplicate
from expunge.requests.events import Head, faults, faults_beside, head
from expunge.requests.intake import (
    NamedSample,
    add,
    approve,
    extend,
    hold,
    refuse,
    withdraw,
)
from expunge.requests.ledger import Ledger, check_url
from expunge.requests.moving import move, request_row
from expunge.requests.overview import all_requests, overview, request_lines
from expunge.requests.receiving import Received, receive
from expunge.requests.release import live_folder
from expunge.requests.running import run_waiting
from expunge.requests.schema import newest
from expunge.requests.steps import Lease, claim, done, failed, is_gone, once, output_of
from expunge.requests.tables import (
    batch_requests,
    batches,
    duplicates,
    events,
    metadata,
    releases,
    request_items,
    requests,
    steps,
    struck,
)
from expunge.trained.card import CARD, MASK, WEIGHTS
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe

CPU = Place(device="cpu")
TOLD = {"organisation": "us", "role": "controller", "law": "gdpr"}


@pytest.fixture
def ledger(database: str, tmp_path: Path) -> Ledger:
    return ledger_at(tmp_path, database)


@pytest.fixture
def small(tmp_path: Path) -> Ledger:
    """One in SQLite, for what no database changes."""
    return ledger_at(tmp_path)


def state_of(ledger: Ledger, number: int) -> str:
    with ledger.read() as connection:
        return str(request_row(connection, number)["state"])


def whole(ledger: Ledger) -> bool:
    with ledger.read() as connection:
        return faults(connection) == []


def column(ledger: Ledger, chosen: Any) -> list[Any]:
    with ledger.read() as connection:
        return list(connection.scalars(select(chosen)))


# --- tables


def test_tables_are_those_that_alembic_makes(ledger: Ledger) -> None:
    with ledger.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        seen = inspect(connection)
        for table in metadata.sorted_tables:  # which alembic does not compare
            asked_for = {
                str(one.name): str(one.sqltext)
                for one in table.constraints
                if isinstance(one, CheckConstraint)
            }
            there = {
                str(one["name"]): one["sqltext"] for one in seen.get_check_constraints(table.name)
            }
            assert there.keys() == asked_for.keys()
            if connection.dialect.name == "sqlite":  # PostgreSQL writes them in its own way
                assert there == asked_for
        if connection.dialect.name == "sqlite":
            strict = connection.execute(
                text("SELECT name FROM pragma_table_list WHERE strict = 1")
            ).scalars()
            assert {*strict} == {*metadata.tables}


def test_a_ledger_of_another_version_is_not_opened(small: Ledger) -> None:
    said = {
        "0000": f"this program writes {newest()}; .* init MODEL_DIR --out {small.folder}`",
        "9999": f"this program knows {newest()} at most",
    }
    for version, why in said.items():
        with small.engine.begin() as connection:
            connection.execute(text(f"UPDATE alembic_version SET version_num = '{version}'"))
        with pytest.raises(RequestError, match=f"version {version}, and {why}"):
            Ledger.open(small.folder)
    with pytest.raises(RequestError, match="at most"):
        Ledger.create(small.folder, {}, data_set="")


# --- events


def test_events_stay(ledger: Ledger) -> None:
    words = ["UPDATE events SET actor = 'x'", "DELETE FROM events"]
    if ledger.engine.dialect.name != "sqlite":
        words.append("TRUNCATE events CASCADE")
    for word in words:
        with (
            pytest.raises(DBAPIError, match="events are never changed"),
            ledger.engine.begin() as connection,
        ):
            connection.execute(text(word))
    assert whole(ledger)


TAMPERED = {
    "changed": (["UPDATE events SET actor = 'x' WHERE seq = 2"], "event 2 was changed"),
    "deleted": (["DELETE FROM events WHERE seq = 2"], "event 2 is missing"),
    "swapped": (
        [
            f"UPDATE events SET seq = {new} WHERE seq = {old}"
            for old, new in ((2, 99), (3, 2), (99, 3))
        ],
        "event 2 does not follow",
    ),
    "cut off": (["DELETE FROM events WHERE seq >= 3"], ""),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_a_tampered_event_is_found(how: str, ledger: Ledger) -> None:
    add(ledger, asked("a"), learned("a"), decided=True)
    with ledger.read() as connection:
        noted = head(connection)
        assert faults(connection) == faults_beside(connection, noted) == []
        assert faults_beside(connection, Head(noted.seq, 64 * "a"))
    sqlite = ledger.engine.dialect.name == "sqlite"
    triggers = ("events_UPDATE", "events_DELETE") if sqlite else ("events_stay ON events",)
    words, told = TAMPERED[how]
    with ledger.engine.begin() as connection:
        for word in (*(f"DROP TRIGGER {one}" for one in triggers), *words):
            connection.execute(text(word))
    with ledger.read() as connection:
        found = faults(connection)
        assert any(told in one for one in found) if told else found == []
        assert how != "cut off" or "the end was cut off" in faults_beside(connection, noted)[0]


def test_a_backup_of_before_shows_beside_a_noted_head(small: Ledger, tmp_path: Path) -> None:
    shutil.copytree(small.folder, tmp_path / "backup")
    add(small, asked("a"), learned("a"), decided=True)
    noted = check_ledger(small).lines[-1].removeprefix("head of the chain: ")
    verify = ("ledger", "verify", "--head", noted)
    assert "CHANGED" not in expunge(*verify, "--ledger", str(small.folder), cwd=tmp_path).stdout
    old = expunge(*verify, "--ledger", "backup", cwd=tmp_path, ok=False)
    assert old.returncode == 2 and "this is a backup of before" in " ".join(old.stderr.split())
    typed = expunge("ledger", "verify", "--head", "7", "--ledger", "backup", cwd=tmp_path, ok=False)
    assert "is no head of a chain" in typed.stderr


# --- requests


def test_the_same_request_twice_is_one(ledger: Ledger) -> None:
    first = add(ledger, asked("a", "b"), learned("a", "b"), decided=True)
    events_then = count(ledger, "events")
    again = add(ledger, asked("b", "a"), learned("a", "b"), decided=True)
    assert (again.number, first.fresh, again.fresh) == (first.number, True, False)
    assert count(ledger, "requests") == 1 and count(ledger, "events") == events_then
    add(ledger, asked("a", key="k"), learned("a"))
    with pytest.raises(RequestError, match="asks for something else"):
        add(ledger, asked("b", key="k"), learned("b"))
    assert count(ledger, "requests") == 2 and whole(ledger)


def test_many_requests_added_twice(ledger: Ledger) -> None:
    total = 1000 if ledger.engine.dialect.name == "sqlite" else 50
    for fresh in (True, False):
        assert all(add(ledger, asked(f"a{one}")).fresh == fresh for one in range(total))
    assert count(ledger, "requests") == count(ledger, "items") == total and whole(ledger)


def test_two_at_once_with_one_key_give_one_request(ledger: Ledger) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(
            pool.map(lambda _: add(ledger, asked("a"), learned("a"), decided=True), range(8))
        )
    assert {one.number for one in made} == {1} and sum(one.fresh for one in made) == 1
    at = time.monotonic() + 0.3

    def one_more() -> bool:
        own = Ledger.open(ledger.folder)
        time.sleep(max(0.0, at - time.monotonic()))
        return add(own, asked("b"), learned("b"), decided=True).fresh

    said = [over() for over in [forked(one_more) for _ in range(3)]]
    assert sorted(said) == [(0, "False"), (0, "False"), (0, "True")]
    assert count(ledger, "requests") == count(ledger, "struck") == 2 and whole(ledger)


def test_what_is_named_is_counted_and_struck(small: Ledger) -> None:
    whats = ("learned", "validation", "test", "struck before", "unknown")
    found = [NamedSample(one, one, f"content of {one}") for one in whats]
    done_ = add(small, asked(*whats), found, decided=True)
    assert done_.counts == dict.fromkeys(whats, 1)
    # the unknown one too: it may come with the next export
    assert {*column(small, struck.c.id_hmac)} == {small.key.hmac(one) for one in whats}
    with pytest.raises(
        RequestError, match="none of the ids of this request is in the data, so it was not received"
    ):
        add(small, asked("x", "y"), [NamedSample("x", "unknown"), NamedSample("y", "unknown")])
    assert count(small, "requests") == 1
    with pytest.raises(RequestError, match="names no samples"):
        add(small, asked())


def test_row_numbers_are_struck_by_content_alone(tmp_path: Path) -> None:
    ledger = ledger_at(tmp_path, positional=True)
    add(
        ledger,
        asked("1", "2"),
        [NamedSample("1", "learned", "c1"), NamedSample("2", "unknown")],
        decided=True,
    )
    assert column(ledger, struck.c.id_hmac) == [None]
    assert column(ledger, struck.c.content_hash) == ["c1"]
    with pytest.raises(RequestError, match="no content is known by which"):
        add(ledger, asked("3"), learned("3"), decided=True)
    assert count(ledger, "requests") == 1


def test_what_nobody_looked_up_may_have_been_learned(small: Ledger) -> None:
    add(small, asked("a", "b"), decided=True)
    assert overview(small).lines[1].endswith(": contains up to 2 struck")


def test_moments_as_typed() -> None:
    clock = ZoneInfo("Europe/Berlin")
    assert read_received("2026-01-05", clock).isoformat() == "2026-01-05T00:00:00+01:00"
    due = read_moment("2026-01-05", "--due", clock)
    assert due.isoformat() == "2026-01-05T23:59:59+01:00"
    for typed, why in (
        ("2098-01-05", "still to come"),
        ("9999-12-31T23:59-12:00", "outside the years"),
        ("2026-01-05T09:30", "no time zone"),
        ("soon", "is no time"),
    ):
        with pytest.raises(RequestError, match=why):
            read_received(typed, clock)


def test_an_undecided_request_is_in_nobodys_way(small: Ledger) -> None:
    first = add(small, asked("a"))  # by a server, of somebody who is not known yet
    assert state_of(small, first.number) == "received" and not column(small, struck.c.id)
    decided = add(small, asked("a"), learned("a"), decided=True)
    assert (decided.number, decided.fresh) == (first.number, False)
    assert state_of(small, first.number) == "struck" and count(small, "struck") == 1
    assert decided.counts == {"learned": 1}

    refused = add(small, asked("b")).number
    refuse(small, refused, "not the person that it says")
    later = add(small, asked("b"), learned("b"), decided=True)
    assert later.fresh and later.number != refused and state_of(small, later.number) == "struck"
    assert not add(small, asked("b"), learned("b"), decided=True).fresh

    withdrawn = add(small, asked("c", key="k")).number
    withdraw(small, withdrawn, "by letter")
    assert not add(small, asked("c", key="k")).fresh
    with pytest.raises(RequestError, match="is withdrawn; give this one a key of its own"):
        add(small, asked("c", key="k"), learned("c"), decided=True)


def test_approval_tells_what_is_there(small: Ledger) -> None:
    number = add(small, asked("a", "b")).number
    with pytest.raises(RequestError, match="or refuse it"):
        approve(small, number, [])
    found = [NamedSample("a", "learned", "c", copies=("a2",))]
    approve(small, number, found)
    approve(small, number, found)
    assert sorted(column(small, request_items.c.state)) == ["learned", "unknown"]
    assert column(small, duplicates.c.other_hmac) == [small.key.hmac("a2")]
    assert count(small, "struck") == 2 and whole(small)


def test_decisions_follow_the_machine(small: Ledger) -> None:
    struck_one = add(small, asked("a"), learned("a"), decided=True).number
    for change in (refuse, withdraw):
        with pytest.raises(RequestError, match="request 1 is struck and cannot become"):
            change(small, struck_one, "too late")
    ended = add(small, asked("b")).number
    refuse(small, ended, "no")
    for change in (refuse, withdraw, hold):
        with pytest.raises(RequestError, match="request 2 is refused"):
            change(small, ended, "again")
    with pytest.raises(RequestError, match="request 2 is refused and cannot become approved"):
        approve(small, ended)
    with pytest.raises(RequestError, match="waits for nothing any more"):
        extend(small, ended, DUE + timedelta(days=9), "late")
    with pytest.raises(RequestError, match="ends later than that"):
        extend(small, struck_one, DUE, "no later")
    extend(small, struck_one, DUE + timedelta(days=9), "many at once")
    for change in (refuse, withdraw, hold):
        with pytest.raises(RequestError, match="there is no request 9"):
            change(small, 9, "x")
    assert whole(small)


def test_what_is_held_waits(small: Ledger) -> None:
    number = add(small, asked("a")).number
    hold(small, number, "a court order")
    for decide in (
        lambda: approve(small, number, learned("a")),
        lambda: add(small, asked("a"), learned("a"), decided=True),
    ):
        with pytest.raises(RequestError, match=r"request 1 is held \(a court order\)"):
            decide()
    hold(small, number, "")
    approve(small, number, learned("a"))
    hold(small, number, "another order")
    assert frozen_batch(small) is None and count(small, "struck") == 1
    hold(small, number, "")
    second = add(small, asked("a", key="k"), learned("a"), decided=True).number
    assert state_of(small, second) == "duplicate"
    hold(small, number, "a third order")
    assert state_of(small, second) == "received", "it waits for no other"
    approve(small, second, learned("a"))
    assert state_of(small, second) == "struck"
    hold(small, number, "")
    assert frozen_batch(small) == 1


# --- duplicates


def test_one_that_an_earlier_verified_request_covers_becomes_its_duplicate(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    faked(monkeypatch)
    first = add(ledger, asked("a0", "a1"), learned("a0", "a1"), decided=True).number
    sent = add(ledger, asked("a1", key="k")).number
    assert state_of(ledger, sent) == "received", "as long as nobody has verified it"
    approve(ledger, sent, learned("a1"))
    approve(ledger, sent, learned("a1"))  # changes nothing
    more = add(ledger, asked("a1", "a2"), learned("a1", "a2"), decided=True).number
    again = add(ledger, asked("a0"), learned("a0"), decided=True)
    assert not add(ledger, asked("a0"), learned("a0"), decided=True).fresh
    wanted = ["struck", "duplicate", "struck", "duplicate"]
    assert [state_of(ledger, n) for n in (first, sent, more, again.number)] == wanted
    assert column(ledger, struck.c.request) == [first, first, more, more]
    late = DUE + timedelta(days=9)
    extend(ledger, sent, late, "many at once")
    with pytest.raises(RequestError, match=f"a duplicate of request {first}; hold that one"):
        hold(ledger, sent, "a court order")
    told = "\n".join(overview(ledger).lines)
    assert f"request {sent} is answered with request {first}, once that is certified" in told
    assert "duplicate of 1" in {row[1] for row in all_requests(ledger)}
    assert f"answered with it: request {sent}, {again.number}" in request_lines(ledger, first)
    run(ledger)
    with ledger.write() as writing:
        for to in ("certified", "closed"):
            move(writing, first, to)
        answer_duplicates(writing, first, 1)
    assert column(ledger, events.c.kind).count("duplicate answered") == 2
    assert "is answered with" not in "\n".join(overview(ledger).lines) and whole(ledger)


def test_an_unverified_request_never_shadows_a_verified_one(small: Ledger) -> None:
    first, second = (add(small, asked("a", key=key)).number for key in "kl")
    other = add(small, asked("b", key="m")).number
    for number, of, why in (
        (first, second, "is received, and a duplicate is of an earlier request"),
        (other, first, "does not ask for all that request 3 does"),
        (9, first, "there is no request 9"),
    ):
        with pytest.raises(RequestError, match=why):
            duplicate(small, number, of, "the same letter")
    for _ in range(2):
        duplicate(small, second, first, "the same letter")
    assert column(small, events.c.kind).count("request duplicate") == 1
    refuse(small, first, "not the person that it says")
    assert state_of(small, second) == "received", "it waits for nobody any more"

    third = add(small, asked("a", key="n")).number
    duplicate(small, third, second, "the same letter")
    approve(small, third, learned("a"))  # by itself: the other is not verified
    assert (state_of(small, second), state_of(small, third)) == ("received", "struck")
    approve(small, second, learned("a"))
    assert state_of(small, second) == "struck", "a later one does not stand in its way"
    duplicate(small, add(small, asked("a", key="o")).number, third, "the same letter")
    withdraw(small, 5, "by letter")
    assert state_of(small, 5) == "withdrawn" and whole(small)


def test_a_duplicate_has_nothing_of_its_own_to_strike(small: Ledger) -> None:
    add(small, asked("a"), learned("a"), decided=True)
    known = [NamedSample("a", "learned", "its content")]
    told = add(small, asked("a", key="k"), known, decided=True).number
    assert state_of(small, told) == "struck", "by its content, which nobody knew before"
    held = add(small, asked("c"), learned("c"), decided=True).number
    hold(small, held, "a court order")
    later = add(small, asked("c", key="l"), learned("c"), decided=True).number
    assert state_of(small, later) == "struck", "one that is held answers nobody"


# --- steps


def test_two_workers_never_do_one_step(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = opened(ledger)
    first = claim(ledger, batch, "s", "in")
    assert first == Lease(1, 1, 1)
    assert claim(ledger, batch, "s", "in") is None  # of another thread, too
    monkeypatch.setattr(steps_module, "worker_name", lambda: "elsewhere:1:2")
    assert claim(ledger, batch, "s", "in") is None
    done(ledger, first, "out", 1.0)
    assert claim(ledger, batch, "s", "in") is None and output_of(ledger, batch, "s", "in") == "out"
    assert once(ledger, batch, "s", "in", lambda: pytest.fail("done twice")) == "out"


def test_a_lease_that_is_over_is_taken_over(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = opened(ledger)
    with monkeypatch.context() as patch:
        patch.setattr(steps_module, "LEASE_SECONDS", -1)
        first = claim(ledger, batch, "s", "in")
    second = claim(ledger, batch, "s", "in")
    assert first is not None and second is not None and second.fencing > first.fencing
    with pytest.raises(RequestError, match="another worker took this step over"):
        done(ledger, first, "of the first", 1.0)
    failed(ledger, first, "late")  # which lets go of nothing any more
    assert claim(ledger, batch, "s", "in") is None
    done(ledger, second, "of the second", 1.0)
    assert output_of(ledger, batch, "s", "in") == "of the second" and whole(ledger)


def test_a_dead_process_is_known_at_once(ledger: Ledger) -> None:
    batch = opened(ledger)
    code, said = forked(lambda: claim(Ledger.open(ledger.folder), batch, "s", "in"))()
    assert (code, said) == (0, str(Lease(1, 1, 1)))
    assert claim(ledger, batch, "s", "in") == Lease(1, 2, 2)
    own = steps_module.worker_name()
    assert not is_gone(own) and is_gone(f"{own}0") and not is_gone(f"other-{own}")


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_jumps(hours: int, small: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = opened(small)
    first = claim(small, batch, "s", "in")
    jumped = SimpleNamespace(now=lambda zone: datetime.now(zone) + timedelta(hours=hours))
    monkeypatch.setattr(steps_module, "datetime", jumped)
    assert not is_gone(steps_module.worker_name())
    second = claim(small, batch, "s", "in")
    winner = (
        first if hours < 0 else second
    )  # forward: the lease seems over, and the first is fenced
    assert (second is None) == (hours < 0) and first is not None and winner is not None
    done(small, winner, "out", 1.0)
    if hours > 0:
        with pytest.raises(RequestError, match="another worker"):
            done(small, first, "of the first", 1.0)
    assert output_of(small, batch, "s", "in") == "out"


def test_an_interrupted_step_is_free_at_once(small: Ledger) -> None:
    batch = opened(small)

    def interrupted() -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        once(small, batch, "s", "in", interrupted)
    assert column(small, steps.c.error) == ["KeyboardInterrupt"]
    assert once(small, batch, "s", "in", lambda: "out") == "out"


def test_a_lease_is_renewed(small: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = opened(small)
    monkeypatch.setattr(steps_module, "LEASE_SECONDS", 0.04)  # 25 times over
    renewed = threading.Event()
    write = Ledger.write

    def broken_once(self: Ledger, actor: str | None = None) -> Any:
        if threading.current_thread().name == "lease" and not renewed.is_set():
            renewed.set()
            raise RequestError("the database does not do it")
        return write(self, actor)

    monkeypatch.setattr(Ledger, "write", broken_once)
    before = []

    def work() -> str:
        renewed.wait(5)
        before.extend(column(small, steps.c.lease_until))
        for _ in range(100):  # stamped to the second
            time.sleep(0.05)
            if column(small, steps.c.lease_until) != before:
                return "renewed"
        return "not renewed"

    assert once(small, batch, "s", "in", work) == "renewed"


# --- batches, of models that are files


def opened(ledger: Ledger) -> int:
    add(ledger, asked("a0"), learned("a0"), decided=True)
    return frozen_batch(ledger) or 0


def run(ledger: Ledger) -> BatchState | None:
    batch = frozen_batch(ledger)
    return None if batch is None else run_batch(ledger, batch)


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return faked(monkeypatch)


def check_released(ledger: Ledger, total: int) -> None:
    """So many batches of one request each were released, one after another, and nothing is left over."""
    names = ledger.folder / "models"
    assert {*column(ledger, requests.c.state)} == {*column(ledger, batches.c.state)} == {"released"}
    assert column(ledger, batch_requests.c.batch) == [*range(1, total + 1)]
    states = [*column(ledger, releases.c.state)]
    assert sorted(states) == ["live", *["retired"] * total]
    assert live_folder(ledger).name == f"batch-{total:04d}-retrain"
    assert json.loads((live_folder(ledger) / "retain.json").read_text()) == [*MANY[total:]]
    assert {one.name for one in names.iterdir() if not one.name.endswith(".part")} == {
        f"batch-{one:04d}-retrain" for one in range(1, total + 1)
    }
    assert None not in column(ledger, steps.c.output) and whole(ledger)
    kinds = column(ledger, events.c.kind)
    assert kinds.count("model released") == total + 1 and kinds.count("step done") == 2 * total


def test_killed_at_every_boundary(
    ledger: Ledger, fakes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(turn: int) -> str:
        with dying_at(turn, monkeypatch) as fakes["passed"]:
            return str(run(Ledger.open(ledger.folder)))

    for turn in itertools.count(1):
        add(ledger, asked(MANY[turn - 1]), learned(MANY[turn - 1]), decided=True)
        code, said = forked(lambda turn=turn: killed(turn))()
        assert code in (0, KILLED), said
        run(ledger)
        check_released(ledger, turn)
        if code == 0:
            break
    assert turn > 9  # transactions and one rename


def test_killed_at_random_moments(ledger: Ledger, fakes: dict[str, Any]) -> None:
    """Before any statement, and before and after the end of any transaction, from the request on."""
    chance = random.Random(0)

    def whole_run(number: int, at: int | None) -> int:
        moments = Moments(None if at is None else Blow(signal.SIGKILL, at))
        fakes["passed"] = moments.passed
        watch(moments)
        own = Ledger.open(ledger.folder)
        for _ in range(2):
            add(own, asked(MANY[number]), learned(MANY[number]), decided=True)
        run(own)
        return moments.count

    code, said = forked(lambda: whole_run(0, None))()
    assert code == 0, said
    for number in range(1, 21):
        at = chance.randint(1, int(said))
        code, told = forked(lambda number=number, at=at: whole_run(number, at))()
        assert code in (0, -signal.SIGKILL), told
        add(ledger, asked(MANY[number]), learned(MANY[number]), decided=True)
        run(ledger)
        check_released(ledger, number + 1)
        assert count(ledger, "requests") == count(ledger, "struck") == number + 1


def test_two_processes_at_one_batch(ledger: Ledger, fakes: dict[str, Any]) -> None:
    add(ledger, asked("a0"), learned("a0"), decided=True)
    fakes["seconds"] = 0.4

    def work() -> bool | None:
        made = run(Ledger.open(ledger.folder))
        return made and made.busy

    said = [over() for over in [forked(work) for _ in range(2)]]
    assert sorted(said) == [(0, "False"), (0, "True")]
    check_released(ledger, 1)
    assert column(ledger, steps.c.attempt) == [1, 1]


def test_two_processes_make_one_signing_key(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = signers.make_signing_key

    def slowly(folder: Path) -> Any:
        time.sleep(0.2)  # the other one looks meanwhile
        return make(folder)

    monkeypatch.setenv("EXPUNGE_KEYS", str(tmp_path / "keys"))
    ledger.key.keep()
    monkeypatch.setattr(signers, "make_signing_key", slowly)

    def own() -> str:
        return key_id(signers.signing_key(Ledger.open(ledger.folder)).public_key())

    said = [over() for over in [forked(own) for _ in range(2)]]
    assert [code for code, _ in said] == [0, 0], said
    assert len({*said}) == 1 and len([*(tmp_path / "keys").glob("signing-*")]) == 1
    assert column(ledger, events.c.kind).count("setting changed") == 1, (
        "noted twice, it counts as two"
    )


def test_a_folder_in_the_way(small: Ledger, fakes: dict[str, Any]) -> None:
    add(small, asked("a0"), learned("a0"), decided=True)
    folder = small.folder / "models" / "batch-0001-retrain"
    folder.parent.mkdir()
    Fake(Split(MANY, (), (), ())).save(folder)
    with pytest.raises(RequestError, match="is in the way"):
        run(small)
    shutil.rmtree(folder)
    run(small)
    check_released(small, 1)


def test_a_model_that_is_not_sane_alarms_and_is_not_tried_again(
    small: Ledger, fakes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    add(small, asked("a0"), learned("a0"), decided=True)
    with monkeypatch.context() as patch:
        bad = {"passed": False, "why": "TA is 9.0 and was 91.0"}
        patch.setattr(batches_module, "sanity_of", lambda *_: bad)
        with pytest.raises(RequestError, match=r"TA is 9.0 .* nothing is released"):
            run(small)
    told = count(small, "events")
    with pytest.raises(RequestError, match="do `expunge batch abandon 1 --reason WHY`"):
        run(small)
    assert count(small, "events") == told
    abandon(small, 1, "a bad seed")
    assert state_of(small, 1) == "struck"
    made = run(small)
    assert made is not None and (made.number, made.state) == (2, "released")
    with pytest.raises(RequestError, match="batch 2 is released and cannot become abandoned"):
        abandon(small, 2, "too late")


def test_an_abandoned_batch_is_not_released(small: Ledger, fakes: dict[str, Any]) -> None:
    add(small, asked("a0"), learned("a0"), decided=True)
    fakes["passed"] = lambda: abandon(small, 1, "while it trained")
    with pytest.raises(RequestError, match="batch 1 is abandoned and cannot become gating"):
        run(small)
    assert state_of(small, 1) == "struck" and whole(small)


def test_a_mask_that_came_after_a_model_was_made(
    small: Ledger, fakes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    add(small, asked("a0"), learned("a0"), decided=True)
    with monkeypatch.context() as patch:
        patch.setattr(batches_module, "_checked", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(small)
    (small.folder / "models/batch-0001-retrain" / MASK).write_bytes(b"mask")
    with pytest.raises(RequestError, match="is not the model that this batch made"):
        run(small)


def test_an_open_batch_goes_its_own_way(small: Ledger) -> None:
    batch = opened(small)
    with pytest.raises(
        RequestError, match=r"batch 1 is not done, and goes another way \(retrain\)"
    ):
        run_waiting(small, make_method("euk", {"k": "all"}, allow_code=False))
    for at, to in (("frozen", "unlearning"), ("unlearning", "gating")) * 2:
        batches_module._go_on(small, batch, at, to)
    for why in ("the gate", "another worker that was late"):
        batches_module._fall_back(small, batch, "undecided", why, "{}")
        batches_module._go_on(small, batch, "unlearning", "gating")
    assert column(small, batches.c.state) == ["retraining"]
    assert "the gate" in column(small, batches.c.fallback)[0] and whole(small)


def test_what_the_live_model_did_not_learn_needs_no_model(
    small: Ledger, fakes: dict[str, Any]
) -> None:
    live = live_folder(small)
    add(small, asked("v"), [NamedSample("v", "validation")], decided=True)
    made = run(small)
    assert (
        made is not None and made.state == "released" and made.folder == live == live_folder(small)
    )
    assert state_of(small, 1) == "released" and count(small, "releases") == 1 and whole(small)


# --- beginning


def test_a_ledger_is_begun_once(database: str, tmp_path: Path) -> None:
    told = {"law": "gdpr"}
    first = Ledger.create(tmp_path / "one", told, data_set="digits", url=database)
    again = Ledger.create(tmp_path / "one", {"law": "ccpa"}, data_set="", url="sqlite")
    assert again.file == first.file and again.setting("law") == "gdpr"
    assert count(first, "events") == 1
    if database == "sqlite":
        with first.engine.connect() as connection:
            connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)"))
        (tmp_path / "two").mkdir()
        shutil.copy(tmp_path / "one/ledger.db", tmp_path / "two")
    with pytest.raises(RequestError, match="holds another ledger already"):
        Ledger.create(tmp_path / "two", told, data_set="digits", url=database)
    assert not (tmp_path / "two/ledger.json").exists()


def test_a_database_that_cannot_be(tmp_path: Path) -> None:
    for url, told in {
        "postgresql://me:secret@host/db": "holds a password",
        "postgresql://me@host/db?password=secret": "holds a password",
        "mysql://me@host/db": "takes sqlite, or PostgreSQL",
        "sqlite:///here.db": "takes sqlite, or PostgreSQL",
        "nonsense": "is no URL",
    }.items():
        with pytest.raises(RequestError, match=told) as caught:
            Ledger.create(tmp_path / "one", {}, data_set="digits", url=url)
        assert "secret" not in str(caught.value) and not (tmp_path / "one").exists()
    pytest.importorskip("psycopg")
    with pytest.raises(RequestError, match=r"does not do it \(.*refused"):
        Ledger.create(tmp_path / "one", {}, data_set="d", url="postgresql://me@127.0.0.1:9/db")
    assert not (tmp_path / "one/ledger.json").exists()
    check_url("postgresql://me@host/db?passfile=/home/me/.pgpass")


# --- one real model


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "original"
    api.train(load_data("digits:150"), "mlp", recipe=Recipe(epochs=1), place=CPU).save(folder)
    return folder


@pytest.fixture
def begun(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """A ledger of a real model, which the working folder points to."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path / "original")
    return begin(tmp_path / "original", told=TOLD, place=CPU).ledger


def by_content(name: str) -> list[NamedSample]:
    """That it was learned, of data whose ids are row numbers."""
    return [NamedSample(name, "learned", f"content of {name}")]


def learned_id(folder: Path) -> str:
    return str(json.loads((folder / "split.json").read_text())["retain"][0])


def test_a_kill_while_it_is_begun(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained, tmp_path / "original")

    def killed() -> None:
        monkeypatch.setattr(Ledger, "write", lambda *_: os._exit(KILLED))
        begin(tmp_path / "original", told=TOLD, place=CPU)

    def killed_early() -> None:
        import expunge.requests.ledger as module

        monkeypatch.setattr(module, "upgrade", lambda *_: None)
        monkeypatch.setattr(module, "select", lambda *_: os._exit(KILLED))
        begin(tmp_path / "original", told=TOLD, place=CPU)

    def killed_before_its_key() -> None:
        monkeypatch.setattr(LedgerKey, "keep", lambda _: os._exit(KILLED))
        begin(tmp_path / "original", told=TOLD, place=CPU)

    def killed_while_a_file_is_written(name: str) -> None:
        replace = os.replace

        def dying(part: Path, file: Path) -> None:
            replace(part, file) if file.name != name else os._exit(KILLED)

        monkeypatch.setattr(os, "replace", dying)
        begin(tmp_path / "original", told=TOLD, place=CPU)

    monkeypatch.setenv("EXPUNGE_KEYS", str(tmp_path / "keys"))
    works = [killed_early, killed_before_its_key, killed_before_its_key]
    works += [lambda: killed_while_a_file_is_written("ledger.json"), killed]
    works += [lambda: killed_while_a_file_is_written(BESIDE)]
    for work in works:
        code, said = forked(work)()
        assert code == KILLED, said
    done_ = begin(tmp_path / "original", told=TOLD, place=CPU)
    assert done_.fresh and live_folder(done_.ledger).name == "original" and whole(done_.ledger)
    assert not begin(tmp_path / "original", told=TOLD, place=CPU).fresh
    assert (tmp_path / BESIDE).is_file() and (tmp_path / "original/ledger.json").is_file()
    assert [one for one in tmp_path.rglob("*") if ".expunge-new-" in one.name] == []
    (key,) = (tmp_path / "keys").iterdir()
    assert key == done_.ledger.key.file
    key.unlink()
    with pytest.raises(RequestError, match=r"the key of the ledger .* is not there"):
        begin(tmp_path / "original", told=TOLD, place=CPU)


def test_a_full_disk_leaves_it_to_go_on(
    begun: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ids.txt").write_text(learned_id(tmp_path / "original") + "\n")
    expunge("request", "add", "--ids", "ids.txt", cwd=tmp_path)
    with monkeypatch.context() as patch:
        full = OSError(errno.ENOSPC, "No space left on device", "models/batch-0001-retrain")
        patch.setattr(Trained, "save", lambda *_: (_ for _ in ()).throw(full))
        said = expunge("batch", "run", cwd=tmp_path, ok=False)
    assert said.returncode == 2 and said.stderr.count("No space left on device") == 1
    assert "Traceback" not in said.stderr
    assert column(begun, steps.c.error)[0] == "OSError"
    assert "No space left" not in "".join(column(begun, events.c.payload))
    expunge("batch", "run", cwd=tmp_path)
    assert count(begun, "releases") == 2 and whole(begun)
    assert learned_id(live_folder(begun)) != learned_id(tmp_path / "original")


def test_what_is_struck_while_a_batch_trains_waits_for_the_next(
    begun: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = json.loads((tmp_path / "original/split.json").read_text())["retain"][:2]
    add(begun, asked(first), by_content(first), data_set="digits", decided=True)
    batch = frozen_batch(begun) or 0
    save = Trained.save

    def saved(*given: Any, **more: Any) -> Any:
        add(begun, asked(second), by_content(second), data_set="digits", decided=True)
        save(*given, **more)
        raise OSError(errno.ENOSPC, "No space left on device")  # as good as a kill

    with monkeypatch.context() as patch:
        patch.setattr(Trained, "save", saved)
        with pytest.raises(OSError, match="No space"):
            run_batch(begun, batch, place=CPU)
    assert run_batch(begun, batch, place=CPU).state == "released"
    assert (state_of(begun, 1), state_of(begun, 2)) == ("released", "struck")
    assert frozen_batch(begun) == 2


@pytest.mark.parametrize("name", [WEIGHTS, MASK, CARD])
def test_a_live_model_that_was_changed_is_refused(name: str, begun: Ledger, tmp_path: Path) -> None:
    add(begun, asked("1"), by_content("1"), data_set="digits", decided=True)
    with (tmp_path / "original" / name).open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(RequestError, match="are not those that were released"):
        run(begun)
    assert [one for one in check_ledger(begun).faults if "was changed" in one]


def test_from_a_list_of_ids_to_what_is_told(begun: Ledger, tmp_path: Path) -> None:
    mine = learned_id(tmp_path / "original")
    tested = str(load_data("digits:150").test.ids[0])
    (tmp_path / "ids.txt").write_text(f"{mine}\n{tested}\nnobody\n")
    how = Received("mail", DUE - timedelta(days=30), decided=False)
    lines = receive(begun, str(tmp_path / "ids.txt"), how, place=CPU)
    assert lines[0] == "request 1: 3 samples, 1 learned, 1 test, 1 unknown"
    assert "1 unknown" in expunge("request", "approve", "1", cwd=tmp_path).stdout
    assert count(begun, "struck") == 2  # by what they hold; nobody knows what `nobody` held
    for words in (("ledger", "status"), ("request", "list"), ("request", "show", "1")):
        assert "struck" in expunge(*words, cwd=tmp_path).stdout
    (tmp_path / "none.txt").write_text("nobody\n")
    with pytest.raises(RequestError, match="none of the ids"):
        receive(begun, str(tmp_path / "none.txt"), how, place=CPU)
    with pytest.raises(ConfigError):
        receive(begun, str(tmp_path / "ids.txt"), Received("mail", DUE, law="none"), place=CPU)
