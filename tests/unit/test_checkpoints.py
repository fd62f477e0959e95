"""Checkpoints as people save them: where the weights lie, what they are called, what is none."""

from __future__ import annotations

import codecs
import functools
import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from expunge.errors import ModelError
from expunge.models.checkpoint import check_weights_file, load_weights, read_checkpoint
from expunge.models.dialects import MOST


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(3)
    return dict(net().state_dict())


def read(tmp_path: Path, content: Any, model: nn.Module | None = None, **options: Any) -> nn.Module:
    """A model with the weights of what torch.save wrote."""
    made = net() if model is None else model
    torch.save(content, tmp_path / "w.pt")
    load_weights(made, tmp_path / "w.pt", **options)
    return made


def refusal(tmp_path: Path, content: Any, model: nn.Module | None = None, **options: Any) -> str:
    """What is said of a checkpoint that is not taken: one line that names the file."""
    with pytest.raises(ModelError) as error:
        read(tmp_path, content, model, **options)
    text = str(error.value)
    assert "w.pt" in text and "\n" not in text and "\x1b" not in text
    assert "weights_only" not in text
    return text


def holds(model: nn.Module, state: dict[str, Tensor]) -> bool:
    own = model.state_dict()
    return own.keys() == state.keys() and all(torch.equal(own[n], state[n]) for n in own)


NESTED: dict[str, Callable[[Any], Any]] = {
    "at the top": lambda s: s,
    "beside other things": lambda s: {"epoch": 3, "lr": 0.1, **s},
    "params": lambda s: {"params": s, "epoch": 3},
    "module": lambda s: {"module": s},
    "a name of their own": lambda s: {"my_best_weights": s, "history": [1.0, 2.0]},
    "two levels down": lambda s: {
        "model": {"params_ema": s},
        "optimizer": {"state": {0: {"m": s}}},
    },
    "the same weights twice": lambda s: {"model": s, "best": dict(s)},
    "beside those of another model": lambda s: {"disc": {"w": torch.zeros(2)}, "gen": s},
    "beside the same names in another shape": lambda s: {
        "small": {n: v[:1] if v.dim() else v for n, v in s.items()},
        "large": s,
    },
}


@pytest.mark.parametrize("how", NESTED)
def test_weights_are_found_wherever_they_lie(
    how: str, tmp_path: Path, state: dict[str, Tensor]
) -> None:
    assert holds(read(tmp_path, NESTED[how](state)), state)


def test_of_several_weights_that_fit_one_is_named(tmp_path: Path, state: dict[str, Tensor]) -> None:
    other = {name: value + 1 for name, value in state.items()}
    both = {"state_dict": state, "nets": {"state_dict_ema": other}}
    told = refusal(tmp_path, both)
    assert "state_dict, nets.state_dict_ema" in told and "--key" in told
    assert holds(read(tmp_path, both, key="nets.state_dict_ema"), other)
    assert holds(read(tmp_path, both, key="state_dict"), state)
    with pytest.raises(
        ModelError, match=r"no tensors under the key 'ema'; there are: state_dict, nets"
    ):
        read(tmp_path, both, key="ema")


@pytest.mark.parametrize(
    "prefix",
    ["backbone.", "module.model.net.", "_orig_mod.backbone.", "_fsdp_wrapped_module.", "a.b.c.d."],
)
def test_prefixes_of_wrappers_are_taken_off(
    prefix: str, tmp_path: Path, state: dict[str, Tensor]
) -> None:
    assert holds(read(tmp_path, {prefix + n: v for n, v in state.items()}), state)


