"""Qualification: whether a method equals retraining, by several models of each, once for many batches.

Every model forgets a draw of its own, of the same kind and size, from what the live model retains, so
that the interval holds the spread over forget sets too. Each is made and measured once (`steps.once`);
a run that was killed goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import func, insert, select, update

from expunge.data.suppressed import StruckData, withheld
from expunge.errors import RequestError
from expunge.place import HERE, Place
from expunge.requests.events import canonical, sha256
from expunge.requests.gate_bank import bank_folder, opened_bank, shadows_of_all
from expunge.requests.gate_file import DrawKind, Gate, current_gate
from expunge.requests.judging import Measured, MethodVerdict, judge_method
from expunge.requests.ledger import Ledger, new_key_of
from expunge.requests.measuring import from_plain, measured, to_plain
from expunge.requests.release import file_digests, live_folder, live_row
from expunge.requests.steps import QualificationNumber, once, output_of
from expunge.requests.tables import qualifications, struck
from expunge.trained.card import WEIGHTS

if TYPE_CHECKING:
    from sqlalchemy import Connection, RowMapping

    from expunge.data.split import Split
    from expunge.methods import Method
    from expunge.trained.trained import Trained

ModelSide = Literal["unlearned", "retrained"]
CONTROL = "retrained 1"
"""The step that makes the control, the model that is kept."""
OF_METHOD = ("method", "settings")
"""What of a subject no retrained model depends on."""


@dataclass(frozen=True)
class QualificationSubject:
    """What is qualified. size: samples of a draw; for whole classes, of the largest one."""

    method: str
    settings: str
    recipe: str
    data_version: str
    model: str
    kind: DrawKind
    size: int


@dataclass(frozen=True)
class Qualified:
    """number: of the qualification. judged: None where another worker is at a part of it. shadows:
    models of the bank that all retrained models were measured beside; 0: none.
    """

    number: int
    gate: Gate
    subject: QualificationSubject
    judged: MethodVerdict | None
    shadows: int = 0


def qualify(
    ledger: Ledger,
    method: Method,
    *,
    kind: DrawKind = "random",
    size: int | None = None,
    place: Place = HERE,
) -> Qualified:
    """Qualify a method with its settings for the live model, by the gate that holds.

    size: samples of each draw; whole classes have their own. The same question is answered once.

    Raises:
        RequestError: where no gate is fixed, or samples that wait to be forgotten stand in the way.
        ConfigError: for a method that does not fit.
        DivergenceError: where a training diverges.
    """
    from expunge.trained.opening import load

    with ledger.read() as connection:
        gate = current_gate(ledger, connection)
    live = load(live_folder(ledger), place=place)
    base = live.split.settled()
    size = _checked_size(live, gate, kind, size)
    with ledger.read() as connection:
        model = live_row(connection)["digest"]
    subject = subject_of(live, model, method, kind, size)
    number = _begun(ledger, gate, subject, len(base.retain))
    work = _Work(ledger, number, gate, subject, live, base, method, place)
    said = _all_said(ledger, work)
    if said is None:
        return Qualified(number, gate, subject, None)
    sides = {side: [from_plain(one) for one in own] for side, own in said.items()}
    judged = judge_method(gate, kind, sides["unlearned"], sides["retrained"])
    _decided(ledger, number, judged, said)
    return Qualified(number, gate, subject, judged, shadows_of_all(sides["retrained"]))


def _all_said(ledger: Ledger, work: _Work) -> dict[ModelSide, list[dict[str, Any]]] | None:
    """What was measured of each model of both sides; None where another worker is at one of them."""
    todo: list[tuple[ModelSide, int]] = [
        *(("retrained", n) for n in range(work.gate.retrainings)),
        *(("unlearned", n) for n in range(work.gate.unlearnings)),
    ]
    sides: dict[ModelSide, list[dict[str, Any]]] = {"unlearned": [], "retrained": []}
    known = {one: output_of(ledger, work.number, *work.named(*one)) for one in todo}
    done = sum(one is not None for one in known.values())
    with work.place.progress.work("qualification", len(todo), done, "models") as bar:
        for one in todo:
            said = known[one]
            if said is None:
                said = once(ledger, work.number, *work.named(*one), partial(work.done, *one))
                bar.advance()
            if said is not None:
                sides[one[0]].append(json.loads(said))
    return sides if sum(map(len, sides.values())) == len(todo) else None


def subject_of(
    live: Trained, model: str, method: Method, kind: DrawKind, size: int
) -> QualificationSubject:
    """What a qualification of a method on a model is about. model: the digest of its weights."""
    from expunge.methods import method_name

    recipe = None if live.recipe is None else live.recipe.model_dump(mode="json")
    return QualificationSubject(
        method_name(method),
        canonical(method.model_dump(mode="json")),
        sha256(canonical({"architecture": live.architecture, "recipe": recipe})),
        live.data.train.fingerprint,
        model,
        kind,
        size,
    )


def _checked_size(live: Trained, gate: Gate, kind: DrawKind, size: int | None) -> int:
    kept = live.split.retain
    waiting = len(live.data.struck.ids.intersection(kept))
    if kind == "class":
        if waiting:
            raise RequestError(
                f"{waiting} samples wait to be forgotten, and no whole class could be drawn by itself; "
                "do `expunge batch run` first"
            )
        size = max(map(len, _classes(live).values()))
    if size is None:
        raise RequestError("a draw of samples has a size; give one with --size")
    if not 1 <= size <= len(kept) // 2:
        raise RequestError(
            f"a draw of {size:,} from the {len(kept):,} samples that the live model retains: give "
            "from 1 to half of them"
        )
    if gate.largest is not None and size > gate.largest:
        raise RequestError(
            f"the gate covers {gate.largest:,} samples at most, and {size:,} were asked"
        )
    if waiting > size:
        raise RequestError(
            f"{waiting:,} samples wait to be forgotten, more than a draw of {size:,} would hold; give a "
            "larger --size, or do `expunge batch run` first"
        )
    return size


def _classes(live: Trained) -> dict[str, list[str]]:
    """Class -> ids that the live model retains."""
    samples = live.data.train
    found: dict[str, list[str]] = {}
    labels = samples.labels[samples.rows_of(live.split.retain)].tolist()
    for one, label in zip(live.split.retain, labels, strict=True):
        found.setdefault(live.data.classes[label], []).append(one)
    return found


def _begun(
    ledger: Ledger, gate: Gate, subject: QualificationSubject, learned: int
) -> QualificationNumber:
    """The row of a qualification: the one that is there, or a new one."""
    about = {"gate": gate.digest, **vars(subject)}
    with ledger.write() as writing:
        one = writing.connection
        same = [qualifications.c[name] == value for name, value in about.items()]
        there = one.scalar(select(qualifications.c.id).where(*same))
        if there is not None:
            return QualificationNumber(there)
        row = {"learned": learned, "struck_before": struck_count(ledger, one)}
        made = one.execute(insert(qualifications).values(**about, **row, begun_at=writing.at))
        number = QualificationNumber(new_key_of(made))
        writing.event("qualification begun", {"qualification": int(number), **about})
    return number


def struck_count(ledger: Ledger, connection: Connection) -> int:
    """How many samples of the ledger's data are struck, each counted once."""
    own = struck.c.data_set == ledger.file.data_sets[0]
    each = select(struck.c.id_hmac, struck.c.content_hash).where(own).distinct().subquery()
    return int(connection.scalar(select(func.count()).select_from(each)) or 0)


