"""Copies of a request's samples: found layer by layer, decided by a person, told in the certificate."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import expunge
from helpers import CPU, toy
from PIL import Image, ImageEnhance
from scipy.stats import binom
from sklearn.datasets import load_digits, load_sample_images
from sqlalchemy import select
from torch import Tensor
from torch.utils.data import Dataset

from expunge.api import train
from expunge.data import nearness
from expunge.data.contents import content_hashes, hashes_as_read
from expunge.data.load import load_data
from expunge.data.nearness import (
    ChanceCut,
    chance_cut,
    nearest_above,
    pair_products,
    random_pairs,
    unit,
)
from expunge.data.perceptual import are_pictures, bits_apart, picture_hashes
from expunge.data.samples import Samples, StreamStore
from expunge.errors import RequestError
from expunge.requests.beginning import begin
from expunge.requests.certifying import files_of
from expunge.requests.copies import ProposedCopy, look_for_copies
from expunge.requests.copy_decisions import decide_copies
from expunge.requests.copy_layers import AskedRows, search_layers
from expunge.requests.copy_sheet import write_sheet
from expunge.requests.dsse import read_envelope
from expunge.requests.intake import refuse
from expunge.requests.ledger import Ledger
from expunge.requests.release import live_folder
from expunge.requests.tables import copy_layers, duplicates, events, request_items, struck
from expunge.trained.opening import load
from expunge.training.recipe import Recipe

TOLD = {"organisation": "us", "role": "controller", "law": "gdpr"}
SIDE = 32


# --- pictures


def slow_hash(picture: Any) -> list[int]:
    """The bits of a picture (channels, height, width), loop by loop in double precision."""
    luma = (0.299, 0.587, 0.114) if len(picture) == 3 else [1 / len(picture)] * len(picture)
    grey = sum(weight * one.astype(np.float64) for weight, one in zip(luma, picture, strict=True))
    small = triangles(grey.shape[0]) @ grey @ triangles(grey.shape[1]).T
    found = []
    for down in range(1, 9):
        for across in range(1, 9):
            total = 0.0
            for y in range(32):
                for x in range(32):
                    wave = math.cos(math.pi * down * (y + 0.5) / 32)
                    wave *= math.cos(math.pi * across * (x + 0.5) / 32)
                    total += small[y, x] * wave
            found.append(total)
    ordered, top = sorted(found), max(map(abs, found))
    middle = (ordered[31] + ordered[32]) / 2
    return [int(one > middle + 1e-6 * top) for one in found]


def triangles(size: int) -> Any:
    """(32, size): what each of 32 places takes of each pixel, the nearer the more."""
    scale = size / 32
    wide = max(scale, 1.0)
    weights = np.zeros((32, size))
    for place in range(32):
        for pixel in range(size):
            away = abs(pixel + 0.5 - (place + 0.5) * scale) / wide
            weights[place, pixel] = max(0.0, 1 - away)
    return weights / weights.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 40, 25), (2, 70, 33), (3, 2, 90)])
def test_the_hash_is_what_the_definition_says(shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(len(shape)).integers(0, 256, shape, dtype=np.uint8)
    found = picture_hashes(torch.from_numpy(picture)[None])
    assert (found.abs() == 0.125).all()
    assert [int(one > 0) for one in found[0].tolist()] == slow_hash(picture)


def test_a_plain_picture_is_like_no_other_and_brightness_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.rand(6, 1, 9, 20, generator=generator)
    first = picture_hashes(numbers)
    assert torch.equal(first, picture_hashes(-3 + 0.2 * numbers))
    assert torch.equal(first @ first.T == 1, torch.eye(6, dtype=torch.bool))
    plain = torch.full((2, 3, 7, 7), 200, dtype=torch.uint8)
    stripes = plain.clone()
    stripes[:, :, :, ::2] = 10
    assert (picture_hashes(plain) == 0).all() and (picture_hashes(stripes) == 0).all()
    assert [bits_apart(1 - 2 * bits / 64) for bits in range(65)] == [*range(65)]


def tiles() -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Different pictures (n, 3, 32, 32), cut from two photos."""
    found = [
        photo[top : top + SIDE, left : left + SIDE]
        for photo in load_sample_images().images
        for top in range(0, photo.shape[0] - SIDE, 40)
        for left in range(0, photo.shape[1] - SIDE, 40)
    ]
    return np.stack(found).transpose(0, 3, 1, 2).copy()


