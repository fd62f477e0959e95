"""What a ledger's tables hold, and what must be true of them whatever was killed on the way."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine, inspect, select
from sqlalchemy.pool import NullPool

from expunge.data.suppressed import DRIVER
from expunge.requests.tables import metadata

Rows = dict[str, list[dict[str, Any]]]
STAY = {
    "settings": ("name", "value"),
    "requests": ("id", "idempotency_key", "body_digest", "received_at", "due_at"),
    "items": ("id", "request", "id_hmac"),
    "struck": ("id", "data_set", "id_hmac", "content_hash", "since", "request"),
    "nonces": ("item", "nonce", "leaf"),
    "batches": ("id", "method", "settings", "created_at", "frozen_at", "model_before"),
    "batch_requests": ("batch", "request"),
    "models": ("digest", "parent", "folder", "card_digest", "made_at"),
    "releases": ("id", "model", "batch"),
    "certificates": ("id", "batch", "payload_digest", "file", "issued_at"),
    "gate_results": ("id", "qualification", "batch", "model", "verdict", "results"),
    "events": ("seq", "hash"),
}
"""Of each table what no later work may change, once it is committed."""
ALIKE = {
    "settings": ("name",),
    "requests": ("id", "source", "idempotency_key", "law", "state"),
    "items": ("id", "request", "content_hash", "state"),
    "struck": ("data_set", "content_hash", "request"),
    "nonces": ("item",),
    "batches": ("id", "state", "method", "model_before", "model_after", "fallback"),
    "batch_requests": ("batch", "request"),
    "models": ("digest", "parent", "folder"),
    "steps": ("batch", "name"),
    "releases": ("id", "model", "state", "batch"),
    "certificates": ("batch", "file"),
    "gate_results": ("qualification", "batch", "model", "verdict"),
}
"""What does not depend on the moment, on keys drawn at random, nor on who did it."""
ATTEMPTS = ("step begun", "step failed")


def rows_of(url: str) -> Rows:
    """All rows of the ledger in a database, by table; none where its tables are not there yet.

    url: of SQLAlchemy, or as `ledger init --database` takes it.
    """
    url = url.replace("postgresql://", DRIVER, 1)
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        known = set(inspect(connection).get_table_names())
        return {
            table.name: [
                dict(row)
                for row in connection.execute(
                    select(table).order_by(*table.primary_key.columns)
                ).mappings()
            ]
            for table in metadata.sorted_tables
            if table.name in known
        }


def alike(rows: Rows, work: Path) -> dict[str, list[tuple[Any, ...]]]:
    """What is the same in every ledger in which the same was done, in whatever folder, and whichever
    numbers were left out.
    """
    ranks = ranks_of(rows)

    def told(table: str, row: dict[str, Any], column: str) -> str:
        own = ranks.get({"id": table}.get(column, NUMBERS.get(column, "")), {})
        text = str(own.get(row[column], row[column]))
        return ranked(ranks, text.replace(f"{work}/", ""))

    found = {
        table: sorted(tuple(told(table, row, one) for one in columns) for row in rows[table])
        for table, columns in ALIKE.items()
    }
    found["events"] = [(row["kind"],) for row in rows["events"] if row["kind"] not in ATTEMPTS]
    return found


NUMBERS = {"request": "requests", "batch": "batches", "item": "items"}
"""Columns that hold the number of a row -> of which table."""
Ranks = dict[str, dict[int, int]]


def ranks_of(rows: Rows) -> Ranks:
    """By table: number of a row -> its place among them, from 1."""
    return {
        table: {row["id"]: rank for rank, row in enumerate(own, 1)}
        for table, own in rows.items()
        if own and "id" in own[0]
    }


def ranked(ranks: Ranks, name: str) -> str:
    """The name of a file or folder of a batch, by the place of that among the batches."""

    def rank(found: re.Match[str]) -> str:
        number = int(found[1])
        return f"batch-{ranks.get('batches', {}).get(number, number):04d}"

    return re.sub(r"batch-(\d{4})", rank, name)


def lost(before: Rows, after: Rows) -> Iterator[str]:
    """What was committed once, and is not there, or is another, later."""
    for name, columns in STAY.items():
        there = {tuple(row[one] for one in columns) for row in after.get(name, [])}
        for row in before.get(name, []):
            if (kept := tuple(row[one] for one in columns)) not in there:
                yield f"{name}: {kept} was committed, and is gone or changed"
    done = {row["id"]: row for row in after.get("steps", [])}
    for row in before.get("steps", []):
        if row["output"] is not None and done.get(row["id"]) != row:
            yield f"the step {row['name']} of batch {row['batch']} was done, and done once more"
        if row["id"] not in done:
            yield f"the step {row['name']} of batch {row['batch']} is gone"


def doubled(rows: Rows, keys: Sequence[str], samples: int) -> Iterator[str]:
    """What was done not once: requests, strikes, steps, models, releases, certificates.

    keys: of the requests that were added, each at least once. samples: that they name in all.
    """
    found = sorted(row["idempotency_key"] for row in rows["requests"])
    if found != sorted(keys):
        yield f"requests of the keys {found}, and asked were {sorted(keys)}"
    for row in rows["requests"]:
        if row["state"] != "closed":
            yield f"request {row['id']} is {row['state']} in the end"
    once = {
        "struck": (row["content_hash"] or row["id_hmac"] for row in rows["struck"]),
        "steps": ((row["batch"], row["qualification"], row["name"]) for row in rows["steps"]),
        "models": (row["folder"] for row in rows["models"]),
        "releases": (row["model"] for row in rows["releases"]),
        "certificates": (row["batch"] for row in rows["certificates"]),
        "batch_requests": (row["request"] for row in rows["batch_requests"]),
    }
    for table, values in once.items():
        for value, number in Counter(values).items():
            if number > 1:
                yield f"{number} rows of {table} for {value}"
    if len(rows["struck"]) != samples:
        yield f"{len(rows['struck'])} samples are struck, and asked were {samples}"
    for row in rows["steps"]:
        if row["output"] is None:
            yield f"the step {row['name']} of batch {row['batch']} is not done"
    if [row["state"] for row in rows["releases"]].count("live") != 1:
        yield "not one model is live"
    yield from _told_twice(rows)


ONCE = (
    *("request received", "request struck", "request in batch", "request certified"),
    *("batch opened", "batch released", "step done", "model entered", "certificate issued"),
    *("ledger begun", "model released"),
)


def _told_twice(rows: Rows) -> Iterator[str]:
    """Events of which there is one too many, or one too few."""
    told = Counter(row["kind"] for row in rows["events"])
    whats = [(row["kind"], row["payload"]) for row in rows["events"] if row["kind"] in ONCE]
    for (kind, payload), number in Counter(whats).items():
        if number > 1:
            yield f"{number} events say {kind}: {json.loads(payload)}"
    for kind, table in {
        "request received": "requests",
        "step done": "steps",
        "model entered": "models",
        "model released": "releases",
        "batch released": "batches",
        "certificate issued": "certificates",
    }.items():
        if told[kind] != len(rows[table]):
            yield f"{told[kind]} events say {kind}, of {len(rows[table])} rows of {table}"
