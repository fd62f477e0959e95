"""Traps of the methods that relabel, perturb or train a part: mistakes of public code, a test each."""

from __future__ import annotations

import copy
from collections import Counter
from typing import Any

import pytest
import torch
from helpers import (
    changed,
    digits,
    original,
    random_mask,
    run_on_cpu,
    same_state,
    toy,
    unlearned,
    view_of,
)
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.data.parts import Part
from expunge.data.samples import row_ids
from expunge.data.split import Split
from expunge.data.task import Classification
from expunge.data.view import DataView
from expunge.errors import ConfigError, ModelError
from expunge.methods import make_method
from expunge.methods.cfk import Cfk
from expunge.methods.euk import Euk
from expunge.methods.finetune import Finetune
from expunge.methods.perturb import Perturb
from expunge.methods.random_label import RandomLabel, relabelled
from expunge.methods.retrain import Retrain
from expunge.methods.salun import Salun
from expunge.methods.shared.last_blocks import blocks_of, last_blocks
from expunge.models.table import build_model
from expunge.training.recipe import Recipe

RECIPE = Recipe(epochs=1, batch_size=64, lr=0.05, augmentation="none")
QUICK: Any = {"epochs": 1, "batch_size": 64}
STILL: Any = {"epochs": 1, "lr": 1e-30, "weight_decay": 0.0}
"""Settings under which training moves nothing but running statistics."""


def tenth() -> Split:
    return Split.random(digits(), 0.1)


def view(**fields: Any) -> DataView:
    return view_of(digits(), tenth(), **fields)


def seeded(model: type[nn.Module], seed: int = 1) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return model()


class Normed(nn.Module):
    """Normalisation with and without parameters ahead of two linear layers, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(8))
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8, affine=False), nn.Tanh()
        )
        self.norm = nn.BatchNorm1d(8)
        self.hidden = nn.Linear(8, 8)
        self.last = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 10)
        self.double()

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.hidden(self.norm(self.body(inputs.double()) + self.token))
        logits: Tensor = self.head(torch.tanh(self.last(hidden)))
        return logits


# --- random_label


def drawn(labels: list[int], classes: int, draw: Any, epoch: int = 0, **fields: Any) -> Tensor:
    """Labels that a forget batch gets."""
    inputs = torch.zeros(len(labels), 1)
    batch = Batch(row_ids(len(labels)), inputs, torch.tensor(labels), Part.FORGET)
    found = relabelled(batch, classes, draw, epoch, run_on_cpu(**fields)).labels
    assert found is not None
    return found


def test_a_random_label_is_never_the_true_one_and_uniform_over_the_rest() -> None:
    """A draw from all classes hits the true one once in C times."""
    labels = [i % 4 for i in range(4000)]
    truth = torch.tensor(labels)
    other, every = drawn(labels, 4, "other"), drawn(labels, 4, "all")
    assert not (other == truth).any()
    assert 850 < int((every == truth).sum()) < 1150
    for label in range(4):
        counts = torch.bincount(other[truth == label], minlength=4).tolist()
        assert counts.pop(label) == 0
        assert min(counts) > 270  # of 333 expected, with a deviation of 15
        assert torch.bincount(every[truth == label], minlength=4).min() > 190  # of 250


def test_of_two_classes_the_other_is_drawn() -> None:
    assert drawn([0, 1, 1, 0, 1], 2, "other").tolist() == [1, 0, 0, 1, 0]


def test_wrong_labels_are_fixed_and_others_drawn_in_each_epoch() -> None:
    labels = [i % 10 for i in range(100)]
    assert torch.equal(drawn(labels, 10, "other", 0), drawn(labels, 10, "other", 3))
    assert not torch.equal(drawn(labels, 10, "all", 0), drawn(labels, 10, "all", 1))
    assert torch.equal(drawn(labels, 10, "all", 1), drawn(labels, 10, "all", 1))
    seeds = [drawn(labels, 10, "other", names=("unlearn", seed)) for seed in (0, 1)]
    assert not torch.equal(*seeds)


class Labels(Classification):
    """Every label that a sample was trained on."""

    def __init__(self) -> None:
        self.seen: dict[str, set[int]] = {}

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        assert batch.labels is not None
        for name, label in zip(batch.ids, batch.labels.tolist(), strict=True):
            self.seen.setdefault(str(name), set()).add(label)
        return super().losses(model, batch)


def trained_on(data: DataView, **settings: Any) -> dict[str, set[int]]:
    task = Labels()
    method = RandomLabel(epochs=2, **settings)
    method.unlearn(seeded(Normed), data, run_on_cpu(task=task))
    return task.seen


def test_a_label_depends_on_no_batch_order_or_process() -> None:
    found = [
        trained_on(view(), batch_size=64),
        trained_on(view(), batch_size=7, order="mixed"),
        {k: v for rank in (0, 1, 2) for k, v in trained_on(view(rank=rank, world=3)).items()},
    ]
    truth = dict(zip(digits().train.ids, digits().train.labels.tolist(), strict=True))
    forgotten = set(tenth().forget)
    assert found[0] == found[1] == found[2]
    assert forgotten <= set(found[0])
    for name, labels in found[0].items():
        assert len(labels) == 1
        assert (labels == {truth[name]}) == (name not in forgotten)


def test_two_algorithms_are_two_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turns: the forget set first, every epoch; mixed: both in most batches."""
    from expunge.training import fit as fitting

    caught: dict[str, Any] = {}
    monkeypatch.setattr(fitting, "fit", lambda model, batches, *_, **__: caught.update(b=batches))
    parts: dict[str, list[Any]] = {}
    for order in ("turns", "mixed"):
        RandomLabel(order=order, batch_size=64).unlearn(nn.Identity(), view(), run_on_cpu())
        parts[order] = [batch.part for batch in caught["b"](1)]
    steps = len(view().batches(Part.RETAIN, 64))
    assert parts["turns"] == [Part.FORGET] + [Part.RETAIN] * steps
    assert parts["mixed"].count(None) > len(parts["mixed"]) / 2


