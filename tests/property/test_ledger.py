"""Whatever is done to a ledger, and in whatever order: what holds of it always holds."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledger_helpers import DUE, asked, learned, ledger_at
from sqlalchemy import delete, select

from expunge.errors import RequestError
from expunge.requests.batches import abandon, frozen_batch
from expunge.requests.events import faults
from expunge.requests.intake import add, approve, extend, hold, refuse, withdraw
from expunge.requests.ledger import Ledger
from expunge.requests.states import BATCH, REQUEST
from expunge.requests.tables import batch_requests, batches, metadata, requests, struck

NUMBERS = st.integers(1, 4)
IDS = st.sets(st.sampled_from("abc"), min_size=1).map(sorted)
COMMANDS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), IDS, st.booleans()),
        st.tuples(
            st.sampled_from(["approve", "refuse", "withdraw", "hold", "go on", "extend"]), NUMBERS
        ),
        st.tuples(st.just("freeze")),
        st.tuples(st.just("abandon"), st.integers(1, 2)),
    ),
    min_size=4,
    max_size=14,
)
STRUCK = ("struck", "in_batch", "released", "certified", "closed")


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
    else:
        abandon(ledger, *given_, "a reason")


def read(ledger: Ledger) -> tuple[dict[int, str], dict[int, str], set[tuple[int, str]], int]:
    """States of requests and of batches, what is struck for which request, and how many events there
    are; checked to be such as must be.
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
    assert {n for n, _ in gone} == {n for n, state in states.items() if state in STRUCK}
    assert sorted(inside) == [n for n, state in states.items() if state == "in_batch"]
    return states, made, gone, total


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    return ledger_at(tmp_path_factory.mktemp("any"))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(COMMANDS)
def test_any_commands_in_any_order(ledger: Ledger, commands: list[tuple[Any, ...]]) -> None:
    with ledger.engine.begin() as connection:  # as it began; the chain of events goes on
        for name in ("struck", "items", "batch_requests", "batches", "requests"):
            connection.execute(delete(metadata.tables[name]))
    before = read(ledger)
    for command in commands:
        try:
            do(ledger, *command)
        except RequestError:
            assert read(ledger) == before, "refused, and yet something was changed"
            continue
        states, made, gone, total = after = read(ledger)
        for machine, then, now in ((REQUEST, before[0], states), (BATCH, before[1], made)):
            assert then.keys() <= now.keys() and {*now.values()} <= machine.keys()
            assert all(now[n] in reached(machine, state) for n, state in then.items())
        assert before[2] <= gone and before[3] <= total
        assert (after[:3] == before[:3]) or total > before[3], "changed, and no event tells of it"
        before = after


def reached(machine: Any, state: str) -> set[str]:
    """A state, and all that it may become, one step after another."""
    found, left = {state}, [state]
    while left:
        new = {*machine[left.pop()]} - found
        found |= new
        left += new
    return found
