"""Models as people write them: they work as in plain torch, or one line says what to do."""

from __future__ import annotations

import functools
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune, spectral_norm, weight_norm
from torch.utils.data import TensorDataset

from expunge.api import adopt, audit, train, unlearn
from expunge.data.load import Data, load_data
from expunge.data.split import Split
from expunge.data.task import read_logits
from expunge.data.transform import Transform
from expunge.errors import ConfigError, DataError, ModelError, UserError
from expunge.methods import make_method
from expunge.methods.finetune import Finetune
from expunge.models.copying import copied
from expunge.models.layout import keep_ordinary, lay_out, stays_ordinary
from expunge.models.mask import prunable
from expunge.per_sample import fisher_diagonal, gram_matrix
from expunge.per_sample.plain import per_sample_gradients
from expunge.trained.opening import load
from expunge.training.recipe import Recipe
from tests.helpers import CPU, batch_of, digits, named_digits, run_on_cpu, same_state, seeded, toy
from tests.per_sample_helpers import close, flat, slow_fisher

RECIPE = Recipe(epochs=1, batch_size=32, lr=0.02, augmentation="none", precision="float32")
STEP = Finetune(epochs=1, batch_size=32)
Build = Callable[[], nn.Module]


@functools.cache
def few() -> Data:
    return digits(60)


def conv() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


# --- memory layout


class Views(nn.Module):
    """Flattens a convolution's output by `view`, which works in the ordinary layout alone."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3)
        self.head = nn.Linear(144, 10)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.head(torch.relu(self.conv(x)).view(x.size(0), -1))
        return made


class Unrolled(Views):
    """Takes flat vectors and makes images of them itself."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.view(-1, 1, 8, 8))


