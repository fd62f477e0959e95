"""What runs stand on: the device itself, its memory, its arithmetic, its random stream."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import (
    devices_of,
    digits,
    finite,
    inputs_of,
    original,
    resolved,
    run_on,
    streams_stay,
    view_of,
)
from torch import nn

from expunge.api import train
from expunge.audits.observe import observe_test
from expunge.data.load import load_data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.triggers import read_trigger
from expunge.methods.shared.noise import Objective, learn_noise
from expunge.place import Place
from expunge.theory.sparsity import diagnose_sparsity
from expunge.training.cost import Meter
from expunge.training.fit import fit
from expunge.training.loop import evaluating
from expunge.training.precision import exact_convolutions, has_bfloat16, resolve_precision
from expunge.training.recipe import Recipe
from expunge.training.run import accelerator_on
from expunge.transfer.adapt import full_finetune, linear_probe
from expunge.transfer.harm import class_harm

RECIPE = Recipe(epochs=1, batch_size=64, lr=0.05)


def test_trap_of_a_device_for_the_whole_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks first must not decide for all: here of a card that accelerate does not see."""
    card = torch.device("cuda", 0)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: card)
    accelerator_on.cache_clear()
    try:
        for asked, expected in (("cpu", "cpu"), ("cuda", "cuda"), ("cpu", "cpu"), (None, "cuda")):
            assert accelerator_on(asked).device.type == expected
        accelerator_on.cache_clear()
        assert accelerator_on("cuda").device.type == "cuda"
        assert accelerator_on("cpu").device.type == "cpu"
    finally:
        accelerator_on.cache_clear()


def test_one_process_computes_on_both(device: str) -> None:
    for asked in (device, "cpu", device):
        assert run_on(asked).device.type == torch.device(asked).type
        seen = observe_test(original("mlp"), digits(), run_on(asked))
        assert seen.logits.device.type == "cpu"


def test_the_meter_sees_the_devices_memory(device: str) -> None:
    with Meter(torch.device(device)) as meter:
        held = torch.ones(2**22, device=device)  # 16 MiB
        held += 1
    assert meter.seconds > 0
    assert meter.peak_memory_bytes >= 2**24
    assert meter.memory == ("device" if device.startswith("cuda") else "resident set")


def test_auto_is_bfloat16_where_the_device_has_it(device: str) -> None:
    where = torch.device(device)
    expected = "bfloat16" if has_bfloat16(where) else "float32"
    assert resolve_precision("auto", original("cnn"), where) == expected
    assert resolve_precision("auto", original("mlp"), where) == "float32"
    result = train(digits(), "cnn", recipe=RECIPE, place=Place(device=device))
    assert result.record.log["precision"] == expected
    assert {p.dtype for p in result.model.parameters()} == {torch.float32}
    half = train(
        digits(), "cnn", recipe=RECIPE.but(precision="bfloat16"), place=Place(device=device)
    )
    assert finite(half.model) and np.isfinite(half.record.log["losses"]).all()


def test_what_is_measured_is_in_float32() -> None:
    """A GPU's convolutions are as they were before and after, and exact in between."""

    def now() -> object:
        conv = getattr(torch.backends.cudnn, "conv", None)
        return torch.backends.cudnn.allow_tf32 if conv is None else conv.fp32_precision

    before = now()
    with evaluating(original("cnn")):
        assert now() in ("ieee", False)
        with exact_convolutions():
            assert now() in ("ieee", False)
        assert now() in ("ieee", False)
    assert now() == before


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(inputs)
        return logits


def test_dropout_draws_by_the_runs_seed(device: str) -> None:
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(found))  # whatever ran before must not matter
        with streams_stay(device):
            found.append(
                train(
                    digits(), Dropping, recipe=RECIPE, seed=seed, place=Place(device=device)
                ).model
            )
    weights = [dict(model.named_parameters())["layers.2.weight"] for model in found]
    assert torch.allclose(weights[0], weights[1], atol=1e-5)
    assert not torch.allclose(weights[0], weights[2], atol=1e-3)


