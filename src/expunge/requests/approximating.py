"""Forgetting a batch by a method that is qualified, in place of retraining: made, and held to the gate.

What is found is text, so that each is a step that is done once; what follows from it is the batch's.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import RowMapping, and_, select

from expunge.errors import DivergenceError, RequestError
from expunge.place import HERE, Place
from expunge.requests.accepting import acceptance
from expunge.requests.events import canonical
from expunge.requests.gate_bank import bank_in_words
from expunge.requests.gate_file import DrawKind
from expunge.requests.ledger import Ledger
from expunge.requests.qualifying import QualificationSubject, subject_of
from expunge.requests.release import file_digests, live_folder
from expunge.requests.sanity import sanity_of
from expunge.requests.tables import request_items, requests
from expunge.requests.valid import Covered, covering

if TYPE_CHECKING:
    from expunge.data.split import Split
    from expunge.methods import Method
    from expunge.trained.trained import Trained

SEED = 0
"""Of the model that is offered, named before any is made."""


def forgotten(original: Trained, hmacs: Collection[str], ledger: Ledger) -> Split | None:
    """What a model is to forget: what it learned of a batch, and of whatever else was struck since.
    None where it learned nothing of a batch.
    """
    learned, held = original.split.retain, original.split.validation
    named = {one for one in (*learned, *held) if ledger.key.hmac(one) in hmacs}
    if not named.intersection(learned):
        return None
    gone = named | original.data.struck.ids.intersection((*learned, *held))
    return original.split.settled().forgetting(sorted(gone))


def batch_subject(live: Trained, method: Method, split: Split) -> QualificationSubject:
    """What a batch needs a qualification for."""
    kind: DrawKind = "class" if split.only_whole_classes(live.data) else "random"
    return subject_of(live, live.weights, method, kind, len(split.forget))


def coverage(
    ledger: Ledger,
    methods: Sequence[Method],
    *,
    taken: Collection[int] | None = None,
    place: Place = HERE,
) -> list[Covered | None]:
    """Which qualification covers what waits now, for each of some methods; None where the live model
    learned nothing of it, so that none is needed. taken: of these requests alone.
    """
    from expunge.trained.opening import load

    joined = select(request_items.c.request, request_items.c.id_hmac).join(
        requests, requests.c.id == request_items.c.request
    )
    waits = and_(requests.c.state == "struck", requests.c.held.is_(None))
    with ledger.read() as connection:
        found = connection.execute(joined.where(waits))
        hmacs = {name for number, name in found if taken is None or number in taken}
    live = load(live_folder(ledger), place=place)
    split = forgotten(live, hmacs, ledger)
    if split is None:
        return [None] * len(methods)
    return [covering(ledger, batch_subject(live, one, split)) for one in methods]


def check_waiting(
    ledger: Ledger,
    method: Method,
    *,
    taken: Collection[int] | None = None,
    place: Place = HERE,
) -> None:
    """Raise RequestError where no qualification covers what waits now: why, and what to do."""
    (covered,) = coverage(ledger, [method], taken=taken, place=place)
    if covered is not None and covered.number is None:
        raise RequestError(f"{covered.why}, or do `expunge batch run` alone, which retrains")


def made_by_method(
    ledger: Ledger, row: RowMapping, hmacs: Collection[str], folder: Path, *, place: Place
) -> str:
    """Make the model of a batch, in a folder: JSON of its files' digests and of the qualification that
    covers it, or of why there is none; `{"learned": 0}` where the live model learned nothing of it.
    """
    from expunge.api import unlearn
    from expunge.methods import make_method
    from expunge.trained.opening import load

    live = load(live_folder(ledger), place=place)
    split = forgotten(live, set(hmacs), ledger)
    if split is None:
        return canonical({"learned": 0})
    settings = json.loads(row["settings"])
    method = make_method(row["method"], settings, allow_code=place.allow_code)
    covered = covering(ledger, batch_subject(live, method, split))
    if covered.number is None:
        return canonical({"why": covered.why})
    if not folder.exists():
        try:
            made = unlearn(live, split, method, seed=SEED, place=place, allow_code=place.allow_code)
        except DivergenceError as error:
            return canonical({"why": str(error)})
        folder.parent.mkdir(parents=True, exist_ok=True)
        made.save(folder)
    elif (there := load(folder, place=place)).record.step != row["method"] or not {
        *there.split.retain
    } <= {*split.retain, *live.data.struck.ids}:
        raise RequestError(f"{folder} is in the way: it forgot something else; move it elsewhere")
    return canonical({"files": file_digests(folder), "qualification": covered.number})


def gated(
    ledger: Ledger,
    batch: int,
    folder: Path,
    qualification: int,
    hmacs: Collection[str],
    *,
    place: Place,
) -> str:
    """Hold the model of a batch to the gate: JSON of the sanity check, with what acceptance found under
    "gate".
    """
    from expunge.trained.opening import load

    live = load(live_folder(ledger), place=place)
    made = load(folder, place=place)
    quiet = replace(place, tell=str)
    results: dict[str, Any] = sanity_of(live, made, hmacs, ledger.key.hmac)
    found = acceptance(ledger, qualification, made, live, batch=batch, place=quiet)
    gate = {"qualification": qualification, "verdict": found.verdict, **found.plain()}
    passed = results["passed"] and found.verdict == "equivalent"
    bank = bank_in_words(found.shadows, found.left_out)
    why = results["why"] or ("" if passed else f"{found.verdict}: {found.reason}; {bank}")
    return canonical({**results, "passed": passed, "why": why, "gate": gate})