def test_one_class_has_no_other_label() -> None:
    data = toy([0] * 20)
    with pytest.raises(ConfigError, match=r"^random_label draws other labels.*one class.*finetune"):
        unlearned(nn.Linear(2, 1), data, Split.indices(data, range(3)), RandomLabel())


# --- salun


class Fixed(Salun):
    """A mask of our own: the head alone is salient."""

    def salient(self, model: nn.Module, data: DataView, run: Any) -> dict[str, Tensor]:
        return {
            name: torch.full_like(p, name.startswith("head"), dtype=torch.bool)
            for name, p in model.named_parameters()
        }


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_what_is_not_salient_stays_under_momentum_decay_and_adam(optimizer: Any) -> None:
    """Masked gradients alone let weight decay move every weight."""
    model = seeded(Normed)
    method = Salun(**QUICK, lr=0.05, weight_decay=0.1, optimizer=optimizer)
    mask = method.salient(model, view(), run_on_cpu())
    found = method.unlearn(copy.deepcopy(model), view(), run_on_cpu())
    after = dict(found.named_parameters())
    for name, before in model.named_parameters():
        assert torch.equal(after[name][~mask[name]], before[~mask[name]]), name
        moved = after[name][mask[name]] != before[mask[name]]
        assert moved.double().mean() > 0.9 or not len(moved), name


def test_statistics_of_a_normalisation_without_salient_weights_stay() -> None:
    model = seeded(Normed)
    found = Fixed(**QUICK, lr=0.05).unlearn(copy.deepcopy(model), view(), run_on_cpu())
    moved = changed(model, found)
    assert {"head.weight", "head.bias"} <= moved
    assert not {name for name in moved if name.startswith(("norm", "last"))}


