"""Certificates of a ledger: issued once for a released batch, proved to a person, revoked.

What a certificate tells is collected once and kept as the step of a batch, and its signature is the same
for the same bytes, so a certificate that was killed on its way, or lost, is written as it was. Its row
stands when its file is there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import Connection, RowMapping, insert, select, update

from expunge.disk.reading import read_bytes, reading
from expunge.disk.whole import sweep, write_file
from expunge.errors import CertificateError, RequestError
from expunge.place import HERE, Place
from expunge.requests.batches import batch_row, requests_of
from expunge.requests.certificate_page import certificate_page
from expunge.requests.clocks import LawClocks
from expunge.requests.collecting import Collected, collect
from expunge.requests.dsse import (
    ENVELOPE_BYTES,
    read_envelope,
    sign_payload,
    signed_payload,
)
from expunge.requests.duplicates import answer_duplicates, duplicates_of
from expunge.requests.events import canonical, sha256
from expunge.requests.ledger import Ledger
from expunge.requests.lineage import live_within, uncertified_in, undone_batches
from expunge.requests.moving import move, request_row
from expunge.requests.nonces import listed_items, nonce_of, tree_of
from expunge.requests.proof import prove, write_proof
from expunge.requests.signers import public_file, public_key, signer_of, signing_key
from expunge.requests.statement import (
    Statement,
    make_statement,
    read_statement,
    statement_payload,
)
from expunge.requests.states import FORGOTTEN
from expunge.requests.steps import once
from expunge.requests.tables import certificates, events

FOLDER = "certificates"


@dataclass(frozen=True)
class IssuedCertificate:
    """certificate: its file. page: beside it. key: public half of the key that signed."""

    certificate: Path
    page: Path
    key: Path


def uncertified(ledger: Ledger) -> list[int]:
    """Batches that were released and have no certificate yet, the first one first; not those whose
    requests wait again, for somebody went back to an earlier model.
    """
    with ledger.read() as connection:
        return uncertified_in(connection)


def undone_after(connection: Connection, batch: int) -> str:
    """What holds of the requests of a certified batch since somebody went back to an earlier model, as
    a sentence; empty where nobody did.
    """
    if batch not in undone_batches(connection):
        return ""
    numbers = requests_of(connection, batch)
    left = [one for one in numbers if request_row(connection, one)["state"] not in FORGOTTEN]
    if not left:
        return (
            "Since then an earlier model served for a time, and these requests were forgotten again in "
            "a later batch, which has a certificate of its own."
        )
    within = live_within(connection) or "contains 0 struck"
    return f"live: {within}. These requests wait to be forgotten again."


def issue(ledger: Ledger, batch: int, *, place: Place = HERE) -> IssuedCertificate | None:
    """Write the certificate of a released batch and its page, and close its requests; again, it gives
    the same bytes. None while another worker is at it.

    Raises RequestError for a batch that is not released, CertificateError where the key that signed
    before is not there, or what would be told names an id or a person.
    """
    with ledger.read() as connection:
        row = batch_row(connection, batch)
        hmacs = sorted(one.id_hmac for one in listed_items(connection, batch))
        again = certificate_row(connection, batch) is None and batch in undone_batches(connection)
    if row["state"] != "released":
        raise RequestError(
            f"batch {batch} is {row['state']}, and a certificate is of one that was released; do "
            "`expunge batch run` first"
        )
    if again:
        raise RequestError(
            f"batch {batch} was undone before it was certified, by going back to an earlier model; the "
            "certificate is that of the batch that forgets its requests again"
        )
    key = signing_key(ledger, batch)
    digest = sha256(canonical([row["model_before"], row["model_after"], hmacs]))
    told = once(
        ledger, batch, "certificate", digest, lambda: collect(ledger, batch, place=place).text()
    )
    if told is None:
        return None
    found = Collected.of(told)
    statement = make_statement(found.digests, found.facts)
    payload = statement_payload(statement)
    files = files_of(ledger, batch)
    with ledger.read() as connection:
        _check_same(connection, batch, sha256(payload))  # before anything is written over it
    _write(files.certificate, sign_payload(payload, key))
    _write_page(ledger, batch, statement, key.public_key())
    _close(ledger, batch, sha256(payload), files)
    return files


def _write_page(ledger: Ledger, batch: int, statement: Statement, key: Ed25519PublicKey) -> None:
    """Write what a certificate tells, in words, and whether that was undone since."""
    files = files_of(ledger, batch)
    with ledger.read() as connection:
        asked = []
        for number in requests_of(connection, batch):
            both = (number, *duplicates_of(connection, number))
            asked += [request_row(connection, one) for one in both]
        after = undone_after(connection, batch)
    page = certificate_page(
        statement,
        asked,
        clocks=LawClocks.of(ledger),
        undone=after,
        batch=batch,
        certificate=files.certificate.name,
        public=files.key.name,
        key=key,
    )
    _write(files.page, page.encode())


def refresh_pages(ledger: Ledger) -> None:
    """Say on the pages of certificates that were undone what became of their requests since.

    Raises CertificateError where a certificate is not as it was issued.
    """
    with ledger.read() as connection:
        again = undone_batches(connection)
        issued = connection.scalars(
            select(certificates.c.batch).order_by(certificates.c.batch)
        ).all()
        stale = [one for one in issued if one in again]
    for batch in stale:
        file, key = (
            files_of(ledger, batch).certificate,
            public_key(ledger, signer_of(ledger, batch)),
        )
        with reading(file, f"do `expunge certify issue {batch}`", CertificateError):
            payload = signed_payload(read_envelope(read_bytes(file, most=ENVELOPE_BYTES)), [key])
        _write_page(ledger, batch, read_statement(payload), key)


def files_of(ledger: Ledger, batch: int) -> IssuedCertificate:
    """Where the certificate of a batch lies, or will."""
    folder, name = ledger.folder / FOLDER, f"batch-{batch:04d}"
    return IssuedCertificate(
        folder / f"{name}.dsse.json",
        folder / f"{name}.html",
        public_file(ledger, signer_of(ledger, batch)),
    )


def _write(file: Path, content: bytes) -> None:
    """Write a file whole, unless it is there as it should be."""
    with reading(file, "make room, and try again", CertificateError):
        if file.is_file() and file.read_bytes() == content:
            return
        file.parent.mkdir(exist_ok=True)
        sweep(file.parent)
        write_file(file, content)


def _close(ledger: Ledger, batch: int, payload: str, files: IssuedCertificate) -> None:
    with ledger.write() as writing:
        known = _check_same(writing.connection, batch, payload)
        if files != files_of(ledger, batch):
            raise CertificateError(
                "the key that signs was changed meanwhile; give the same command again"
            )
        if known:
            return
        file = files.certificate.relative_to(ledger.folder).as_posix()
        row = {"batch": batch, "payload_digest": payload, "file": file, "issued_at": writing.at}
        writing.connection.execute(insert(certificates).values(**row))
        writing.event("certificate issued", {"batch": batch, "payload": payload})
        for number in requests_of(writing.connection, batch):
            for state in ("certified", "closed"):
                move(writing, number, state)
            answer_duplicates(writing, number, batch)


def _check_same(connection: Connection, batch: int, payload: str) -> bool:
    """Whether a batch has a certificate. Raises CertificateError for one that told something else."""
    known = certificate_row(connection, batch)
    if known is not None and known["payload_digest"] != payload:
        raise CertificateError(
            f"the certificate of batch {batch} told something else before; see with `expunge ledger "
            "verify` what was changed"
        )
    return known is not None


def certificate_row(connection: Connection, batch: int) -> RowMapping | None:
    """The row of a batch's certificate; None where there is none yet."""
    found = select(certificates).where(certificates.c.batch == batch)
    return connection.execute(found).mappings().first()


