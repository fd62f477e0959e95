"""What the next batch would cost by each way, and until when it must start, from recorded times."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, func, or_, select

from expunge.advice.duration import in_seconds
from expunge.methods import Method, make_method, method_name
from expunge.place import HERE, Place
from expunge.requests.approximating import coverage
from expunge.requests.batches import RETRAIN
from expunge.requests.clocks import LawClocks, in_zone
from expunge.requests.copies import copies_in_words
from expunge.requests.deadlines import window_end
from expunge.requests.freezing import Freeze, LeadSeconds, WaitingRequest, freeze_at
from expunge.requests.gate_bank import planned_bank
from expunge.requests.ledger import Ledger, moment
from expunge.requests.planner import BatchCosts, batch_lines, plan_batch
from expunge.requests.release import live_row
from expunge.requests.tables import request_items, requests, steps, struck
from expunge.requests.valid import Covered, qualified_methods

EXPECTED_BATCHES = 12
"""That one qualification is expected to serve, unless somebody says otherwise: one a month."""
TIMED = {
    RETRAIN: (RETRAIN, "retrained %"),
    "unlearn": ("unlearn", "unlearned %"),
    "gate": ("gate", "sanity check"),
}
"""What is planned -> names of the steps that tell what it takes, of a qualification audits and all."""


@dataclass(frozen=True)
class NextBatch:
    """The batch of all that waits, before it is frozen.

    Attributes:
        waiting: requests, the one that is due first before others.
        retrain: seconds of a full retraining; 0 where nobody knows.
        recorded: whether one was timed here.
        unlearn: every recorded time of an unlearning. gate: seconds of the gate.
        coverage: methods that were asked about, with the qualification that covers the batch.
        bank_models, bank_built: of the bank that the gate looks at; 0 models: it looks at none.
        clocks: by which its moments are told.
    """

    waiting: tuple[WaitingRequest, ...]
    retrain: float
    recorded: bool
    unlearn: tuple[float, ...]
    gate: float
    coverage: tuple[tuple[Method, Covered | None], ...]
    bank_models: int
    bank_built: bool
    clocks: LawClocks

    @property
    def qualified(self) -> bool:
        """Whether a valid qualification covers it."""
        return any(one is not None and one.number is not None for _, one in self.coverage)

    @property
    def size(self) -> int:
        """Samples that were asked for."""
        return sum(one.samples for one in self.waiting)

    def costs(self, batches: int) -> BatchCosts:
        """What each way costs. batches: that one qualification is expected to serve."""
        return BatchCosts(
            retrain=self.retrain,
            unlearn=max(self.unlearn, default=0.0),
            audits=self.gate,
            batches=batches,
            forget_size=max(1, self.size),
            qualified=self.qualified,
            bank_models=self.bank_models,
            bank_built=self.bank_built,
        )

    def freeze(self, method: Method | None, review_seconds: float) -> Freeze:
        """When it stops taking requests, and which of them it takes; at once where nobody knows what a
        retraining takes. method: by which it is forgotten; None: retraining.
        """
        covered = next((one for asked, one in self.coverage if asked is method), None)
        largest = None if method is None or covered is None else covered.largest or None
        if not self.retrain:
            numbers = tuple(one.id for one in self.waiting)
            return Freeze(datetime.now(UTC), "nobody knows what a retraining takes", numbers)
        missing = method is not None and covered is not None and not covered.largest
        lead = LeadSeconds(
            unlearn=(self.unlearn if method is not None else ()) or (0.0,),
            gate=self.gate,
            retrain=self.retrain,
            qualification=self.costs(1).qualification if missing else 0.0,
            review=review_seconds,
        )
        first = min(one.struck_at for one in self.waiting)
        end = window_end(first, self.clocks.own)
        return freeze_at(self.waiting, lead, largest=largest, window_end=end)


def next_batch(
    ledger: Ledger, methods: Sequence[Method] = (), *, place: Place = HERE
) -> NextBatch | None:
    """The batch of all that waits; None where nothing does.

    methods: that are asked about; none are, and all that were qualified are, where it is empty.
    """
    with ledger.read() as connection:
        waiting = tuple(_waiting(connection))
        live = live_row(connection)
        bank = planned_bank(connection, live["digest"])
        timed = {name: _seconds(connection, *of) for name, of in TIMED.items()}
        known = qualified_methods(connection)
    if not waiting:
        return None
    asked = list(methods) or [
        make_method(name, json.loads(settings), allow_code=place.allow_code)
        for name, settings in known
    ]
    covered = coverage(ledger, asked, place=place) if asked else []
    retrain = timed[RETRAIN] or _trained_in(Path(live["folder"]))
    return NextBatch(
        waiting,
        max(retrain, default=0.0),
        bool(timed[RETRAIN]),
        tuple(timed["unlearn"]),
        max(timed["gate"], default=0.0),
        tuple(zip(asked, covered, strict=True)),
        *bank,
        LawClocks.of(ledger),
    )


def next_batch_lines(
    ledger: Ledger,
    method: Method | None = None,
    *,
    batches: int = EXPECTED_BATCHES,
    review_seconds: float = 0.0,
    place: Place = HERE,
) -> list[str]:
    """What a person is told of the batch of all that waits.

    method: by which it would be forgotten; None: retraining, beside whatever is qualified. batches: that
    one qualification is expected to serve. review_seconds: that people take before a release.
    Raises ConfigError for numbers that cannot be.
    """
    plan = next_batch(ledger, [] if method is None else [method], place=place)
    if plan is None:
        return ["no request waits; `expunge request add --ids FILE` receives one"]
    with ledger.read() as connection:
        copies = copies_in_words(connection, [int(one.id) for one in plan.waiting])
    size, zone = plan.size, plan.clocks.own.clock
    many = f"{len(plan.waiting):,} request{'s wait' if len(plan.waiting) > 1 else ' waits'}"
    first = plan.waiting[0].due_at.astimezone(zone)
    told = [f"{many}, of {size:,} sample{'s' * (size != 1)}; due first: {first:%Y-%m-%d}"]
    told += [copies] if copies else []
    if not plan.retrain:
        return [
            *told,
            "what a retraining takes is not known: neither a batch nor a training was timed",
        ]
    costs, freeze = plan.costs(batches), plan.freeze(method, review_seconds)
    told.append(f"start by {in_zone(freeze.at, zone)}: {freeze.reason}")
    told += [_covered_line(asked, one) for asked, one in plan.coverage]
    if not plan.unlearn:
        how = f"{in_seconds(plan.retrain)}, as "
        how += "recorded" if plan.recorded else "the live model took"
        return [
            *told,
            f"retraining takes {how}; no unlearning was timed here, so retraining is what is planned "
            "(`expunge gate run --method NAME` qualifies a method, and times it)",
        ]
    return [*told, *batch_lines(plan_batch(costs))]


def _covered_line(method: Method, covered: Covered | None) -> str:
    if covered is None:
        return f"{method_name(method)}: the live model learned nothing of what waits"
    if covered.number is None:
        return f"not covered: {covered.why}"
    return (
        f"{method_name(method)}: qualification {covered.number} covers it, and up to "
        f"{covered.largest:,} samples"
    )


def _waiting(connection: Connection) -> list[WaitingRequest]:
    """The requests that wait, the one that is due first before others; each is due as early as whatever
    is a duplicate of it.
    """
    many = select(request_items.c.request, func.count().label("n"))
    counted = many.group_by(request_items.c.request).subquery()
    first = select(struck.c.request, func.min(struck.c.since).label("since"))
    since = first.group_by(struck.c.request).subquery()
    soonest = select(requests.c.duplicate_of, func.min(requests.c.due_at).label("due"))
    others = (
        soonest.where(requests.c.state == "duplicate").group_by(requests.c.duplicate_of).subquery()
    )
    found = (
        select(requests, counted.c.n, since.c.since, others.c.due)
        .outerjoin(counted, counted.c.request == requests.c.id)
        .outerjoin(since, since.c.request == requests.c.id)
        .outerjoin(others, others.c.duplicate_of == requests.c.id)
        .where(requests.c.state == "struck", requests.c.held.is_(None))
    )
    waiting = [
        WaitingRequest(
            str(row["id"]),
            moment(row["since"] or row["received_at"]),
            moment(min(row["due_at"], row["due"] or row["due_at"])),
            row["n"] or 0,
        )
        for row in connection.execute(found.order_by(requests.c.id)).mappings()
    ]
    return sorted(waiting, key=lambda one: one.due_at)


def _seconds(connection: Connection, *names: str) -> Sequence[float]:
    """What the steps of some names took, of which `%` stands for any end."""
    named = or_(*(steps.c.name.like(name) for name in names))
    found = select(steps.c.seconds_ms).where(named, steps.c.seconds_ms.is_not(None))
    return [one / 1000 for (one,) in connection.execute(found)]


def _trained_in(folder: Path) -> list[float]:
    """What the training of a model took, by its card; nothing for one that was trained elsewhere."""
    from expunge.trained.card import read_card

    for one in reversed(read_card(folder).lineage):
        if one.step in ("train", RETRAIN) and one.cost.seconds:
            return [one.cost.seconds]
    return []