@pytest.mark.parametrize("masked", [False, True])
def test_salun_of_all_weights_is_random_label(masked: bool) -> None:
    model = original("cnn")
    fields: Any = {"mask": random_mask(model, 0.5) if masked else None, "names": ("same", 0)}
    every, plain = (
        unlearned(model, digits(), tenth(), method, **fields).model
        for method in (Salun(share=1.0, **QUICK), RandomLabel(**QUICK))
    )
    assert same_state(every, plain)
    assert changed(model, plain)


def test_saliency_knows_nothing_of_batches() -> None:
    """Added means weigh a short last batch more: the mask then hangs on the batch size."""
    model, data = seeded(Normed), view()
    masks, traps = [], []
    for size in (1, 7, 16):
        masks.append(Salun(batch_size=size).salient(model, data, run_on_cpu()))
        total = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
        for batch in data.batches(Part.FORGET, size, shuffle=False):
            loss = nn.functional.cross_entropy(model.eval()(batch.inputs), batch.labels)
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            for name, gradient in zip(total, gradients, strict=True):
                total[name] += gradient
        flat = torch.cat([each.abs().flatten() for each in total.values()])
        traps.append(flat >= flat.median())
    for mask in masks[1:]:
        assert all(torch.equal(mask[name], masks[0][name]) for name in mask)
    assert not torch.equal(traps[0], traps[2])


def test_saliency_is_taken_in_evaluation_mode() -> None:
    model = seeded(Normed)
    before = copy.deepcopy(model)
    masks = [Salun().salient(each, view(), run_on_cpu()) for each in (model.train(), before.eval())]
    assert all(torch.equal(masks[0][name], masks[1][name]) for name in masks[0])
    assert same_state(model, before)
    assert model.training


def test_ties_of_saliency_go_by_position_and_the_count_is_exact() -> None:
    """Half of the inputs are 0, and so is the gradient of half of the weights: a tie at the cut."""
    inputs = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    inputs[:, 3:] = 0
    data = toy([i % 4 for i in range(40)], inputs=inputs)
    split = Split.indices(data, range(8), base=Split.whole(data, validation=0))
    model = seeded(lambda: nn.Linear(6, 4))  # type: ignore[arg-type]
    found = Salun(share=0.75).salient(model, view_of(data, split), run_on_cpu())
    assert sum(int(mask.sum()) for mask in found.values()) == 21  # of 28
    assert found["bias"].all() and found["weight"][:, :3].all()  # 16 with a gradient
    assert found["weight"][:, 3:].flatten().tolist() == [True] * 5 + [False] * 7


@pytest.mark.parametrize("cut", ["mask", "frozen"])
def test_pruned_and_frozen_weights_count_in_no_share(cut: str) -> None:
    model, mask = original("mlp"), None
    if cut == "mask":
        mask = random_mask(model, 0.3)
        left = {
            name: mask.get(name, torch.ones_like(p) > 0) for name, p in model.named_parameters()
        }
    else:
        model.get_parameter("fc1.weight").requires_grad_(False)
        left = {n: torch.full_like(p, p.requires_grad) > 0 for n, p in model.named_parameters()}
    found = Salun(share=0.4).salient(model, view(), run_on_cpu(mask=mask))
    total = sum(int(each.sum()) for each in left.values())
    assert sum(int(each.sum()) for each in found.values()) == round(0.4 * total)
    assert not any((each & ~left[name]).any() for name, each in found.items())


# --- perturb


