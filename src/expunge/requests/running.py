"""From the requests that wait to a model that is live, and its certificate."""

from __future__ import annotations

from datetime import UTC, datetime

from expunge.errors import CertificateError, RequestError, UserError
from expunge.methods import Method, method_name
from expunge.place import HERE, Place
from expunge.requests.approximating import check_waiting
from expunge.requests.batches import frozen_batch, open_batch, release_candidate, run_batch
from expunge.requests.certifying import issue, refresh_pages, uncertified
from expunge.requests.clocks import in_zone
from expunge.requests.events import canonical
from expunge.requests.gate_bank import bank_in_words
from expunge.requests.ledger import Ledger
from expunge.requests.planning import next_batch
from expunge.requests.release import live_folder


def run_waiting(
    ledger: Ledger,
    method: Method | None = None,
    *,
    release: bool = True,
    due: bool = False,
    review_seconds: float = 0.0,
    place: Place = HERE,
) -> list[str]:
    """Run the batch that is not done, or one of what waits; returns what a person is told.

    method: of a new batch, which needs a qualification that covers it; None: retraining. release:
    whether its model serves at once. due: a new one is begun only if its time has come.
    review_seconds: that people take before a release.
    Raises as `run_batch` does, RequestError for another method than that of the batch that is not done,
    and CertificateError after all, where a certificate could not be issued.
    """
    told: list[str] = []
    taken = None
    if due:
        told, taken = _due(ledger, method, review_seconds, place=place)
    batch = None if told else _batch(ledger, method, taken, place=place)
    if batch is not None:
        told = _ran(ledger, batch, release=release, place=place)
    return _with_certificates(ledger, told, place=place) or [
        "no request waits; `expunge request add --ids FILE` receives one"
    ]


def _with_certificates(ledger: Ledger, told: list[str], *, place: Place) -> list[str]:
    """Certify whatever was released and is not certified yet."""
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
    refresh_pages(ledger)
    return told


def promoted(ledger: Ledger, number: int, *, place: Place = HERE) -> list[str]:
    """Let a candidate serve, and certify its batch; returns what a person is told. number: of its
    release. Raises as `release_candidate` and `issue` do.
    """
    batch = release_candidate(ledger, number)
    told = [f"batch {batch}: released; live: {live_folder(ledger)}"]
    return _with_certificates(ledger, told, place=place)


def _due(
    ledger: Ledger, method: Method | None, review_seconds: float, *, place: Place
) -> tuple[list[str], list[int] | None]:
    """What is told instead where the time of a new batch has not come; else the requests that it takes,
    None for all.
    """
    with ledger.read() as connection:
        going_on = open_batch(connection)
    plan = None
    if going_on is None:
        plan = next_batch(ledger, [] if method is None else [method], place=place)
    if plan is None:
        return [], None
    freeze = plan.freeze(method, review_seconds)
    if freeze.at <= datetime.now(UTC):
        return [], [int(one) for one in freeze.taken]
    at = in_zone(freeze.at, plan.clocks.own.clock)
    return [f"nothing is begun yet; the next batch starts {at}: {freeze.reason}"], None


def _batch(
    ledger: Ledger, method: Method | None, taken: list[int] | None, *, place: Place
) -> int | None:
    if method is None:
        return frozen_batch(ledger, taken=taken)
    asked = method_name(method), canonical(method.model_dump(mode="json"))
    with ledger.read() as connection:
        row = open_batch(connection)
    if row is None:
        check_waiting(ledger, method, taken=taken, place=place)
    elif (row["method"], row["settings"]) != asked:
        raise RequestError(
            f"batch {row['id']} is not done, and goes another way ({row['method']}); go on with "
            f"`expunge batch run` alone, or do `expunge batch abandon {row['id']} --reason WHY`"
        )
    return frozen_batch(ledger, *asked, taken=taken)


def _ran(ledger: Ledger, batch: int, *, release: bool, place: Place) -> list[str]:
    place.tell(f"batch {batch}: making a model without what was struck")
    done = run_batch(ledger, batch, release=release, place=place)
    if done.busy:
        return [f"batch {batch} is {done.state}: another worker is at it"]
    if done.candidate is not None:
        return [
            f"batch {batch}: {done.state}; release {done.candidate} is a candidate: {done.folder}",
            f"next, to let it serve and certify it: expunge release promote {done.candidate}",
        ]
    results = done.results or {}
    told = [f"batch {batch}: {done.state}; live: {done.folder}"]
    if done.fallback:
        told.append(f"retrained, for the gate did not let the other model pass: {done.fallback}")
    if "shadows" in (gate := results.get("gate", {})):
        told.append(f"the gate looked {bank_in_words(gate['shadows'], gate['left_out'])}")
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
