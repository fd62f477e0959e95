"""The gate: fixed beforehand, known verdicts of numbers, and a qualification from end to end."""

from __future__ import annotations

import base64
import json
import re
import shutil
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from commands import expunge, refused
from sqlalchemy import func, select

from expunge.api import train, unlearn
from expunge.data.load import load_data
from expunge.errors import ConfigError, RequestError
from expunge.methods import make_method
from expunge.place import Place
from expunge.requests import accepting, qualifying
from expunge.requests.accepting import acceptance
from expunge.requests.beginning import begin
from expunge.requests.gate_bank import bank_in_words, opened_bank, same_bank
from expunge.requests.gate_file import Gate, current_gate, define, gate_of, read_gate
from expunge.requests.intake import DeletionRequest, NamedSample, add
from expunge.requests.judging import Accepted, Measured, accept, judge_method, predicted
from expunge.requests.keeping import kept_because
from expunge.requests.ledger import Ledger
from expunge.requests.measuring import measured
from expunge.requests.planning import next_batch, next_batch_lines
from expunge.requests.qualifying import Qualified, qualify
from expunge.requests.release import live_folder
from expunge.requests.running import run_waiting
from expunge.requests.tables import events, gate_results, gates, metadata, steps
from expunge.requests.valid import Covered, _expired, compared_folders, covering
from expunge.shadows.bank import open_bank
from expunge.shadows.build import build, renew
from expunge.shadows.purge import purge_bank
from expunge.testing.cheats import CHEATS
from expunge.trained.opening import load
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe

FEW = Gate(unlearnings=5, retrainings=5)
NAMES = ("UA", "RA", "TA", "MIA")


def models(*values: float, original: float = 50.0, **others: float) -> list[Measured]:
    """Models whose required scores are all alike."""
    return [
        Measured(
            dict.fromkeys(NAMES, one) | others,
            dict.fromkeys((*NAMES, *others), 1000),
            dict.fromkeys(NAMES, original) | dict.fromkeys(others, original),
        )
        for one in values
    ]


NEAR = (10.0, 10.4, 9.8, 10.1, 9.9)


@pytest.mark.parametrize(
    ("ours", "original", "verdict"),
    [
        (NEAR, 50.0, "equivalent"),
        ((16.0, 16.4, 15.8, 16.1, 15.9), 50.0, "not equivalent"),
        ((8.0, 16.0, 9.0, 14.0, 10.0), 50.0, "undecided"),
        (NEAR, 10.0, "invalid"),  # doing nothing would pass
        (NEAR[:4], 50.0, "undecided"),  # too few
    ],
)
def test_verdicts_of_known_numbers(ours: tuple[float, ...], original: float, verdict: str) -> None:
    found = judge_method(FEW, "random", models(*ours, original=original), models(*reversed(NEAR)))
    assert found.verdict == verdict, found.reason


def test_a_score_that_some_model_lacks_makes_the_gate_invalid() -> None:
    ours = [*models(*NEAR[1:]), Measured({"UA": 1.0, "RA": 2.0, "TA": 3.0})]
    found = judge_method(FEW, "random", ours, models(*NEAR))
    assert found.verdict == "invalid"
    assert "MIA" in found.reason


def test_whole_classes_need_a_score_behind_the_outputs_that_finds_doing_nothing() -> None:
    """A zeroed row of the last layer has the original's probe, and a retrained model's outputs."""
    retrained = models(*NEAR, probe=80.0)

    def zeroed(probe: float) -> list[Measured]:
        return [
            replace(one, original={**one.original, "probe": probe})
            for one in models(*NEAR, probe=probe)
        ]

    assert judge_method(FEW, "random", zeroed(96.0), retrained).verdict == "equivalent"
    assert judge_method(FEW, "class", zeroed(96.0), retrained).verdict == "not equivalent"
    assert judge_method(FEW, "class", zeroed(80.0), retrained).verdict == "invalid"