def test_wrappers_within_names_and_around_the_model(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    inner = {n.replace("0.", "0._orig_mod.", 1): v for n, v in state.items()}
    assert holds(read(tmp_path, {f"module.{n}": v for n, v in inner.items()}), state)
    averaged = {"n_averaged": torch.tensor(4)} | {f"module.{n}": v for n, v in state.items()}
    assert holds(read(tmp_path, averaged), state)
    wrapped = read(tmp_path, state, nn.DataParallel(net()))
    assert holds(wrapped, {f"module.{n}": v for n, v in state.items()})
    compiled = nn.Sequential()
    compiled.add_module("_orig_mod", net())
    assert holds(read(tmp_path, state, compiled), {f"_orig_mod.{n}": v for n, v in state.items()})


def test_a_wrapper_anywhere_in_a_name_is_taken_off(tmp_path: Path) -> None:
    model = nn.Sequential(net(), nn.Linear(3, 2))
    state = dict(model.state_dict())
    within = {n.replace("0.", "0.module.", 1): v for n, v in state.items()}
    made = nn.Sequential(net(), nn.Linear(3, 2))
    assert holds(read(tmp_path, within, made), state)
    own = nn.Sequential(nn.DataParallel(net()), nn.Linear(3, 2))  # a model that has it itself
    assert holds(read(tmp_path, dict(own.state_dict()), own), dict(own.state_dict()))


def test_the_network_is_found_beside_what_is_no_part_of_it(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    beside = {"criterion.weight": torch.ones(3), "val.total": torch.ones(())}
    torch.save(
        {"state_dict": beside | {f"net.{n}": v for n, v in state.items()}}, tmp_path / "w.pt"
    )
    made = net()
    taken = read_checkpoint(tmp_path / "w.pt").into(made)
    assert holds(made, state) and taken.key == "state_dict.net"
    assert set(taken.beside) == set(beside)


def test_a_prefix_is_named_as_a_key(tmp_path: Path, state: dict[str, Tensor]) -> None:
    average = {f"ema_model.module.{n}": v + 1 for n, v in state.items()}
    average["ema_model.n_averaged"] = torch.tensor(3)
    both = {"state_dict": {f"model.{n}": v for n, v in state.items()} | average}
    assert "state_dict.model, state_dict.ema_model; name one with --key" in refusal(tmp_path, both)
    assert holds(read(tmp_path, both, key="state_dict.model"), state)
    assert holds(
        read(tmp_path, both, key="state_dict.ema_model"), {n: v + 1 for n, v in state.items()}
    )
    # beside the model's own names it is no guess which are meant
    assert "too many" in refusal(tmp_path, state | {f"ema.{n}": v + 1 for n, v in state.items()})
    assert "leave --key out" in refusal(tmp_path, state, key="zz")


@pytest.mark.parametrize("kind", ["one shared a thousand times", "in itself", "deep", "many"])
def test_mappings_are_visited_once(kind: str, tmp_path: Path, state: dict[str, Tensor]) -> None:
    content: dict[str, Any] = {}
    if kind == "one shared a thousand times":
        for _ in range(4):
            content = dict.fromkeys(map(str, range(60)), content)
    elif kind == "in itself":
        content |= dict.fromkeys(map(str, range(60)), content)
    elif kind == "deep":
        for _ in range(100):
            content = {"a": content}
    else:
        content = {str(row): {} for row in range(MOST + 1)}
        told = refusal(tmp_path, content)
        assert "more than 10,000 dictionaries" in told and "save the weights alone" in told
    content["net"] = state
    if kind != "many":
        assert holds(read(tmp_path, content), state)
    assert holds(read(tmp_path, content, key="net"), state)


def test_tied_weights_that_were_saved_apart_are_refused(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    state = {name: value.clone() for name, value in model.state_dict().items()}
    assert holds(read(tmp_path, state, model), state)
    told = refusal(tmp_path, state | {"1.weight": state["1.weight"] + 1}, model)
    assert "0.weight and 1.weight are one tensor in the model, and differ" in told


def test_names_that_do_not_fit_are_told_as_the_model_has_them(
    tmp_path: Path, state: dict[str, Tensor]
) -> None:
    del state["3.bias"]
    told = refusal(tmp_path, {"net": {f"module.{n}": v for n, v in state.items()}})
    assert (
        "(its 'net') does not fit" in told and "it lacks 3.bias (1 in all); give the model" in told
    )


def test_counts_of_batches_may_lack(tmp_path: Path, state: dict[str, Tensor]) -> None:
    del state["1.num_batches_tracked"]
    made = read(tmp_path, state)
    assert torch.equal(made.state_dict()["3.weight"], state["3.weight"])


def test_pruned_weights_come_with_their_masks(tmp_path: Path) -> None:
    model = net()
    prune.random_unstructured(model[0], "weight", 0.5)  # type: ignore[index]
    prune.ln_structured(model[3], "weight", 1, n=2, dim=0)  # type: ignore[index]
    expected = {"0.weight": model[0].weight != 0, "3.weight": model[3].weight != 0}  # type: ignore[index]
    torch.save(
        {"state_dict": {f"module.{n}": v for n, v in model.state_dict().items()}},
        tmp_path / "w.pth.tar",
    )
    made = net()
    mask = load_weights(made, tmp_path / "w.pth.tar")
    assert mask is not None and mask.keys() == expected.keys()
    for name, keep in mask.items():
        assert keep.dtype == torch.bool and torch.equal(keep, expected[name])
    assert torch.equal(made.state_dict()["0.weight"], model[0].weight)  # type: ignore[index]
    prune.remove(model[0], "weight")  # type: ignore[index]
    prune.remove(model[3], "weight")  # type: ignore[index]
    torch.save(model.state_dict(), tmp_path / "w.pt")
    assert load_weights(net(), tmp_path / "w.pt") is None


def test_a_mask_that_is_none_is_refused(tmp_path: Path) -> None:
    model = net()
    prune.random_unstructured(model[0], "weight", 0.5)  # type: ignore[index]
    model[0].weight_mask *= 0.5  # type: ignore[index]
    assert "0.weight_mask is no mask of 0 and 1" in refusal(tmp_path, model.state_dict())
    endless = torch.zeros(1).expand(2**40)
    parts = {"0.weight_orig": endless, "0.weight_mask": endless}
    assert "0.weight_mask is no mask" in refusal(tmp_path, model.state_dict() | parts)


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Linear(4, 3),
    **{
        f"{'transposed ' if turned else ''}convolution of {dims} axes": functools.partial(
            getattr(nn, f"Conv{'Transpose' if turned else ''}{dims}d"), 2, 4, 3
        )
        for dims in (1, 2, 3)
        for turned in (False, True)
    },
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("norm", [weight_norm, parametrizations.weight_norm])
@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("layer", LAYERS)
def test_weight_normalisation_is_computed(
    layer: str, norm: Callable[..., Any], dim: int | None, tmp_path: Path
) -> None:
    build = LAYERS[layer]
    model = nn.Sequential(build())
    norm(model[0], "weight", dim=dim)
    with torch.no_grad():
        for parameter in model[0].parameters():
            parameter.mul_(1.5)
    for hook in model[0]._forward_pre_hooks.values():  # the old one computes the weight there
        hook(model[0], ())
    made = read(tmp_path, model.state_dict(), nn.Sequential(build()))
    torch.testing.assert_close(made.get_parameter("0.weight"), model[0].weight)
    assert holds(read(tmp_path, model.state_dict(), model), dict(model.state_dict()))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_one_weight_in_parts_leaves_the_others_computed(tmp_path: Path) -> None:
    """The model has one of them in parts itself, or a parameter whose name only looks so."""
    model, saved = net(), net()
    weight_norm(saved[3])  # type: ignore[index]
    model.register_parameter("log_g", nn.Parameter(torch.ones(2)))
    saved.register_parameter("log_g", nn.Parameter(torch.zeros(2)))
    parametrizations.weight_norm(model[0])  # type: ignore[index]
    parametrizations.weight_norm(saved[0])  # type: ignore[index]
    state = {f"module.{name}": value for name, value in saved.state_dict().items()}
    made = read(tmp_path, state, model).state_dict()
    assert torch.equal(made["log_g"], torch.zeros(2))
    torch.testing.assert_close(made["3.weight"], saved[3].weight)  # type: ignore[index]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_parametrisations_that_cannot_be_computed_name_the_remedy(tmp_path: Path) -> None:
    old = nn.Sequential(spectral_norm(nn.Linear(4, 3)))
    assert "remove_spectral_norm" in refusal(
        tmp_path, old.state_dict(), nn.Sequential(nn.Linear(4, 3))
    )
    for made in (parametrizations.spectral_norm, parametrizations.orthogonal):
        new = nn.Sequential(made(nn.Linear(4, 3)))
        told = refusal(tmp_path, new.state_dict(), nn.Sequential(nn.Linear(4, 3)))
        assert "remove_parametrizations" in told


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_sparse_and_short_numbers_are_taken(tmp_path: Path, state: dict[str, Tensor]) -> None:
    for shape in (Tensor.to_sparse, Tensor.to_sparse_csr):
        assert holds(read(tmp_path, state | {"3.weight": shape(state["3.weight"])}), state)
    short = {n: v.bfloat16() if v.is_floating_point() else v for n, v in state.items()}
    assert holds(read(tmp_path, short), {n: short[n].to(v.dtype) for n, v in state.items()})
    tiny = {n: v.to(torch.float8_e4m3fn) if v.is_floating_point() else v for n, v in state.items()}
    assert holds(read(tmp_path, tiny), {n: tiny[n].to(v.dtype) for n, v in state.items()})
    counted = {"1.running_mean": torch.tensor([2, 3]), "1.num_batches_tracked": torch.tensor(7.0)}
    made = read(tmp_path, state | counted).state_dict()
    assert made["1.running_mean"].tolist() == [2.0, 3.0] and made["1.num_batches_tracked"] == 7


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_numbers_that_are_no_weights_are_refused(tmp_path: Path, state: dict[str, Tensor]) -> None:
    weight = state["3.weight"]
    packed = torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8)
    told = {
        "3.weight is quantised": packed,
        "3.weight holds int8 where the model has float32": (weight * 50).to(torch.int8),
        "3.weight is complex": weight.to(torch.complex64),
        "3.weight holds nan or inf": weight.clone().index_fill_(0, torch.tensor([1]), torch.nan),
    }
    for expected, value in told.items():
        assert expected in refusal(tmp_path, state | {"3.weight": value})
    count, half = "1.num_batches_tracked", net().half()
    for odd in (0.7, torch.nan, 1e30):
        assert "no whole numbers int64" in refusal(tmp_path, state | {count: torch.tensor(odd)})
    told_of = refusal(tmp_path, state | {"3.weight": weight * 1e9}, half)
    assert "beyond those of float16" in told_of and "make the model float32" in told_of
    assert "beyond those of float32" in refusal(
        tmp_path, state | {"3.weight": weight.double() * 1e60}
    )
    assert "is quantised" in refusal(tmp_path, {"0.scale": torch.ones(1), "3.weight": packed})


def test_what_holds_no_weights_says_what_it_holds(tmp_path: Path, state: dict[str, Tensor]) -> None:
    assert "but epoch, lr" in refusal(tmp_path, {"epoch": 3, "lr": 0.1})
    assert "it holds a list" in refusal(tmp_path, list(state.values()))
    told = refusal(tmp_path, {"state_dict": state, "args": np.float64(3)})
    assert "numpy" in told and "run code" in told
    assert "torch.nn.modules.container.Sequential" in refusal(tmp_path, net())


def _tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("weights")
        member.size = 4
        archive.addfile(member, io.BytesIO(b"\1\2\3\4"))


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("word/document.xml", "hello")


def _arrays(path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, w=np.zeros(2))


def _bytes(content: bytes) -> Callable[[Path], Any]:
    return lambda path: path.write_bytes(content)


def _scripted(path: Path) -> None:
    torch.jit.script(nn.Linear(2, 2)).save(str(path))


NONE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "page": (_bytes(b"\n <!DOCTYPE html><html>404"), "a web page"),
    "refusal": (_bytes(b'<?xml version="1.0"?><Error><Code>AccessDenied'), "a web page"),
    "pointer": (
        _bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0"),
        "git lfs pull",
    ),
    "empty": (_bytes(b""), "it is empty"),
    "text": (_bytes(b"epoch,loss\n1,0.5\n"), "a text, which begins with 'epoch,loss"),
    "gzip": (_bytes(b"\x1f\x8b\x08" + bytes(60)), "compressed with gzip"),
    "keras": (_bytes(b"\x89HDF\r\n\x1a\n" + bytes(60)), "an HDF5 file"),
    "tar": (_tar, "a tar archive"),
    "zip": (_zip, r"it holds word/document\.xml"),
    "arrays": (_arrays, "arrays of numpy"),
    "scripted": (_scripted, "TorchScript"),
    "page with a mark": (_bytes(codecs.BOM_UTF8 + b"<!DOCTYPE html><html>"), "a web page"),
    "page in wide letters": (_bytes("<html>\u00fc".encode("utf-16")), "a web page"),
    "page after a comment": (_bytes(b"<!-- x --><head><title>404"), "a web page"),
    "text with umlauts": (_bytes("Zugriff verweigert: f\u00fcr".encode()), "a text, .* 'Zugriff"),
    "text in wide letters": (_bytes("Zugriff".encode("utf-16")), "a text, .* 'Zugriff'"),
    "picture": (_bytes(b"\x89PNG\r\n\x1a\n" + bytes(60)), "a picture"),
    "rar": (_bytes(b"Rar!\x1a\x07" + bytes(60)), "a RAR archive"),
    "onnx": (_bytes(b"\x08\x08\x12\x07pytorch\x1a\x052.1.0" + bytes(60)), "an ONNX model"),
    "index": (
        _bytes(b'{"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors"}}'),
        "the index of weights in several files; join them",
    ),
}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("ending", ["pt", "safetensors"])
@pytest.mark.parametrize("name", NONE)
def test_what_is_no_checkpoint_is_named(name: str, ending: str, tmp_path: Path) -> None:
    write, told = NONE[name]
    write(tmp_path / f"w.{ending}")
    with pytest.raises(ModelError, match=rf"w\.{ending} is no checkpoint: .*{told}") as error:
        check_weights_file(tmp_path / f"w.{ending}")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("length", [0x80, 0x8B18 + 7, 0x28B5])
def test_a_header_may_have_a_length_whose_bytes_begin_something_else(
    length: int, tmp_path: Path
) -> None:
    header = b'{"weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}'.ljust(length)
    content = length.to_bytes(8, "little") + header + bytes(4)
    (tmp_path / "w.safetensors").write_bytes(content)
    load_weights(nn.Linear(1, 1, bias=False), tmp_path / "w.safetensors")


def test_a_suffix_that_tells_the_other_format(tmp_path: Path, state: dict[str, Tensor]) -> None:
    save_file(state, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"a safetensors file; rename it .* \.safetensors"):
        load_weights(net(), tmp_path / "w.pt")
    for new in (True, False):
        torch.save(state, tmp_path / "w.safetensors", _use_new_zipfile_serialization=new)
        with pytest.raises(ModelError, match=r"written by torch\.save.*; rename it to end in \.pt"):
            load_weights(net(), tmp_path / "w.safetensors")
