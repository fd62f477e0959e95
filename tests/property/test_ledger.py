"""Whatever is done to a ledger, and in whatever order: what holds of it always holds."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_helpers import DUE, asked, learned, ledger_at
from sqlalchemy import Connection, delete, select, update

from expunge.errors import RequestError
from expunge.requests.batches import (
    _passed,
    abandon,
    batch_row,
    frozen_batch,
    open_batch,
    reach,
    release_candidate,
)
from expunge.requests.certifying import _close, files_of, undone_batches
from expunge.requests.duplicates import duplicate
from expunge.requests.events import faults
from expunge.requests.intake import add, approve, extend, hold, refuse, withdraw
from expunge.requests.ledger import Ledger
from expunge.requests.lineage import struck_within, undone_by
from expunge.requests.release import live_row
from expunge.requests.rollback import roll_back
from expunge.requests.states import BATCH, ENDED, RELEASE, REQUEST, STRUCK
from expunge.requests.tables import batch_requests, batches, metadata, releases, requests, struck

NUMBERS = st.integers(1, 4)
IDS = st.sets(st.sampled_from("abc"), min_size=1).map(sorted)
COMMANDS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), IDS, st.booleans()),
        st.tuples(
            st.sampled_from(["approve", "refuse", "withdraw", "hold", "go on", "extend"]), NUMBERS
        ),
        st.tuples(st.just("freeze")),
        st.tuples(st.just("duplicate"), NUMBERS, NUMBERS),
        st.tuples(st.just("abandon"), st.integers(1, 2)),
        st.tuples(st.just("pass"), st.booleans()),
        st.tuples(st.sampled_from(["promote", "rollback", "certify"]), st.integers(1, 3)),
    ),
    min_size=4,
    max_size=16,
)


def do(ledger: Ledger, what: str, *given_: Any) -> None:
    """One command, which may be refused."""
    if what == "add":
        ids, decided = given_
        add(ledger, asked(*ids), learned(*ids), decided=decided)
    elif what == "approve":
        approve(ledger, *given_, learned("a", "b", "c"))
    elif what in ("refuse", "withdraw"):
        {"refuse": refuse, "withdraw": withdraw}[what](ledger, *given_, "a reason")
    elif what in ("hold", "go on"):
        hold(ledger, *given_, "a ground" if what == "hold" else "")
    elif what == "extend":
        extend(ledger, *given_, DUE + timedelta(days=1), "a reason")
    elif what == "freeze":
        frozen_batch(ledger)
    elif what == "duplicate":
        duplicate(ledger, *given_, "the same letter")
    elif what == "pass":
        pass_batch(ledger, release=given_[0])
    elif what == "promote":
        release_candidate(ledger, *given_)
    elif what == "rollback":
        roll_back(ledger, *given_, "a reason", by="Erika", confirmed=True)
    elif what == "certify":
        certify(ledger, *given_)
    else:
        abandon(ledger, *given_, "a reason")


MADE: list[Path] = []
"""Folders of models, each with a name of its own."""


def pass_batch(ledger: Ledger, *, release: bool) -> None:
    """The open batch makes a model of two files, which passes; it is offered, and released or not."""
    with ledger.read() as connection:
        row = open_batch(connection)
    if row is None or row["state"] != "frozen":
        raise RequestError("there is none")
    folder = ledger.folder / "models" / f"batch-{row['id']:04d}-{len(MADE)}"
    MADE.append(folder)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text(f"weights {len(MADE)}")
    (folder / "model.json").write_text("{}")
    for state in ("retraining", "gating", "passed"):
        reach(ledger, row["id"], state)
    _passed(ledger, row["id"], folder, release=release)


def certify(ledger: Ledger, batch: int) -> None:
    """As far as the ledger sees it."""
    with ledger.read() as connection:
        if batch_row(connection, batch)["state"] != "released" or batch in undone_batches(
            connection
        ):
            raise RequestError("it is not released, or was undone")
    _close(ledger, batch, "payload", files_of(ledger, batch))


def served(connection: Connection) -> dict[int, str]:
    """State of each release: one is live, and has forgotten all that was answered."""
    rows = connection.execute(select(releases.c.id, releases.c.state))
    found = {n: state for n, state in rows}
    assert [*found.values()].count("live") == 1
    live = live_row(connection)["digest"]
    assert undone_by(connection, live) == []
    waits = select(requests.c.id).where(requests.c.state.in_(("struck", "in_batch")))
    own = struck_within(connection, live, [*connection.scalars(waits)])
    assert struck_within(connection, live) == own
    of_candidates = select(batches.c.state).join(releases, releases.c.batch == batches.c.id)
    offered = connection.scalars(of_candidates.where(releases.c.state == "candidate"))
    assert {*offered} <= {"passed"}
    return found


def check_duplicates(connection: Connection) -> None:
    """Each is of an earlier request, which is no duplicate itself and did not come to nothing."""
    rows = connection.execute(select(requests)).mappings().all()
    states = {row["id"]: row["state"] for row in rows}
    for row in rows:
        of = row["duplicate_of"]
        assert (row["state"] == "duplicate") == (of is not None)
        assert of is None or (of < row["id"] and states[of] not in ("duplicate", *ENDED))


def read(ledger: Ledger) -> tuple[Any, ...]:
    """States of requests, batches and releases, what is struck for which request, and how many events
    there are; checked to be such as must be.
    """
    with ledger.read() as connection:
        assert faults(connection) == []
        states = {
            n: state for n, state in connection.execute(select(requests.c.id, requests.c.state))
        }
        made = {n: state for n, state in connection.execute(select(batches.c.id, batches.c.state))}
        gone = {
            (n, name) for n, name in connection.execute(select(struck.c.request, struck.c.id_hmac))
        }
        of_batch = select(batch_requests.c.request, batch_requests.c.batch)
        over = ("abandoned", "released")
        inside = [n for n, batch in connection.execute(of_batch) if made[batch] not in over]
        total = len(connection.execute(select(metadata.tables["events"].c.seq)).all())
        serving = served(connection)
        check_duplicates(connection)
    assert {n for n, _ in gone} == {n for n, state in states.items() if state in STRUCK}
    assert sorted(inside) == [n for n, state in states.items() if state == "in_batch"]
    return states, made, serving, gone, total


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return ledger_at(tmp_path_factory.mktemp("any"))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(COMMANDS)
def test_any_commands_in_any_order(ledger: Ledger, commands: list[tuple[Any, ...]]) -> None:
    with ledger.engine.begin() as connection:  # as it began; the chain of events goes on
        for table in reversed(metadata.sorted_tables):
            if table.name == "releases":
                connection.execute(delete(table).where(table.c.id > 1))
                connection.execute(update(table).values(state="live"))
            elif table.name not in ("events", "models", "settings"):
                connection.execute(delete(table))
    before = read(ledger)
    for command in commands:
        try:
            do(ledger, *command)
        except RequestError:
            assert read(ledger) == before, "refused, and yet something was changed"
            continue
        *_, gone, total = after = read(ledger)
        for machine, then, now in zip((REQUEST, BATCH, RELEASE), before, after, strict=False):
            assert then.keys() <= now.keys() and {*now.values()} <= machine.keys()
            assert all(now[n] in reached(machine, state) for n, state in then.items())
        assert before[3] <= gone and before[4] <= total
        assert (after[:4] == before[:4]) or total > before[4], "changed, and no event tells of it"
        before = after


def reached(machine: Any, state: str) -> set[str]:
    """A state, and all that it may become, one step after another."""
    found, left = {state}, [state]
    while left:
        new = {*machine[left.pop()]} - found
        found |= new
        left += new
    return found