def test_limits_are_students_with_bonferroni() -> None:
    low, high = predicted(models(*NEAR), ("UA", "RA"), 0.05)["UA"]
    t = 3.4954  # of tables: 4 degrees, 0.9875
    half = t * statistics.stdev(NEAR) * (1 + 1 / 5) ** 0.5
    assert ((low + high) / 2, (high - low) / 2) == pytest.approx((10.04, half), rel=1e-4)


def test_acceptance_of_known_numbers() -> None:
    retrained = models(*NEAR, near_copies=60.0)
    good, bad = models(10.2, near_copies=60.0)[0], models(14.0, near_copies=60.0)[0]
    assert accept(FEW, "random", good, retrained[0], retrained).verdict == "equivalent"
    wrong = accept(FEW, "random", bad, retrained[0], retrained)
    assert wrong.verdict == "not equivalent"
    assert set(wrong.outside) == set(NAMES)
    found = accept(FEW, "random", models(10.2, near_copies=90.0)[0], retrained[0], retrained)
    assert set(found.outside) == {"near_copies"}
    assert accept(FEW, "random", good, bad, retrained).verdict == "invalid"
    nothing = models(10.2, near_copies=60.0, original=10.0)[0]
    blind = replace(good, original={**nothing.original, "near_copies": 60.0})
    assert accept(FEW, "random", blind, retrained[0], retrained).verdict == "invalid"
    said = replace(good, word="not forgotten", reason="an audit")
    assert accept(FEW, "random", said, retrained[0], retrained).verdict == "not equivalent"


