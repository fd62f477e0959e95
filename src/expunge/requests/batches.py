"""A batch: requests forgotten together, from the freezing of its list to the model that is released.

Each of its steps is done once for the same input (`steps.once`), so a batch that was killed anywhere
goes on where it was. Folders appear whole, and the row that names a model is written after its folder is
there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, RowMapping, insert, select, update

from expunge.errors import RequestError
from expunge.place import HERE, Place
from expunge.requests.approximating import forgotten, gated, made_by_method
from expunge.requests.events import canonical, sha256
from expunge.requests.ledger import Ledger, Writing, new_key_of
from expunge.requests.moving import move
from expunge.requests.release import (
    checked_folder,
    enter,
    file_digests,
    live_folder,
    live_row,
    offer,
    promote,
    release_row,
    retire_candidates,
)
from expunge.requests.sanity import sanity_of, still_learned
from expunge.requests.states import check_move
from expunge.requests.steps import once
from expunge.requests.tables import batch_requests, batches, request_items, requests
from expunge.trained.card import WEIGHTS

if TYPE_CHECKING:
    from expunge.trained.trained import Trained

RETRAIN = "retrain"
RETRAINING = "retraining"
OVER = ("released", "abandoned")


@dataclass(frozen=True)
class BatchState:
    """What became of a batch. state: of its machine. folder: of the model that was made. busy: whether
    another worker is at it. fallback: why it was retrained, where another method came first. candidate:
    number of its release, which waits for somebody to promote it.
    """

    number: int
    state: str
    folder: Path | None = None
    busy: bool = False
    results: Mapping[str, Any] | None = None
    fallback: str | None = None
    candidate: int | None = None


def frozen_batch(
    ledger: Ledger,
    method: str = RETRAIN,
    settings: str = "{}",
    *,
    taken: Sequence[int] | None = None,
) -> int | None:
    """The batch that is not done yet, else a new one of requests that wait; None where none does.

    method, settings: of a new one; settings as JSON. taken: these of those that wait; None: all.
    """
    with ledger.write() as writing:
        going_on = open_batch(writing.connection)
        if going_on is not None:
            return int(going_on["id"])
        return freeze(writing, method, settings, taken=taken)


def freeze(
    writing: Writing,
    method: str = RETRAIN,
    settings: str = "{}",
    *,
    taken: Sequence[int] | None = None,
) -> int | None:
    """Open a batch of what waits, and close its list, where no other is open."""
    one = writing.connection
    waiting = select(requests.c.id).where(requests.c.state == "struck", requests.c.held.is_(None))
    waits = one.scalars(waiting.order_by(requests.c.id))
    numbers = [number for number in waits if taken is None or number in taken]
    if not numbers:
        return None
    row = {"state": "open", "method": method, "settings": settings, "created_at": writing.at}
    before = live_row(one)["digest"]
    made = one.execute(insert(batches).values(**row, model_before=before))
    batch = new_key_of(made)
    for number in numbers:
        one.execute(insert(batch_requests).values(batch=batch, request=number))
        move(writing, number, "in_batch")
    writing.event("batch opened", {"batch": batch, "requests": numbers, "method": method})
    step(writing, batch, "frozen", frozen_at=writing.at)
    return batch


def open_batch(connection: Connection) -> RowMapping | None:
    """The row of the batch that is not done; None where there is none."""
    found = select(batches).where(batches.c.state.not_in(OVER)).order_by(batches.c.id)
    return connection.execute(found).mappings().first()


def run_batch(
    ledger: Ledger, batch: int, *, release: bool = True, place: Place = HERE
) -> BatchState:
    """Retrain without what the requests of a batch struck, look whether it went well, and release it;
    where the batch has another method, that comes first, and retraining if its gate is not passed.

    release: whether the model serves at once; else it waits as a candidate. Goes on where an earlier
    run was killed. Raises RequestError where the live model is not as it was
    released, and for a retrained model that fails its sanity check, which a person must look at.
    """
    with ledger.read() as connection:
        row = batch_row(connection, batch)
        hmacs = sorted(hmacs_of(connection, batch))
    if row["state"] in OVER:
        return state_of(ledger, batch)
    if row["state"] == "invalid":
        raise _insane(batch, json.loads(row["verdict"]))
    if row["method"] != RETRAIN and row["fallback"] is None:
        attempted = _attempted(ledger, batch, row, hmacs, release=release, place=place)
        if attempted is not None:
            return attempted
    reach(ledger, batch, "retraining")
    digest = sha256(canonical([row["model_before"], RETRAIN, row["settings"], hmacs]))
    folder = ledger.folder / "models" / f"batch-{batch:04d}-{RETRAIN}"
    made = once(
        ledger, batch, RETRAIN, digest, lambda: _retrained(ledger, hmacs, folder, place=place)
    )
    if made is None:
        return BatchState(batch, "retraining", busy=True)
    reach(ledger, batch, "gating")
    if made == row["model_before"]:
        return _unchanged(ledger, batch)
    _check_made(folder, json.loads(made))
    said = once(
        ledger,
        batch,
        "sanity check",
        made,
        lambda: _checked(ledger, row, folder, hmacs, place=place),
    )
    if said is None:
        return BatchState(batch, "gating", busy=True)
    results = json.loads(said)
    if not results["passed"]:
        reach(ledger, batch, "invalid", verdict=said)
        raise _insane(batch, results)
    reach(ledger, batch, "passed", verdict=said)
    return _passed(ledger, batch, folder, release=release)


FALLS = {"not equivalent": "failed", "undecided": "undecided", "invalid": "invalid"}
"""What a gate found -> the state of the batch before it is retrained."""


def _attempted(
    ledger: Ledger, batch: int, row: RowMapping, hmacs: list[str], *, release: bool, place: Place
) -> BatchState | None:
    """Forget by the method of a batch, and offer the model if the gate lets it pass; None where it is
    to be retrained, and why is written down. release: as `run_batch` takes it.
    """
    _go_on(ledger, batch, "frozen", "unlearning")
    about = [row["model_before"], row["method"], row["settings"], hmacs]
    folder = ledger.folder / "models" / f"batch-{batch:04d}-unlearned"
    said = once(
        ledger,
        batch,
        "unlearn",
        sha256(canonical(about)),
        lambda: made_by_method(ledger, row, hmacs, folder, place=place),
    )
    if said is None:
        return BatchState(batch, "unlearning", busy=True)
    _go_on(ledger, batch, "unlearning", "gating")
    made = json.loads(said)
    if "learned" in made:
        return _unchanged(ledger, batch)
    if "why" in made:
        _fall_back(ledger, batch, "invalid", made["why"], said)
        return None
    _check_made(folder, made["files"])
    number = made["qualification"]
    found = once(
        ledger,
        batch,
        "gate",
        said,
        lambda: gated(ledger, batch, folder, number, hmacs, place=place),
    )
    if found is None:
        return BatchState(batch, "gating", busy=True)
    results = json.loads(found)
    if not results["passed"]:
        word = results["gate"]["verdict"]  # "equivalent" where the sanity check failed
        word = word if word in FALLS else "not equivalent"
        _fall_back(ledger, batch, word, results["why"], found)
        return None
    reach(ledger, batch, "passed", verdict=found)
    return _passed(ledger, batch, folder, release=release)


def _fall_back(ledger: Ledger, batch: int, word: str, why: str, verdict: str) -> None:
    """Note, once, that a method's model is not released, and that a retrained one will be."""
    with ledger.write() as writing:
        if batch_row(writing.connection, batch)["fallback"] is not None:  # another worker's
            return
        told = canonical({"verdict": word, "why": why, "at": writing.at})
        step(writing, batch, FALLS[word], verdict=verdict)
        step(writing, batch, RETRAINING, fallback=told)


