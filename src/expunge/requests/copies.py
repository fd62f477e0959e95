"""Copies of a request's samples under other ids: proposed to a person, who decides, and never applied by
themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, RowMapping, insert, select, update

from expunge.errors import RequestError
from expunge.place import HERE, Place
from expunge.requests.copy_layers import LAYERS, ONE_IN, AskedRows, LayerSearch, search_layers
from expunge.requests.ledger import Ledger, Writing
from expunge.requests.moving import request_row
from expunge.requests.states import ANSWERED, ENDED
from expunge.requests.tables import copy_layers, duplicates, request_items, requests, struck

if TYPE_CHECKING:
    from expunge.trained.trained import Trained

ASKED = "asked"
"""Of a copy that nobody decided on, and that is asked for or struck itself."""
IN_WORDS = {
    "open": "not decided",
    "add": "same person: forgotten too",
    "keep": "another's: stays",
    "disclose": "unclear: stays",
    ASKED: "asked for itself",
}
GONE = "(no longer in the data)"


@dataclass(frozen=True)
class ProposedCopy:
    """A copy and the asked sample that it looks like, by their ids. decision: a key of `IN_WORDS`."""

    copy: str
    like: str
    layer: str
    score: float
    decision: str

    @property
    def told(self) -> str:
        """Its score, in words."""
        return score_in_words(self.layer, self.score)


@dataclass(frozen=True)
class CopySearch:
    """layers: what each found now. proposals: all of the request, the nearest of each layer first.
    new: how many were not there before.
    """

    layers: list[LayerSearch]
    proposals: list[ProposedCopy]
    new: int


def score_in_words(layer: str, score: float) -> str:
    """`4 of 64 bits differ`, `cosine 0.9987`, `equal`."""
    if layer == "perceptual":
        return f"{score:.0f} of 64 bits differ"
    return "equal" if layer == "exact" else f"cosine {score:.4f}"


def look_for_copies(
    ledger: Ledger,
    number: int,
    model: Trained,
    *,
    one_in: int = ONE_IN,
    place: Place = HERE,
    actor: str | None = None,
) -> CopySearch:
    """Look for copies of a request's samples in the training data, and propose them; again, nothing is
    proposed twice.

    model: the live one. one_in: of so many random pairs one may be taken for a copy by chance.
    Raises RequestError for a request that came to nothing, or of which nothing is in the data.
    """
    with ledger.read() as connection:
        _check_looks(request_row(connection, number))
        items = items_of(connection, number)
    names = _names(ledger, model)
    asked = _asked(model, [names[one] for one in items if one in names])
    if not asked.many:
        raise RequestError(
            f"none of the samples of request {number} is in the data of the live model, so nothing "
            "there can be compared with them"
        )
    ids = model.data.train.ids
    ours = [str(one) for one in (*ids[asked.train], *model.data.test.ids[asked.test])]
    layers = search_layers(model, asked, one_in=one_in, place=place)
    found = [
        {
            "item": items[ledger.key.hmac(ours[one.like])],
            "other_hmac": ledger.key.hmac(str(ids[one.row])),
            "layer": layer.layer,
            "score": one.score,
            "decision": "open",
        }
        for layer in layers
        for one in layer.copies
    ]
    with ledger.write(actor) as writing:
        new = _propose(writing, number, found)
        changed = [one for one in layers if not one.why and _note_layer(writing, number, one)]
        if new or changed:
            told = {one.layer: _layer_told(one) for one in layers}
            writing.event("copies looked for", {"request": number, "layers": told, "proposed": new})
    with ledger.read() as connection:
        proposals = _proposals(connection, number, names)
    return CopySearch(layers, proposals, new)


def _check_looks(row: RowMapping) -> None:
    """Raise RequestError where nobody may look at a request's samples any more, or need not."""
    check_goes_on(row)
    if row["state"] in ("certified", "closed"):
        raise RequestError(
            f"request {row['id']} is {row['state']}, and its samples are read no more; whatever comes "
            "to light now is asked for by a request of its own"
        )


def check_goes_on(row: RowMapping) -> None:
    """Raise RequestError for a request that came to nothing, or that another one answers."""
    if row["state"] in (*ENDED, "duplicate"):
        raise RequestError(
            f"request {row['id']} is {row['state']}, so nothing is to be forgotten for it"
        )


def items_of(connection: Connection, number: int) -> dict[str, int]:
    """HMAC -> number of each item of a request."""
    own = select(request_items.c.id_hmac, request_items.c.id)
    found = connection.execute(own.where(request_items.c.request == number))
    return {name: item for name, item in found}


def _names(ledger: Ledger, model: Trained) -> dict[str, str]:
    """HMAC -> id of each sample of a model's data."""
    ids = (*model.data.test.ids.tolist(), *model.data.train.ids.tolist())
    return {ledger.key.hmac(one): one for one in ids}


