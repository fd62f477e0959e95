"""Banks of a study: which cells they are, who shares them, and what becomes of them."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CPU

from expunge.api import audit, train, unlearn
from expunge.audits.beside import FurtherModels
from expunge.audits.strength import Strength
from expunge.data.load import load_data
from expunge.data.split import Split
from expunge.errors import ConfigError
from expunge.scores.score import Score
from expunge.shadows.build import build
from expunge.shadows.forget import unlearned
from expunge.study import bank_needs, work
from expunge.study.bank_needs import check_foreign, needs_of
from expunge.study.bank_work import NOTHING_TO_FORGET, Made, unlearned_of
from expunge.study.cells import Cell
from expunge.study.launch import Planned, planned, run_study
from expunge.study.page import study_report
from expunge.study.publish import write_records
from expunge.study.results import results
from expunge.study.runner import Worker
from expunge.study.schema import Study
from expunge.training.recipe import Recipe

RECIPE = {"epochs": 2, "lr": 0.1, "batch_size": 32}


def study(**changes: Any) -> Study:
    given: dict[str, Any] = {
        "name": "small",
        "data": ["digits:200"],
        "models": ["mlp"],
        "recipes": {"quick": RECIPE},
        "scenarios": ["random:0.3"],
        "controls": False,
        "floor": False,
        "class_also": [],
        "methods": {"gradient_ascent": {"epochs": 1}},
        "seeds": [3],
        "also": ["rmia"],
        "bank": 6,
    }
    return Study.model_validate({**given, **changes})


def of(made: Planned, kind: str) -> list[Cell]:
    return [cell for cell in made.cells if cell.kind == kind]


def keys(made: Planned, kind: str) -> list[str]:
    return [cell.key for cell in of(made, kind)]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Planned:
    asked = study(also=["rmia", "u_lira"], bank=6)
    return run_study(planned(asked, tmp_path_factory.mktemp("study") / "out", place=CPU))


# --- which cells there are


def test_a_bank_is_shared_by_all_that_is_asked_of_one_original(tmp_path: Path) -> None:
    def plan(**changes: Any) -> Planned:
        return planned(study(**changes), tmp_path / "out", place=CPU)

    alone = plan()
    assert len(keys(alone, "shadow")) == 6
    wide = plan(
        scenarios=["class", "random:0.3"],
        methods={"gradient_ascent": {"epochs": 1}, "finetune": {"epochs": 1}},
        floor=True,
        controls=True,
    )
    assert keys(wide, "shadow") == keys(alone, "shadow")
    assert keys(plan(also=["rmia", "low_fpr"]), "shadow") == keys(alone, "shadow")
    assert keys(plan(bank=8), "shadow")[:6] == keys(alone, "shadow")
    for other in (
        {"seeds": [4]},
        {"models": ["cnn"]},
        {"recipes": {"quick": {**RECIPE, "lr": 0.2}}},
        {"validation": 0.2},
        {"split_seed": 1},
        {"data": ["digits:199"]},
        {"densities": [{"pruner": "omp", "sparsity": 0.5}]},
        {"also": ["rmia", "u_lira"]},
    ):
        assert not {*keys(plan(**other), "shadow")} & {*keys(alone, "shadow")}, other
    rows = [*of(wide, "unlearn"), *(c for c in of(wide, "retrain") if c.config["floor"])]
    assert all({*keys(wide, "shadow")} <= {*cell.needs} for cell in rows)
    assert not of(wide, "forgot_shadow"), "no audit asks for it"


def test_models_are_made_to_forget_once_for_each_method_and_request(tmp_path: Path) -> None:
    asked = study(
        also=["u_lira"], floor=True, scenarios=["class", "random:0.3"], seeds=[3, 4], bank=6
    )
    made = planned(asked, tmp_path / "out", place=CPU)
    forgot = of(made, "forgot_shadow")
    assert len(of(made, "shadow")) == 6 * 2
    assert len(forgot) == 6 * 2 * 2 * 2, "for gradient_ascent and the floor, 2 requests, 2 seeds"
    for cell in forgot:
        original, shadow = cell.starts
        assert (original.kind, shadow.kind) == ("original", "shadow")
        assert shadow.config["number"] == cell.config["number"] and shadow.config["weights"]
        assert shadow.needs == (original.key,)
    labels = {cell.label for cell in made.cells}
    assert "bank model 0, seed 3" in labels
    assert "gradient_ascent, bank model 1, random:0.3, seed 4" in labels
    renamed = study(also=["u_lira"], methods={"ascent": {"method": "gradient_ascent", "epochs": 1}})
    again = planned(renamed, tmp_path / "out", place=CPU)
    assert {*keys(again, "forgot_shadow")} <= {*keys(made, "forgot_shadow")}, "a label is no part"


def test_without_a_bank_nothing_of_it_is_planned(tmp_path: Path) -> None:
    asked = study(also=["weight_distance"], bank=0, floor=True)
    made = planned(asked, tmp_path / "out", place=CPU)
    assert not [cell for cell in made.cells if "shadow" in cell.kind]
    assert all("bank" not in cell.config for cell in made.cells)
    scored = next(cell for cell in of(made, "retrain") if cell.config["floor"])
    assert [one.kind for one in scored.starts] == ["original", "retrain", "retrain"]
    assert made.rows[0].pair == "" != made.rows[1].pair


def test_a_method_that_takes_part_in_training_has_no_bank(tmp_path: Path) -> None:
    asked = study(
        also=["rmia", "relearn_time"],
        methods={"sisa": {"shards": 2, "slices": 1}, "finetune": {}},
    )
    made = planned(asked, tmp_path / "out", place=CPU)
    sisa, finetune = (
        next(c for c in of(made, "unlearn") if c.config.get("method") == name)
        for name in ("sisa", "finetune")
    )
    assert sisa.config["also"] == ["relearn_time"] and "shadow" not in {s.kind for s in sisa.starts}
    assert finetune.config["also"] == ["rmia", "relearn_time"]
    assert asked.left_out == (
        "sisa: no rmia, for the method takes part in training, and models of the bank are trained "
        "without it",
    )


# --- what is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bank": 0}, "rmia: looks at models of a bank, and there is none; .* bank: 16"),
        ({"also": []}, "no audit looks at them; leave bank out, or name one that does"),
        ({"also": ["relearn_time"]}, "no audit looks at them"),
        ({"bank": 3}, "bank: 3: its models come in pairs; give an even number, 2 or more"),
        ({"bank": -2}, "come in pairs"),
        ({"also": ["u_lira"], "bank": 2}, "u_lira: compares pairs of models .* bank: 6 or more"),
    ],
)
def test_a_bank_and_audits_that_do_not_fit_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        study(**changes)


def test_audits_that_compare_seeds_or_swap_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Laws:
        name = "laws"
        needs = frozenset({"siblings"})

    monkeypatch.setattr(bank_needs, "AUDITS", {"laws": Laws})
    with pytest.raises(ConfigError, match=r"laws compares .* each seed of a study has an original"):
        bank_needs.check_audits(0, ["laws"])
    with pytest.raises(ConfigError, match="laws needs siblings, and the study gives none"):
        check_foreign(Laws, 4)  # type: ignore[arg-type]
    Laws.needs = frozenset({"shadows"})
    with pytest.raises(ConfigError, match=r"laws needs shadows, and the study has no bank; .* 16"):
        check_foreign(Laws, 0)  # type: ignore[arg-type]
    check_foreign(Laws, 2)  # type: ignore[arg-type]
    assert needs_of(["module:Class"]) == {"shadows"}, "code that nobody has looked at"


# --- what comes of it


def test_an_audit_of_a_study_is_the_audit_by_hand(done: Planned, tmp_path: Path) -> None:
    assert done.counts().done == len(done.cells)
    data = load_data("digits:200")
    original = train(
        data, "mlp", recipe=Recipe(**RECIPE), split=Split.whole(data), seed=3, place=CPU
    )
    retrained = unlearn(original, "random:0.3", "retrain", seed=3, forget_seed=3, place=CPU)
    cell = next(c for c in of(done, "unlearn") if "method" in c.config)
    method = work.make_method("gradient_ascent", cell.config["settings"], allow_code=False)
    made = unlearn(original, "random:0.3", method, seed=3, forget_seed=3, place=CPU)
    bank = build(original, tmp_path / "bank", models=6, seed=3, how="loop", place=CPU)
    beside = FurtherModels(bank.shadows, unlearned(bank, original, made, seed=3, place=CPU))
    by_hand = audit(
        made,
        original=original,
        retrained=retrained,
        also=["rmia", "u_lira"],
        strength=Strength(beside=beside, seed=3),
        place=CPU,
    )
    found = {one["name"]: one for one in done.store.read(cell.key)["scores"]}
    for name in ("rmia", "u_lira", "UA"):
        assert math.isfinite(by_hand[name].value)
        _same(found[name], by_hand[name])
    assert found["rmia"]["detail"]["shadows"] == 6
    read = work.shadows_of(of(done, "shadow"), done.bench.original(done.cells[0]), done.store)
    assert np.array_equal(read.learned, bank.shadows.learned)
    assert np.array_equal(read.ids, bank.shadows.ids)


def _same(found: dict[str, Any], score: Score) -> None:
    ours = score.to_dict()
    for name in ("value", "reference", "low", "high"):
        assert found[name] == pytest.approx(ours[name], abs=1e-6), (score.name, name)
    assert found["n"] == ours["n"]
    assert found["detail"]["original"] == pytest.approx(ours["detail"]["original"], abs=1e-6)


def test_doing_nothing_to_a_bank_is_plain_likelihood_ratios(done: Planned) -> None:
    """The row of the original: its u_lira is that of models that forgot nothing."""
    frame = results(done.rows, done.store)
    own = frame[frame["score"] == "u_lira"].set_index("method")["value"]
    assert own["retrain"] == 50
    plain = next(c for c in of(done, "unlearn") if "method" not in c.config)
    score = next(s for s in done.store.read(plain.key)["scores"] if s["name"] == "u_lira")
    assert score["value"] == pytest.approx(score["detail"]["original"])
    assert score["value"] == pytest.approx(own["original"])


def test_what_a_bank_took_is_told_and_in_no_run_time(done: Planned, tmp_path: Path) -> None:
    report = study_report(done, "expunge study run small.yaml")
    assert report.findings is not None
    found = report.findings.groupby("method")["score"].agg(set)
    assert set(found.index) == {"original", "gradient_ascent"}, (
        "retrain is what these are read against"
    )
    assert all({"UA", "rmia", "u_lira"} <= scores for scores in found)
    assert set(report.findings["references"]) == {1}
    told = report.environment["bank"]
    assert "6 models trained on halves in" in told and "6 models made to forget in" in told
    assert told.endswith("these seconds are in no RTE")
    cell = next(c for c in of(done, "unlearn") if "method" in c.config)
    frame = results(done.rows, done.store)
    row = frame[(frame["cell"] == cell.key) & (frame["score"] == "RTE")]
    assert row["value"].item() == done.store.read(cell.key)["cost"]["seconds"]
    for one in (*of(done, "shadow"), *of(done, "forgot_shadow")):
        files = done.store.read(one.key)["files"]
        number = f"{one.config['number']:04d}.safetensors"
        kept = {f"logits/{number}", *([f"models/{number}"] if one.kind == "shadow" else [])}
        assert {*files} == kept, "weights of what others start from alone"
    write_records(done, tmp_path / "records", "expunge study run small.yaml")
    size = sum(file.stat().st_size for file in (tmp_path / "records").glob("*.jsonl.gz"))
    assert size < 2000 * len(done.cells), "no logits"
    packed = planned(done.study, tmp_path / "records", place=CPU)
    assert packed.counts().done == len(done.cells)


def test_a_damaged_shadow_is_found(done: Planned, monkeypatch: pytest.MonkeyPatch) -> None:
    shadow = of(done, "shadow")[1]
    file = done.store.path(shadow.key) / "logits" / "0001.safetensors"
    before = file.read_bytes()
    file.write_bytes(before[:-4] + b"\0\0\0\1")
    try:
        with pytest.raises(ConfigError, match="its digest differs"):
            work.shadows_of(of(done, "shadow"), done.bench.original(done.cells[0]), done.store)
    finally:
        file.write_bytes(before)


def test_models_that_cannot_forget_are_left_out_with_their_partners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sample is in the half of one model of each pair alone: no pair can forget it."""
    names = load_data("digits:200").train.ids
    data = load_data("digits:200")
    learned = Split.whole(data).retain[0]
    assert learned in names
    (tmp_path / "one.txt").write_text(learned)
    asked = study(also=["u_lira"], scenarios=[f"ids:{tmp_path / 'one.txt'}"])
    made = run_study(planned(asked, tmp_path / "out", place=CPU))
    why = [made.store.read(key)["warnings"] for key in keys(made, "forgot_shadow")]
    assert sorted(why) == 3 * [[]] + 3 * [[NOTHING_TO_FORGET]]
    row = next(c for c in of(made, "unlearn") if "method" in c.config)
    failure = made.store.failure(row.key)
    assert failure is not None and "3 of 6 models of the bank diverged, or had" in failure.message
    original = made.bench.original(made.cells[0])
    with pytest.raises(ConfigError, match="too few are left to compare"):
        unlearned_of(of(made, "forgot_shadow"), original, [learned], made.store)()