def _insane(batch: int, results: Mapping[str, Any]) -> RequestError:
    return RequestError(
        f"batch {batch}: the retrained model fails its sanity check ({results['why']}); nothing is "
        f"released: find out why, and then do `expunge batch abandon {batch} "
        "--reason WHY`"
    )


def _unchanged(ledger: Ledger, batch: int) -> BatchState:
    """The live model learned nothing of what is asked for, and goes on serving."""
    results = {"passed": True, "why": "the live model learned from none of these samples"}
    reach(ledger, batch, "passed", verdict=canonical(results))
    with ledger.read() as connection:
        live = live_row(connection)["digest"]
    live_folder(ledger)
    _release(ledger, batch, live)
    return state_of(ledger, batch)


def _retrained(ledger: Ledger, hmacs: list[str], folder: Path, *, place: Place) -> str:
    """Train without the struck, into a folder; one that is there was made by a run that was killed.

    Returns JSON of its files' digests; the digest of the live model where that learned none of them.
    """
    from expunge.api import unlearn
    from expunge.trained.opening import load

    live = live_folder(ledger)
    original = load(live, place=place)
    split = forgotten(original, set(hmacs), ledger)
    if split is None:
        return file_digests(live)[WEIGHTS]
    if not folder.exists():
        made = unlearn(original, split, RETRAIN, place=place, allow_code=place.allow_code)
        folder.parent.mkdir(parents=True, exist_ok=True)
        made.save(folder)
    elif not _is_of(load(folder, place=place), original, set(hmacs), ledger):
        raise RequestError(
            f"{folder} is in the way: it is not what this batch makes; move it elsewhere"
        )
    return canonical(file_digests(folder))


