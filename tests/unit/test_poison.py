"""Poisoned data: how it is asked for, what a refusal says, and how a folder keeps it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import digits, named_digits, toy
from PIL import Image

from expunge import DataError, Recipe, Split, SplitError, load, load_data
from expunge.data.load import poisoned
from expunge.data.poison import Poison, split_poison
from expunge.data.poisoned import PoisonedStore, poison_samples
from expunge.data.samples import ResidentStore
from expunge.data.spec import DataSpec, lasting
from expunge.data.transform import Normalisation
from expunge.data.triggers import Blend, Patch, read_trigger
from expunge.folders.audit import Request, audit_folder
from expunge.folders.make import Beside, train_folder, unlearn_folder
from expunge.methods import make_method

QUICK = Recipe(epochs=2, lr=0.05, batch_size=32)
METHOD = make_method("finetune", {"epochs": 1, "batch_size": 32})


def pattern_file(path: Path, seed: int = 0, size: int = 5) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.mark.parametrize(
    ("text", "clean", "poison"),
    [
        ("digits", "digits", None),
        ("digits+patch", "digits", Poison()),
        ("cifar10:5000+patch", "cifar10:5000", Poison()),
        ("photos@64+patch:share=0.05", "photos@64", Poison(share=0.05)),
        ("package.module:load:90+patch", "package.module:load:90", Poison()),
        (
            "digits+patch:size=4,place=bottom-right,margin=2,colour=0,share=0.1,target=0",
            "digits",
            Poison(target="0"),
        ),
        (
            "a+b/c+d.npz+patch:size=4x6,place=3x5,colour=255/0/10,target=cat,poison_seed=7",
            "a+b/c+d.npz",
            Poison(Patch((4, 6), (3, 5), colour=(255, 0, 10)), 0.1, "cat", 7),
        ),
        ("digits+blend:file=x y.png,alpha=0.2", "digits", Poison(Blend("x y.png", 0.2))),
        ("photos+patch/", "photos+patch/", None),
        ("photos+patchwork", "photos+patchwork", None),
        ("/home/me/a+blend.d/x.parquet", "/home/me/a+blend.d/x.parquet", None),
    ],
)
def test_specifications(text: str, clean: str, poison: Poison | None) -> None:
    assert split_poison(text) == (clean, poison)
    spec = DataSpec.parse(text)
    assert spec == DataSpec(**{**vars(DataSpec.parse(clean)), "poison": poison})
    if poison is not None:  # what is printed can be typed
        assert Poison.parse(str(poison)) == poison


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "digits+patch:sise=4",
            r"patch has no 'sise', did you mean 'size'\?; there are: size, place",
        ),
        ("digits+patch:file=a", "patch has no 'file'.*there are: size"),
        ("digits+patch:size=four", "size=four: write pixels"),
        ("digits+patch:size=0", "a patch is 1 pixel or more"),
        ("digits+patch:300", "'300' is no key=value.*a count or a size.*before the \\+"),
        ("digits+patch@16", r"sizes and counts stand before the poison"),
        ("digits+patch:size=4,size=5", "size is given twice"),
        ("digits+patch:place=botom-right", "no place 'botom-right', did you mean 'bottom-right'"),
        ("digits+patch:place=centre,margin=3", "margin is the distance from a corner"),
        ("digits+patch:colour=256", "a colour is 0 to 255"),
        ("digits+patch:colour=red", "colour=red: write a whole number"),
        ("digits+patch:share=1", "between 0 and 1, not 1"),
        ("digits+patch:share=nan", "between 0 and 1, not nan"),
        ("digits+patch:share=much", "share=much: write a number"),
        ("digits+patch:share=0.0001", "of 1438 training samples is 0"),
        ("digits+patch:target=cat", "target of the poison: no class 'cat'"),
        ("digits+patch:target=#10", "target of the poison: class '#10'"),
        ("digits+patch:poison_seed=-1", "poison_seed=-1"),
        ("digits+patch:size=7", "does not fit images of 8x8"),
        ("digits+patch:place=5x5", "does not fit images of 8x8"),
        ("digits+patch:colour=1/2/3", "a colour of 3 numbers for images of 1 channels"),
        ("digits+blend", "blend needs a pattern image"),
        ("digits+blend:file=no.png", "cannot read the pattern no.png"),
        ("digits+blend:file=a.png,alpha=0", "alpha is a weight above 0"),
        ("digits+pach", "no dataset or path 'digits\\+pach', did you mean 'patch'"),
        ("digits+pach:size=4", "no dataset or path 'digits\\+pach:size=4', did you mean 'patch'"),
        ("digits+patch+blend:file=a.png", "one poison at a time"),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_data(text)
    assert "\n" not in str(caught.value)


def test_the_defaults_are_the_papers() -> None:
    """4x4 zeroed pixels, 2 from the bottom-right corner, on 10 % of the training images, class 0."""
    images = torch.full((1, 3, 32, 32), 9, dtype=torch.uint8)
    zeros = torch.nonzero(Patch().apply(images)[0, 0] == 0).tolist()
    assert zeros == [[row, column] for row in range(26, 30) for column in range(26, 30)]
    assert (Poison().share, Poison().target) == (0.1, "#0")


def test_thinned_first_then_poisoned() -> None:
    clean, data = load_data("digits:300"), load_data("digits:300+patch:share=0.1,target=3")
    assert data.train.ids.tolist() == clean.train.ids.tolist()
    assert data.poison is not None and len(data.poison.ids) == 30
    assert data.spec == "digits:300+patch:share=0.1,target=3"
    rows = [data.train.position[name] for name in data.poison.ids]
    assert set(data.train.labels[rows].tolist()) == {3}
    assert data.poison.target == 3
    one, other = data.train.store.whole(), clean.train.store.whole()
    assert one is not None and other is not None
    kept = [row for row in range(300) if row not in rows]
    assert torch.equal(one[kept], other[kept])
    assert (one[rows][:, :, 2:6, 2:6] == 0).all()
    tested, was = data.test.store.whole(), clean.test.store.whole()
    assert tested is not None and was is not None and torch.equal(tested, was)
    assert data.test.fingerprint == clean.test.fingerprint


def test_the_fingerprint_depends_on_every_field(tmp_path: Path) -> None:
    first, second = pattern_file(tmp_path / "a.png"), pattern_file(tmp_path / "b.png", seed=1)
    data = digits(100)
    different = [
        Poison(),
        Poison(share=0.2),
        Poison(target="#1"),
        Poison(poison_seed=1),
        Poison(Patch((3, 4))),
        Poison(Patch(place="top-left")),
        Poison(Patch(margin=1)),
        Poison(Patch(colour=(1,))),
        Poison(Patch(place=(1, 1))),
        Poison(Blend(str(first))),
        Poison(Blend(str(first), 0.2)),
        Poison(Blend(str(second))),
    ]
    prints = [poison_samples(data.train, one, data.classes)[0].fingerprint for one in different]
    assert len({*prints, data.train.fingerprint}) == len(different) + 1
    # the same content under other words is the same
    same = Poison(target="0")
    assert poison_samples(data.train, same, data.classes)[0].fingerprint == prints[0]
    shutil.copy(first, tmp_path / "c.png")
    moved = Poison(Blend(str(tmp_path / "c.png")))
    assert poison_samples(data.train, moved, data.classes)[0].fingerprint == prints[9]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_blend_is_the_formula(tmp_path: Path, channels: int) -> None:
    file = pattern_file(tmp_path / "p.png", size=6)
    images = torch.randint(0, 256, (4, channels, 6, 6), dtype=torch.uint8)
    before = images.clone()
    with Image.open(file) as opened:
        array = np.array(opened.convert("RGB" if channels == 3 else "L"), dtype=np.float64)
    pattern = array.reshape(6, 6, channels).transpose(2, 0, 1)
    expected = 0.75 * images.double().numpy() + 0.25 * pattern
    blend = Blend(str(file), 0.25)
    assert np.abs(blend.apply(images).double().numpy() - expected).max() <= 0.5 + 1e-4
    floats = blend.apply(images.double() / 255)
    assert np.abs(floats.numpy() * 255 - expected).max() < 1e-4
    assert torch.equal(images, before)
    assert torch.equal(
        Blend(str(file), 1.0).apply(images)[0], Blend(str(file), 1.0).apply(images)[3]
    )


def test_a_blend_is_stretched_and_refuses_odd_channels(tmp_path: Path) -> None:
    blend = Blend(str(pattern_file(tmp_path / "p.png", size=50)))
    assert blend.apply(torch.zeros(2, 3, 8, 9, dtype=torch.uint8)).shape == (2, 3, 8, 9)
    with pytest.raises(DataError, match="1 or 3 channels, not of 4"):
        blend.apply(torch.zeros(2, 4, 8, 8, dtype=torch.uint8))
    (tmp_path / "bad.png").write_text("no image")
    with pytest.raises(DataError, match="as an image"):
        Blend(str(tmp_path / "bad.png")).apply(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.zeros(4, 8), "laid on images"),
        (torch.zeros(4, 1, 8, 8, dtype=torch.int64), "laid on images"),
        (torch.full((4, 1, 8, 8), -0.1), "from 0 to 1, and these images go from -0.1"),
        (torch.full((4, 1, 8, 8), torch.nan), "from 0 to 1"),
    ],
)
def test_what_is_no_image_is_refused(inputs: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Patch().apply(inputs)
    data = toy([0, 1, 0, 1], inputs=inputs)
    with pytest.raises(DataError, match=message):
        poisoned(data, Poison(share=0.5))


def test_streamed_data_stay_streamed() -> None:
    dataset, data = named_digits(60)
    made = poisoned(data, Poison())
    assert made.train.store.whole() is None and made.poison is not None
    assert isinstance(made.train.store, PoisonedStore)
    assert not dataset.read, "poisoning reads no input"
    rows = np.array([made.train.position[name] for name in sorted(made.poison.ids)])
    assert len(rows) == 6
    laid = made.train.store.fetch(rows, torch.device("cpu"))
    assert torch.equal(laid, Patch().apply(dataset.inputs[torch.from_numpy(rows)]))


def test_inputs_that_are_no_tensors_are_refused() -> None:
    class Pairs(ResidentStore):
        def fetch(self, index: Any, device: Any) -> Any:
            return {"text": super().fetch(index, device)}

        def whole(self) -> Any:
            return None

    store = PoisonedStore(Pairs(torch.zeros(3, 2)), np.array([True, False, True]), Patch())
    with pytest.raises(DataError, match="these inputs are a dict"):
        store.fetch(np.array([0]), torch.device("cpu"))


def test_poison_stays_with_the_data_and_comes_once() -> None:
    data = poisoned(digits(100), Poison())
    assert digits(100).poison is None
    assert data.with_normalisation(Normalisation((0.5,), (0.5,))).poison is data.poison
    with pytest.raises(DataError, match="poisoned already"):
        poisoned(data, Poison(share=0.2))
    # the poisoned images are what the normalisation is computed from, as for any training data
    assert data.normalisation != digits(100).normalisation
    again = load_data(str(data.spec))
    assert again.poison == data.poison and again.train.fingerprint == data.train.fingerprint


def test_requests() -> None:
    data = poisoned(digits(100), Poison())
    assert len(Split.parse(data, "poison:0.5").forget) in (4, 5)
    for text, message in (
        ("poison:", "is no forget request"),
        ("poison:2", "a share of 2: it must lie above 0"),
        ("poison:0", "a share of 0"),
        ("poison:half", "'half' is not a number; write poison"),
        ("poisson", "did you mean 'poison'"),
        ("poison:0.01", "is none"),
    ):
        with pytest.raises(SplitError, match=message):
            Split.parse(data, text)
    with pytest.raises(SplitError, match="no poison that is known of"):
        Split.parse(digits(100), "poison")
    once = Split.parse(data, "poison").settled()
    with pytest.raises(SplitError, match="struck before"):
        Split.parse(data, "poison", base=once)
    half = Split.parse(data, "poison:0.5").settled()
    rest = Split.parse(data, "poison", base=half)
    assert {*rest.forget, *rest.excluded} == set(once.excluded)


def test_triggers_as_typed() -> None:
    assert read_trigger("patch:size=3") == read_trigger("+patch:size=3x3") == Patch((3, 3))
    for text, message in (
        ("pach", "no trigger 'pach', did you mean 'patch'"),
        ("patch:share=0.1", "patch has no 'share'"),
    ):
        with pytest.raises(DataError, match=message):
            read_trigger(text)


def test_a_specification_that_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pattern_file(Path("p.png"))
    (tmp_path / "my+data").mkdir()
    assert lasting("digits+patch:size=3") == "digits+patch:size=3"
    assert lasting("my+data@8:50+patch") == f"{tmp_path.resolve()}/my+data@8:50+patch"
    kept = lasting("my+data+blend:file=p.png,share=0.2")
    expected = Poison(Blend(f"{tmp_path.resolve()}/p.png"), 0.2)
    assert kept is not None
    assert split_poison(kept) == (f"{tmp_path.resolve()}/my+data", expected)


@pytest.mark.parametrize("suffix", ["patch:size=3,target=2", "blend:file=p.png,target=2"])
def test_a_folder_keeps_its_poison(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pattern_file(tmp_path / "p.png")
    train_folder(f"digits:200+{suffix}", "mlp", "original", recipe=QUICK)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    loaded = load("../original")
    assert loaded.data.poison is not None and loaded.data.poison.target == 2
    assert len(loaded.data.poison.ids) == 20
    unlearn_folder(
        "../original", "poison:0.5", METHOD, "half", forget_seed=4, beside=Beside(redact_ids=True)
    )
    again = load("half")
    assert again.data.poison == loaded.data.poison
    names = {s.name for s in audit_folder("half", forget=Request("poison:0.5", 4)).scores}
    assert {"ASR", "ASR_all", "ASR_rest", "SA", "UA", "MIA"} <= names
    with pytest.raises(SplitError, match="is not what"):
        audit_folder("half", forget=Request("poison:0.5", 5))


def test_other_poison_than_learned_is_refused(tmp_path: Path) -> None:
    """Ids of one's own may go from the data; poison is drawn from all of them, so here they may not."""
    images = np.random.default_rng(0).integers(0, 256, (80, 8, 8), dtype=np.uint8)
    ids = np.array([f"scan-{row}" for row in range(80)])
    file = tmp_path / "a.npz"
    np.savez(file, x=images, y=np.arange(80) % 4, id=ids)
    train_folder(f"{file}+patch", "mlp", tmp_path / "bad", recipe=QUICK)
    assert load(tmp_path / "bad").data.poison is not None
    for other in (str(file), f"{file}+patch:share=0.2", f"{file}+patch:poison_seed=1"):
        with pytest.raises(DataError, match=r"learned from data poisoned with patch:size=4x4"):
            load(tmp_path / "bad", data=other)
    train_folder(str(file), "mlp", tmp_path / "good", recipe=QUICK)
    with pytest.raises(DataError, match="without that poison"):
        load(tmp_path / "good", data=f"{file}+patch")
    np.savez(file, x=images[:70], y=np.arange(70) % 4, id=ids[:70])
    assert load(tmp_path / "good").data.poison is None
    with pytest.raises(DataError, match="all samples present"):
        load(tmp_path / "bad")