# --- kills


def test_a_kill_within_a_model_of_a_bank_leaves_nothing_and_the_next_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = planned(study(bank=2), tmp_path / "out", place=CPU)
    original, *_ = of(made, "original")
    Worker([original], work.Bench(made.store, CPU)).work()
    first = of(made, "shadow")[0]

    def killed(cell: Cell, model: object, folder: Path, place: object) -> Made:
        (folder / "logits").mkdir()
        (folder / "logits" / "0000.safetensors").write_bytes(b"half of it")
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    process = os.fork()
    if process == 0:
        try:
            work.make_shadow = killed  # type: ignore[assignment]
            Worker([original, first], work.Bench(made.store, CPU)).work()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
    assert not made.store.done(first.key) and not made.store.has_weights(first.key)
    failure = made.store.failure(first.key)
    assert failure is not None and failure.error == "Killed"
    date = made.store.read(original.key)["date"]
    Worker(made.cells, work.Bench(made.store, CPU)).work()
    assert made.counts().done == len(made.cells)
    assert made.store.read(original.key)["date"] == date, "what is done stays"
    left = {path.name for path in (made.store.folder / "cells").iterdir()}
    assert left == {cell.key for cell in made.cells}


def test_what_a_bank_says_is_made_again_where_only_records_are_left(tmp_path: Path) -> None:
    made = run_study(planned(study(bank=2), tmp_path / "out", place=CPU))
    write_records(made, tmp_path / "records", "")
    more = planned(
        study(bank=2, methods={"finetune": {"epochs": 1}}), tmp_path / "records", place=CPU
    )
    more = run_study(more)
    assert more.counts().done == len(more.cells)
    assert all(more.store.has_weights(key) for key in keys(more, "shadow"))
