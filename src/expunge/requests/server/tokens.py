"""Who may do what through the server: bearer tokens, of which only a SHA-256 is kept.

A name is given once and never again, so that an event tells for good whose token it was.
"""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from sqlalchemy import Connection, insert, select, update

from expunge.errors import RequestError, listed
from expunge.requests.events import sha256
from expunge.requests.ledger import Ledger
from expunge.requests.tables import tokens

DUTIES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "submitter": frozenset({"submit"}),
        "approver": frozenset({"see", "decide"}),
        "reader": frozenset({"see", "prove"}),
    }
)
"""Role -> what it may do. submit: bring requests and see one's own. see: all requests and batches.
decide: approve, refuse, withdraw, hold. prove: events and certificates."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
RANDOM_BYTES = 32


@dataclass(frozen=True)
class Caller:
    """Who sent a token. role: of `DUTIES`."""

    name: str
    role: str

    def may(self, *duties: str) -> bool:
        """Whether its role has one of these duties."""
        return not DUTIES[self.role].isdisjoint(duties)


def add_token(ledger: Ledger, name: str, role: str) -> str:
    """A new token, which is told here and nowhere else.

    Raises RequestError for a name that is taken, if only by one that was revoked, or is none.
    """
    if role not in DUTIES:
        raise RequestError(f"there is no role {role!r:.100}; choose one of {listed(DUTIES)}")
    if not NAME.fullmatch(name):
        raise RequestError(
            f"{name!r:.100} cannot name a token; write letters, digits, dots, - and _, at most 64"
        )
    token = f"expunge_{secrets.token_urlsafe(RANDOM_BYTES)}"
    with ledger.write() as writing:
        if writing.connection.scalar(select(tokens.c.name).where(tokens.c.name == name)):
            raise RequestError(
                f"a token {name} was given before, and events tell of it; choose another name"
            )
        row = {"name": name, "role": role, "digest": sha256(token), "added_at": writing.at}
        writing.connection.execute(insert(tokens).values(**row))
        writing.event("token added", {"name": name, "role": role})
    return token


def revoke_token(ledger: Ledger, name: str) -> None:
    """Refuse a token from now on; again, it changes nothing. RequestError for one there is not."""
    with ledger.write() as writing:
        found = select(tokens).where(tokens.c.name == name)
        row = writing.connection.execute(found).mappings().first()
        if row is None:
            raise RequestError(
                f"there is no token {name!r:.100}; `expunge serve token list` shows them"
            )
        if row["revoked_at"] is None:
            changed = update(tokens).where(tokens.c.name == name)
            writing.connection.execute(changed.values(revoked_at=writing.at))
            writing.event("token revoked", {"name": name})


def token_rows(ledger: Ledger) -> list[tuple[str, ...]]:
    """A row for each token: name, role, since when, and until when if it was revoked."""
    with ledger.read() as connection:
        rows = connection.execute(select(tokens).order_by(tokens.c.name)).mappings().all()
    return [(row["name"], row["role"], row["added_at"], row["revoked_at"] or "") for row in rows]


def caller_of(connection: Connection, token: str) -> Caller | None:
    """Whose token it is; None for one that is not known, or was revoked.

    All are compared, each in constant time, so that the time tells nothing of any.
    """
    given, found = sha256(token), None
    valid = select(tokens).where(tokens.c.revoked_at.is_(None))
    for row in connection.execute(valid).mappings().all():
        if hmac.compare_digest(row["digest"], given):
            found = Caller(row["name"], row["role"])
    return found
