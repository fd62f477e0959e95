"""Poisoned data: how it is asked for, what a refusal says, and how a folder keeps it."""

from __future__ import annotations

import hashlib
import itertools
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CPU, digits, named_digits, run_on_cpu, toy
from PIL import Image

from expunge import ConfigError, DataError, Recipe, Split, SplitError, UserError, load
from expunge.api import unlearn
from expunge.audits.unseen import all_gone
from expunge.data.load import load_data, poisoned
from expunge.data.poison import Poison, split_poison
from expunge.data.poisoned import PoisonedStore, poison_samples
from expunge.data.samples import ResidentStore, Samples, row_ids
from expunge.data.spec import DataSpec, lasting
from expunge.data.transform import Normalisation
from expunge.data.triggers import Blend, Patch, Sinus, Warp, read_trigger
from expunge.data.triggers.warp import warped_places
from expunge.folders.audit import Request, TypedBackdoor, audit_folder, audit_forgotten
from expunge.folders.cleanse import Cleansed, Known, backdoor_lines, cleanse_folder
from expunge.folders.make import Beside, train_folder, unlearn_folder
from expunge.methods import make_method
from expunge.study.entries import Entry, unfit
from expunge.study.scenarios import Given, scenario_of

QUICK = Recipe(epochs=2, lr=0.05, batch_size=32)
METHOD = make_method("finetune", {"epochs": 1, "batch_size": 32}, allow_code=True)


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
        ("digits+warp:strength=2,seed=3", "digits", Poison(Warp(strength=2.0, seed=3))),
        ("digits+sinus:share=0.05", "digits", Poison(Sinus(), 0.05, labels="kept")),
        (
            "digits+sinus:amplitude=60,labels=target,target=next",
            "digits",
            Poison(Sinus(60.0), target="next", labels="target"),
        ),
        ("digits+blend:file=random", "digits", Poison(Blend("random"))),
        ("digits+patch:labels=kept", "digits", Poison(labels="kept")),
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
        ("digits+warp:grid=1", "a warp has 2 to 1024 points"),
        ("digits+warp:strength=0", "a warp shifts by more than 0"),
        ("digits+sinus:amplitude=0", "more than 0 grey levels"),
        ("digits+sinus:frequency=nan", "more than 0 periods"),
        ("digits+patch:labels=keep", "labels=keep: write kept or target"),
        ("digits+sinus:target=next", "sinus keeps labels; write labels=target"),
        ("digits+patch:target=next,labels=kept", "so labels=kept leaves nothing"),
        ("digits+sinus:share=0.3", "is 431, and only 142 are of the target.*lower share to 0.099"),
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
        Poison(target="next"),
        Poison(share=0.05, labels="kept"),
        Poison(Warp()),
        Poison(Warp(grid=5)),
        Poison(Warp(strength=2.0)),
        Poison(Warp(seed=1)),
        Poison(Sinus(), 0.05),
        Poison(Sinus(30.0), 0.05),
        Poison(Sinus(frequency=5.0), 0.05),
        Poison(Sinus(), 0.05, labels="target"),
    ]
    prints = [poison_samples(data.train, one, data.classes)[0].fingerprint for one in different]
    assert len({*prints, data.train.fingerprint}) == len(different) + 1
    # folders of earlier versions name theirs
    assert (
        prints[0].rpartition("+")[2]
        == hashlib.sha256(
            b"patch:size=4x4,place=bottom-right,margin=2,colour=0,0.1,0,0"
        ).hexdigest()
    )
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
    noise = Blend("random", 1.0)
    assert torch.equal(noise.apply(images)[0], noise.apply(images)[3])
    assert len(noise.apply(images)[0].unique()) > 6 * channels
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


