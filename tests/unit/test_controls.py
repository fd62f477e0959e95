"""Controls: methods that do next to nothing, for what a method must beat."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers import CPU, changed, digits, original, random_mask, run_on_cpu, view_of
from torch import nn

from expunge.api import adopt, unlearn
from expunge.cli.listing import listing
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.view import DataView
from expunge.errors import ConfigError, ModelError
from expunge.methods import CONTROLS, METHODS, make_method
from expunge.methods.head_zeroed import HeadZeroed
from expunge.methods.last_epoch import LastEpoch
from expunge.methods.needs import check_supplied
from expunge.methods.scope import whole_classes_only
from expunge.scores import rows
from expunge.study.entries import is_ours
from expunge.testing import MethodCase, PromiseError
from expunge.testing.methods import keeps_masked_weights_at_zero
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe
from expunge.training.run import Run

RECIPE = Recipe(
    epochs=3, lr=0.05, batch_size=64, schedule="step", milestones=(2,), augmentation="none"
)


def forget(model: nn.Module, method: str, request: str = "class:3", **given: object) -> Trained:
    known = adopt(model, digits(), **given)  # type: ignore[arg-type]
    return unlearn(known, request, method, place=CPU)


def test_controls_are_found_by_name_and_are_no_methods() -> None:
    assert tuple(CONTROLS) == rows.CONTROLS and not set(CONTROLS) & set(METHODS)
    assert all(is_ours(name) and make_method(name, allow_code=False) for name in CONTROLS)
    from rich.console import Console

    console = Console(width=200)
    with console.capture() as shown:
        console.print(listing("methods", None))
    lines = [line.split() for line in shown.get().splitlines()]
    assert [line[0] for line in lines if "Control:" in line] == list(CONTROLS)
    told = str(whole_classes_only(HeadZeroed(), "this is not one"))
    assert "last_epoch" not in told, "a control is nothing to choose"


def test_what_a_method_lacks_is_told_alike_for_all() -> None:
    def lacking(name: str, recipe: Recipe | None, whole: bool, **settings: object) -> str:
        method = make_method(name, settings, allow_code=False)
        try:
            check_supplied(method, recipe, 0, "it", whole_classes=lambda whole=whole: whole)
        except ConfigError as error:
            return str(error)
        return ""

    trained, watched = Recipe(), Recipe(schedule="plateau")
    for name in ("retrain", "euk", "last_epoch"):
        assert f"{name} trains as the original was trained" in lacking(name, None, True)
        assert not lacking(name, trained, False) and "'plateau'" in lacking(name, watched, False)
    assert "has none" in lacking("regun", trained, True)
    assert "has none" in lacking("lotus", None, False) and not lacking("lotus", None, True)
    assert not lacking("scrub", None, False)
    assert "or set rewind=false" in lacking("scrub", None, False, rewind=True)
    assert not lacking("scrub", None, True, rewind=True) and not lacking("finetune", None, False)


@pytest.mark.parametrize("architecture", ["mlp", "cnn", "allcnn"])
def test_zeroing_the_head_changes_the_forgotten_rows_alone(architecture: str) -> None:
    model = original(architecture)
    after = forget(model, "head_zeroed", "class:3,5").model
    names = sorted(changed(model, after))
    assert len(names) == 2 and {name.rpartition(".")[2] for name in names} == {"weight", "bias"}
    before, now = model.state_dict(), after.state_dict()
    kept = torch.tensor([0, 1, 2, 4, 6, 7, 8, 9])
    for name in names:
        assert not now[name][[3, 5]].any() and torch.equal(now[name][kept], before[name][kept])


def test_zeroing_the_head_under_a_mask() -> None:
    model = original("mlp")
    mask = random_mask(model)
    after = dict(forget(model, "head_zeroed", mask=mask).model.named_parameters())
    assert all(not after[name][~keep].any() for name, keep in mask.items())


def test_zeroing_a_head_that_is_not_there_is_refused_in_a_line() -> None:
    headless = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Unflatten(1, (5,)))
    with pytest.raises(ModelError, match=r"^head_zeroed .* has a row for each of the 10 classes; "):
        HeadZeroed().unlearn(headless, *_given("head_zeroed", Part.FORGET_LABELS))
    frozen = original("mlp").requires_grad_(False)
    with pytest.raises(ModelError, match=r"^head_zeroed .* is frozen; thaw it"):
        forget(frozen, "head_zeroed")
    with pytest.raises(ConfigError, match=r"^head_zeroed forgets whole classes only"):
        forget(original("mlp"), "head_zeroed", "random:0.1")


def _given(label: str, reads: Part, recipe: Recipe | None = None):  # type: ignore[no-untyped-def]
    data = digits()
    view = view_of(data, Split.classes(data, [3]), reads)
    return view, run_on_cpu(label=label, recipe=recipe)


def test_the_last_epoch_is_that_of_the_recipe_and_no_other() -> None:
    """Plain SGD with momentum over the batches of epoch 2, at a tenth of the rate."""
    view, run = _given("last_epoch", Part.RETAIN | Part.VALIDATION, RECIPE)
    model = original("mlp")
    plain = copy.deepcopy(model).train()
    optimizer = torch.optim.SGD(
        plain.parameters(),
        lr=RECIPE.lr * RECIPE.gamma,
        momentum=RECIPE.momentum,
        weight_decay=RECIPE.weight_decay,
    )
    for batch in view.batches(Part.RETAIN, RECIPE.batch_size, epoch=2):
        optimizer.zero_grad()
        nn.functional.cross_entropy(plain(batch.inputs), batch.labels).backward()
        optimizer.step()
    view.reads.clear()
    found = LastEpoch().unlearn(copy.deepcopy(model), view, run)
    assert view.reads == {Part.RETAIN: view.size(Part.RETAIN)}, "one epoch"
    for mine, theirs, start in zip(*(m.parameters() for m in (found, plain, model)), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)
        assert not torch.allclose(mine, start, atol=1e-5)


def test_a_last_epoch_without_a_recipe_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^last_epoch trains as the original was trained"):
        forget(original("mlp"), "last_epoch")


def test_a_method_that_moves_nothing_under_a_mask_is_found_out() -> None:
    class Still(LastEpoch):
        """It moves nothing."""

        def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
            return model

    for kind in (LastEpoch, HeadZeroed):
        keeps_masked_weights_at_zero(MethodCase(kind, architecture="cnn"))
    with pytest.raises(PromiseError, match="no parameter that is kept moves"):
        keeps_masked_weights_at_zero(MethodCase(Still, architecture="cnn"))


class HiddenRows(nn.Module):
    """A hidden layer has a row for each class, and the logits come from a plain parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.wide = nn.Linear(64, 10), nn.Linear(10, 20)
        self.last = nn.Parameter(torch.randn(10, 20))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.wide(torch.relu(self.hidden(inputs.flatten(1))))) @ self.last.t()


