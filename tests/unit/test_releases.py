"""Which model serves: candidates, going back by a person's decision, and deleting what still knows the
struck; in SQLite and in PostgreSQL, of models that are files.
"""

from __future__ import annotations

import itertools
import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from commands import expunge, refused
from ledger_helpers import (
    KILLED,
    MANY,
    asked,
    count,
    dying_at,
    faked,
    forked,
    learned,
    ledger_at,
)
from sqlalchemy import Connection, select, update

from expunge.errors import RequestError
from expunge.requests import purging
from expunge.requests.batches import (
    abandon,
    frozen_batch,
    release_candidate,
    requests_of,
    run_batch,
)
from expunge.requests.checking import check_ledger
from expunge.requests.copy_decisions import _check_decides
from expunge.requests.events import faults
from expunge.requests.intake import add
from expunge.requests.keeping import kept_because, moved_models, note_copies, noted_copies
from expunge.requests.ledger import Ledger
from expunge.requests.lineage import live_within, struck_within, undone_by
from expunge.requests.moving import move
from expunge.requests.overview import batches_of, overview, release_lines
from expunge.requests.purging import purge_lines
from expunge.requests.release import live_folder, live_row
from expunge.requests.rollback import RolledBack, roll_back
from expunge.requests.tables import copies, events, releases, requests