def saved_anew(image: Image.Image) -> Image.Image:
    """As a JPEG of middling quality."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=60)
    return Image.open(buffer)


CHANGES = {
    "saved anew": saved_anew,
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "larger": lambda image: image.resize((50, 50)),
    "shifted": lambda image: image.transform(
        image.size, Image.Transform.AFFINE, (1, 0, 1, 0, 1, 0)
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_pictures_are_found_and_different_ones_are_not(change: str) -> None:
    photos = tiles()
    hashes = picture_hashes(torch.from_numpy(photos))
    first, second = random_pairs(len(photos), 200_000)
    products = pair_products(hashes, first, second)
    cut = chance_cut(products, 10_000)
    assert cut is not None and 4 < bits_apart(cut.above) < 22
    assert cut.alarms <= cut.pairs // 10_000
    lively = np.argsort(-photos.std(axis=(1, 2, 3)))[:40]
    near = []
    for row in lively.tolist():
        image = CHANGES[change](Image.fromarray(photos[row].transpose(1, 2, 0)))
        copy = np.array(image).transpose(2, 0, 1)
        assert copy.shape != photos[row].shape or (copy != photos[row]).any(), "no exact copy"
        near.append(float(picture_hashes(torch.from_numpy(copy)[None])[0] @ hashes[row]))
    assert np.mean(np.array(near) > cut.above) >= 0.9


# --- nearness


@pytest.mark.parametrize("one_in", [10, 100, 1000])
def test_a_cut_lets_no_more_pass_than_it_says(one_in: int) -> None:
    products = np.random.default_rng(0).normal(size=997).astype(np.float32) / 10
    cut = chance_cut(products, one_in)
    allowed = len(products) // one_in
    lowest = sorted(products.tolist(), reverse=True)[allowed]
    assert cut is not None
    assert cut == ChanceCut(cut.above, 997, sum(one > cut.above for one in products.tolist()))
    assert lowest <= cut.above < lowest + 1e-6 and cut.alarms <= allowed
    assert cut.alarms >= allowed - 1, "rounding costs next to nothing"


def test_where_chance_brings_the_same_there_is_no_cut() -> None:
    assert chance_cut(np.ones(1000, dtype=np.float32), 100) is None
    assert chance_cut(np.zeros(99, dtype=np.float32), 100) is None, "too few"


def test_random_pairs_are_of_two_each() -> None:
    first, second = random_pairs(9, 36)
    assert sorted(zip(first.tolist(), second.tolist(), strict=True)) == [
        (a, b) for a in range(9) for b in range(a + 1, 9)
    ]
    first, second = random_pairs(9, 35, "few")
    assert len(first) == 35 and (first != second).all()
    first, second = random_pairs(5000, 20_000, "many")
    assert (first != second).all() and {*second.tolist()} <= {*range(5000)}
    counts = np.bincount(np.concatenate([first, second]), minlength=5000)
    assert abs(counts.mean() - 8) < 1e-9 and counts.max() < 30
    assert [len(one) for one in random_pairs(1, 10)] == [0, 0]


def unit_vectors(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return unit(torch.randn(count, 5, generator=generator))


@pytest.mark.parametrize("at_once", [3, 2**22])
def test_the_search_finds_what_a_loop_finds(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearness, "VALUES_AT_ONCE", at_once)
    vectors, asked = unit_vectors(41, 0), unit_vectors(7, 1)
    vectors[5] = 0
    wanted = []
    for row, one in enumerate(vectors.double().numpy()):
        products = [float((one * other).sum()) for other in asked.double().numpy()]
        if max(products) > 0.6:
            wanted.append((row, int(np.argmax(products)), max(products)))
    rows, like, score = nearest_above(vectors, asked, 0.6)
    assert len(wanted) > 5
    assert [*zip(rows.tolist(), like.tolist(), strict=True)] == [one[:2] for one in wanted]
    assert score == pytest.approx([one[2] for one in wanted], abs=1e-6)
    assert [len(one) for one in nearest_above(vectors, asked[:0], 0.6)] == [0, 0, 0]

    first, second = random_pairs(41, 10_000)
    found = pair_products(vectors, first, second)
    both = zip(first.tolist(), second.tolist(), strict=True)
    slow = [float(vectors[a].double() @ vectors[b].double()) for a, b in both if 5 not in (a, b)]
    assert found == pytest.approx(slow, abs=1e-6)


def test_a_vector_without_a_length_is_near_to_nothing() -> None:
    found = unit(torch.tensor([[3.0, 4.0], [0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0]]))
    assert found.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], *[[0.0, 0.0]] * 3]


def digits() -> Tensor:
    """(1797, 1, 8, 8) bytes."""
    return torch.from_numpy(np.rint(load_digits().images * (255 / 16)).astype(np.uint8))[:, None]


@pytest.mark.parametrize("kind", ["hash", "vectors"])
def test_held_out_pairs_give_as_many_false_alarms_as_are_said(kind: str) -> None:
    one_in = 100
    both = picture_hashes(digits()) if kind == "hash" else unit_vectors(1797, 3)
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(1))
    fitted, held = both[order[:900]], both[order[900:]]
    cut = chance_cut(pair_products(fitted, *random_pairs(900, 40_000, "fit")), one_in)
    found = pair_products(held, *random_pairs(len(held), 40_000, "held"))
    assert cut is not None and cut.pairs == len(found) == 40_000
    # the cut is an estimate itself, of as many pairs
    low, high = (binom.ppf(q, 40_000, 1 / one_in) for q in (1e-6, 1 - 1e-6))
    alarms = int((found > np.float32(cut.above)).sum())
    assert alarms <= high
    if kind == "vectors":
        assert alarms >= low
    else:  # hashes have few distances, and the next one would be too many
        assert (found >= np.float32(cut.above) - 2 / 64).sum() > 400
    assert alarms > 0


# --- content of data that are streamed


class Own(Dataset[Any]):
    """Read one by one; the last sample is the first once more."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __len__(self) -> int:
        return 300

    def __getitem__(self, row: int) -> Any:
        row %= 299
        numbers = torch.full((2,), float(row))
        if self.kind == "tensor":
            return numbers, 0
        return {"x": numbers, "text": f"line {row}", "both": (numbers + 1, row), "label": 0}


