"""What ties a person's id to the list in a certificate: a nonce for each item, drawn when it comes in.

The ledger keeps the leaf of each item, so its list can be told when nobody knows the ids any more, and
the nonce under a pad that takes the ledger's key: the database alone lets nobody test a guess. Without
its nonce a leaf belongs to nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, and_, exists, func, insert, or_, select

from expunge.data.suppressed import LedgerKey
from expunge.requests.merkle import MerkleTree, id_leaf, new_nonce
from expunge.requests.tables import batch_requests, nonces, request_items, struck


@dataclass(frozen=True)
class ListedItem:
    """An item of a certificate's list. nonce: as it is kept; None once it was destroyed."""

    item: int
    id_hmac: str
    content_hash: str | None
    nonce: str | None
    leaf: bytes


def draw_nonces(connection: Connection, key: LedgerKey, request: int, names: Iterable[str]) -> None:
    """Draw the nonce of each item of a request, once. names: their ids."""
    own = select(request_items.c.id_hmac, request_items.c.id).where(
        request_items.c.request == request
    )
    numbers = {stands_for: item for stands_for, item in connection.execute(own)}
    rows = []
    for name in dict.fromkeys(names):
        item, nonce = numbers[key.hmac(name)], new_nonce()
        leaf = id_leaf(nonce, name).hex()
        rows.append({"item": item, "nonce": _padded(nonce, key, item).hex(), "leaf": leaf})
    connection.execute(insert(nonces), rows)


def nonce_of(kept: str, key: LedgerKey, item: int) -> bytes:
    """The nonce itself, of what the ledger keeps of it."""
    return _padded(bytes.fromhex(kept), key, item)


def listed_items(connection: Connection, batch: int) -> list[ListedItem]:
    """The items of a batch that are struck, each id once; the others are in no list."""
    known = or_(
        struck.c.id_hmac == request_items.c.id_hmac,
        struck.c.content_hash == request_items.c.content_hash,
    )
    found = connection.execute(
        select(request_items, nonces.c.nonce, nonces.c.leaf)
        .join(nonces, nonces.c.item == request_items.c.id)
        .join(batch_requests, batch_requests.c.request == request_items.c.request)
        .where(batch_requests.c.batch == batch)
        .where(exists().where(and_(struck.c.request == request_items.c.request, known)))
        .order_by(request_items.c.id)
    ).mappings()
    once: dict[str, ListedItem] = {}
    for row in found:
        leaf = bytes.fromhex(row["leaf"])
        one = ListedItem(row["id"], row["id_hmac"], row["content_hash"], row["nonce"], leaf)
        once.setdefault(one.id_hmac, one)
    return list(once.values())


def asked_count(connection: Connection, batch: int) -> int:
    """How many ids the requests of a batch name, each once."""
    joined = select(func.count(request_items.c.id_hmac.distinct())).join(
        batch_requests, batch_requests.c.request == request_items.c.request
    )
    return connection.scalar(joined.where(batch_requests.c.batch == batch)) or 0


def tree_of(listed: Sequence[ListedItem]) -> MerkleTree:
    """The tree over a certificate's list."""
    return MerkleTree.over(one.leaf for one in listed)


def _padded(nonce: bytes, key: LedgerKey, item: int) -> bytes:
    pad = bytes.fromhex(key.hmac(f"the nonce of item {item}"))
    return bytes(one ^ other for one, other in zip(nonce, pad, strict=True))