@pytest.fixture
def ledger(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    certified_once_closed(monkeypatch)
    return ledger_at(tmp_path, database)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    certified_once_closed(monkeypatch)
    return ledger_at(tmp_path)


def certified_once_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models are made of two files; a batch counts as certified once its requests are closed."""
    faked(monkeypatch)

    def waiting(connection: Connection) -> list[int]:
        found = connection.scalars(select(requests.c.id).where(requests.c.state == "released"))
        return sorted({one for number in found for one in batches_of(connection, number)})

    monkeypatch.setattr("expunge.requests.keeping.uncertified_in", waiting)


def states(ledger: Ledger, table: Any = releases) -> list[str]:
    with ledger.read() as connection:
        return list(connection.scalars(select(table.c.state).order_by(table.c.id)))


def forget(ledger: Ledger, *names: str, release: bool = True) -> int:
    """A batch of one request, run; returns its number."""
    add(ledger, asked(*names), learned(*names), decided=True)
    batch = frozen_batch(ledger) or 0
    run_batch(ledger, batch, release=release)
    return batch


def close(ledger: Ledger, batch: int) -> None:
    """As if it was certified."""
    with ledger.write() as writing:
        for number in requests_of(writing.connection, batch):
            move(writing, number, "certified")
            move(writing, number, "closed")
        note_copies(ledger, writing, batch, writing.at)


def last_event(ledger: Ledger, kind: str) -> dict[str, Any]:
    with ledger.read() as connection:
        told = select(events.c.payload).where(events.c.kind == kind).order_by(events.c.seq.desc())
        found: dict[str, Any] = json.loads(connection.scalar(told) or "{}")
        assert faults(connection) == []
    return found


# --- candidates


def test_a_candidate_waits_until_somebody_promotes_it(ledger: Ledger) -> None:
    batch = forget(ledger, "a0", release=False)
    assert states(ledger) == ["live", "candidate"] and states(ledger, requests) == ["in_batch"]
    assert live_folder(ledger).name == "model" and "contains 1 struck" in overview(ledger).lines[1]
    again = run_batch(ledger, batch, release=False)
    assert (again.state, again.candidate) == ("passed", 2) and count(ledger, "releases") == 2
    for number, why in ((1, "release 1 is live"), (9, "there is no release 9")):
        with pytest.raises(RequestError, match=why):
            release_candidate(ledger, number)
    with pytest.raises(RequestError, match="`expunge release promote 2` lets it serve"):
        roll_back(ledger, 2, "why", confirmed=True)
    assert release_candidate(ledger, 2) == batch
    told = count(ledger, "events")
    assert release_candidate(ledger, 2) == batch and count(ledger, "events") == told
    assert states(ledger) == ["retired", "live"] and states(ledger, requests) == ["released"]
    assert live_folder(ledger).name == "batch-0001-retrain" and live_told(ledger) == ""
    with pytest.raises(RequestError, match=r"release 1 is retired.*`expunge release rollback 1`"):
        release_candidate(ledger, 1)


def live_told(ledger: Ledger) -> str:
    with ledger.read() as connection:
        return live_within(connection)


def test_a_candidate_that_was_changed_or_given_up_never_serves(small: Ledger) -> None:
    batch = forget(small, "a0", release=False)
    weights = small.folder / "models/batch-0001-retrain/model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(b"others")
    with pytest.raises(RequestError, match="not those that were released"):
        release_candidate(small, 2)
    weights.write_bytes(before)
    abandon(small, batch, "a bad day")
    assert states(small) == ["live", "retired"] and states(small, requests) == ["struck"]
    with pytest.raises(RequestError, match="release 2 never served, for batch 1 was abandoned"):
        roll_back(small, 2, "why", by="Erika", confirmed=True)


# --- going back


def test_going_back_is_a_named_persons_decision_and_opens_a_batch(ledger: Ledger) -> None:
    for n in range(2):
        close(ledger, forget(ledger, f"a{n}"))
    add(ledger, asked("a2"), learned("a2"), decided=True)
    assert (states(ledger), live_told(ledger)) == (
        ["retired", "retired", "live"],
        "contains 1 struck",
    )
    told = count(ledger, "events")
    for given, why in (
        ({}, "release 1 contains 3 struck: 2 requests that were forgotten since would be undone"),
        ({"confirmed": True}, "--by NAME --reason TEXT --yes"),
        ({"by": "Erika"}, "--by NAME --reason TEXT --yes"),
    ):
        with pytest.raises(RequestError, match=why):
            roll_back(ledger, 1, "the shop is down", **given)
    assert count(ledger, "events") == told, "refused, and nothing is changed"
    done = roll_back(ledger, 1, "the shop is down", by="Erika", confirmed=True)
    assert (done.within.count, done.requests, done.batch) == (3, (1, 2), 3)
    assert states(ledger) == ["live", "retired", "rolled_back"]
    assert states(ledger, requests) == ["in_batch"] * 3
    said = last_event(ledger, "model rolled back")
    assert (said["by"], said["contains"], said["requests"]) == ("Erika", 3, [1, 2])
    live = "contains 3 struck (rolled back by Erika: the shop is down)"
    assert live in overview(ledger).lines[1] and live in release_lines(ledger)[0]
    with pytest.raises(
        RequestError, match="release 1 serves already"
    ):  # never twice without a word
        roll_back(ledger, 1, "again", by="Erika", confirmed=True)
    abandon(ledger, 3, "another time")
    with ledger.read() as connection, pytest.raises(RequestError, match="by a request of its own"):
        _check_decides(connection, 1, "add")  # whose certificate tells of its samples
    assert frozen_batch(ledger) == 4
    assert run_batch(ledger, 4).state == "released" and live_told(ledger) == ""
    assert json.loads((live_folder(ledger) / "retain.json").read_text()) == [*MANY[3:]]
    with ledger.read() as connection:
        assert undone_by(connection, live_row(connection)["digest"]) == []


def test_going_back_over_one_batch_and_forward_again(ledger: Ledger) -> None:
    first = forget(ledger, "a0")
    forget(ledger, "a1", release=False)
    done = roll_back(ledger, 1, "why", by="Erika", confirmed=True)
    # the batch that was not done began from the model that no longer serves
    assert states(ledger) == ["live", "rolled_back", "retired"] and done.requests == (1,)
    with ledger.read() as connection:
        assert requests_of(connection, done.batch or 0) == [1, 2]
    with pytest.raises(RequestError, match=r"release 2 .*confirm with --yes"):
        roll_back(ledger, 2, "it was not the model")
    forward = roll_back(ledger, 2, "it was not the model", confirmed=True)  # it undoes nothing
    assert (forward.requests, forward.batch, forward.within.count) == ((), None, 1)
    assert (
        states(ledger)[:2] == ["rolled_back", "live"] and live_told(ledger) == "contains 1 struck"
    )
    batch = frozen_batch(ledger) or 0
    assert run_batch(ledger, batch).state == "released" and live_told(ledger) == ""
    assert first == 1 and {*states(ledger, requests)} == {"released"}


def test_the_same_weights_made_again_serve_from_where_they_lie(small: Ledger) -> None:
    close(small, forget(small, "a0"))
    done = roll_back(small, 1, "why", by="Erika", confirmed=True)
    assert run_batch(small, done.batch or 0).state == "released"
    assert live_folder(small).name == "batch-0002-retrain" and count(small, "models") == 2
    assert states(small) == ["retired", "rolled_back", "live"]
    assert check_ledger(small).faults == []


def test_what_a_model_contains_against_walking_all_batches(small: Ledger) -> None:
    """Slowly: a model knows what is in its own list and is struck by now."""
    for n in range(4):
        forget(small, f"a{2 * n}", f"a{2 * n + 1}")
    add(small, asked("a9", "t", "a0"), learned("a9"), decided=True)
    gone = {*MANY[:8], "a9"}
    with small.read() as connection:
        for row in connection.execute(select(releases)).mappings().all():
            folder = small.folder / f"models/batch-{row['id'] - 1:04d}-retrain/retain.json"
            known = json.loads(folder.read_text()) if folder.exists() else MANY
            within = struck_within(connection, row["model"])
            assert within.count == len(gone.intersection(known)), row["id"]


def test_killed_anywhere_going_back_is_done_or_not(
    small: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(small, "a0")

    def killed(turn: int) -> RolledBack:
        with dying_at(turn, monkeypatch):
            return roll_back(Ledger.open(small.folder), 1, "why", by="E", confirmed=True)

    assert forked(lambda: killed(1))()[0] == KILLED
    assert states(small) == ["live", "rolled_back"] and frozen_batch(small) == 2
    assert run_batch(small, 2).state == "released"


# --- deleting


def model_files(ledger: Ledger) -> set[str]:
    return {one.name for one in (ledger.folder / "models").iterdir()}


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of what a model retains is one of its files."""
    monkeypatch.setattr("expunge.requests.keeping.holds_others", lambda _: "")
    monkeypatch.setattr(purging, "holds_others", lambda _: "")


def later(monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    day = (date.today() + timedelta(days=days)).isoformat()
    monkeypatch.setattr(purging, "today_of", lambda *_: day)


def test_copies_go_on_the_day_that_was_named_and_no_other(
    ledger: Ledger, ours: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for n in range(3):
        close(ledger, forget(ledger, f"a{n}"))
    with ledger.read() as connection:
        days = {one.folder.name: one.until for one in noted_copies(ledger, connection, 3)}
    assert days.pop("model") is None and days.keys() == {"batch-0001-retrain", "batch-0002-retrain"}
    told = purge_lines(ledger)
    assert [one.split(":")[0] for one in told] == ["kept"] * 3
    assert "this ledger did not make it; delete it yourself" in told[0]
    assert f"it is kept until {days['batch-0001-retrain']}" in told[1]
    before = count(ledger, "events")
    dry = purge_lines(ledger, now=True, dry_run=True)
    first = ledger.folder / "models/batch-0001-retrain"
    size = sum(file.stat().st_size for file in first.iterdir())
    assert f"would go: old weights {first}, {size / 1e6:,.1f} MB" in dry
    for given in ({}, {"confirmed": True}, {"reason": "a complaint"}):
        with pytest.raises(RequestError, match="say so with --yes, and why with --reason"):
            purge_lines(ledger, now=True, **given)
    assert count(ledger, "events") == before and len(model_files(ledger)) == 3
    later(monkeypatch, 45)
    away = first.rename(ledger.folder / "away")  # as a disk that is not there for a while
    assert [one for one in purge_lines(ledger) if "it is not there; if it was moved" in one]
    assert sum("retired: deleted 20" in one for one in release_lines(ledger)) == 1, "the other"
    away.rename(first)
    assert [one for one in purge_lines(ledger) if one.startswith("deleted: old weights")]
    assert model_files(ledger) == {"batch-0003-retrain"}
    assert live_folder(ledger).is_dir() and check_ledger(ledger).faults == []
    assert last_event(ledger, "purge begun")["copies"][0]["bytes"] == size
    assert last_event(ledger, "copy deleted")["what"] == "old weights"
    assert [one for one in release_lines(ledger) if "retired: deleted 20" in one]
    with pytest.raises(RequestError, match="the model of release 2 was deleted at"):
        roll_back(ledger, 2, "why", by="Erika", confirmed=True)
    (tmp_path / "model").rename(tmp_path / "elsewhere")
    with ledger.read() as connection:
        assert [one.name for one in moved_models(connection)] == ["model"], "the rest was deleted"
    (tmp_path / "elsewhere").rename(tmp_path / "model")
    assert purge_lines(ledger)[1:] == [], "what is gone is told no more"


def test_what_serves_or_is_needed_is_never_deleted(
    small: Ledger, ours: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(small, "a0")
    close(small, 1)
    close(small, forget(small, "a1"))
    forget(small, "a2", release=False)
    roll_back(small, 2, "why", by="Erika", confirmed=True)  # of which a copy with a day was noted
    folders = {n: small.folder / f"models/batch-{n:04d}-retrain" for n in (1, 2, 3)}
    linked = small.folder / "models/linked"
    linked.symlink_to(folders[2])
    (small.folder / "models/batch-0004-retrain").mkdir()
    monkeypatch.setattr(
        "expunge.requests.keeping.compared_folders",
        lambda *_: [(7, folders[2].parent / "control-x")],
    )
    with small.read() as connection:
        why = {
            name: kept_because(small, connection, small.folder / "models" / name)
            for name in ("batch-0001-retrain", "batch-0004-retrain", "control-x", "linked")
        }
        assert kept_because(small, connection, folders[3]) == ""
    assert why["batch-0001-retrain"] == "it serves"
    assert why["batch-0004-retrain"] == "batch 4 is at work on it"
    assert "qualification 7 compares with it" in why["control-x"]
    assert "did not make it" in why["linked"]
    later(monkeypatch, 400)
    purge_lines(small, now=True, reason="all of it", confirmed=True)
    assert folders[1].is_dir() and live_folder(small) == folders[1]


def test_what_waits_for_its_certificate_stays(small: Ledger, ours: None) -> None:
    forget(small, "a0")
    close(small, forget(small, "a1"))
    first = small.folder / "models/batch-0001-retrain"
    everything: dict[str, Any] = {"now": True, "reason": "all of it", "confirmed": True}
    told = purge_lines(small, **everything)
    assert any("batch 1 has no certificate yet; expunge certify issue 1" in one for one in told)
    assert first.is_dir()
    close(small, 1)
    assert [
        one for one in purge_lines(small, **everything) if one.startswith("deleted: old weights")
    ]


def test_a_copy_has_a_day_once_nothing_needs_it(
    small: Ledger, ours: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    close(small, forget(small, "a0"))
    close(small, forget(small, "a1"))
    first = small.folder / "models/batch-0001-retrain"

    def day() -> str | None:
        with small.read() as connection:
            own = select(copies.c.until).where(copies.c.folder == str(first))
            return connection.scalar(own)

    def dated(until: str | None) -> None:
        with small.write() as writing:
            own = update(copies).where(copies.c.folder == str(first)).values(until=until)
            writing.connection.execute(own)

    named = day()
    dated(None)  # as of one that was needed when its certificate was issued
    assert f"kept: old weights {first}: it is kept until {named}" in purge_lines(small)
    assert day() == named and purge_lines(small)[1:] == [
        f"kept: old weights {first}: it is kept until {named}"
    ]
    dated("2020-01-01")
    assert "an old copy is due" in overview(small).lines[-1]
    roll_back(small, 2, "why", by="Erika", confirmed=True)
    assert "due to be deleted" not in overview(small).lines[-1], "it serves"
    run_batch(small, 3)
    close(small, 3)
    assert day() == named, "it served after the day that was named"


def test_a_damaged_bank_stops_no_other_deletion(
    small: Ledger, ours: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank = small.folder.parent / "model-bank"
    bank.mkdir()
    (bank / "bank.json").write_text("{")
    close(small, forget(small, "a0"))
    close(small, forget(small, "a1"))
    later(monkeypatch, 45)
    assert any(one.startswith(f"kept: bank {bank}") for one in purge_lines(small, dry_run=True))
    with pytest.raises(RequestError, match="mend or delete it, and purge again"):
        purge_lines(small)
    assert model_files(small) == {"batch-0002-retrain"} and bank.is_dir()


def test_a_folder_with_something_of_somebody_elses_stays(
    small: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    close(small, forget(small, "a0"))
    close(small, forget(small, "a1"))
    later(monkeypatch, 45)
    told = purge_lines(small)  # the list beside a model is none of its files
    assert "also holds retain.json, which is nothing of ours" in told[1]
    assert len(model_files(small)) == 2


def test_killed_at_every_boundary_a_purge_goes_on(
    small: Ledger, ours: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(3):
        close(small, forget(small, f"a{n}"))
    later(monkeypatch, 45)
    real = purging.os.rename

    def renamed(*of: Any) -> None:
        real(*of)
        passed[0]()

    passed: list[Any] = [lambda: None]
    monkeypatch.setattr(purging.os, "rename", renamed)

    def killed(turn: int) -> list[str]:
        with dying_at(turn, monkeypatch) as passed[0]:
            return purge_lines(Ledger.open(small.folder))

    codes = []
    for turn in itertools.count(1):
        codes.append(forked(lambda turn=turn: killed(turn))()[0])
        assert live_folder(small).is_dir()
        if codes[-1] == 0:
            break
    assert codes[0] == codes[1] == KILLED, "after what it intends, and after what it did"
    assert model_files(small) == {"batch-0003-retrain"}
    with small.read() as connection:
        left = connection.execute(select(copies).where(copies.c.purged_at.is_(None))).mappings()
        assert [Path(row["folder"]).name for row in left] == ["model"]
        kinds = list(connection.scalars(select(events.c.kind)))
    assert kinds.count("copy deleted") == 2 and faults_of(small) == []


def faults_of(ledger: Ledger) -> list[str]:
    with ledger.read() as connection:
        return faults(connection)


def test_the_commands_say_what_they_do(small: Ledger, tmp_path: Path) -> None:
    where = ("--ledger", str(small.folder))
    forget(small, "a0")
    close(small, 1)
    back = ("release", "rollback", "1", "--reason", "the shop is down", *where)
    assert "--by NAME --reason TEXT --yes" in refused(*back, cwd=tmp_path)
    said = expunge(*back, "--by", "Erika", "--yes", cwd=tmp_path).stdout
    assert "contains 1 struck" in said and "batch 2 is open, and retrains" in said
    assert "rolled back by Erika" in expunge("ledger", "status", *where, cwd=tmp_path).stdout
    assert "rolled back by Erika" in expunge("release", "list", *where, cwd=tmp_path).stdout
    assert "--dry-run" in refused("release", "purge", "--now", *where, cwd=tmp_path)
    dry = expunge("release", "purge", "--dry-run", *where, cwd=tmp_path).stdout
    assert "delete it yourself" in dry