class ViewsInput(nn.Module):
    """No convolution; it flattens colour images by `view`."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(192, 10)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.head(x.view(-1, 192))
        return made


def _inputs(data: Data) -> Tensor:
    inputs = data.train.store.whole()
    assert inputs is not None
    return inputs


def _colour() -> Data:
    return toy(few().train.labels.tolist(), inputs=_inputs(few()).float().repeat(1, 3, 1, 1) / 16)


def _flat() -> Data:
    return toy(few().train.labels.tolist(), inputs=_inputs(few()).float().flatten(1) / 16)


VIEWING = [
    pytest.param(Views, few, id="grey"),
    pytest.param(lambda: Views(3), _colour, id="colour"),
    pytest.param(Unrolled, _flat, id="flat"),
    pytest.param(ViewsInput, _colour, id="no convolution"),
]


@pytest.mark.parametrize(("build", "make"), VIEWING)
def test_a_model_that_views_activations_works_as_in_plain_torch(
    build: Build, make: Callable[[], Data]
) -> None:
    data = make()
    made = train(data, build, recipe=RECIPE, place=CPU)
    assert made.record.log["layout"] == "contiguous"
    for method in ("retrain", "fisher", "influence", STEP):
        result = unlearn(made, made.split.retain[:5], method, place=CPU)
        assert method != "retrain" or result.record.log["layout"] == "contiguous"
    scores = audit(result, original=made, also=["relearn_time"], place=CPU)
    rows = [data.train.position[one] for one in result.split.retain]
    plain = result.model(Transform(data.normalisation)(_inputs(data)[rows]).contiguous()).argmax(1)
    right = plain == torch.from_numpy(data.train.labels[rows])
    assert scores["RA"].value == pytest.approx(100 * float(right.float().mean()))


def test_noise_and_pruning_keep_to_the_layout() -> None:
    made = adopt(seeded(Views), few(), recipe=RECIPE, fresh=Views)
    noise = make_method("unsir", allow_code=False).model_copy(
        update={"noise_steps": 1, "noise_batch": 2}
    )
    assert unlearn(made, "class:3", noise, place=CPU).record.step == "unsir"
    for pruner in ("omp", "synflow"):
        sparse = train(few(), Views, recipe=RECIPE, pruner=pruner, place=CPU)
        assert sparse.record.log["layout"] == "contiguous"


def test_a_folder_of_such_a_model_is_opened_and_scored(tmp_path: Path) -> None:
    train(few(), Views, recipe=RECIPE, place=CPU).save(tmp_path / "views")
    again = load(tmp_path / "views", data=few(), fresh=Views, place=CPU)
    assert stays_ordinary(again.model)
    assert audit(again, forget="class:3", place=CPU)["RA"].n > 0


def test_models_that_can_go_on_in_the_fast_layout() -> None:
    seen = []

    class Watching(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            seen.append((self.training, self.weight.stride()[1], input.stride()[1]))
            return super().forward(input)

    def build() -> nn.Module:
        return nn.Sequential(Watching(3, 4, 3), nn.Flatten(), nn.Linear(144, 10))

    made = train(_colour(), build, recipe=RECIPE, place=CPU)
    assert not stays_ordinary(made.model) and "layout" not in made.record.log
    assert seen[-1] == (True, 1, 1), "weights and inputs, channels innermost, in training"
    assert all(one.is_contiguous() for one in made.model.parameters())


def test_the_mark_goes_with_copies() -> None:
    model = Views()
    keep_ordinary(model)
    twin = copied(model)
    for one in (model, twin):
        lay_out(one, torch.channels_last)
        image = torch.rand(2, 8, 8, 1).movedim(3, 1)  # of a single channel, which counts as either
        assert stays_ordinary(one) and one(image).shape == (2, 10)


# --- what is kept in attributes


def _pruned() -> nn.Module:
    model = conv()
    prune.l1_unstructured(model[0], "weight", 0.5)
    return model


def _weight_norm() -> nn.Module:
    model = conv()
    weight_norm(model[0])
    return model


def _spectral_norm() -> nn.Module:
    model = conv()
    spectral_norm(model[0])
    model(torch.rand(2, 1, 8, 8))
    return model


class Keeps(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = conv()
        self.last: dict[str, Any] = {}

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.body(x)
        self.last = {"out": [made, made.sum()]}
        return made


def _keeps() -> nn.Module:
    model = Keeps()
    model(torch.rand(2, 1, 8, 8))
    return model


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("build", [_pruned, _weight_norm, _spectral_norm, _keeps])
def test_computed_tensors_are_copied_as_values(build: Build, tmp_path: Path) -> None:
    module = seeded(build)
    adopted = adopt(module, few(), recipe=RECIPE, fresh=build)
    inputs = torch.rand(3, 1, 8, 8)
    assert same_state(adopted.model, module)
    torch.testing.assert_close(adopted.model(inputs), module.eval()(inputs))
    for method in (STEP, "retrain"):
        result = unlearn(adopted, "class:3", method, place=CPU)
        assert not same_state(result.model, adopted.model)
        torch.testing.assert_close(adopted.model(inputs), module(inputs))  # nothing is shared
    result.save(tmp_path / "kept")
    again = load(tmp_path / "kept", data=few(), fresh=build, place=CPU)
    torch.testing.assert_close(again.model(inputs), result.model(inputs))
    if build is _pruned:
        assert (result.model[0].weight == 0).float().mean() == 0.5  # type: ignore[index]


def test_what_cannot_be_copied_is_said_in_a_line() -> None:
    model = conv()
    model.file = open(__file__, encoding="utf-8")  # type: ignore[assignment]  # noqa: SIM115
    with model.file, pytest.raises(ModelError, match=r"cannot be copied \(TypeError: .*take what"):  # type: ignore[attr-defined]
        adopt(model, few())


# --- one module, or one weight, under two names


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 3, 3, padding=1)
        self.block = nn.Conv2d(3, 3, 3, padding=1)
        self.again = self.block
        self.head = nn.Linear(3, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(torch.tanh(self.block(torch.tanh(self.first(x)))))
        made: Tensor = self.head(x.mean((2, 3)))
        return made


class Aliased(Twice):
    """Used once, named twice."""

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.head(torch.tanh(self.again(torch.tanh(self.first(x)))).mean((2, 3)))
        return made


class Tied(nn.Module):
    """Two layers of one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
        self.two.weight = self.one.weight

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.head(torch.tanh(self.two(torch.tanh(self.one(x.flatten(1))))))
        return made


