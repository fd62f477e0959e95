"""The named architectures, and building from a name or from `module:function`."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from thorough import but_first
from torch import nn

from expunge.errors import ModelError
from expunge.models.layout import lay_out
from expunge.models.table import ARCHITECTURES, build_model

SHAPES = [(1, 8, 8), (3, 32, 32), (1, 28, 28), (3, 5, 7), (2, 2, 2), (1, 1, 1)]
CONVOLUTIONAL = [name for name in ARCHITECTURES if name != "mlp"]
WriteModule = Callable[[str], str]


def seeded(name: str, shape: tuple[int, ...], classes: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_model(name, shape, classes, allow_code=True)


def outlined(name: str, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Names and shapes without a number: to draw millions of weights takes long."""
    with torch.device("meta"):
        return build_model(name, shape, classes, allow_code=True)


def inputs_for(shape: tuple[int, ...], batch: int = 4) -> torch.Tensor:
    return torch.randn(batch, *shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("shape", "classes"),
    but_first(3, [(shape, (2, 7)[row % 2]) for row, shape in enumerate(SHAPES)]),
    ids=str,
)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_forward_and_backward(name: str, shape: tuple[int, ...], classes: int) -> None:
    model = seeded(name, shape, classes)
    inputs = inputs_for(shape)
    with torch.no_grad():
        logits = model.eval()(inputs)
    assert logits.shape == (4, classes)
    assert logits.isfinite().all()
    if len(shape) == 3:  # which is why no trial of a model of ours looks at both layouts
        lay_out(model, torch.channels_last)
        with torch.no_grad():
            laid = model(inputs.contiguous(memory_format=torch.channels_last))
        assert torch.allclose(laid, logits, rtol=1e-3, atol=1e-3 * float(logits.abs().max()))
    model.train()(inputs).logsumexp(1).sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize(
    ("name", "shape", "classes", "count"),
    [
        # 784-256-128-10.
        ("mlp", (1, 28, 28), 10, 784 * 256 + 256 + 256 * 128 + 128 + 128 * 10 + 10),
        # Weights 27 * 32 + 288 * 64 + 576 * 128, BatchNorm 2 * (32 + 64 + 128), linear 1290.
        ("cnn", (3, 32, 32), 10, 864 + 18_432 + 73_728 + 448 + 1290),
        # He et al. give 0.27 M; the public PyTorch version with option A has exactly this many.
        ("resnet20", (3, 32, 32), 10, 269_722),
        # torchvision's 11,689,512, less its 7x7 stem and 1000-way layer, plus ours.
        ("resnet18", (3, 32, 32), 10, 11_689_512 - 64 * 3 * (49 - 9) - 990 * 513),
        # torchvision's, less its 1000-way layer, plus ours.
        ("resnet18_imagenet", (3, 32, 32), 10, 11_689_512 - 990 * 513),
        # Table 1 of the paper: nine convolutions; BatchNorm has two weights a channel, no bias.
        (
            "allcnn",
            (3, 32, 32),
            10,
            9 * (3 * 96 + 96 * 96 * 2 + 96 * 192 + 192 * 192 * 3)
            + 192 * 192
            + 2 * (96 * 3 + 192 * 5)
            + 193 * 10,
        ),
        # torchvision's 138,365,992 less its three linear layers, plus one of 512 x 10.
        (
            "vgg16_bn",
            (3, 32, 32),
            10,
            138_365_992 - 25_089 * 4096 - 4097 * 4096 - 4097 * 1000 + 5130,
        ),
    ],
)
def test_parameter_counts(name: str, shape: tuple[int, ...], classes: int, count: int) -> None:
    model = outlined(name, shape, classes)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_published_counts() -> None:
    counts = {
        name: sum(p.numel() for p in outlined(name, (3, 32, 32), 10).parameters())
        for name in ("resnet18", "vgg16_bn")
    }
    assert counts == {"resnet18": 11_173_962, "vgg16_bn": 14_728_266}