@pytest.mark.parametrize("kind", ["tensor", "dictionary"])
def test_equal_samples_of_a_dataset_that_is_streamed_are_told(kind: str) -> None:
    store = StreamStore(Own(kind))
    samples = Samples(
        np.arange(300).astype(str), np.zeros(300, np.int64), store, "f", positional=False
    )
    assert {*content_hashes(samples)} == {""}
    hashes = hashes_as_read(samples)
    assert hashes[0] == hashes[299] and len({*hashes}) == 299


# --- a ledger


@dataclass
class Scene:
    """A ledger of 400 digits `d-000` to `d-399`. Of the first five each has a copy with a little noise,
    `noisy-0` to `noisy-4`, and of the first three an equal one, `equal-0` to `equal-2`; `again-2`
    equals `noisy-2`.
    """

    folder: Path
    ledger: Ledger

    def run(self, *words: str, ok: bool = True) -> str:
        done = expunge("request", *words, cwd=self.folder, ok=ok)
        return str(done.stdout if ok else done.stderr)

    def ask(self, *names: str) -> None:
        (self.folder / "ids.txt").write_text("".join(f"{one}\n" for one in names))
        self.run("add", "--ids", "ids.txt")

    def rows(self, chosen: Any) -> list[Any]:
        with self.ledger.read() as connection:
            return [tuple(row) for row in connection.execute(chosen)]

    def proposed(self, number: int) -> dict[str, tuple[str, str]]:
        """Copy -> (layer, decision), as the table has them."""
        model = load(live_folder(self.ledger), place=CPU)
        names = {self.ledger.key.hmac(one): one for one in model.data.train.ids.tolist()}
        chosen = select(duplicates).join(request_items).where(request_items.c.request == number)
        with self.ledger.read() as connection:
            rows = connection.execute(chosen).mappings().all()
        return {names[row["other_hmac"]]: (row["layer"], row["decision"]) for row in rows}

    def told(self, kind: str) -> list[dict[str, Any]]:
        chosen = select(events.c.payload).where(events.c.kind == kind).order_by(events.c.seq)
        return [json.loads(payload) for (payload,) in self.rows(chosen)]


