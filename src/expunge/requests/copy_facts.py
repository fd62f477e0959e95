"""What a certificate tells of copies: how each layer looked, and what people decided of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import Connection, select

from expunge.requests.batches import requests_of
from expunge.requests.copies import ASKED, proposed_rows
from expunge.requests.copy_layers import LAYERS
from expunge.requests.facts import DuplicateLayer
from expunge.requests.ledger import Ledger
from expunge.requests.tables import copy_layers, request_items, struck

if TYPE_CHECKING:
    from expunge.trained.trained import Trained


@dataclass
class _Counted:
    """requests: numbers of those for which a layer looked. decided: copy -> decision."""

    requests: set[int] = field(default_factory=set)
    decided: dict[str, str] = field(default_factory=dict)


_How = tuple[str, float | None, int | None]
"""Layer, threshold, and of how many random pairs one is within it."""


def copy_facts(
    ledger: Ledger, connection: Connection, batch: int, model: Trained
) -> tuple[DuplicateLayer, ...]:
    """Of each layer, as often as requests of a batch were looked at in different ways; one that looked
    for no request is told, too.

    A copy that is struck itself, and that the model did not learn, was added, whatever was decided.
    """
    numbers = requests_of(connection, batch)
    looked = _looked(connection, numbers)
    counted: dict[_How, _Counted] = {}
    for (number, _), how in looked.items():
        counted.setdefault(how, _Counted()).requests.add(number)
    learned = {ledger.key.hmac(one) for one in (*model.split.retain, *model.split.validation)}
    gone = {*connection.scalars(select(struck.c.id_hmac))} - learned
    for row in proposed_rows(connection, numbers):
        how = looked.get((row["request"], row["layer"]), (row["layer"], None, None))
        copy = row["other_hmac"]
        decision = "add" if copy in gone else row["decision"]
        counted.setdefault(how, _Counted()).decided[copy] = decision
    for layer in LAYERS:
        if layer not in {name for name, _, _ in counted}:
            counted[layer, None, None] = _Counted()
    order = sorted(counted, key=lambda how: (LAYERS.index(how[0]), how[1] or 0, how[2] or 0))
    return tuple(_layer(how, counted[how]) for how in order)


def _looked(connection: Connection, numbers: list[int]) -> dict[tuple[int, str], _How]:
    """(request, layer) -> how it looked. Content is looked at whenever it is known."""
    own = request_items.c.request.in_(numbers)
    known = select(request_items.c.request).where(own, request_items.c.content_hash.is_not(None))
    found: dict[tuple[int, str], _How] = {
        (number, "exact"): ("exact", None, None) for number in connection.scalars(known)
    }
    noted = select(copy_layers).where(copy_layers.c.request.in_(numbers))
    for row in connection.execute(noted).mappings():
        found[row["request"], row["layer"]] = (row["layer"], row["threshold"], row["one_in"])
    return found


def _layer(how: _How, counted: _Counted) -> DuplicateLayer:
    name, threshold, one_in = how
    counts = Counter(counted.decided.values())
    return DuplicateLayer(
        name=name,
        requests=len(counted.requests),
        threshold=threshold,
        one_in=one_in,
        proposed=len(counted.decided),
        added=counts["add"] + counts[ASKED],
        kept=counts["keep"],
        unclear=counts["disclose"],
        undecided=counts["open"],
    )