def _is_of(made: Trained, original: Trained, hmacs: set[str], ledger: Ledger) -> bool:
    """Whether a model was retrained from another's data without some samples; what was struck since
    need not be gone, too.
    """
    known = {*original.split.retain, *original.split.validation}
    own = {*made.split.retain, *made.split.validation} <= known and made.record.step == RETRAIN
    return own and not still_learned(made, hmacs, ledger.key.hmac)


def _check_made(folder: Path, files: Mapping[str, str]) -> None:
    if not folder.exists() or file_digests(folder) != files:
        raise RequestError(
            f"{folder} is not the model that this batch made; bring it back, or abandon the batch"
        )


def _checked(
    ledger: Ledger, row: RowMapping, folder: Path, hmacs: list[str], *, place: Place
) -> str:
    from expunge.trained.opening import load

    original = load(live_folder(ledger), place=place)
    made = load(folder, place=place)
    return canonical(sanity_of(original, made, set(hmacs), ledger.key.hmac))


def _passed(ledger: Ledger, batch: int, folder: Path, *, release: bool) -> BatchState:
    """Offer the model of a batch that passed, once, and let it serve if that is wanted."""
    with ledger.write() as writing:
        one = writing.connection
        state = batch_row(one, batch)["state"]
        if state == "released":  # another worker was quicker
            return BatchState(batch, state, folder)
        check_move("batch", f"batch {batch}", state, "released")
        digest = enter(writing, folder, live_row(one)["digest"])
        number = offer(writing, digest, batch=batch, reason=f"batch {batch}")
    if not release:
        return BatchState(batch, "passed", folder, candidate=number)
    _release(ledger, batch, digest)
    return state_of(ledger, batch)


def release_candidate(ledger: Ledger, number: int, *, actor: str | None = None) -> int:
    """Let a candidate serve, by the number of its release; returns that of its batch. Again, while it
    is live, it changes nothing: a kill may have come before its certificate.

    Raises RequestError for a release that is no candidate, or whose files were changed.
    """
    with ledger.read() as connection:
        row = release_row(connection, number)
    if row["state"] == "live" and row["batch"] is not None:
        return int(row["batch"])
    if row["state"] != "candidate":
        again = f"; `expunge release rollback {number}` goes back to it"
        raise RequestError(
            f"release {number} is {row['state'].replace('_', ' ')}, and what is promoted is a candidate"
            + (again if row["state"] in ("retired", "rolled_back") else "")
        )
    checked_folder(ledger, row["model"], Path(row["folder"]))
    _release(ledger, row["batch"], row["model"], actor=actor)
    return int(row["batch"])


