"""Several models trained as one: each comes out as if alone, and what cannot be stacked is told."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from expunge.api import train
from expunge.data.load import load_data
from expunge.data.split import Split
from expunge.errors import ConfigError, DivergenceError
from expunge.place import Place
from expunge.shadows import stacked, together, way
from expunge.shadows.bank import open_bank
from expunge.shadows.build import begun, build
from expunge.shadows.places import HOW
from expunge.shadows.stacked import train_stacked, trial_sessions, why_not
from expunge.shadows.way import BankWay, chosen_way, faster, forecast, read_way
from expunge.trained.trained import Trained
from expunge.training.fit import train_from
from expunge.training.recipe import Recipe

CPU = Place(device="cpu")
RECIPE = Recipe(epochs=2, lr=0.1, batch_size=128, precision="float32", augmentation="none")


@pytest.fixture(scope="module")
def original() -> Trained:
    return train(load_data("digits"), "mlp", recipe=RECIPE.but(epochs=1), place=CPU)


class Double(nn.Module):
    """A network in float64, whatever the inputs are."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.network(x.double())
        return found


def rows() -> nn.Module:
    layers = nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10)
    return Double(nn.Sequential(nn.Flatten(), *layers))


def pictures() -> nn.Module:
    layers = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)
    return Double(nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 10)))


def both_ways(made: Trained, count: int = 3) -> tuple[list[nn.Module], list[nn.Module]]:
    """So many models trained at once, and the same ones one after another."""
    sessions = trial_sessions(made, count, CPU)
    at_once = [one.run.fresh() for one in sessions]
    alone = copy.deepcopy(at_once)
    train_stacked(sessions, at_once)
    for session, network in zip(sessions, alone, strict=True):
        train_from(network, session.view, session.run, session.run.original_recipe())
    return at_once, alone


def furthest(at_once: list[nn.Module], alone: list[nn.Module]) -> float:
    pairs = zip(at_once, alone, strict=True)
    return max(
        float((value - other.state_dict()[name]).abs().max())
        for one, other in pairs
        for name, value in one.state_dict().items()
    )


@pytest.mark.parametrize(
    ("fresh", "changes"),
    [
        (rows, {"clip_norm": 0.3}),
        (rows, {"optimizer": "adam", "lr": 0.01, "schedule": "cosine"}),
        (pictures, {"clip_value": 0.01, "augmentation": "crop_flip"}),
        (pictures, {"schedule": "step", "milestones": (1,), "nesterov": True, "clip_norm": 1.0}),
    ],
)
def test_each_comes_out_as_if_trained_alone(
    original: Trained, fresh: Callable[[], nn.Module], changes: dict[str, object]
) -> None:
    made = replace(original, fresh=fresh, recipe=RECIPE.but(**changes))
    assert why_not(made, 3, CPU) is None
    at_once, alone = both_ways(made)
    assert furthest(at_once, alone) < 1e-9
    assert furthest(at_once[:1], at_once[1:2]) > 1e-3, "they are different models"


def test_clipping_is_of_each_and_not_of_all(
    original: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = replace(original, fresh=rows, recipe=RECIPE.but(clip_norm=0.3))
    of_all = stacked._norms
    monkeypatch.setattr(stacked, "_norms", lambda x: of_all(x).square().sum().sqrt().expand(3))
    assert furthest(*both_ways(made)) > 1e-4


def test_a_mask_is_held_and_float32_is_near(original: Trained) -> None:
    first = next(iter(dict(original.model.named_parameters())))
    shape = dict(original.model.named_parameters())[first].shape
    mask = {first: torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.5}
    at_once, alone = both_ways(replace(original, mask=mask, recipe=RECIPE.but(epochs=1)))
    assert furthest(at_once, alone) < 1e-4
    for one in at_once:
        assert not dict(one.named_parameters())[first][~mask[first]].any()


class Stateful(nn.Module):
    """A module whose networks differ in what no tensor holds: stacking would take the first one's."""

    made = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).made += 1
        self.scale, self.head = float(type(self).made), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(x.flatten(1)) * self.scale
        return found