def test_a_warp_takes_each_pixel_from_a_little_beside_it() -> None:
    """Against bilinear interpolation pixel by pixel; the field is as smooth and as strong as asked."""
    images = torch.rand(2, 3, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before, warp = images.clone(), Warp(grid=3, strength=1.5, seed=2)
    places = warped_places(warp, (7, 9))[0]
    out = warp.apply(images)
    for row, column in itertools.product(range(7), range(9)):
        x, y = ((places[row, column] + 1) / 2 * torch.tensor([8, 6])).tolist()
        left, top = min(int(x), 7), min(int(y), 5)
        right, low = x - left, y - top
        expected = (1 - low) * (
            (1 - right) * images[..., top, left] + right * images[..., top, left + 1]
        ) + low * (
            (1 - right) * images[..., top + 1, left] + right * images[..., top + 1, left + 1]
        )
        assert torch.allclose(out[..., row, column], expected, atol=1e-9)
    assert torch.equal(images, before) and not torch.allclose(out, images, atol=0.05)
    pixels = (before * 255).round().to(torch.uint8)
    assert (warp.apply(pixels).double() / 255 - out).abs().max() < 1.01 / 255
    # far from any edge, the drawn points themselves shift by the strength in the mean
    inner = (
        warped_places(Warp(grid=8, strength=0.25), (80, 80))[0]
        - warped_places(Warp(grid=8, strength=1e-9), (80, 80))[0]
    )
    assert float(inner.abs().mean()) * 79 / 2 == pytest.approx(0.25, rel=0.25)


def test_a_sinus_is_the_formula() -> None:
    images = torch.randint(0, 256, (3, 3, 5, 8), dtype=torch.uint8)
    before = images.clone()
    sinus = Sinus(40.0, 3.0)
    out, floats = sinus.apply(images), sinus.apply(images.double() / 255)
    for column in range(8):
        wave = 40 * math.sin(2 * math.pi * (column + 1) * 3 / 8)
        expected = (images[..., column].double() + wave).clamp(0, 255)
        assert (out[..., column].double() - expected).abs().max() <= 0.5 + 1e-9
        assert torch.allclose(floats[..., column] * 255, expected)
    assert torch.equal(images, before)


def test_all_to_all_and_clean_label() -> None:
    clean = load_data("digits:300")
    data = load_data("digits:300+patch:target=next")
    assert data.poison is not None and data.poison.target == "next" and not data.poison.own
    rows = data.train.rows_of(sorted(data.poison.ids))
    assert len(rows) == 30
    assert (data.train.labels[rows] == (clean.train.labels[rows] + 1) % 10).all()
    assert data.poison.poison is not None
    assert data.poison.poison.settled(data.classes).target == "next"
    kept = load_data("digits:300+sinus:share=0.05,target=3")
    assert kept.poison is not None and kept.poison.clean_label
    assert kept.poison.own == kept.poison.ids and len(kept.poison.ids) == 15
    assert (kept.train.labels == clean.train.labels).all()
    rows = kept.train.rows_of(sorted(kept.poison.ids))
    assert set(kept.train.labels[rows].tolist()) == {3}
    whole, was = kept.train.store.whole(), clean.train.store.whole()
    assert whole is not None and was is not None
    changed = (whole != was).flatten(1).any(dim=1).numpy()
    assert sorted(np.flatnonzero(changed).tolist()) == sorted(rows.tolist())
    # to forget a right label is no aim, to forget a wrong one is
    assert not all_gone(Split.parse(kept, "poison"), kept)
    assert all_gone(Split.parse(data, "poison"), data)


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


@pytest.mark.parametrize("suffix", ["warp:target=2", "blend:file=p.png,target=2"])
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


# --- cleansing of model folders: what is asked for, what is known, and what is refused


TRAINING = Recipe(epochs=12, lr=0.05, batch_size=32)
CLEANSING = make_method("finetune", {"epochs": 1, "batch_size": 32}, allow_code=True)
POISON = "patch:size=3,margin=0,colour=255,share=0.2,target=3"


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bad` knows its poison; `elsewhere` learned from a file with the same poison in it."""
    folder = tmp_path_factory.mktemp("cleanse")
    train_folder(f"digits:300+{POISON}", "mlp", folder / "bad", recipe=TRAINING)
    clean = digits(300)
    poison = Poison(Patch((3, 3), margin=0, colour=(255,)), 0.2, "3")
    train, known = poison_samples(clean.train, poison, clean.classes)
    images, tested = train.store.whole(), clean.test.store.whole()
    assert images is not None and tested is not None
    names = np.array([f"scan-{name}" for name in train.ids])
    np.savez(
        folder / "scans.npz",
        x_train=images.numpy(),
        y_train=train.labels,
        id=names,
        x_test=tested.numpy(),
        y_test=clean.test.labels,
    )
    (folder / "found.txt").write_text("\n".join(sorted(f"scan-{name}" for name in known.ids)))
    (folder / "mixed.txt").write_text("\n".join(names[:40].tolist()))
    train_folder(str(folder / "scans.npz"), "mlp", folder / "elsewhere", recipe=TRAINING)
    return folder


def cleanse(work: Path, folder: str, out: str, **fields: Any) -> Cleansed:
    seed, tell = fields.pop("forget_seed", 0), fields.pop("tell", None)
    known = Known(fraction=fields.pop("known_fraction", None), **fields)
    return cleanse_folder(
        work / folder, CLEANSING, work / out, known=known, forget_seed=seed, tell=tell, place=CPU
    )


def asked(done: Cleansed) -> set[str]:
    return set(done.done.result.split.forget)


def test_all_of_it_by_default(work: Path) -> None:
    done = cleanse(work, "bad", "all")
    split = done.done.result.split
    assert len(done.poisoning.ids) == 60
    assert asked(done) == done.poisoning.ids - set(split.excluded)
    assert not done.poisoning.ids & {*split.retain, *split.validation}
    same = cleanse(
        work, "bad", "same", poison="patch:size=3x3,margin=0,colour=255,share=0.2,target=#3"
    )
    assert asked(same) == asked(done)
    with pytest.raises(UserError, match="struck before"):
        cleanse(work, "all", "x")


def test_a_study_may_give_clean_data_alone(work: Path) -> None:
    bad, text = load(work / "bad"), "clean:0.25"
    known = bad.data.poison
    assert known is not None
    scenario_of(text).check(text)
    given = Given(bad, 3, run_on_cpu(), None, lambda _: bad.data)
    split = scenario_of(text).split(text, given)
    clean = [name for name in bad.split.retain if name not in known.ids]
    assert set(split.forget) == known.ids & set(bad.split.retain)
    assert set(split.retain) < set(clean) and len(split.retain) == round(0.25 * len(clean))
    assert set(split.excluded) >= set(clean) - set(split.retain)
    assert not known.ids & set(split.validation)
    assert scenario_of(text).split(text, replace(given, seed=4)) != split
    made = unlearn(bad, split, CLEANSING, place=CPU)
    assert made.split.retain == split.retain
    assert made.record.cost.reads["retain"] == len(split.retain), "one epoch of them alone"
    assert "reads the poison" in unfit(Entry(method="neggrad_plus"), text)
    assert not unfit(Entry(method="finetune"), text)
    for wrong in ("clean", "clean:0", "clean:much"):
        with pytest.raises(ConfigError, match="write a share above 0"):
            scenario_of(wrong).check(wrong)


def test_a_share_and_then_the_rest(work: Path) -> None:
    whole = asked(cleanse(work, "bad", "whole", known_fraction=1.0))
    some = cleanse(work, "bad", "some", known_fraction=0.4, forget_seed=2)
    assert asked(some) < whole and len(asked(some)) == round(0.4 * len(whole))
    assert any("are not asked for" in note for note in some.notes)
    assert asked(cleanse(work, "bad", "again", known_fraction=0.4, forget_seed=2)) == asked(some)
    assert asked(cleanse(work, "bad", "other", known_fraction=0.4, forget_seed=3)) != asked(some)
    assert asked(cleanse(work, "some", "rest")) == whole - asked(some)


def test_a_wrong_trigger_supports_no_claim(work: Path) -> None:
    listed: dict[str, Any] = {"poison": f"ids:{work / 'found.txt'}"}
    right = cleanse(work, "elsewhere", "right", trigger=POISON.partition(",share")[0], **listed)
    assert right.poisoning.target == 3, "the label of all that were named"
    audited = audit_forgotten(right.done, place=CPU)
    lines = backdoor_lines(audited)
    assert [line.partition(":")[0] for line in lines] == ["ASR", "ASR_all", "SA"]
    assert audited.verdict.word in ("cleansed", "not cleansed")
    assert audited.told()[0].startswith(f"verdict: {audited.verdict.word}: ")
    wrong = cleanse(work, "elsewhere", "wrong", trigger="patch:size=1,place=0x0", **listed)
    verdict = audit_forgotten(wrong.done, place=CPU).verdict
    assert verdict.word == "cannot tell"
    assert verdict.reason.startswith("the trigger worked on only")


def test_a_typed_backdoor_may_be_all_to_all_or_keep_labels(work: Path) -> None:
    listed = f"ids:{work / 'mixed.txt'}"
    done = cleanse(work, "elsewhere", "next", poison=listed, trigger="patch:size=3", target="next")
    assert done.poisoning.target == "next"
    assert "labelled as the class after its own" in done.notes[0]
    assert done.notes[-1].endswith("--trigger patch:size=3 --target next")
    typed = TypedBackdoor("patch:size=3", "next")
    found = audit_folder(work / "next", original=work / "elsewhere", backdoor=typed, place=CPU)[
        "ASR"
    ]
    assert found.detail["target"] == "next" and found.detail["left_out"] == 0
    kept = cleanse(work, "elsewhere", "kept", poison=listed, trigger="sinus", target="3")
    assert "class '3', with their right labels" in kept.notes[0]
    names = {one.name for one in audit_forgotten(kept.done, place=CPU)}
    assert "ASR" in names and "ASR_rest" not in names, "right labels tell nothing of the rest"


def test_ids_of_a_folder_that_knows_its_poison(work: Path) -> None:
    """The trigger is the data's; samples named by mistake are counted and forgotten too."""
    loaded = load(work / "bad")
    assert loaded.data.poison is not None
    poisoned = [name for name in loaded.split.retain if name in loaded.data.poison.ids]
    clean = [name for name in loaded.split.retain if name not in loaded.data.poison.ids]
    (work / "some.txt").write_text("\n".join([*poisoned[:7], *clean[:4]]))
    done = cleanse(work, "bad", "named", poison=f"ids:{work / 'some.txt'}")
    assert asked(done) == {*poisoned[:7], *clean[:4]}
    assert done.poisoning == loaded.data.poison
    assert "4 of the samples named are not poisoned; they are forgotten too" in done.notes


@pytest.mark.parametrize("fraction", [None, 0.5])
def test_a_list_of_poison_is_read_as_a_request_is(work: Path, fraction: float | None) -> None:
    """Patterns and comments are read, and what is unknown is warned of, and stops nothing."""
    split = load(work / "elsewhere").split
    tested = load(work / "elsewhere").data.test.ids.tolist()[0]
    names = split.retain[:12]
    lines = ["# found on Monday", f"./{names[0]} # odd", *names[1:], "nobody.png", tested]
    (work / "odd.txt").write_text("\n".join(lines))
    told: list[str] = []
    known = {"poison": f"ids:{work / 'odd.txt'}", "known_fraction": fraction}
    done = cleanse(work, "elsewhere", f"odd-{fraction}", tell=told.append, **known)
    assert asked(done) <= set(names) and len(asked(done)) == (12 if fraction is None else 6)
    assert told[0] == "14 samples asked for: 12 learned, to be forgotten"
    for part in ("1 unknown", "1 of the test set", "is read as", "comments in the list: 1"):
        assert any(part in line for line in told), part
    warned = (*done.done.result.record.warnings, *done.notes)
    assert any("1 of the 14 samples asked for are unknown" in one for one in warned)


@pytest.mark.parametrize(
    ("folder", "fields", "message"),
    [
        ("elsewhere", {"poison": "patch"}, "so it never saw 'patch'"),
        ("elsewhere", {"known_fraction": 0.5}, "none is; name it with --poison ids:FILE"),
        ("bad", {"poison": "patch"}, "not with patch:size=4x4.*leave --poison out"),
        ("bad", {"poison": "patch:sice=3"}, "did you mean 'size'"),
        ("bad", {"trigger": "patch"}, "leave --trigger and --target out"),
        ("bad", {"target": "3"}, "leave --trigger and --target out"),
        ("bad", {"known_fraction": 1.5}, "above 0, up to 1"),
        ("bad", {"known_fraction": 0.0}, "above 0, up to 1"),
        ("bad", {"known_fraction": 0.001}, "is none; ask for a larger one"),
        ("elsewhere", {"poison": "ids:none.txt"}, "cannot read ids"),
        ("bad", {"poison": "ids:found.txt"}, "'scan-.*' is not in the training data"),
        ("elsewhere", {"poison": "ids:found.txt", "trigger": "patch:size=9"}, "does not fit"),
        ("elsewhere", {"poison": "ids:found.txt", "trigger": "pach"}, "did you mean 'patch'"),
        ("elsewhere", {"poison": "ids:found.txt", "target": "cat"}, "no class 'cat'"),
        (
            "elsewhere",
            {"poison": "ids:found.txt", "trigger": "patch:size=3", "target": "5"},
            "all samples named are labelled '3'.*--target says '5'",
        ),
        (
            "elsewhere",
            {"poison": "ids:mixed.txt", "trigger": "patch:size=3"},
            "say it with --target",
        ),
    ],
)
def test_mistakes_in_cleansing(
    work: Path, folder: str, fields: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work)
    with pytest.raises(UserError, match=message):
        cleanse(work, folder, "x", **fields)
    assert not (work / "x").exists()


def test_a_folder_that_is_there_is_refused_first(work: Path) -> None:
    with pytest.raises(UserError, match="exists"):
        cleanse(work, "bad", "bad")


def test_a_test_set_drawn_from_the_poisoned_file_does_not_judge_by_poison(work: Path) -> None:
    """One file, poison all over it: the person's whole list is right, and nobody is tested on it."""
    clean = load_data("digits")
    poison = Poison(Patch((3, 3), margin=0, colour=(255,)), 0.2, "3")
    images = [part.store.whole() for part in (clean.train, clean.test)]
    whole = Samples(
        row_ids(len(clean.train) + len(clean.test)),
        np.concatenate([clean.train.labels, clean.test.labels]),
        ResidentStore(torch.cat(images)),
        "print",
        True,  # type: ignore[arg-type]
    )
    samples, known = poison_samples(whole, poison, clean.classes)
    laid = samples.store.whole()
    assert laid is not None
    names = np.array([f"s{row}" for row in range(len(samples))])
    np.savez(work / "one.npz", x=laid.numpy(), y=samples.labels, id=names)
    (work / "all.txt").write_text("\n".join(f"s{name}" for name in known.ids))
    train_folder(str(work / "one.npz"), "mlp", work / "one", recipe=TRAINING)
    done = cleanse(
        work,
        "one",
        "one-clean",
        poison=f"ids:{work / 'all.txt'}",
        trigger=POISON.partition(",share")[0],
    )
    poisoned = {f"s{name}" for name in known.ids}
    tested = set(done.done.result.data.test.ids.tolist())
    assert tested and not tested & poisoned
    assert asked(done) <= poisoned
    assert any("are test samples; nothing is measured on them" in note for note in done.notes)
    report = audit_forgotten(done.done, place=CPU)
    assert {score.n for score in report.scores if score.name == "SA"} == {len(tested)}
    later = audit_folder(
        work / "one-clean", backdoor=TypedBackdoor(POISON.partition(",share")[0], "3"), place=CPU
    )
    assert "what is poisoned in it counts as clean" in later.notes[0], "ids were not named here"