class HeadFirst(nn.Module):
    """The head is registered first, and a hidden layer after it has as many rows."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.hidden, self.wide = nn.Linear(20, 10), nn.Linear(64, 10), nn.Linear(10, 20)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.wide(torch.relu(self.hidden(inputs.flatten(1))))))


@pytest.mark.parametrize("make", [HiddenRows, HeadFirst])
@pytest.mark.parametrize("method", ["head_zeroed", "fisher"])
def test_rows_of_a_hidden_layer_are_never_taken_for_the_heads(
    make: type[nn.Module], method: str
) -> None:
    for seed in range(8):
        torch.manual_seed(seed)
        with pytest.raises(ModelError, match="does not give the logits"):
            forget(make(), method)
    dead = make()
    with torch.no_grad():  # nothing passes through the hidden row
        dead.get_parameter("hidden.weight")[3], dead.get_parameter("hidden.bias")[3] = 0.0, -1.0
    with pytest.raises(ModelError, match="does not give the logits"):
        forget(dead, method)


class LogProbabilities(nn.Module):
    """Ends in a log softmax, so that every output moves when one logit does."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(self.head(inputs.flatten(1)), dim=1)


@pytest.mark.parametrize("method", ["head_zeroed", "fisher"])
def test_a_model_that_gives_log_probabilities_has_a_head(method: str) -> None:
    assert forget(LogProbabilities(), method).record.step == method