def test_batches_are_the_same_on_every_device(device: str) -> None:
    """Crops and flips are drawn on the processor, and laid on the batch where it is."""
    data = digits()
    transform = replace(view_of(data, Split.whole(data)).transform, augmentation="crop_flip")
    streams = [
        view_of(
            data,
            Split.whole(data),
            names=("batches", 0),
            transform=transform,
            device=torch.device(where),
        ).batches(Part.RETAIN, 64)
        for where in (device, "cpu")
    ]
    for here, there in zip(*streams, strict=True):
        assert here.ids.tolist() == there.ids.tolist()
        assert here.inputs.device.type == here.labels.device.type == torch.device(device).type
        assert torch.allclose(here.inputs.cpu(), there.inputs, atol=1e-6)
        assert torch.equal(here.labels.cpu(), there.labels)


@pytest.mark.parametrize("text", ["patch:size=2,colour=255", "blend"])
def test_triggers_are_the_processors(
    text: str, device: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from PIL import Image

    if text == "blend":
        file = tmp_path_factory.mktemp("pattern") / "pattern.png"
        Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(file)
        text = f"blend:file={file},alpha=0.3"
    trigger = read_trigger(text)
    images = digits().train.store.tensor[:20]  # type: ignore[attr-defined]
    for batch in (images, images.float() / 255):
        laid = trigger.apply(batch.to(device))
        assert laid.device.type == torch.device(device).type
        off = (laid.cpu().double() - trigger.apply(batch).double()).abs().max()
        # a half may round to either side
        assert float(off) <= (1 if batch.dtype == torch.uint8 else 1e-6)


def test_poisoned_data_are_learned_on_the_device(device: str) -> None:
    data = load_data("digits:300+patch:size=2,margin=0,colour=255,share=0.1,target=#0")
    found = train(data, "cnn", recipe=RECIPE, place=Place(device=device))
    assert finite(found.model)


def test_noise_is_learned_on_the_device(device: str) -> None:
    model = original("cnn").to(device)
    run = run_on(device, names=("noise", 0))
    with streams_stay(device):
        noise = learn_noise(
            model,
            torch.tensor([3, 5]),
            (1, 8, 8),
            run,
            count=6,
            steps=12,
            recipe=resolved(
                Recipe(epochs=1, lr=0.1, optimizer="adam", schedule="constant"), digits()
            ),
            objective=Objective(0.1, "squared", 6),
            chunk=8,
        )
    kind = torch.device(device).type
    assert noise.images.device.type == noise.losses.device.type == noise.labels.device.type == kind
    assert torch.isfinite(noise.images).all()
    assert (noise.losses[-1] > noise.losses[0]).all()


def test_fit_says_where_it_diverged(device: str) -> None:
    """A GPU is asked for its losses every 50 steps; the step is still the one that went wrong."""
    inputs, labels = inputs_of(digits(), 64, device)
    model = original("mlp")
    run = run_on(device, names=("broken", 0))
    steps = []

    def loss(network: nn.Module, batch: object, done: float) -> torch.Tensor:
        steps.append(done)
        value = nn.functional.cross_entropy(network(inputs), labels)
        return value * float("nan") if len(steps) == 4 else value

    batch = next(iter(view_of(digits(), Split.whole(digits())).batches(Part.RETAIN, 64)))
    with pytest.raises(Exception, match="step 4: the loss is not finite"):
        fit(model, lambda _: [batch] * 10, loss, recipe=RECIPE, run=run)


def test_transfer_comes_back_from_the_device(device: str) -> None:
    data = digits()
    model = original("cnn")
    run = run_on(device, names=("transfer", 0))
    for scorer in ("cosine", "gradient"):
        harm = class_harm(model, data.train, data, data, run, scorer=scorer)
        assert np.isfinite(harm).all()
    for adapted in (
        linear_probe(model, data, run),
        full_finetune(model, data, run, resolved(RECIPE, data)),
    ):
        assert devices_of(adapted.model) == {"cpu"}
    assert devices_of(model) == {"cpu"}


def test_theory_is_checked_on_the_device(device: str) -> None:
    data = digits()
    frame = diagnose_sparsity(
        data,
        "mlp",
        Split.random(data, 0.1),
        sparsities=(0.0, 0.5),
        recipe=RECIPE.but(epochs=2),
        hessian_samples=32,
        place=Place(device=device),
        allow_code=True,
    )
    assert np.isfinite(frame["top_eigenvalue"]).all()
    assert np.isfinite(frame["distance_l2"]).all()