class Deep(nn.Module):
    """Convolutions of many kinds, none of them a child of the model itself."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
            nn.ModuleDict({"grouped": nn.Conv2d(4, 4, 3, groups=4)})["grouped"],
            nn.Conv2d(4, 4, (1, 3)),
            nn.ConvTranspose2d(4, 2, 2),
            nn.Unflatten(1, (2, 1)),
            nn.Conv3d(2, 2, (1, 2, 2)),
            nn.Flatten(2),
            nn.Conv1d(2, 2, 3),
            nn.Flatten(),
        )
        self.head = nn.LazyLinear(10)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(inputs))
        return logits


def deep() -> Any:
    model = seeded(Deep)
    model(torch.zeros(2, 1, 8, 8))
    return model.eval()


SQUARE = {"body.0.0.weight", "body.1.weight", "body.3.weight", "body.5.weight"}
CONVOLUTIONS = SQUARE | {"body.2.weight", "body.7.weight"}


def disturbed(model: nn.Module, method: Perturb, run: Any = None) -> nn.Module:
    """A copy, disturbed and not repaired."""
    run = run or run_on_cpu()
    twin = copy.deepcopy(model)
    method.disturb(method.chosen(twin, run), method.sigma, "first", run)
    return twin


@pytest.mark.parametrize("kind", ["transpose", "negate"])
def test_transposing_and_negating_twice_is_nothing_and_keeps_norms(kind: Any) -> None:
    model, method = deep(), Perturb(kind=kind)
    once = disturbed(model, method)
    assert changed(model, once)
    assert same_state(disturbed(once, method), model)
    for before, after in zip(model.parameters(), once.parameters(), strict=True):
        torch.testing.assert_close(after.norm(), before.norm())


def test_convolutions_are_found_at_any_depth_and_odd_kernels_are_told() -> None:
    """Only top-level children walked, and nothing here would be found."""
    model, run = deep(), run_on_cpu(label="perturb")
    found = disturbed(model, Perturb(), run)
    assert changed(model, found) == SQUARE
    for name in SQUARE:
        wanted = model.get_parameter(name).transpose(-1, -2)
        assert torch.equal(found.get_parameter(name), wanted), name
    told = run.log["warnings"]
    assert [text.split()[2] for text in told] == ["body.2.weight", "body.7.weight"]
    assert "(1, 3), is not square" in told[0]
    assert changed(model, disturbed(model, Perturb(kind="noise"))) == CONVOLUTIONS


def test_what_is_skipped_stands_in_the_record() -> None:
    result = unlearned(deep(), digits(), tenth(), Perturb(epochs=1))
    assert sum("is not square" in text for text in result.record.warnings) == 2


@pytest.mark.parametrize("model", ["mlp", "pixels"])
def test_a_model_without_spatial_kernels_is_refused_before_training(model: str) -> None:
    one = original("mlp") if model == "mlp" else nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten())
    data = view()
    with pytest.raises(ModelError, match=r"kind 'transpose' needs square kernels.*negate or noise"):
        Perturb().unlearn(one, data, run_on_cpu())
    assert not data.reads


def test_negate_takes_the_first_layer_or_those_named() -> None:
    for model, first in ((deep(), "body.0.0"), (original("mlp"), "fc1")):
        moved = disturbed(model, Perturb(kind="negate")).state_dict()
        for name, value in model.state_dict().items():
            assert torch.equal(moved[name], -value if name.startswith(f"{first}.") else value)
    named = disturbed(original("mlp"), Perturb(kind="negate", layers=("fc2", "fc3")))
    assert {name.partition(".")[0] for name in changed(original("mlp"), named)} == {"fc2", "fc3"}
    with pytest.raises(ConfigError, match=r"layers has 'fc9', where .* has fc1, fc2, fc3"):
        disturbed(original("mlp"), Perturb(kind="negate", layers=("fc9",)))


def test_noise_has_its_deviation_and_comes_twice() -> None:
    model = original("cnn")
    added = disturbed(model, Perturb(kind="noise", sigma=0.6))
    name = "features.8.weight"
    noise = (added.get_parameter(name) - model.get_parameter(name)).detach()
    assert float(noise.std()) == pytest.approx(0.6, rel=0.02)
    settings: Any = {"kind": "noise", "lr": 1e-30, "weight_decay": 0.0, "sigma": 0.0}
    for epochs, deviation in ((1, 0.0), (2, 0.5), (3, 0.5)):
        method = Perturb(**settings, last_sigma=0.5, epochs=epochs)
        found = method.unlearn(copy.deepcopy(model), view(), run_on_cpu())
        noise = (found.get_parameter(name) - model.get_parameter(name)).detach()
        assert float(noise.std()) == pytest.approx(deviation, rel=0.02)


def test_noise_stays_off_pruned_and_frozen_weights() -> None:
    model = original("cnn")
    mask = random_mask(model, 0.5)
    with torch.no_grad():
        for name, keep in mask.items():
            model.get_parameter(name).mul_(keep)
    found = disturbed(model, Perturb(kind="noise"), run_on_cpu(mask=mask))
    for name, keep in mask.items():
        assert not found.get_parameter(name)[~keep].any()
        assert found.get_parameter(name)[keep].ne(model.get_parameter(name)[keep]).all()
    model.get_parameter("features.0.weight").requires_grad_(False)
    result = Perturb(kind="noise", epochs=1).unlearn(copy.deepcopy(model), view(), run_on_cpu())
    assert "features.0.weight" not in changed(model, result)
    for p in model.parameters():
        p.requires_grad_(False)
    with pytest.raises(ModelError, match="what kind 'negate' disturbs is frozen; thaw it"):
        Perturb(kind="negate").unlearn(model, view(), run_on_cpu())


# --- euk and cfk


@pytest.mark.parametrize("masked", [False, True])
def test_euk_of_all_blocks_is_retraining_bit_for_bit(masked: bool) -> None:
    model = original("cnn")
    fields: Any = {"recipe": RECIPE, "fresh": "cnn", "names": ("retrain", 0)}
    fields["mask"] = random_mask(model, 0.5) if masked else None
    found = [
        unlearned(model, digits(), tenth(), method, **fields).model
        for method in (Euk(k="all"), Euk(k=3), Retrain())
    ]
    assert same_state(found[0], found[2])
    assert same_state(found[1], found[2])


def test_cfk_of_all_blocks_is_finetuning_bit_for_bit() -> None:
    model = original("cnn")
    found = [
        unlearned(model, digits(), tenth(), method, names=("same", 0)).model
        for method in (Cfk(k="all", **QUICK), Cfk(k=3, **QUICK), Finetune(**QUICK))
    ]
    assert same_state(found[0], found[2])
    assert same_state(found[1], found[2])
    assert changed(model, found[2])


TAILS = {
    0: ("head",),
    1: ("hidden", "last", "head"),
    2: ("body", "norm", "hidden", "last", "head"),  # all blocks; the token is in none
}


@pytest.mark.parametrize("k", TAILS)
@pytest.mark.parametrize("name", ["euk", "cfk"])
def test_the_rest_stays_to_the_bit_and_its_statistics_too(name: str, k: int) -> None:
    """Frozen weights alone let BatchNorm go on, that without parameters most of all."""
    model = seeded(Normed).train()
    run = run_on_cpu(recipe=RECIPE, constructor=lambda: seeded(Normed, 2))
    method = Euk(k=k) if name == "euk" else Cfk(k=k, **QUICK)
    found = method.unlearn(copy.deepcopy(model), view(), run)
    assert {each for each in model.state_dict() if each.startswith(TAILS[k])} == changed(
        model, found
    )
    assert [each.training for each in found.modules()] == [True] * len([*found.modules()])


def test_euk_draws_its_blocks_anew_and_cfk_keeps_them() -> None:
    model, fresh = seeded(Normed), seeded(Normed, 2)
    still = RECIPE.but(lr=1e-30, weight_decay=0, schedule="constant")
    run = run_on_cpu(recipe=still, constructor=lambda: copy.deepcopy(fresh))
    drawn = Euk(k=1).unlearn(model, view(), run)
    kept = Cfk(k=1, **STILL).unlearn(copy.deepcopy(model), view(), run)
    for name, value in drawn.named_parameters():
        source = fresh if name.startswith(TAILS[1]) else model
        torch.testing.assert_close(value, source.get_parameter(name))
        torch.testing.assert_close(kept.get_parameter(name), model.get_parameter(name))


def test_euk_proves_what_retraining_proves_where_all_is_drawn_anew() -> None:
    assert (Euk().proves(), Euk(k="all").proves(), Cfk(k="all").proves()) == (
        "none",
        "exact",
        "none",
    )


def test_euk_without_a_recipe_never_guesses() -> None:
    with pytest.raises(ConfigError, match=r"euk trains as the original.*without a recipe"):
        unlearned(original("mlp"), digits(), tenth(), "euk", fresh="mlp")


def test_more_blocks_than_there_are_is_an_error_that_names_them() -> None:
    data = view()
    with pytest.raises(
        ConfigError, match=r"k = 3, and .* 2 blocks \(fc1, fc2\); lower k, or .*all"
    ):
        Cfk(k=3).unlearn(original("mlp"), data, run_on_cpu())
    assert not data.reads
    for wrong in (-1, "some"):
        with pytest.raises(ConfigError, match=r"Cfk: k"):
            Cfk(k=wrong)


class Layer(nn.Module):
    """A block with a list of its own inside."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.mlp(self.norm(inputs))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(4))
        self.layers = nn.ModuleList([Layer() for _ in range(3)])
        self.norm = nn.LayerNorm(4)