def _decided(
    ledger: Ledger, number: int, judged: MethodVerdict, said: dict[ModelSide, list[dict[str, Any]]]
) -> None:
    """Write the verdict down, once."""
    with ledger.write() as writing:
        one = writing.connection
        chosen = qualifications.c.id == number
        if one.scalar(select(qualifications.c.verdict).where(chosen)) is not None:
            return
        results = canonical({**judged.plain(), **said})
        values = {"verdict": judged.verdict, "results": results, "made_at": writing.at}
        one.execute(update(qualifications).where(chosen).values(**values))
        told = {"qualification": number, "verdict": judged.verdict, "results": sha256(results)}
        writing.event("qualification made", told)


def control_folder(ledger: Ledger, digest: str) -> Path:
    """Where the control of a qualification lies. digest: of what its step was made from."""
    return ledger.folder / "models" / f"control-{digest[:16]}"


def retrained_of(row: RowMapping) -> list[Measured]:
    """What was measured of the retrained models of a qualification, the control first."""
    return [from_plain(one) for one in json.loads(row["results"])["retrained"]]


@dataclass(frozen=True)
class _Work:
    """One of the models, made and measured."""

    ledger: Ledger
    number: QualificationNumber
    gate: Gate
    subject: QualificationSubject
    live: Trained
    base: Split
    method: Method
    place: Place

    def named(self, side: ModelSide, n: int) -> tuple[str, str]:
        """The name and the input digest of a step."""
        about = vars(self.subject)
        if side == "retrained":  # the same whatever method it stands beside
            about = {name: value for name, value in about.items() if name not in OF_METHOD}
        return f"{side} {n + 1}", sha256(canonical([self.gate.digest, about, side, n]))

    def done(self, side: ModelSide, n: int) -> str:
        """What a step gives: scores, and of the control its weights' digest.

        A retrained model of an earlier qualification that asked the same is not made again.
        """
        if side == "retrained" and (known := output_of(self.ledger, None, *self.named(side, n))):
            return known
        control = side == "retrained" and n == 0
        model = self._control() if control else self._made(side, n)
        deep, bank = side == "retrained", None
        if deep:
            with self.ledger.read() as connection:
                folder = bank_folder(connection, self.subject.model)
            bank, why = opened_bank(folder, [model])
            if why:
                self.place.tell(f"{folder} is left out: {why}")
        kind, place = self.subject.kind, self.place
        found = measured(model, self.live, self.gate, kind, deep=deep, bank=bank, place=place)
        said: dict[str, Any] = to_plain(found)
        if control:
            said["weights"] = file_digests(self.control)[WEIGHTS]
            said["folder"] = self.control.name
        return canonical(said)

    @property
    def control(self) -> Path:
        """Where the first retrained model lies, which is kept."""
        _, digest = self.named("retrained", 0)
        return control_folder(self.ledger, digest)

    def _made(self, side: ModelSide, n: int) -> Trained:
        from expunge.api import unlearn

        place = replace(self.place, strike=False)
        live = self._live_now()
        split = self._draw(live, side, n)
        code = place.allow_code
        if side == "unlearned":
            return unlearn(live, split, self.method, seed=n, place=place, allow_code=code)
        names = ("retrain", n, "gate")  # other first weights than those of the method's own seeds
        return unlearn(live, split, "retrain", names=names, place=place, allow_code=code)

    def _live_now(self) -> Trained:
        """The live model, with what was struck since it was loaded."""
        data = self.live.data
        ledgers = {one.name: one for one in (*data.struck.ledgers, self.ledger.file)}
        now = withheld(data.train, data.spec, [*ledgers.values()])
        found = StruckData(data.struck.ids | now, tuple(ledgers.values()))
        return replace(self.live, data=replace(data, struck=found))

    def _control(self) -> Trained:
        """The first retrained model; one that is there was made by a run that was killed."""
        from expunge.trained.opening import load

        if self.control.exists():
            return load(self.control, place=self.place)
        made = self._made("retrained", 0)
        self.control.parent.mkdir(parents=True, exist_ok=True)
        made.save(self.control)
        return made

    def _draw(self, live: Trained, side: ModelSide, n: int) -> Split:
        """What a model forgets: its own draw, and whatever waits to be forgotten."""
        waiting = live.data.struck.ids.intersection((*self.base.retain, *self.base.validation))
        return self.base.forgetting([*self._drawn(live, side, n), *waiting])

    def _drawn(self, live: Trained, side: ModelSide, n: int) -> Sequence[str]:
        from expunge.names.seeds import numpy_generator

        generator = numpy_generator("qualification", self.gate.digest, side, n)
        if self.subject.kind == "class":
            classes = _classes(live)
            return classes[str(generator.choice(sorted(classes)))]
        free = [one for one in self.base.retain if one not in live.data.struck.ids]
        rows = generator.choice(len(free), min(self.subject.size, len(free)), replace=False)
        return [free[row] for row in rows]