def _release(ledger: Ledger, batch: int, digest: str, *, actor: str | None = None) -> None:
    with ledger.write(actor) as writing:
        one = writing.connection
        if batch_row(one, batch)["state"] == "released":
            return
        promote(writing, digest, batch=batch, reason=f"batch {batch}")
        for number in requests_of(one, batch):
            move(writing, number, "released")
        step(writing, batch, "released", model_after=digest)


def abandon(ledger: Ledger, batch: int, reason: str) -> None:
    """Give a batch up: its requests wait for the next one, and what it made stays where it is.

    Raises RequestError for one that was released.
    """
    with ledger.write() as writing:
        give_up(writing, batch, reason)


def give_up(writing: Writing, batch: int, reason: str) -> None:
    """As `abandon`, within a transaction."""
    step(writing, batch, "abandoned", verdict=canonical({"abandoned": reason}))
    retire_candidates(writing, batch)
    for number in requests_of(writing.connection, batch):
        move(writing, number, "struck", reason=reason)


def step(writing: Writing, batch: int, to: str, **values: Any) -> None:
    """Take a batch one step on, and tell."""
    row = batch_row(writing.connection, batch)
    check_move("batch", f"batch {batch}", row["state"], to)
    changed = update(batches).where(batches.c.id == batch)
    writing.connection.execute(changed.values(state=to, **values))
    writing.event(f"batch {to}", {"batch": batch})


def _go_on(ledger: Ledger, batch: int, at: str, to: str) -> None:
    """As `step`, from one state alone: another worker may have brought it further."""
    with ledger.write() as writing:
        if batch_row(writing.connection, batch)["state"] == at:
            step(writing, batch, to)


def reach(ledger: Ledger, batch: int, to: str, **values: Any) -> None:
    """As `step`, by a run that may have been there before: what is reached, or lies behind, stays."""
    order = ("open", "frozen", "unlearning", "retraining", "gating", "passed", "released")
    with ledger.write() as writing:
        now = batch_row(writing.connection, batch)["state"]
        if now == to or (now in order and to in order and order.index(now) > order.index(to)):
            return
        step(writing, batch, to, **values)


def batch_row(connection: Connection, batch: int) -> RowMapping:
    """A batch's row. Raises RequestError for a number that there is not."""
    found = connection.execute(select(batches).where(batches.c.id == batch)).mappings().first()
    if found is None:
        raise RequestError(f"there is no batch {batch}; `expunge batch status` shows them")
    return found


def requests_of(connection: Connection, batch: int) -> list[int]:
    """Numbers of the requests of a batch, the first one first."""
    chosen = select(batch_requests.c.request).where(batch_requests.c.batch == batch)
    return list(connection.scalars(chosen.order_by(batch_requests.c.request)))


def hmacs_of(connection: Connection, batch: int) -> list[str]:
    """What stands for the ids that the requests of a batch name, each once."""
    joined = select(request_items.c.id_hmac).join(
        batch_requests, batch_requests.c.request == request_items.c.request
    )
    found = connection.execute(joined.where(batch_requests.c.batch == batch).distinct())
    return [one for (one,) in found]


def state_of(ledger: Ledger, batch: int) -> BatchState:
    """What became of a batch."""
    from expunge.requests.tables import models

    with ledger.read() as connection:
        row = batch_row(connection, batch)
        found = connection.scalar(
            select(models.c.folder).where(models.c.digest == row["model_after"])
        )
    results = None if row["verdict"] is None else json.loads(row["verdict"])
    folder = None if found is None else Path(found)
    why = None if row["fallback"] is None else json.loads(row["fallback"])["why"]
    return BatchState(batch, row["state"], folder, results=results, fallback=why)