def test_a_gate_is_read_checked_and_has_one_digest(tmp_path: Path) -> None:
    file = tmp_path / "gate.yaml"
    file.write_text("alpha: 0.05\nscores: {MIA: 5, UA: 5, RA: 2, TA: 2}\n")
    assert read_gate(file).digest == Gate().digest
    assert len(Gate().digest) == 64
    file.write_text("scores: {UA: 4}\n")
    assert read_gate(file).digest != Gate().digest
    for text, said in (
        ("scores: {UA: 0.5}", "1 point or more"),
        ("scores: {near_copy: 5}", "did you mean"),
        ("scores: {rmia: 5}", "cannot require 'rmia'"),
        ("alpha: 0.2", "less than or equal to 0.05"),
        ("retrainings: 3", "greater than or equal to 5"),
        ("whole_classes: {TA_forget: 5}", "looks behind the outputs"),
        ("alhpa: 0.05", "did you mean 'alpha'"),
        ("just words", "holds no gate"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match=said):
            read_gate(file)


GATE = Gate(
    scores={"UA": 15.0, "RA": 5.0, "TA": 15.0, "MIA": 20.0},
    whole_classes={"probe": 15.0},
    unlearnings=5,
    retrainings=5,
    acceptance="quick",
)
METHOD = make_method("euk", {"k": "all"}, allow_code=False)
"""Retraining under another name."""
Ground = tuple[Ledger, Trained]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    """A ledger whose live model knows nothing but its samples: their labels are noise."""
    folder = tmp_path_factory.mktemp("gate")
    draw = np.random.default_rng(0)
    values = draw.normal(size=(300, 16)).round(3)
    rows = [
        f"s{row},{'abcd'[draw.integers(4)]},{','.join(map(str, own))}"
        for row, own in enumerate(values)
    ]
    header = f"id,label,{','.join(f'x{n}' for n in range(16))}"
    (folder / "noise.csv").write_text("\n".join([header, *rows]) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("EXPUNGE_KEYS", str(folder / "keys"))
        recipe = Recipe(epochs=25, lr=0.1, batch_size=32)
        data = load_data(f"{folder / 'noise.csv'}:label=label,id=id")
        original = train(data, "mlp", recipe=recipe)
        original.save(folder / "original")
        build(original, folder / "original-bank", models=2, keep=False)
        told = {"organisation": "us", "role": "controller", "law": "gdpr"}
        ledger = begin(folder / "original", told=told).ledger
        yield ledger, load(live_folder(ledger))


def test_the_tables_are_those_that_migrations_make(ground: Ground) -> None:
    ledger, _ = ground
    with ledger.read() as connection:
        context = MigrationContext.configure(connection)
        assert compare_metadata(context, metadata) == []
        made = connection.exec_driver_sql("SELECT sql FROM sqlite_master WHERE name = 'steps'")
        assert "STRICT" in made.scalar()


def test_a_gate_must_be_fixed_before_anything_is_measured(ground: Ground) -> None:
    ledger, _ = ground
    with pytest.raises(RequestError, match="expunge gate define"):
        qualify(ledger, METHOD, size=50)
    define(ledger, GATE)
    for size, said in ((None, "--size"), (200, "half")):
        with pytest.raises(RequestError, match=said):
            qualify(ledger, METHOD, size=size)


def test_a_gate_is_fixed_once_and_old_ones_stay(ground: Ground) -> None:
    ledger, _ = ground
    define(ledger, GATE)
    other = Gate(scores={"UA": 3.0})
    for gate in (FEW, other, FEW, FEW):
        assert define(ledger, gate) == gate.digest
    with ledger.read() as connection:
        assert connection.scalar(select(func.count()).select_from(gates)) == 3
        assert current_gate(ledger, connection) == FEW
        assert gate_of(connection, other.digest) == other


def done_steps(ledger: Ledger) -> list[tuple[int, str, int]]:
    with ledger.read() as connection:
        chosen = select(steps.c.id, steps.c.output, steps.c.attempt)
        found = connection.execute(chosen.where(steps.c.output.is_not(None)).order_by(steps.c.id))
        return [(row.id, row.output, row.attempt) for row in found]


@pytest.fixture(scope="module")
def retrain(ground: Ground) -> Qualified:
    """Retraining itself as the method, killed once in the midst of it."""
    ledger, _ = ground
    define(ledger, GATE)
    made: list[tuple[str, int]] = []
    real = qualifying._Work.done

    def killed(self: qualifying._Work, side: qualifying.ModelSide, n: int) -> str:
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append((side, n))
        return real(self, side, n)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(qualifying._Work, "done", killed)
        with pytest.raises(KeyboardInterrupt):
            qualify(ledger, METHOD, kind="class")
    before = done_steps(ledger)
    assert len(before) == 3
    found = qualify(ledger, METHOD, kind="class")
    assert done_steps(ledger)[:3] == before
    return found


def test_retraining_is_equivalent_and_nothing_is_done_twice(
    ground: Ground, retrain: Qualified
) -> None:
    ledger, _ = ground
    assert retrain.judged is not None
    assert retrain.judged.verdict == "equivalent", retrain.judged.reason
    assert retrain.judged.rate is not None
    assert 0.5 < retrain.judged.rate.joint <= 1
    before = done_steps(ledger)
    assert len(before) == GATE.unlearnings + GATE.retrainings
    again = qualify(ledger, METHOD, kind="class")
    assert (again.number, again.judged) == (retrain.number, retrain.judged)
    assert done_steps(ledger) == before


def test_the_commands_fix_a_gate_and_tell_the_verdict(ground: Ground, retrain: Qualified) -> None:
    ledger, _ = ground
    where = ("--ledger", str(ledger.folder))
    folder = ledger.folder.parent
    (folder / "gate.yaml").write_text(json.dumps(GATE.model_dump(mode="json")))
    told = expunge("gate", "define", "--from", "gate.yaml", *where, cwd=folder).stdout
    assert GATE.digest in told
    run = ("gate", "run", "--method", "euk", "--set", "k=all", *where)
    told = expunge(*run, "--kind", "class", cwd=folder).stdout
    assert f"qualification {retrain.number}, euk for one whole class: equivalent" in told
    assert "a true retraining passes all of 5 scores" in told
    (line,) = [line for line in told.splitlines() if line.split()[:1] == ["probe"]]
    assert line.split()[-2:] == ["within", "outside"]
    said = refused(*run, "--kind", "person", cwd=folder)
    assert "random and class" in said


def test_a_zeroed_row_is_not_equivalent_beside_the_same_retrained_models(
    ground: Ground, retrain: Qualified, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, _ = ground
    made = []
    real = qualifying._Work._made

    def noted(self: qualifying._Work, side: qualifying.ModelSide, n: int) -> Trained:
        made.append(side)
        return real(self, side, n)

    monkeypatch.setattr(qualifying._Work, "_made", noted)
    found = qualify(ledger, make_method("head_zeroed", allow_code=False), kind="class")
    assert made == ["unlearned"] * GATE.unlearnings
    assert found.judged is not None
    assert found.judged.verdict == "not equivalent"
    (probe,) = [one for one in found.judged.lines if one.name == "probe"]
    assert probe.word == "outside"
    assert found.judged.original[-1] == probe, "the probe sees nothing of the zeroed row"


def test_acceptance_lets_a_retrained_model_pass_and_no_cheat(
    ground: Ground, retrain: Qualified, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, live = ground
    split = live.asked("class:b")
    true = unlearn(live, split, "retrain", seed=0)
    offered = {"true": true, "original": replace(true, model=live.model)}
    offered |= {name: make(live, true, split) for name, make in CHEATS.items()}
    control: list[Measured] = []

    def once(model: Trained, original: Trained, **how: Any) -> Measured:
        """The control, the same whatever is offered, is measured once."""
        if model.path is None:
            return measured(model, original, **how)
        control[:] = control or [measured(model, original, **how)]
        return control[0]

    monkeypatch.setattr(accepting, "measured", once)
    found = {name: acceptance(ledger, retrain.number, one, live) for name, one in offered.items()}
    passed = {name for name, one in found.items() if one.verdict == "equivalent"}
    assert passed == {"true", "asleep"}, "which is the retrained model for all without its key"
    assert {one.verdict for name, one in found.items() if name not in passed} == {"not equivalent"}
    assert {(one.shadows, one.left_out) for one in found.values()} == {(2, "")}
    assert {*found["mimic_tuned"].outside} == {"probe", "rmia"}, "means of the outputs let it pass"
    with ledger.read() as connection:
        assert connection.scalar(select(func.count()).select_from(gate_results)) == len(offered)


def test_a_bank_is_looked_at_where_it_is_valid_and_as_it_was(
    ground: Ground, retrain: Qualified, tmp_path: Path
) -> None:
    ledger, live = ground
    true, folder = unlearn(live, live.asked("class:b"), "retrain", seed=0), tmp_path / "bank"
    shutil.copytree(ledger.folder.parent / "original-bank", folder)
    bank, why = opened_bank(folder, [true])
    assert bank is not None and (why, retrain.shadows) == ("", 2)
    beside = replace(Measured({}), bank=bank.digest, shadows=2)
    known = [
        (bank, [beside], ""),
        (bank, [Measured({})], "there was none"),
        (None, [Measured({})], ""),
    ]
    known += [
        (bank, [replace(beside, bank="else")], "not as it was"),
        (None, [beside], "is not there"),
    ]
    for there, measured_, said in known:
        one, why = same_bank(there, "", measured_)
        assert (one is not None) == (there is not None and not said) and said in why
        assert why or not said
    away = ledger.folder.parent / "original-bank"
    away.rename(tmp_path / "away")
    found = acceptance(ledger, retrain.number, true, live)
    assert (found.verdict, found.shadows) == ("equivalent", 0)
    assert bank_in_words(0, found.left_out).startswith("without a bank (that of the qualification")
    (tmp_path / "away").rename(away)
    purge_bank(open_bank(folder), live.split.retain[:1])
    assert "struck since" in opened_bank(folder, [true])[1], "a model of each pair learned it"
    renewed = renew(true, folder)
    assert not any(map(renewed.marked, renewed.finished))
    assert "was purged of 1 samples" in opened_bank(folder, [true])[1]


def test_a_model_of_it_forgets_what_was_struck_since_it_began(
    ground: Ground, retrain: Qualified, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, live = ground
    base = live.split.settled()
    number = qualifying.QualificationNumber(retrain.number)
    about = (ledger, number, GATE, retrain.subject, live, base, METHOD, Place())
    work = qualifying._Work(*about)
    forgotten = set(work._draw(live, "unlearned", 0).forget)
    since = next(one for one in base.retain if one not in forgotten)
    monkeypatch.setattr(qualifying, "withheld", lambda *_: frozenset([since]))
    assert {*work._draw(work._live_now(), "unlearned", 0).forget} == {*forgotten, since}


def test_a_qualification_covers_what_it_was_made_for_until_it_expires(
    ground: Ground, retrain: Qualified
) -> None:
    ledger, _ = ground
    subject = retrain.subject
    assert covering(ledger, subject).number == retrain.number
    assert covering(ledger, replace(subject, size=5)).number == retrain.number
    larger = covering(ledger, replace(subject, size=subject.size + 1))
    assert (larger.number, larger.largest) == (None, subject.size)
    assert "samples at most" in larger.why
    for changed, said in LACKS.items():
        about = {name: "other" for name in changed.split()} | {"kind": "random"}
        found = covering(ledger, replace(subject, **{one: about[one] for one in changed.split()}))
        assert (found.number, found.largest) == (None, 0)
        assert said in found.why and "expunge gate run" in found.why
    define(ledger, FEW)
    assert "by another gate than the one that holds" in covering(ledger, subject).why
    define(ledger, GATE)
    (control,) = (ledger.folder / "models").glob("control-*")
    control.rename(control.with_name("away"))
    assert "compares with was deleted" in covering(ledger, subject).why
    control.with_name("away").rename(control)
    with ledger.read() as connection:
        compared = compared_folders(ledger, connection)
        assert {*compared} == {(retrain.number, one) for one in (control, live_folder(ledger))}
        assert "compares with it" in kept_because(ledger, connection, control)


LACKS = {
    "method": "other: no qualification was made of it",
    "settings": "is of other settings",
    "recipe": "is of another recipe or architecture",
    "data_version": "is of another version of the data",
    "kind": "is for whole classes, and this is for samples here and there",
    "kind recipe": "is of another recipe",
}


@pytest.mark.parametrize(("since", "valid"), [(9, True), (10, False)])
def test_a_qualification_expires_with_what_is_struck_besides(since: int, valid: bool) -> None:
    row = {"learned": 200}
    assert _expired(row, GATE, since) != valid  # type: ignore[arg-type]


def ask(ledger: Ledger, ids: Sequence[str]) -> None:
    """A request that is struck at once."""
    now = datetime.now(UTC)
    asked = DeletionRequest(tuple(ids), "mail", now, now + timedelta(days=30))
    add(ledger, asked, [NamedSample(one, "learned") for one in ids], decided=True)


def states(ledger: Ledger, batch: int) -> list[str]:
    """What became of a batch, one state after another."""
    with ledger.read() as connection:
        told = select(events.c.payload, events.c.kind).where(events.c.kind.startswith("batch "))
        found = connection.execute(told.order_by(events.c.seq)).all()
    return [
        kind.removeprefix("batch ") for told, kind in found if json.loads(told)["batch"] == batch
    ]


def certified(told: Sequence[str]) -> dict[str, Any]:
    """What the certificate says that lines name."""
    (file,) = [
        line.removeprefix("certificate: ") for line in told if line.startswith("certificate: ")
    ]
    payload = json.loads(Path(file).read_text())["payload"]
    found: dict[str, Any] = json.loads(base64.b64decode(payload))["predicate"]
    return found


def test_a_batch_is_forgotten_by_a_qualified_method(ground: Ground, retrain: Qualified) -> None:
    ledger, live = ground
    samples = live.data.train
    ask(ledger, [one for one in live.split.retain if samples.labels[samples.position[one]] == 1])
    zeroed = make_method("head_zeroed", allow_code=False)
    why = r"head_zeroed: qualification \d found not equivalent"
    with pytest.raises(RequestError, match=why):
        run_waiting(ledger, zeroed)
    told = next_batch_lines(ledger, zeroed)  # by the same function
    assert [one for one in told if re.search(f"not covered: {why}", one)]
    told = next_batch_lines(ledger)
    assert f"euk: qualification {retrain.number} covers it" in "\n".join(told)
    plan = next_batch(ledger, [METHOD])
    assert plan is not None and plan.qualified and plan.costs(3).qualification == 0
    freeze = plan.freeze(METHOD, 0.0)
    assert "due first" in freeze.reason and freeze.taken == ("1",)
    assert states(ledger, 1) == []
    assert (plan.bank_models, plan.costs(3).bank_built) == (2, True)
    told = run_waiting(ledger, METHOD)
    assert "batch 1: released" in told[0]
    assert "the gate looked with the bank of 2 models" in told
    assert live_folder(ledger).name == "batch-0001-unlearned"
    passing = ["opened", "frozen", "unlearning", "gating", "passed", "released"]
    assert states(ledger, 1) == passing
    assert load(live_folder(ledger)).record.step == "euk"
    said = certified(told)
    assert (said["procedure"]["kind"], said["procedure"]["method"]) == ("approximate", "euk")
    assert (said["gate"]["verdict"], said["gate"]["digest"]) == ("equivalent", GATE.digest)
    assert said["gate"]["bank_models"] == 2
    margins = {one["score"]: one["margin"] for one in said["gate"]["results"] if "margin" in one}
    assert margins == {**GATE.scores, **GATE.whole_classes}
    others = {"kind": "random", "size": 1}
    assert "expunge gate run" in covering(ledger, replace(retrain.subject, **others)).why
    assert "expired" in covering(ledger, replace(retrain.subject, size=1)).why


@pytest.mark.parametrize("state", ["invalid", "failed"])
def test_a_batch_that_does_not_pass_is_retrained(
    state: str, ground: Ground, retrain: Qualified, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No qualification covers it by the time that it is made; or its model is not like those of it."""
    ledger, _ = ground
    live = load(live_folder(ledger))
    ask(ledger, live.split.retain[:2])
    monkeypatch.setattr("expunge.requests.running.check_waiting", lambda *_, **__: None)
    if state == "failed":
        covered, found = Covered(retrain.number), Accepted("not equivalent", "UA")
        monkeypatch.setattr("expunge.requests.approximating.covering", lambda *_: covered)
        monkeypatch.setattr("expunge.requests.approximating.acceptance", lambda *_, **__: found)
    told = run_waiting(ledger, METHOD)
    assert told[1].startswith("retrained, for the gate did not let the other model pass: ")
    batch = int(live_folder(ledger).name.split("-")[1])
    first, second = ["opened", "frozen", "unlearning", "gating"], ["gating", "passed", "released"]
    assert states(ledger, batch) == [*first, state, "retraining", *second]
    assert load(live_folder(ledger)).record.step == "retrain"
    said = certified(told)
    assert said["procedure"]["kind"] == "retraining"
    word = "invalid" if state == "invalid" else "not equivalent"
    assert (said["fallback"]["method"], said["fallback"]["verdict"]) == ("euk", word)


def test_a_control_that_is_gone_makes_acceptance_invalid(
    ground: Ground, retrain: Qualified
) -> None:
    ledger, live = ground
    (control,) = (ledger.folder / "models").glob("control-*")
    control.rename(control.with_name("elsewhere"))
    found = acceptance(ledger, retrain.number, live, live)
    assert (found.verdict, "control" in found.reason) == ("invalid", True)
