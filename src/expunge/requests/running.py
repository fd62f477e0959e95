"""From the requests that wait to a model that is live, and its certificate."""

from __future__ import annotations

from expunge.errors import CertificateError, RequestError, UserError
from expunge.methods import Method, method_name
from expunge.place import HERE, Place
from expunge.requests.approximating import check_waiting
from expunge.requests.batches import frozen_batch, open_batch, run_batch
from expunge.requests.certifying import issue, uncertified
from expunge.requests.events import canonical
from expunge.requests.ledger import Ledger


def run_waiting(ledger: Ledger, method: Method | None = None, *, place: Place = HERE) -> list[str]:
    """Run the batch that is not done, or one of all that waits; returns what a person is told.

    method: of a new batch, which needs a qualification that covers it; None: retraining.
    Raises as `run_batch` does, RequestError for another method than that of the batch that is not done,
    and CertificateError after all, where a certificate could not be issued.
    """
    batch = _batch(ledger, method, place=place)
    told = [] if batch is None else _ran(ledger, batch, place=place)
    failed = []
    for one in uncertified(ledger):
        try:
            told += certified(ledger, one, place=place)
        except UserError as error:  # those of the other batches do not wait for it
            failed.append(f"batch {one} has no certificate: {error}")
    if failed:
        for line in told:
            place.tell(line)
        raise CertificateError("; ".join(failed))
    return told or ["no request waits; `expunge request add --ids FILE` receives one"]


def _batch(ledger: Ledger, method: Method | None, *, place: Place) -> int | None:
    if method is None:
        return frozen_batch(ledger)
    asked = method_name(method), canonical(method.model_dump(mode="json"))
    with ledger.read() as connection:
        row = open_batch(connection)
    if row is None:
        check_waiting(ledger, method, place=place)
    elif (row["method"], row["settings"]) != asked:
        raise RequestError(
            f"batch {row['id']} is not done, and goes another way ({row['method']}); go on with "
            f"`expunge batch run` alone, or do `expunge batch abandon {row['id']} --reason WHY`"
        )
    return frozen_batch(ledger, *asked)


def _ran(ledger: Ledger, batch: int, *, place: Place) -> list[str]:
    place.tell(f"batch {batch}: making a model without what was struck")
    done = run_batch(ledger, batch, place=place)
    if done.busy:
        return [f"batch {batch} is {done.state}: another worker is at it"]
    results = done.results or {}
    told = [f"batch {batch}: {done.state}; live: {done.folder}"]
    if done.fallback:
        told.append(f"retrained, for the gate did not let the other model pass: {done.fallback}")
    if results.get("after") is not None:
        before = results.get("before")
        was = "" if before is None else f", and was {before:.1f}"
        told.append(f"{results['score']} is {results['after']:.1f} %{was}")
    return told


def certified(ledger: Ledger, batch: int, *, place: Place = HERE) -> list[str]:
    """Certify a batch that was released; returns what a person is told. Raises as `issue` does."""
    files = issue(ledger, batch, place=place)
    if files is None:
        return [f"batch {batch}: another worker certifies it"]
    return [
        f"certificate: {files.certificate}",
        f"in plain words: {files.page}",
        f"check it: expunge certify verify {files.certificate} --key {files.key}",
    ]
