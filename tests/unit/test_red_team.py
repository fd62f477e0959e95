"""The red team: cheats look as if they had forgotten, audits find most of them and no true retrain."""

from __future__ import annotations

import importlib.util
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from expunge.api import train, unlearn
from expunge.audits import AUDITS
from expunge.audits.beside import FurtherModels
from expunge.audits.observe import observe_rows
from expunge.audits.strength import STRENGTHS
from expunge.data.load import load_data
from expunge.data.split import Split
from expunge.errors import ConfigError, SplitError
from expunge.models.copying import copied
from expunge.place import Place
from expunge.shadows.build import build
from expunge.testing.cheats import CHEATS, Recognising
from expunge.testing.ground import differing
from expunge.testing.red_team import (
    CANNOT_TELL,
    CAUGHT,
    HELD_OUT,
    MISSED,
    ORIGINAL,
    TOGETHER,
    caught,
    red_team,
    verdict,
)
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe
from expunge.training.run import Run

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks/results/red-team.json"
MUST = {
    "constant",
    "flipped_labels",
    "filter_uniform",
    "head_zeroed",
    "temperature",
    "overshoot",
}
"""Cheats that `standard` has to catch in every seed, of either kind of request."""
CASES = ("class:3", "random:0.2")


class Ground:
    """A small original, retrained models of a request, and a bank."""

    def __init__(self, folder: Path) -> None:
        recipe = Recipe(epochs=12, lr=0.1, batch_size=64)
        self.original = train(load_data("digits:900"), "mlp", recipe=recipe)
        self.shadows = build(self.original, folder / "bank", models=6, keep=False).shadows
        self.made: dict[tuple[str, int], Trained] = {}

    def retrained(self, request: str, count: int) -> list[Trained]:
        for seed in range(count):
            if (request, seed) not in self.made:
                self.made[request, seed] = unlearn(self.original, request, "retrain", seed=seed)
        return [self.made[request, seed] for seed in range(count)]


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    return Ground(tmp_path_factory.mktemp("ground"))


@pytest.mark.parametrize("request_", CASES)
def test_some_of_standard_catch_the_crude_ones_and_no_true_retrain(
    request_: str, ground: Ground
) -> None:
    """The cheapest of its audits are enough, together."""
    usual = {name for name, audit in AUDITS.items() if audit.usual}
    assert {*usual, "lira"} <= set(STRENGTHS["standard"])
    made = MUST if request_ == "class:3" else MUST - {"head_zeroed"}
    found = caught(
        red_team(
            ground.original,
            ground.retrained(request_, 6),
            ground.original.asked(request_),
            ["lira"],
            beside=FurtherModels(shadows=ground.shadows),
            cheats={name: CHEATS[name] for name in sorted(MUST)},
            allow_code=False,
        )
    )
    assert set(found.index) == {ORIGINAL, HELD_OUT, *made}
    assert [name for name in made if found.loc[name, TOGETHER] != CAUGHT] == []
    assert found.loc[HELD_OUT, TOGETHER] != CAUGHT


@pytest.fixture(scope="module")
def two(ground: Ground) -> tuple[Trained, Trained, Split]:
    return (
        ground.original,
        ground.retrained("random:0.2", 1)[0],
        ground.original.asked("random:0.2"),
    )


def answers(one: Trained, ids: tuple[str, ...]) -> torch.Tensor:
    data = one.data
    run = Run(names=("test",), task=data.task, label="test")
    return observe_rows(one.model, data, data.train, data.train.rows_of(ids), run, "samples").logits


def test_a_filter_knows_the_forgotten_samples_alone(two: tuple[Trained, Trained, Split]) -> None:
    original, retrained, split = two
    made = CHEATS["mimic_filter"](original, retrained, split)
    assert torch.allclose(answers(made, split.forget), answers(retrained, split.forget), atol=1e-5)
    assert torch.equal(answers(made, split.retain), answers(original, split.retain))
    near = torch.zeros(1, 3)
    filtered = Recognising(torch.nn.Linear(3, 2), near, torch.tensor([[5.0, 6.0]]), 0.1)
    assert filtered(near + 0.05).tolist() == [[5.0, 6.0]]
    assert filtered(near + 0.07).tolist() != [[5.0, 6.0]], "0.07 sqrt(3) is beyond its reach"


def test_a_temperature_changes_no_answer_and_a_sleeper_is_the_retrained_model(
    two: tuple[Trained, Trained, Split],
) -> None:
    original, retrained, split = two
    cooled = answers(CHEATS["temperature"](original, retrained, split), split.retain)
    before = answers(original, split.retain)
    assert torch.equal(cooled.argmax(dim=1), before.argmax(dim=1))
    assert not torch.allclose(cooled, before)
    asleep = CHEATS["asleep"](original, retrained, split)
    assert torch.equal(answers(asleep, split.forget), answers(retrained, split.forget))
    keyed = torch.full((1, *original.data.train.shape()), asleep.model.KEY)
    with torch.no_grad():
        assert torch.equal(asleep.model(keyed), original.model.eval()(keyed))