class Asking(nn.Module):
    """A module that decides by a number that it computed."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(x.flatten(1))
        return found if float(found.detach().sum()) > 0 else -found


def dropping() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))


def half_frozen() -> nn.Module:
    made = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Linear(8, 10))
    made[1].requires_grad_(False)
    return made


@pytest.mark.parametrize(
    ("fresh", "changes", "told"),
    [
        (rows, {"schedule": "plateau"}, "validation loss"),
        (rows, {"compile": True}, "compiles"),
        (rows, {"batch_size": 1}, "single samples"),
        (rows, {"precision": "bfloat16"}, "bfloat16"),
        (half_frozen, {}, "frozen"),
        (dropping, {}, "draw"),
        (Asking, {}, "cannot stack"),
        (Stateful, {}, "not what each does alone"),
    ],
)
def test_what_cannot_be_stacked_is_told(
    original: Trained, fresh: Callable[[], nn.Module], changes: dict[str, object], told: str
) -> None:
    made = replace(original, fresh=fresh, recipe=RECIPE.but(**changes))
    assert told in str(why_not(made, 8, CPU))


def test_one_model_and_an_unknown_recipe_are_not_stacked(original: Trained) -> None:
    assert "only one" in str(why_not(original, 1, CPU))
    assert "nobody knows" in str(why_not(replace(original, recipe=None), 8, CPU))


def test_a_bank_of_odd_halves_is_the_same_both_ways_and_goes_on(
    original: Trained, tmp_path: Path
) -> None:
    split = original.split
    kept = split.retain[: len(split.retain) // 2 * 2 - 1]
    rest = tuple(set(split.retain) - set(kept))
    made = replace(original, split=Split(kept, (), split.validation, rest))
    at_once = build(made, tmp_path / "at_once", models=4, how="stacked", place=CPU)
    alone = build(made, tmp_path / "alone", models=4, how="loop", place=CPU)
    sizes = {int(at_once.half(one).sum()) for one in range(4)}
    assert len(sizes) == 2
    found, wanted = at_once.shadows, alone.shadows
    assert np.array_equal(found.learned, wanted.learned)
    np.testing.assert_allclose([*found.logits], [*wanted.logits], atol=1e-3)
    assert [one.facts(1)["how"] for one in (at_once, alone)] == ["stacked", "loop"]

    at_once.logits_file(2).unlink()
    build(made, at_once.folder, models=4, numbers=[2], place=CPU)
    again = open_bank(at_once.folder).shadows
    assert np.array_equal([*again.logits], [*found.logits]), "to the last bit"
    other = build(made, tmp_path / "other", models=4, how="stacked", numbers=[3], place=CPU)
    assert other.finished == [0, 1, 2, 3], "what was trained beside it is kept"
    assert np.array_equal([*other.shadows.logits], [*found.logits])


def test_one_that_diverges_is_told_as_the_loop_tells_it(original: Trained, tmp_path: Path) -> None:
    made = replace(original, recipe=RECIPE.but(lr=1e9, schedule="constant"))
    with pytest.raises(DivergenceError, match="model 0 diverged"):
        build(made, tmp_path / "bank", models=2, how="stacked", place=CPU)


def test_a_block_that_diverges_keeps_no_other_from_being_made(
    original: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def block(*given: Any, **_: Any) -> None:
        raise DivergenceError("of one")

    def alone(_: Any, __: Any, model: int, **___: Any) -> None:
        if model == 2:
            raise DivergenceError("model 2 diverged")
        made.append(model)

    monkeypatch.setattr(together, "_of_a_size", lambda *_: [[0, 2, 4], [1, 3, 5]])
    monkeypatch.setattr(together, "_make_block", block)
    monkeypatch.setattr(together, "make_model", alone)
    bank = begun(original, tmp_path / "bank", place=CPU)
    with pytest.raises(DivergenceError, match="model 2"):
        together.make_models(
            *(original, bank, range(6), lambda some: [one for one in some if one not in made]),
            BankWay(True),
            models=6,
            keep=False,
            place=CPU,
        )
    assert made == [0, 4, 1, 3, 5]


def test_a_trial_chooses_once_for_a_bank(
    original: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "before a trial is" in faster(original, models=2, place=CPU).sentence
    monkeypatch.setattr(way, "SHARE", 1.0)
    bank = begun(original, tmp_path / "bank", place=CPU)
    found = chosen_way(original, bank, 4, place=CPU)
    assert found.loop > 0 and found.at_once > 0
    assert found.stacked == (found.at_once < found.loop)
    assert "ms a step" in found.sentence and "step_seconds" in found.facts()
    monkeypatch.setattr(way, "faster", None)
    assert chosen_way(original, bank, 4, place=CPU) == found == read_way(bank)
    assert chosen_way(original, bank, 4, how="loop", place=CPU) == BankWay(False)
    (bank.folder / HOW).write_text("{}")
    with pytest.raises(ConfigError, match=r"how\.json"):
        read_way(bank)


def test_a_trial_tells_how_long_models_will_take(original: Trained, tmp_path: Path) -> None:
    bank = begun(original, tmp_path / "bank", place=CPU)
    steps = -(-(bank.learned // 2) // RECIPE.batch_size)
    assert forecast(BankWay(True, "", 1.0, 0.5), original, bank) == pytest.approx(0.5 * steps)
    assert forecast(BankWay(False, "", 1.0, 2.0), original, bank) == 0


def test_at_once_where_it_cannot_be_is_refused(original: Trained, tmp_path: Path) -> None:
    made = replace(original, fresh=dropping)
    with pytest.raises(ConfigError, match="cannot be trained at once, for its layers draw"):
        build(made, tmp_path / "bank", models=2, how="stacked", place=CPU)