def write_digits(file: Path, *, names: bool = True) -> None:
    every = digits()[:400]
    noise = 6 * torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    noisy = (every[:5] + noise).clamp(0, 255).to(torch.uint8)
    rows = [*range(400), *range(5), *range(3), 2]
    ids = [f"d-{row:03d}" for row in range(400)]
    ids += [f"noisy-{row}" for row in range(5)] + [f"equal-{row}" for row in range(3)] + ["again-2"]
    named = {"id": np.array(ids)} if names else {}
    labels = load_digits().target[rows]
    np.savez(file, x=torch.cat([every, noisy, every[:3], noisy[2:3]]).numpy(), y=labels, **named)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("copies")
    write_digits(folder / "data.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("EXPUNGE_KEYS", str(folder / "keys"))
        data = load_data(str(folder / "data.npz"), test="none")
        recipe = Recipe(epochs=6, lr=0.1, batch_size=32)
        train(data, "mlp", recipe=recipe, place=CPU).save(folder / "original")
        yield Scene(folder, begin(folder / "original", told=TOLD, place=CPU).ledger)


def test_copies_are_proposed_once_with_how_they_were_found(scene: Scene) -> None:
    scene.ask("d-000", "d-001")
    said = scene.run("copies", "1", "--pictures", "pairs.png")
    assert "exact: 2 found, of equal content" in said
    assert "1 in 10,000 at most" in said and "new of" in said
    found = scene.proposed(1)
    assert found["equal-0"] == found["equal-1"] == ("exact", "open")
    assert {found[one][0] for one in ("noisy-0", "noisy-1")} <= {"perceptual", "embeddings"}
    assert len(found) <= 8, "different digits are not proposed, but for a few that chance brings"
    for copy, (layer, _) in found.items():
        assert any(copy in line and layer in line for line in said.splitlines())
    with Image.open(scene.folder / "pairs.png") as sheet:
        assert sheet.format == "PNG" and sheet.width > 500 and len(sheet.getcolors(10**6)) > 20

    with np.load(scene.folder / "data.npz") as kept:
        asked_or_equal = np.isin(kept["id"], ["d-000", "d-001", "equal-0", "equal-1"])
        pixels = torch.from_numpy(kept["x"][~asked_or_equal])
    first, second = random_pairs(len(pixels), 10**6)
    products = pair_products(picture_hashes(pixels), first, second)
    differ = (pixels[first] != pixels[second]).flatten(1).any(dim=1).numpy()
    apart = sorted((32 * (1 - products[differ])).tolist())
    chosen = select(copy_layers.c.threshold).where(copy_layers.c.layer == "perceptual")
    ((most,),) = scene.rows(chosen)
    assert most == apart[len(apart) // 10_000] - 1
    assert f"at most {most:.0f} of 64 bits differ: so near are" in said

    before = [scene.rows(select(one)) for one in (duplicates, copy_layers, events)]
    assert f"0 new of {len(found)} proposed" in scene.run("copies", "1")
    assert [scene.rows(select(one)) for one in (duplicates, copy_layers, events)] == before
    refused = scene.run("copies", "1", "--pictures", "pairs.png", ok=False)
    assert "pairs.png exists; name another file" in refused

    scene.run("copies", "1", "--one-in", "1000")
    one_in = {layer: one for _, layer, _, one, _, _ in scene.rows(select(copy_layers))}
    assert one_in == {"exact": None, "perceptual": 1000, "embeddings": 1000}
    assert found.items() <= scene.proposed(1).items()
    (first, second) = scene.told("copies looked for")
    assert first["layers"]["perceptual"]["one in"] == 10_000
    assert second["layers"]["embeddings"]["one in"] == 1000
    assert all(b"noisy-" not in file.read_bytes() for file in scene.ledger.folder.glob("*.db*"))


def test_what_a_person_decides_is_done_and_told(scene: Scene) -> None:
    scene.ask("d-002", "d-003")
    scene.run("copies", "2")
    start = len(scene.told("copy decided"))
    assert "4 not decided: `expunge request copies 2` shows them" in scene.run("show", "2")
    scene.run("decide", "2", "--copy", "equal-2", "--as", "another", "--reason", "a twin")
    scene.run("decide", "2", "--copy", "noisy-3", "--as", "unclear")
    scene.run("decide", "2", "--copy", "noisy-2", "--as", "same-person")
    scene.run("decide", "2", "--copy", "noisy-2", "--as", "same-person")  # again, nothing twice
    found = {copy: decision for copy, (_, decision) in scene.proposed(2).items()}
    assert (found["equal-2"], found["noisy-3"], found["noisy-2"]) == ("keep", "disclose", "add")
    told = scene.told("copy decided")[start:]
    hmac = scene.ledger.key.hmac
    assert told[0] == {"request": 2, "copy": hmac("equal-2"), "as": "another", "reason": "a twin"}
    assert [one["as"] for one in told[1:]] == ["unclear", "same-person", "same-person"]
    assert {actor for (actor,) in scene.rows(select(events.c.actor))} != {""}

    gone = load_data(str(scene.folder / "data.npz"), test="none").struck.ids
    assert {"d-002", "d-003", "noisy-2"} <= gone
    assert not {"equal-2", "noisy-3", "again-2"} & gone, "what was not decided stays, equal or not"
    items = scene.rows(select(request_items.c.id_hmac).where(request_items.c.request == 2))
    assert sorted(items) == sorted((hmac(one),) for one in ("d-002", "d-003", "noisy-2"))
    listed = scene.rows(select(struck.c.id_hmac).where(struck.c.request == 2))
    assert sorted(listed) == sorted(items)
    assert "decided" in scene.run("show", "2")

    for words, why in (
        (("--copy", "noisy-9", "--as", "unclear"), "'noisy-9' was not proposed as a copy"),
        (("--copy", "noisy-2", "--as", "another"), "is one of the samples of request 2"),
        (
            ("--copy", "noisy-3", "--as", "mine"),
            "no answer 'mine'; there are: same-person, another, unclear",
        ),
    ):
        said = scene.run("decide", "2", *words, ok=False)
        assert why in said and "Traceback" not in said, said


def test_before_approval_nothing_is_struck_and_what_ended_has_no_copies(scene: Scene) -> None:
    (scene.folder / "ids.txt").write_text("d-004\n")
    scene.run("add", "--ids", "ids.txt", "--undecided")
    ledger, number = scene.ledger, 3
    model = load(live_folder(ledger), place=CPU)
    assert look_for_copies(ledger, number, model, place=CPU).new >= 1
    assert decide_copies(ledger, number, ["noisy-4"], "same-person", place=CPU) == 1
    with pytest.raises(RequestError, match="was not proposed"):  # all or none
        decide_copies(ledger, number, ["noisy-4", "nobody"], "same-person", place=CPU)
    assert not scene.rows(select(struck).where(struck.c.request == number))
    scene.run("approve", "3")
    assert len(scene.rows(select(struck).where(struck.c.request == number))) == 2

    (scene.folder / "ids.txt").write_text("d-005\n")
    scene.run("add", "--ids", "ids.txt", "--undecided")
    refuse(ledger, 4, "another's")
    with pytest.raises(RequestError, match="request 4 is refused"):
        look_for_copies(ledger, 4, model, place=CPU)
    with pytest.raises(RequestError, match="request 4 is refused"):
        decide_copies(ledger, 4, ["noisy-1"], "unclear", place=CPU)


def test_a_batch_waits_for_no_decision_and_its_certificate_tells(scene: Scene) -> None:
    planned = expunge("batch", "plan", cwd=scene.folder).stdout
    assert "not decided: `expunge request copies" in planned
    assert "they stop no batch, and its certificate tells of them" in planned
    said = expunge("batch", "run", "--device", "cpu", cwd=scene.folder).stdout
    assert "certificate:" in said
    files = files_of(scene.ledger, 1)
    told = json.loads(read_envelope(files.certificate.read_bytes()).payload)["predicate"]
    layers = {(one["name"], one.get("one_in")): one for one in told["duplicates"]}
    exact = layers["exact", None]
    assert (exact["requests"], exact["kept"], exact["undecided"]) == (3, 1, 3)
    perceptual = [one for (name, _), one in layers.items() if name == "perceptual"]
    assert sum(one["requests"] for one in perceptual) == 3 and len(perceptual) > 1
    near = [one for one in told["duplicates"] if one["name"] != "exact"]
    assert (sum(one["added"] for one in near), sum(one["unclear"] for one in near)) == (2, 1)
    for one in told["duplicates"]:
        parts = (one[name] for name in ("added", "kept", "unclear", "undecided"))
        assert one["proposed"] == sum(parts)
    (sentence,) = [one for one in told["limits"] if one.startswith("Copies of the records")]
    assert "equal content: 4 proposed (1 another's, which stay, 3 not decided" in sentence
    assert f"at most {perceptual[0]['threshold']:g} of 64 bits apart" in sentence
    assert "looked for by equal content: 4 proposed" in files.page.read_text()
    assert told["data"]["asked"] == told["data"]["size"] == 7

    frozen = scene.run("decide", "2", "--copy", "noisy-3", "--as", "same-person", ok=False)
    assert "request 2 is in batch 1, whose list is frozen" in frozen
    assert "by a request of its own: expunge request add --ids FILE" in frozen
    scene.run("decide", "2", "--copy", "noisy-3", "--as", "another")
    assert "its samples are read no more" in scene.run("copies", "2", ok=False)


def test_rows_without_names_are_told_by_content_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal ones go along; what is only alike leaves no row number behind that shields another."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPUNGE_KEYS", str(tmp_path / "keys"))
    file = tmp_path / "data.npz"
    write_digits(file, names=False)
    data = load_data(str(file), test="none")
    train(data, "mlp", recipe=Recipe(epochs=1), place=CPU).save(tmp_path / "original")
    ledger = begin(tmp_path / "original", told=TOLD, place=CPU).ledger
    scene = Scene(tmp_path, ledger)
    (tmp_path / "ids.txt").write_text("1\n")
    scene.run("add", "--ids", "ids.txt", "--undecided")
    said = scene.run("copies", "1")
    assert "exact: 0 found, of equal content; 1 equal rows are struck with them" in said
    assert scene.proposed(1)["401"][1] == "open" and "406" not in scene.proposed(1)
    scene.run("approve", "1")
    assert load_data(str(file), test="none").struck.ids == {"1", "406"}
    # a new export, in which what was asked for has the row number of what is only alike
    with np.load(file) as kept:
        x, y = kept["x"].copy(), kept["y"].copy()
    x[[1, 401]], y[[1, 401]] = x[[401, 1]], y[[401, 1]]
    np.savez(file, x=x, y=y)
    assert load_data(str(file), test="none").struck.ids == {"401", "406"}
    np.savez(file, x=x[:, :, ::-1], y=y)
    assert not load_data(str(file), test="none").struck.ids


def test_data_that_are_no_pictures_have_no_hash(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(90, 12, generator=generator)
    inputs[80] = inputs[3]
    inputs[81] = inputs[4] + 1e-3
    inputs[45:80] = inputs[10:45]  # equal ones say nothing of what is near by chance
    data = toy([0, 1] * 45, ids=[f"v{row}" for row in range(90)], inputs=inputs, test=6)
    assert not are_pictures(data.train)
    model = train(data, "mlp", recipe=Recipe(epochs=1), place=CPU)
    others = np.setdiff1d(np.arange(90), [3, 4])
    asked = AskedRows(np.array([3, 4]), np.array([2]), others)
    exact, perceptual, embeddings = search_layers(model, asked, one_in=1000, place=CPU)
    assert [(one.row, one.like, one.score) for one in exact.copies] == [(0, 2, 1.0), (80, 0, 1.0)]
    assert perceptual.why == "the data are no pictures" and not perceptual.copies
    assert embeddings.pairs == 86 * 85 // 2 - 35 and embeddings.alarms <= 3
    found = {one.row: one for one in embeddings.copies}
    assert found[81].like == 1 and found[81].score > 0.999 and 80 not in found
    assert embeddings.compared == 3 * 86 and embeddings.by_chance == 1
    with pytest.raises(RequestError, match="no pictures of one or three channels"):
        proposed = ProposedCopy("v80", "v3", "exact", 1.0, "open")
        write_sheet(tmp_path / "none.png", data, [proposed])
    assert not (tmp_path / "none.png").exists()