def check_certificates(ledger: Ledger) -> list[tuple[str, list[str]]]:
    """Of each certificate: a line, and what is wrong with its file, its signature, or the events before
    it.
    """
    with ledger.read() as connection:
        rows = (
            connection.execute(select(certificates).order_by(certificates.c.batch)).mappings().all()
        )
        chain = {
            row.seq: row.hash for row in connection.execute(select(events.c.seq, events.c.hash))
        }
    found = []
    for row in rows:
        file, wrong = ledger.folder / row["file"], list[str]()
        number = signer_of(ledger, row["batch"])
        try:
            key = public_key(ledger, number)
            with reading(file, f"do `expunge certify issue {row['batch']}`", CertificateError):
                payload = signed_payload(
                    read_envelope(read_bytes(file, most=ENVELOPE_BYTES)), [key]
                )
            if sha256(payload) != row["payload_digest"]:
                wrong.append(f"{file} tells something else than was issued")
            elif chain.get((last := read_statement(payload).predicate.chain).seq) != last.hash:
                wrong.append(f"event {last.seq} is not that which {file} was signed after")
        except CertificateError as error:
            wrong.append(str(error) if str(file) in str(error) else f"{file}: {error}")
        by = f"as issued, signed by {public_file(ledger, number).name}"
        revoked = f", revoked {row['revoked_at']}" if row["revoked_at"] else ""
        found.append((f"{file}: {'NOT as it was issued' if wrong else by}{revoked}", wrong))
    return found


def revoke(ledger: Ledger, batch: int, reason: str) -> None:
    """Say that a certificate no longer holds, and why. Its file stays, and whoever has it must be told.

    Raises RequestError for one that was not issued, or was revoked.
    """
    with ledger.write() as writing:
        row = certificate_row(writing.connection, batch)
        if row is None:
            raise RequestError(
                f"batch {batch} has no certificate; `expunge batch status` shows them"
            )
        if row["revoked_at"] is not None:
            raise RequestError(
                f"the certificate of batch {batch} is revoked since {row['revoked_at']} "
                f"({row['revoked_reason']})"
            )
        changed = update(certificates).where(certificates.c.batch == batch)
        gone = {"revoked_at": writing.at, "revoked_reason": reason}
        writing.connection.execute(changed.values(**gone))
        writing.event("certificate revoked", {"batch": batch, "reason": reason})


def prove_id(ledger: Ledger, name: str, to: Path, *, batch: int | None = None) -> int:
    """Write the proof that an id is one of a certificate, by default the last that lists it; returns
    the number of its batch.

    Raises CertificateError for an id that no certificate lists, whose nonce was destroyed, or where a
    file is in the way.
    """
    if to.exists():
        raise CertificateError(f"{to} exists; name another file")
    stands_for = ledger.key.hmac(name)
    with ledger.read() as connection:
        issued = select(certificates.c.batch).order_by(certificates.c.batch.desc())
        numbers = [
            int(number) for (number,) in connection.execute(issued) if batch in (None, number)
        ]
        for number in numbers:
            listed = listed_items(connection, number)
            own = next((one for one in listed if one.id_hmac == stands_for), None)
            if own is None:
                continue
            if own.nonce is None:
                raise CertificateError(
                    f"the nonce of {name!r:.200} was destroyed, and with it every link to the list"
                )
            proof = prove(tree_of(listed), nonce_of(own.nonce, ledger.key, own.item), name)
            with reading(to, "name a file in a folder that is there", CertificateError):
                write_proof(to, proof)
            return number
    where = "no certificate" if batch is None else f"no certificate of batch {batch}"
    raise CertificateError(
        f"{where} lists {name!r:.200}; write the id as the data have it, and see `expunge request list`"
    )