def last_map(model: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Height and width of the last feature map before the global mean."""
    seen: list[tuple[int, ...]] = []
    for module in model.modules():
        if isinstance(module, nn.ReLU | nn.MaxPool2d):
            module.register_forward_hook(lambda _, __, output: seen.append(output.shape[2:]))
    with torch.no_grad():
        model.eval()(torch.empty(4, *shape, device="meta"))
    return tuple(seen[-1])


@pytest.mark.parametrize(
    ("name", "sides"),
    [
        # image side -> side of the last feature map
        ("cnn", {32: 4, 28: 3, 8: 2, 4: 2, 3: 3, 1: 1}),
        ("resnet20", {32: 8, 28: 7, 5: 2, 3: 2, 2: 2, 1: 1}),
        ("resnet18", {32: 4, 28: 4, 8: 2, 2: 2, 1: 1}),
        # as published: a 32nd of the side, rounded up, down to one pixel
        ("resnet18_imagenet", {224: 7, 64: 2, 33: 2, 32: 1, 8: 1, 1: 1}),
        ("allcnn", {32: 8, 28: 7, 3: 2, 1: 1}),
        ("vgg16_bn", {32: 1, 28: 1, 64: 2, 2: 1, 1: 1}),
    ],
)
def test_down_sampling_stops_in_time(name: str, sides: dict[int, int]) -> None:
    found = {side: last_map(outlined(name, (1, side, side), 2), (1, side, side)) for side in sides}
    assert found == {side: (last, last) for side, last in sides.items()}


def test_the_published_stem_and_names() -> None:
    """Layers by torchvision's names and shapes, so its checkpoints load."""
    state = outlined("resnet18_imagenet", (3, 32, 32), 10).state_dict()
    shapes = {
        "conv1.weight": (64, 3, 7, 7),
        "layer1.0.conv1.weight": (64, 64, 3, 3),
        "layer2.0.downsample.0.weight": (128, 64, 1, 1),
        "layer4.1.bn2.running_var": (512,),
        "fc.weight": (10, 512),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    assert len(state) == 122  # as many as torchvision's
    small = outlined("resnet18", (3, 32, 32), 10).state_dict()
    assert list(small) == list(state)
    assert {k for k in state if state[k].shape != small[k].shape} == {"conv1.weight"}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_weight_names_do_not_depend_on_classes_or_image(name: str) -> None:
    small, large = outlined(name, (1, 32, 32), 2), outlined(name, (3, 64, 64), 9)
    assert list(small.state_dict()) == list(large.state_dict())


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_per_sample_gradients_by_vmap_equal_a_loop(name: str) -> None:
    model = seeded(name, (1, 4, 4), 3).eval().double()
    inputs = inputs_for((1, 4, 4), batch=2).double()
    weights: dict[str, torch.Tensor] = dict(model.named_parameters())

    def loss(weights: dict[str, torch.Tensor], one: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = torch.func.functional_call(model, weights, (one[None],))
        return logits.logsumexp(1).sum()

    fast = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weights, inputs)
    for index, one in enumerate(inputs):
        slow = torch.autograd.grad(loss(weights, one), list(weights.values()))
        for key, gradient in zip(weights, slow, strict=True):
            torch.testing.assert_close(fast[key][index], gradient)


def test_resnet20_shortcut_is_option_a() -> None:
    model = seeded("resnet20", (3, 32, 32), 10)
    shortcut = model.get_submodule("layer2.0.downsample")
    inputs = inputs_for((16, 6, 6), batch=2)
    output = shortcut(inputs)
    assert output.shape == (2, 32, 3, 3)
    assert torch.equal(output[:, 8:24], inputs[:, :, ::2, ::2])
    assert not output[:, :8].any()
    assert not output[:, 24:].any()


def test_no_layer_works_in_place() -> None:
    for name in ARCHITECTURES:
        for module in outlined(name, (3, 32, 32), 2).modules():
            assert not getattr(module, "inplace", False)


def test_the_same_seed_gives_the_same_weights() -> None:
    for name in ("mlp", "cnn", "resnet20"):
        first, second = (seeded(name, (1, 8, 8), 3).state_dict() for _ in range(2))
        assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("shape", [(5,), (1, 28, 28), (2, 3)], ids=str)
def test_mlp_takes_any_shape(shape: tuple[int, ...]) -> None:
    model = seeded("mlp", shape, 3)
    assert model(inputs_for(shape)).shape == (4, 3)
    assert model.get_submodule("fc1").in_features == math.prod(shape)


@pytest.mark.parametrize("shape", [(10,), (28, 28)], ids=str)
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_convolutions_need_images(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=rf"{name}.*channels, height, width.*mlp"):
        build_model(name, shape, 2, allow_code=True)


@pytest.mark.parametrize("shape", [(), (3, 0, 4), (-1,)], ids=str)
def test_senseless_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="positive sizes"):
        build_model("mlp", shape, 2, allow_code=True)


def test_no_classes_are_refused() -> None:
    with pytest.raises(ModelError, match="at least 1, not 0"):
        build_model("mlp", (3,), 0, allow_code=True)


def test_the_table() -> None:
    for name, row in ARCHITECTURES.items():
        assert name == row.name
        assert row.summary
        assert row.paper


def test_an_unknown_name_gets_the_nearest_and_the_list() -> None:
    with pytest.raises(ModelError, match=r"'ResNet-20', did you mean 'resnet20'\?.*vgg16_bn"):
        build_model("ResNet-20", (3, 32, 32), 10, allow_code=True)
    with pytest.raises(
        ModelError, match=r"^no architecture 'zzz'; there are: mlp.*module:function"
    ):
        build_model("zzz", (3, 32, 32), 10, allow_code=True)


@pytest.fixture
def write_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> WriteModule:
    """Write a module into the current directory; returns its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])

    def write(source: str) -> str:
        name = f"mine_{abs(hash(request.node.nodeid))}"
        (tmp_path / f"{name}.py").write_text(f"from torch import nn\n{source}", encoding="utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)
        request.addfinalizer(lambda: sys.modules.pop(name, None))
        return name

    return write


@pytest.mark.parametrize(
    ("source", "width"),
    [
        ("def net(): return nn.Linear(4, 9)", 9),
        ("def net(classes): return nn.Linear(4, classes)", 3),
        ("def net(*, shape, classes, bias=True): return nn.Linear(shape[0], classes)", 3),
        ("def net(width=6, **options): return nn.Linear(4, width, **options)", 6),
        ("class net(nn.Linear):\n  def __init__(self, classes): super().__init__(4, classes)", 3),
    ],
)
def test_module_function(write_module: WriteModule, source: str, width: int) -> None:
    model = build_model(f"{write_module(source)}:net", (4,), 3, allow_code=True)
    assert model(inputs_for((4,))).shape == (4, width)


@pytest.mark.parametrize(
    ("source", "function", "message"),
    [
        ("", "net", "has no 'net'"),
        ("net = 3", "net", "must be a function"),
        ("def net(): return 3", "net", "must return a torch.nn.Module, not int"),
        ("def net(depth): return nn.Linear(4, 3)", "net", "does not fit.*depth"),
        ("import no_such_package_at_all", "net", "cannot import.*no_such_package_at_all"),
    ],
)
def test_module_function_errors(
    write_module: WriteModule, source: str, function: str, message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        build_model(f"{write_module(source)}:{function}", (4,), 3, allow_code=True)


def test_code_needs_consent(write_module: WriteModule) -> None:
    name = write_module("raise RuntimeError('it was imported')")
    with pytest.raises(ModelError, match="--allow-code"):
        build_model(f"{name}:net", (4,), 3, allow_code=False)
    with pytest.raises(ModelError, match="RuntimeError: it was imported"):  # what failed, in a line
        build_model(f"{name}:net", (4,), 3, allow_code=True)
    assert build_model("mlp", (4,), 3, allow_code=False)