@pytest.mark.parametrize("build", [Twice, Aliased, Tied])
def test_shared_modules_and_weights_have_the_gradients_of_the_plain_loop(build: Build) -> None:
    model = seeded(build).double()
    names, whole = (
        dict(model.named_parameters()),
        {n: v.clone() for n, v in model.state_dict().items()},
    )
    batch = batch_of(torch.rand(5, 1, 8, 8, dtype=torch.float64), [0, 3, 1, 2, 9])
    run = run_on_cpu()
    close(flat(fisher_diagonal(model, [batch], run)), slow_fisher(model, batch, "all"))
    rows = per_sample_gradients(model, batch, run, engine="loop")
    G = torch.cat([row.flatten(1) for row in rows.values()], dim=1)
    close(gram_matrix(model, [batch], run), G @ G.t())
    assert all(value is names[name] for name, value in model.named_parameters())
    assert all(torch.equal(value, whole[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("build", [Twice, Tied])
def test_shared_modules_and_weights_are_forgotten_pruned_and_saved(
    build: Build, tmp_path: Path
) -> None:
    made = train(few(), build, recipe=RECIPE, pruner="omp", place=CPU)
    assert made.mask is not None and set(made.mask) == set(prunable(made.model))
    for method in (STEP, "fisher", "influence"):
        result = unlearn(made, "class:3", method, place=CPU)
        for name, keep in made.mask.items():
            assert not result.model.get_parameter(name)[~keep].any(), method
    result.save(tmp_path / "shared")
    again = load(tmp_path / "shared", data=few(), fresh=build, place=CPU)
    assert same_state(again.model, result.model)
    assert len({id(one) for one in again.model.parameters()}) == len({*again.model.parameters()})


# --- layers that torch cannot batch


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase] = nn.LSTM) -> None:
        super().__init__()
        self.steps = kind(8, 3, batch_first=True)
        self.head = nn.Linear(3, 10)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.head(self.steps(x[:, 0])[0][:, -1])
        return made


class Doubling(torch.autograd.Function):
    """An operation of somebody's own, without a rule for vmap."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return 2 * gradient


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = Doubling.apply(self.head(x.flatten(1)))
        return made


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_have_the_fisher_of_the_plain_loop(kind: type[nn.RNNBase]) -> None:
    model = seeded(lambda: Recurrent(kind)).double()
    batch = batch_of(torch.rand(3, 1, 8, 8, dtype=torch.float64), [0, 3, 1])
    found = fisher_diagonal(model, [batch], run_on_cpu())
    close(flat(found), slow_fisher(model, batch, "all"))


def test_samples_one_by_one_are_said() -> None:
    made = adopt(seeded(Own), few())
    for method in ("fisher", "influence"):
        warned = unlearn(made, "class:3", method, place=CPU).record.warnings
        assert sum("one sample at a time, which is slow" in line for line in warned) == 1
    quick = unlearn(adopt(seeded(Recurrent), few()), "class:3", "influence", place=CPU)
    assert not any("slow" in line for line in quick.record.warnings)


# --- outputs


Pair = namedtuple("Pair", ["logits", "features"])
ONE, OTHER = torch.zeros(2, 10), torch.ones(2, 10)


@pytest.mark.parametrize(
    "outputs",
    [
        ONE,
        [ONE],
        (ONE, None),
        {"out": ONE},
        OrderedDict(loss=None, prediction=ONE),
        {"logits": ONE, "features": OTHER},
        Pair(ONE, OTHER),
        SimpleNamespace(logits=ONE, loss=OTHER),
        SimpleNamespace(scores=ONE, name="x"),
    ],
    ids=str,
)
def test_logits_are_read_where_there_is_no_choice(outputs: Any) -> None:
    assert read_logits(outputs) is ONE


@pytest.mark.parametrize(
    "outputs",
    [(ONE, OTHER), [ONE, [OTHER]], {"a": ONE, "b": OTHER}, (), None, "x", {"logits": None}],
    ids=str,
)
def test_a_choice_of_outputs_is_refused(outputs: Any) -> None:
    with pytest.raises(
        DataError, match=rf"a {type(outputs).__name__} of [02] tensors.*name logits"
    ):
        read_logits(outputs)


class Wraps(nn.Module):
    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.body, self.wrap, self.steps = conv(), wrap, 0

    def forward(self, x: Tensor) -> Any:
        self.steps += self.training
        return self.wrap(self.body(x))


def test_outputs_are_looked_at_before_training() -> None:
    made = train(few(), lambda: Wraps(lambda y: {"out": y}), recipe=RECIPE, place=CPU)
    assert unlearn(made, "class:3", "fisher", place=CPU).record.step == "fisher"
    assert audit(made, forget="class:3", place=CPU)["RA"].n > 0
    refused = Wraps(lambda y: (y, y))
    for data in (few(), named_digits(40)[1]):
        with pytest.raises(DataError, match=r"tuple of 2 tensors, \(2, 10\), \(2, 10\)"):
            train(data, lambda: refused, recipe=RECIPE, place=CPU)
        with pytest.raises(DataError, match="tuple of 2 tensors"):
            adopt(refused, data)
    assert refused.steps == 0


@pytest.mark.parametrize("outputs", [1, 3, 9])
def test_fewer_outputs_than_classes_are_named_before_training(outputs: int) -> None:
    model = Wraps(lambda y: y[:, :outputs])
    for data in (few(), named_digits(40)[1]):
        with pytest.raises(DataError, match=rf"have label 9 \(class '9'\).*has {outputs} output"):
            train(data, lambda: model, recipe=RECIPE, place=CPU)
        with pytest.raises(DataError, match="give a model with 10 outputs"):
            adopt(model, data)
    assert model.steps == 0


# --- kinds of models, numbers and shapes


@pytest.mark.filterwarnings("ignore:`torch.jit")
@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: conv().half(), r"weights are float16 .*float32, by model\.float\(\)"),
        (lambda: conv().double(), r"weights are float64 .*float32, by model\.float\(\)"),
        (lambda: conv().bfloat16(), r"weights are bfloat16 .*float32, by model\.float\(\)"),
        (lambda: torch.jit.script(conv()), "scripted or traced .*give the nn.Module"),
        (lambda: torch.jit.trace(conv(), torch.zeros(1, 1, 8, 8)), "scripted or traced"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(9, 10)), r"float32 of shape \(2, 1, 8, 8\)"),
        (lambda: nn.Sequential(nn.Linear(8, 10)), "classification needs logits of shape"),
        (lambda: [conv()], "returned a list; it must return a torch.nn.Module"),
    ],
    ids=["half", "double", "bfloat16", "scripted", "traced", "shape", "axes", "no module"],
)
def test_models_that_do_not_fit_are_refused_before_training(build: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        train(few(), build, recipe=RECIPE, place=CPU)
    if "returned" not in says:
        with pytest.raises(UserError, match=says):
            adopt(build(), few())


@pytest.mark.parametrize("kind", [torch.int64, torch.uint16, torch.bool])
def test_whole_numbers_that_meet_float_weights(kind: torch.dtype) -> None:
    inputs = torch.arange(240).reshape(40, 6).remainder(7).to(kind)
    labels = torch.arange(40) % 3
    said = rf"inputs are {str(kind).removeprefix('torch.')}: save numbers as float32"
    both = [toy(labels.tolist(), inputs=inputs), load_data((TensorDataset(inputs, labels),) * 2)]
    for data in both:
        with pytest.raises(ModelError, match=said):
            train(data, lambda: nn.Linear(6, 3), recipe=RECIPE, place=CPU)
        with pytest.raises(ModelError, match=said):
            adopt(nn.Linear(6, 3), data)
        assert adopt(nn.Sequential(Floats(), nn.Linear(6, 3)), data).record.step == "import"


class Floats(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.float()


def test_lazy_layers_get_their_sizes_before_training() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.LazyConv2d(3, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(10))

    one, other = (train(few(), build, recipe=RECIPE, place=CPU) for _ in range(2))
    assert same_state(one.model, other.model), "drawn by the run's seed"
    adopted = adopt(build(), few(), recipe=RECIPE, fresh=build)
    for method in ("fisher", "retrain", STEP):
        assert unlearn(adopted, "class:3", method, place=CPU).split.forget


def test_the_trial_leaves_model_randomness_and_counts_alone() -> None:
    watched, data = named_digits(40)
    module = nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Dropout(), nn.Flatten(), nn.Linear(108, 10)
    )
    state = torch.random.get_rng_state()
    for one in (data, few()):
        assert same_state(adopt(module.train(), one).model, module)
    assert module.training and torch.equal(torch.random.get_rng_state(), state)
    assert watched.read == [], "no training sample is read where each look counts"


def test_a_dataset_that_cannot_be_read_now_is_adopted() -> None:
    watched, data = named_digits(40)
    data.test.store.dataset.inputs = None  # type: ignore[attr-defined]
    assert adopt(conv(), data).record.step == "import" and watched.read == []


class Minds(nn.Module):
    """Counts, lists and keeps what it is shown, in a buffer, an attribute and a hidden state."""

    def __init__(self) -> None:
        super().__init__()
        self.body = conv()
        self.register_buffer("shown", torch.zeros(()))
        self.sizes: list[int] = []
        self.hidden: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.shown += len(x)
        self.sizes.append(len(x))
        made: Tensor = self.body(x)
        self.hidden = made if self.hidden is None else made + 0 * self.hidden.detach()
        return self.hidden


def test_the_trial_changes_nothing_that_a_model_keeps() -> None:
    module = Minds()
    for one in (module, adopt(module, few(), fresh=Minds).model):
        assert one.get_buffer("shown") == 0 and one.sizes == [] and one.hidden is None
    data = toy(few().train.labels.tolist(), inputs=_inputs(few()).float() / 16)
    whole = Split.whole(data, validation=0.0)  # in batches of one size, as such a model needs them
    made = train(data, Minds, recipe=RECIPE.but(batch_size=len(data.train)), split=whole, place=CPU)
    assert made.record.log["losses"]


class TrainsByView(Views):
    def forward(self, x: Tensor) -> Tensor:
        made = torch.relu(self.conv(x))
        made = self.head(made.view(len(x), -1) if self.training else made.flatten(1))
        return made


class ViewsGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 1

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].view(len(gradients[0]), -1).view(gradients[0].shape)


class BacksByView(Views):
    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.head(torch.relu(ViewsGradient.apply(self.conv(x))).flatten(1))
        return made


class Strided(Views):
    """Reads memory as it lies: in the fast layout it says something else, and nothing fails."""

    def forward(self, x: Tensor) -> Tensor:
        seen = torch.relu(self.conv(x)).as_strided((len(x), 144), (144, 1))
        made: Tensor = self.head(seen)
        return made


@pytest.mark.parametrize("build", [TrainsByView, BacksByView, Strided])
def test_a_layout_that_fails_only_in_training_or_in_silence(build: Build) -> None:
    made = train(few(), build, recipe=RECIPE, place=CPU)
    assert made.record.log["layout"] == "contiguous"
    module = build()
    assert stays_ordinary(adopt(module, few()).model) and not stays_ordinary(module)


class TrainsToPairs(Views):
    def forward(self, x: Tensor) -> Any:
        made = self.head(self.conv(x).flatten(1))
        return (made, made) if self.training else made


class FailsInTraining(Views):
    def forward(self, x: Tensor) -> Any:
        return self.head(self.gone if self.training else self.conv(x).flatten(1))


class Makes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head: nn.Module | None = None

    def forward(self, x: Tensor) -> Any:
        self.head = self.head or nn.Linear(64, 10)
        return self.head(x.flatten(1))


class SparseRows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rows, self.head = nn.Embedding(20, 4, sparse=True), nn.Linear(4, 10)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.rows(x.flatten(1).long().clamp(0, 19)).mean(1))


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (TrainsToPairs, "a tuple of 2 tensors"),
        (FailsInTraining, "fails in training on the first two samples: AttributeError: .*'gone'"),
        (lambda: Wraps(Tensor.squeeze), r"one sample alone.*shape \(10,\).*flatten\(1\)"),
        (Makes, r"makes or drops 'head\.\w+' while it runs.*make it in __init__"),
        (SparseRows, r"gradient of 'rows\.weight' is sparse.*sparse=False"),
    ],
)
def test_faults_of_training_are_one_line_before_it(build: Any, says: str) -> None:
    for start in (
        lambda: train(few(), build, recipe=RECIPE, place=CPU),
        lambda: adopt(build(), few()),
    ):
        with pytest.raises(UserError, match=says) as error:
            start()
        assert "\n" not in str(error.value)


class ComplexWeight(Wraps):
    def __init__(self) -> None:
        super().__init__(lambda y: y * self.turn.abs())
        self.turn = nn.Parameter(torch.ones(10, dtype=torch.complex64))


@pytest.mark.parametrize("method", ["fisher", "influence"])
def test_complex_weights_have_no_gradients_of_single_samples(method: str) -> None:
    adopted = adopt(ComplexWeight(), few())
    with pytest.raises(ConfigError, match=r"'turn' is complex.*finetune"):
        unlearn(adopted, "class:3", method, place=CPU)
    assert unlearn(adopted, "class:3", STEP, place=CPU).split.forget


# --- what a file of tensors can hold


class Expanded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)
        self.register_buffer("scale", torch.ones(1).expand(10))

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.head(x.flatten(1)) * self.scale
        return made


class Parts(nn.Module):
    """Parameters that are parts of one storage, and one that is another's other shape."""

    def __init__(self) -> None:
        super().__init__()
        whole = torch.randn(20, 64) / 8
        self.one, self.two = nn.Parameter(whole[:10]), nn.Parameter(whole[10:])
        self.register_buffer("flat", torch.zeros(4))
        self.register_buffer("square", self.flat.view(2, 2))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ (self.one + self.two).T + self.flat.sum() + self.square.sum()


@pytest.mark.parametrize("build", [Expanded, Parts, Tied])
def test_state_that_shares_memory_is_saved_and_read(build: Build, tmp_path: Path) -> None:
    made = train(few(), build, recipe=RECIPE, place=CPU)
    made.save(tmp_path / "one")
    again = load(tmp_path / "one", data=few(), fresh=build, place=CPU)
    assert same_state(again.model, made.model)
    further = unlearn(again, "class:3", STEP, place=CPU)
    assert not same_state(further.model, again.model) and same_state(again.model, made.model)


class Extra(Wraps):
    def __init__(self) -> None:
        super().__init__(lambda y: y)

    def get_extra_state(self) -> dict[str, list[str]]:
        return {"vocabulary": ["a"]}

    def set_extra_state(self, state: Any) -> None:
        pass


class Sparse(Wraps):
    def __init__(self) -> None:
        super().__init__(lambda y: y)
        self.register_buffer("edges", torch.eye(3).to_sparse())


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (Extra, "'_extra_state' is a dict and no tensor.*register_buffer"),
        (Sparse, "'edges' is sparse_coo"),
    ],
)
def test_state_that_is_no_tensor_is_found_before_training(
    build: Build, says: str, tmp_path: Path
) -> None:
    model = build()
    for pruner in (None, "omp"):
        with pytest.raises(ModelError, match=says):
            train(few(), lambda: model, recipe=RECIPE, pruner=pruner, place=CPU)
    assert model.steps == 0
    with pytest.raises(ModelError, match=says):  # adopted, it can forget; it cannot be kept
        unlearn(adopt(model, few()), "class:3", STEP, place=CPU).save(tmp_path / "out")
    assert not [*tmp_path.iterdir()]