def _asked(model: Trained, names: Sequence[str]) -> AskedRows:
    """Where a request's samples are, and those that may be copies: neither asked for nor struck."""
    import numpy as np

    data = model.data
    train = data.train.rows_of(names)
    tested = [one for one, row in zip(names, train.tolist(), strict=True) if row < 0]
    others = np.flatnonzero(~np.isin(data.train.ids, [*names, *data.struck.ids]))
    return AskedRows(np.sort(train[train >= 0]), np.sort(data.test.rows_of(tested)), others)


def _propose(writing: Writing, number: int, found: Sequence[Mapping[str, Any]]) -> int:
    """Write down the copies that were not proposed before by any layer; returns how many."""
    chosen = select(duplicates.c.other_hmac).join(request_items)
    known = {*writing.connection.scalars(chosen.where(request_items.c.request == number))}
    new = [one for one in found if one["other_hmac"] not in known]
    if new:
        writing.connection.execute(insert(duplicates), new)
    return len(new)


def _note_layer(writing: Writing, number: int, search: LayerSearch) -> bool:
    """Write down how a layer looked; whether that is new."""
    one = writing.connection
    own = (copy_layers.c.request == number, copy_layers.c.layer == search.layer)
    told = {"threshold": search.threshold, "one_in": search.one_in, "pairs": search.pairs}
    there = one.execute(select(copy_layers).where(*own)).mappings().first()
    if there is None:
        row = {"request": number, "layer": search.layer, "at": writing.at}
        one.execute(insert(copy_layers).values(**row, **told))
    elif any(there[name] != value for name, value in told.items()):
        one.execute(update(copy_layers).where(*own).values(**told, at=writing.at))
    else:
        return False
    return True


def _layer_told(search: LayerSearch) -> dict[str, Any]:
    """How a layer looked, for an event."""
    if search.why:
        return {"why not": search.why}
    told = {"threshold": search.threshold, "one in": search.one_in, "random pairs": search.pairs}
    return {name: value for name, value in told.items() if value is not None}


def _proposals(connection: Connection, number: int, names: Mapping[str, str]) -> list[ProposedCopy]:
    """Each copy once, beside the asked sample that it is nearest to."""
    rows = sorted(proposed_rows(connection, [number]), key=_nearest_first)
    once: dict[str, ProposedCopy] = {}
    for row in rows:
        copy, like = (names.get(row[one], GONE) for one in ("other_hmac", "id_hmac"))
        made = ProposedCopy(copy, like, row["layer"], row["score"], row["decision"])
        once.setdefault(row["other_hmac"], made)
    return list(once.values())


def proposed_rows(connection: Connection, numbers: Collection[int]) -> list[dict[str, Any]]:
    """Rows of what is proposed for some requests, with the HMAC and the request of their item. What is
    decided of a copy holds in all of a request's rows; see `IN_WORDS`.
    """
    chosen = select(duplicates, request_items.c.id_hmac, request_items.c.request)
    chosen = chosen.join(request_items).where(request_items.c.request.in_(list(numbers)))
    rows = connection.execute(chosen.order_by(duplicates.c.item)).mappings().all()
    gone = {*connection.scalars(select(struck.c.id_hmac))}
    items = select(request_items.c.request, request_items.c.id_hmac)
    asked = connection.execute(items.where(request_items.c.request.in_(list(numbers))))
    decided = {(request, hmac): ASKED for request, hmac in asked}
    decided |= {
        (row["request"], row["other_hmac"]): row["decision"]
        for row in rows
        if row["decision"] != "open"
    }
    found = []
    for row in rows:
        left = ASKED if row["other_hmac"] in gone else "open"
        decision = decided.get((row["request"], row["other_hmac"]), left)
        found.append({**row, "decision": decision})
    return found


def _nearest_first(row: Mapping[str, Any]) -> tuple[int, float]:
    bits = row["layer"] == "perceptual"
    return LAYERS.index(row["layer"]), row["score"] if bits else -row["score"]


def copies_in_words(connection: Connection, numbers: Collection[int]) -> str:
    """How many copies are proposed for some requests, and how many of them wait for a person; "" where
    none is.
    """
    every = {
        (row["request"], row["other_hmac"]): row["decision"]
        for row in proposed_rows(connection, numbers)
    }
    if not every:
        return ""
    answered = select(requests.c.id).where(requests.c.state.in_(ANSWERED))
    done = {*connection.scalars(answered)}
    waiting = sorted(request for (request, _), decision in every.items() if decision == "open")
    told = f"{len(every):,} cop{'y' if len(every) == 1 else 'ies'} under other ids proposed"
    if not waiting:
        return f"{told}, all decided"
    left = f"{told}, {len(waiting):,} not decided"
    still = [one for one in waiting if one not in done]
    if not still:
        return f"{left}, as the certificate tells"
    return (
        f"{left}: `expunge request copies {still[0]}` shows them; they stop no batch, and its "
        "certificate tells of them"
    )