class Transformer(nn.Module):
    def __init__(self, *, head_first: bool = False) -> None:
        super().__init__()
        if head_first:
            self.head = nn.Linear(4, 10)
        self.embed = nn.Embedding(7, 4)
        self.encoder = Encoder()
        if not head_first:
            self.head = nn.Linear(4, 10)


class Inverted(nn.Module):
    """As mobile networks have it: a list of lists inside each block."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)), nn.Conv2d(4, 4, 1)
        )


def mobile() -> nn.Module:
    features = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)),
        nn.Sequential(Inverted()),
        nn.Sequential(Inverted(), Inverted()),
    )
    return nn.Sequential(features, nn.Sequential(nn.Flatten(), nn.Linear(4, 10)))


def library(name: str) -> nn.Module:
    return build_model(name, (1, 8, 8), 10, allow_code=False)


LAYERS = [f"encoder.layers.{number}" for number in range(3)]
MODELS: dict[str, tuple[Any, list[str]]] = {
    "mlp": (lambda: library("mlp"), ["fc1", "fc2", "fc3"]),
    "cnn": (lambda: library("cnn"), ["features.0", "features.4", "features.8", "classifier"]),
    "resnet": (
        lambda: library("resnet20"),
        ["conv1", *(f"layer{stage}.{block}" for stage in (1, 2, 3) for block in (0, 1, 2)), "fc"],
    ),
    "transformer": (Transformer, ["embed", *LAYERS, "head"]),
    "wrapped": (
        lambda: nn.Sequential(nn.Identity(), Transformer()),
        ["1.embed", *(f"1.{name}" for name in LAYERS), "1.head"],
    ),
    "backbone and head": (
        lambda: nn.Sequential(Encoder(), nn.Linear(4, 10)),
        ["0.layers.0", "0.layers.1", "0.layers.2", "1"],
    ),
    "mobile": (mobile, ["0.0.0", "0.1.0", "0.2.0", "0.2.1", "1.1"]),
    "a single layer": (lambda: nn.Linear(4, 10), [""]),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_blocks_of_a_model(name: str) -> None:
    make, wanted = MODELS[name]
    model = make()
    found = blocks_of(model)
    assert [block.name for block in found] == wanted
    held = Counter(one for block in found for one in block.holds())
    assert max(held.values()) == 1, "a weight in two blocks"
    lacking = {n for n, p in model.named_parameters() if id(p) not in held}
    assert all(name.endswith("position") for name in lacking), "a layer in no block"


def test_what_belongs_to_no_block_or_to_two_stays() -> None:
    model = Transformer()
    model.head.weight = nn.Parameter(torch.zeros(7, 4))
    model.embed.weight = model.head.weight
    tail = last_blocks(model, 1, 7, run_on_cpu())
    assert tail.update is not None
    trained = {name for name, p in model.named_parameters() if name in tail.update}
    assert {name.partition(".")[0] for name in trained} == {"encoder", "head"}
    assert all(name.startswith(("encoder.layers.2", "encoder.norm", "head")) for name in trained)
    assert {"embed.weight", "encoder.position", "encoder.layers.1.norm.weight"} <= tail.rest


def test_a_head_that_is_not_named_last_is_refused() -> None:
    model = Transformer(head_first=True)
    with pytest.raises(
        ModelError, match=r"'encoder.layers.2', is not the layer with a row for each"
    ):
        last_blocks(model, 1, 10, run_on_cpu(label="cfk"))
    assert last_blocks(model, "all", 10, run_on_cpu()).update is None
    with pytest.raises(ModelError, match="no layer with a matrix of weights"):
        blocks_of(nn.LayerNorm(3))


# --- all of them


def test_their_published_settings() -> None:
    found: Any = RandomLabel(), Salun(), Perturb(), Cfk()
    assert [(m.epochs, m.lr, m.batch_size) for m in found] == [
        (10, 0.013, 256),
        (10, 0.013, 256),
        (3, 0.001, 64),
        (10, 0.01, 256),
    ]
    assert {(m.momentum, m.weight_decay) for m in found} == {(0.9, 5e-4)}
    assert (found[0].draw, found[1].draw, found[1].share) == ("other", "other", 0.5)
    assert (found[2].kind, found[2].sigma, found[2].last_sigma) == ("transpose", 0.6, 0.005)
    assert Cfk().k == Euk().k == 1
    noise: Any = make_method("perturb:noise", allow_code=False)
    assert (noise.kind, noise.epochs, noise.lr) == ("noise", 4, 7e-4)
    amnesiac: Any = make_method("random_label:amnesiac", allow_code=False)
    assert (amnesiac.optimizer, amnesiac.epochs, amnesiac.lr) == ("adam", 3, 1e-4)


@pytest.mark.parametrize(
    "method", [RandomLabel(**QUICK), Salun(**QUICK), Perturb(epochs=1), Euk(), Cfk(**QUICK)]
)
def test_in_half_precision_weights_stay_finite_and_in_their_type(method: Any) -> None:
    recipe = RECIPE.but(precision="bfloat16")
    found = unlearned(original("cnn"), digits(), tenth(), method, recipe=recipe, fresh="cnn").model
    assert {p.dtype for p in found.parameters()} == {torch.float32}
    assert all(bool(p.isfinite().all()) for p in found.parameters())


@pytest.mark.parametrize("method", [RandomLabel(**QUICK), Salun(**QUICK), Cfk(**QUICK)])
def test_a_whole_class_is_met_too(method: Any) -> None:
    split = Split.classes(digits(), [3])
    result = unlearned(original("mlp"), digits(), split, method)
    assert result.record.cost.reads["forget" if "forget" in method.reads.names() else "retain"] > 0


@pytest.mark.parametrize("kind", ["transpose", "noise"])
def test_layers_that_would_be_ignored_are_refused(kind: str) -> None:
    told = rf"layers .'0'. are of kind negate, and kind is {kind}; leave layers out"
    with pytest.raises(ConfigError, match=told):
        make_method("perturb", {"kind": kind, "layers": ["0"]}, allow_code=False)
    assert Perturb(kind="negate", layers=("0",)).layers == ("0",)