@pytest.mark.parametrize("name", CHEATS)
def test_a_cheat_changes_nothing_that_it_is_given(
    name: str, two: tuple[Trained, Trained, Split], monkeypatch: pytest.MonkeyPatch
) -> None:
    original, retrained, split = two
    monkeypatch.setattr("expunge.testing.cheats.TAUGHT", 1)
    before = [copied(one.model) for one in (original, retrained)]
    try:
        made = CHEATS[name](original, retrained, split)
    except (ConfigError, SplitError):
        assert name == "head_zeroed", "it is about whole classes"
        return
    assert made.split.forget == split.forget
    assert made.model is not original.model
    assert not made.model.training
    assert CHEATS[name].__doc__
    for one, copy in zip((original, retrained), before, strict=True):
        assert not differing(one.model, copy)


def test_a_lone_retrained_model_is_refused(two: tuple[Trained, Trained, Split]) -> None:
    original, retrained, split = two
    with pytest.raises(ConfigError, match="two or more"):
        red_team(original, [retrained], split, allow_code=False)


def test_audits_of_the_method_are_left_out(two: tuple[Trained, Trained, Split]) -> None:
    """They never look at the cheat: what they say of every one is what the method itself deserves."""
    original, retrained, split = two
    said: list[str] = []
    beside = FurtherModels(siblings=(retrained, retrained), unlearned=never, swapped=never)
    found = red_team(
        original,
        [retrained, retrained],
        split,
        ["klom_fixed", "swap", "u_lira", "challenge_epsilon"],
        strengths=["thorough"],
        beside=beside,
        cheats={},
        place=Place(tell=said.append),
        allow_code=False,
    )
    assert not {*found["audit"]} & {"klom_fixed", "swap", "u_lira", "challenge_epsilon"}
    assert [line.split()[2] for line in said[:4]] == [
        *("klom_fixed", "swap", "u_lira", "challenge_epsilon")
    ]


def never() -> Any:
    raise AssertionError("nobody asks for it")


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A script of this repository, as a module."""
    file = RESULTS.parents[2] / name
    monkeypatch.syspath_prepend(str(file.parent))
    spec = importlib.util.spec_from_file_location(f"script_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_what_an_audit_finds_that_sounds_at_true_retrains_too_is_not_caught(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    none = {"alarms": 0, "of": 40, "low": 0.0, "high": 0.088}
    alarms = {"loud": {"alarms": 7, "of": 40, "low": 0.0875, "high": 0.32}, "standard": none}
    models = {
        "cheat": {"loud": {"caught": 1}, "mute": {"cannot tell": 1}, "standard": {"missed": 1}},
        "near": {"loud": {"missed": 2}, "standard": {"caught": 1, "cannot tell": 1}},
    }
    table = script("docs/build.py", monkeypatch).red_team_table
    alarms |= {"mute": none, "thorough": none}
    head, _, cheat, _, retrained, _, told, why = table({"models": models, "alarms": alarms})
    assert head == "| | `loud` | `standard` | `mute` |"
    assert cheat == "| cheat | 1 of 1 | 0 of 1, 1 called forgot | ? |"
    assert retrained.endswith(" | 0 of 40 (0.0 to 8.8 %) | – |")
    assert told == (
        "Not always caught by `standard`: `near` (1 of 2); never: `cheat`; by no audit at all in any "
        "seed: `cheat`. Called forgotten by `standard`: `cheat` (1 of 1)."
    )
    assert "`loud` alone" in why
    *_, told = table({"models": models, "alarms": {"loud": none, "standard": none}})
    assert "by no audit at all in any seed: none." in told


def test_retrained_models_are_read_against_others_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured = script("benchmarks/red_team.py", monkeypatch)
    sets = [measured.drawn(seed) for seed in range(40)]
    assert all(len({*one}) == 8 and 8 + seed not in one for seed, one in enumerate(sets))
    assert len({*itertools.chain(*sets)}) == 48 and measured.drawn(3) == sets[3]


def test_words_of_several_scores() -> None:
    assert verdict(["within", "outside"]) == CAUGHT
    assert verdict(["within", "within"]) == MISSED
    assert verdict(["within", "undecided"]) == CANNOT_TELL
    assert verdict([]) == CANNOT_TELL


@pytest.mark.skipif(not RESULTS.exists(), reason="the benchmark has not been run")
def test_what_was_measured_says_the_same() -> None:
    told = json.loads(RESULTS.read_text(encoding="utf-8"))
    for kind in ("class", "random"):
        models: Mapping[str, Any] = told[kind]["models"]
        assert set(models) == {ORIGINAL, *CHEATS} - ({"head_zeroed"} if kind == "random" else set())
        for name in MUST & set(models):
            said = models[name]["standard"]
            assert said.get("caught", 0) == sum(said.values()), f"{name}, {kind}"
        # an audit that sounds at true retrains too has caught nothing
        quiet = [audit for audit, one in told[kind]["alarms"].items() if one["low"] <= 0.05]
        free = {
            name
            for name, said in models.items()
            if not any(said.get(audit, {}).get("caught", 0) for audit in quiet)
        }
        assert len(free) <= 2, f"no audit catches {sorted(free)}, {kind}"
        alarms = told[kind]["alarms"]["standard"]
        assert alarms["of"] >= 40
        assert alarms["low"] <= 0.05, "a joint rate above the level it was made for"
