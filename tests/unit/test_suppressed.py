"""What a deletion request struck is never learned from again: whatever is trained, from whatever folder
or file, as long as anything leads to the ledger.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import expunge
from helpers import CPU
from ledger_helpers import DUE, asked, ledger_at
from PIL import Image
from sqlalchemy import select

from expunge.api import train, unlearn
from expunge.data.contents import content_hashes, reading_of
from expunge.data.load import Data, load_data
from expunge.data.suppressed import (
    BESIDE,
    data_set_name,
    pointers_beside,
    read_ledger_file,
    write_pointer,
)
from expunge.data.view import DataView
from expunge.errors import ConfigError, RequestError, SplitError
from expunge.pruning.original import prune
from expunge.requests.beginning import begin
from expunge.requests.finding import found_ledger
from expunge.requests.intake import NamedSample, add, find
from expunge.requests.ledger import Ledger
from expunge.requests.receiving import Received, receive
from expunge.requests.tables import duplicates, struck
from expunge.shadows.build import build
from expunge.study.launch import planned, run_study
from expunge.study.schema import Study
from expunge.trained.opening import load
from expunge.training.recipe import Recipe
from expunge.transfer.target import as_target

QUICK = Recipe(epochs=1)
TOLD = {"organisation": "us", "role": "controller", "law": "gdpr"}
HOW = Received("mail", DUE)


def write_data(file: Path, rows: list[tuple[str, int]], *, names: bool = True) -> None:
    """Rows of a name and a number that decides what is in them, as an .npz file."""
    x = np.stack([np.random.default_rng(number).normal(size=6) for _, number in rows])
    named = {"id": np.array([name for name, _ in rows])} if names else {}
    np.savez(file, x=x.astype(np.float32), y=np.array([one % 2 for _, one in rows]), **named)


ROWS = [(f"{'copy-' * (one >= 40)}n{one % 40}", one % 40) for one in range(80)]
"""Forty samples, and an exact copy of each under another id."""


class Scene:
    """A folder with data, a model of them, a copy of that from before there was a ledger, and the ledger
    in which one sample was struck.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.file, self.model = folder, folder / "data.npz", folder / "original"
        write_data(self.file, ROWS)
        train(load_data(str(self.file)), "mlp", recipe=QUICK, place=CPU).save(self.model)
        shutil.copytree(self.model, folder / "before")
        self.ledger = begin(self.model, told=TOLD, place=CPU).ledger
        self.gone = json.loads((self.model / "split.json").read_text())["retain"][0]
        self.copy = self.gone[5:] if self.gone.startswith("copy-") else f"copy-{self.gone}"
        (folder / "ids.txt").write_text(f"{self.gone}\n")
        self.told = receive(self.ledger, str(folder / "ids.txt"), HOW, place=CPU)

    @property
    def data(self) -> Data:
        return load_data(str(self.file))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder, here = tmp_path_factory.mktemp("struck"), Path.cwd()
    os.chdir(folder)
    try:
        made = Scene(folder)
        (folder / BESIDE).unlink()  # the pointer beside the data leads there, and no other
        yield made
    finally:
        os.chdir(here)


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """All that any training may have read: ids."""
    ids: set[str] = set()
    begun = DataView.__init__

    def noted(self: DataView, **fields: Any) -> None:
        ids.update(fields["split"].retain, fields["split"].validation)
        begun(self, **fields)

    monkeypatch.setattr(DataView, "__init__", noted)
    return ids


def test_a_copy_under_another_id_is_proposed_and_stays(place: Scene) -> None:
    assert place.data.struck.ids == {place.gone}
    with place.ledger.read() as connection:
        noted = connection.execute(select(duplicates.c.other_hmac, duplicates.c.decision)).all()
    assert noted == [(place.ledger.key.hmac(place.copy), "open")]
    assert any("1 exact copy of them" in line for line in place.told)


def test_nothing_that_learns_reads_it(place: Scene, learned: set[str], tmp_path: Path) -> None:
    data = place.data
    made = train(data, "mlp", recipe=QUICK, place=CPU)
    prune(made, recipe=QUICK, place=CPU)
    again = unlearn(made, [made.split.retain[0]], "retrain", place=CPU)
    build(made, tmp_path / "bank", models=2, place=CPU)
    study = Study.model_validate(
        {
            "name": "small",
            "data": [str(place.file)],
            "models": ["mlp"],
            "recipes": {"quick": {"epochs": 1}},
            "scenarios": ["random:0.1"],
            "controls": False,
            "floor": False,
            "class_also": [],
            "methods": {"finetune": {"epochs": 1}},
            "seeds": [0],
        }
    )
    done = run_study(planned(study, tmp_path / "study", place=CPU))
    assert done.counts().done == len(done.cells)
    assert len(learned) == len({*data.train.ids.tolist()}) - 1
    for one in (made, again):
        assert place.gone in one.split.excluded and place.gone not in one.split.retain
    assert place.copy in learned and place.gone not in learned


def test_what_is_computed_of_all_samples_leaves_it_out(place: Scene) -> None:
    data = place.data
    kept = data.train.ids != place.gone
    without = data.struck.left_of(data.train).ids.tolist()
    assert without == data.train.ids[kept].tolist()
    seen = data.train.subset(np.flatnonzero(kept)).statistics()
    asked_for = replace(data, fixed_normalisation=None, normalise=True)
    assert asked_for.normalisation == seen != data.train.statistics()
    assert as_target(data, data).train.ids.tolist() == without


def test_a_folder_from_before_brings_nothing_back(
    place: Scene, learned: set[str], tmp_path: Path
) -> None:
    old = load(place.folder / "before", place=CPU)
    assert place.gone in old.split.retain
    other = next(one for one in old.split.retain if one != place.gone)
    for refused in (
        lambda: unlearn(old, [other], "finetune", place=CPU),
        lambda: prune(old, recipe=QUICK, place=CPU),
    ):
        with pytest.raises(
            SplitError, match="learned 1 samples that deletion requests have struck"
        ):
            refused()
    with pytest.raises(ConfigError, match="a bank of it would read them"):
        build(old, tmp_path / "bank", models=2, place=CPU)
    assert not learned and not (tmp_path / "bank").exists()
    again = unlearn(old, [other], "retrain", place=CPU)
    assert learned and place.gone not in learned and place.gone in again.split.excluded
    # what is asked to forget it, too, may
    assert place.gone in unlearn(old, [place.gone], "finetune", place=CPU).split.forget


def test_every_folder_that_is_written_leads_on(place: Scene, tmp_path: Path) -> None:
    train(place.data, "mlp", recipe=QUICK, place=CPU).save(tmp_path / "new")
    shutil.copy(place.file, tmp_path / "elsewhere.npz")
    assert (
        load_data(str(tmp_path / "elsewhere.npz")).struck.ids == frozenset()
    )  # nothing leads there
    moved = load(tmp_path / "new", data=str(tmp_path / "elsewhere.npz"), place=CPU)
    assert place.gone in moved.data.struck.ids  # by its content: the file has another name


# --- other exports


def exported(folder: Path, ledger: Ledger, rows: list[tuple[str, int]], **how: Any) -> Data:
    """Later data of the same place, to which the pointer leads."""
    write_data(folder / "later.npz", rows, **how)
    write_pointer(folder / f".later.npz{BESIDE}", [ledger.file])
    return load_data(str(folder / "later.npz"), test="none")


def test_rows_without_names_are_told_by_their_content(tmp_path: Path) -> None:
    ledger = ledger_at(tmp_path, positional=True)
    rows = [("", one) for one in range(30)]
    first = exported(tmp_path, ledger, rows, names=False)
    content = content_hashes(first.train)[7]
    add(ledger, asked("7"), [NamedSample("7", "learned", content)], decided=True)
    later = exported(tmp_path, ledger, [("", 99), *rows[3:], ("", 98)], names=False)
    assert later.struck.ids == {str(1 + 7 - 3)}
    assert exported(tmp_path, ledger, rows[:7], names=False).struck.ids == frozenset()
    # and only as they were read then
    name = data_set_name(first.spec)
    for reading, fits in ((reading_of(first.train), True), ("uint8 3x32x32;ground=white;", False)):
        found = NamedSample("9", "learned", f"{reading}{content_hashes(first.train)[9]}")
        add(ledger, asked("9", key=reading), [found], data_set=name, decided=True)
        if fits:
            assert exported(tmp_path, ledger, rows[8:], names=False).struck.ids == {"1"}
    with pytest.raises(RequestError, match=r"as uint8 3x32x32;ground=white; here .* as float32 6:"):
        exported(tmp_path, ledger, rows, names=False)


def test_rows_with_names_are_told_by_them_and_by_their_content(tmp_path: Path) -> None:
    ledger = ledger_at(tmp_path)
    first = exported(tmp_path, ledger, ROWS)
    contents = dict(zip(first.train.ids.tolist(), content_hashes(first.train), strict=True))
    name = data_set_name(first.spec)
    given = [
        NamedSample("n1", "learned", contents["n1"], copies=("copy-n1",)),
        NamedSample("n9", "unknown"),
    ]
    add(ledger, asked("n1", "n9"), given, data_set=name, decided=True)
    changed = [(one, number + 100 * (one == "n1")) for one, number in ROWS[:20]]
    assert exported(tmp_path, ledger, changed).struck.ids == {"n1", "n9"}  # whatever they hold now
    new = [*ROWS[2:9], ("new", 1), ROWS[41]]
    assert exported(tmp_path, ledger, new).struck.ids == {"new"}  # the copy that was there stays
    # which is asked for, too, later: then it is gone in every file
    given = [NamedSample("copy-n1", "learned", contents["copy-n1"], copies=("n1",))]
    add(ledger, asked("copy-n1"), given, data_set="another file", decided=True)
    assert exported(tmp_path, ledger, new).struck.ids == {"new", "copy-n1"}


class Words:
    """A tokenizer: a word is its length."""

    pad_token_id = 0
    model_max_length = 2  # so that all texts are alike as tokens

    def __call__(self, text: list[str], **_: object) -> dict[str, list[list[int]]]:
        return {"input_ids": [[len(word) for word in one.split()][:2] for one in text]}


def test_images_in_folders_and_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for one in range(12):
        folder = tmp_path / "images" / "ab"[one % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(one).integers(0, 255, (4, 4, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{one}.png")
    ledger = ledger_at(tmp_path)
    write_pointer(tmp_path / BESIDE, [ledger.file])
    lines = [f"text number {one}" for one in range(12)]
    rows = ["text,label", *(f"{line},{one % 2}" for one, line in enumerate(lines))]
    (tmp_path / "texts.csv").write_text("\n".join(rows))
    os_folder = Path.cwd()
    os.chdir(tmp_path)
    try:
        images = load_data("images", test="none")
        gone = str(images.train.ids[3])
        found = NamedSample(gone, "learned", content_hashes(images.train)[3])
        add(ledger, asked(gone), [found], data_set=data_set_name("images"), decided=True)
        assert load_data("images", test="none").struck.ids == {gone}
        (tmp_path / "images").rename(tmp_path / "pictures")
        assert load_data("pictures", test="none").struck.ids == {gone}
        poisoned = "pictures+patch:size=2,share=0.9,target=a"
        assert load_data(poisoned, test="none").struck.ids == {gone}
        with monkeypatch.context() as patch:  # read in pieces where they do not fit
            patch.setattr("expunge.data.images.fits", lambda _: False)
            streamed = load_data("pictures", test="none")
        assert streamed.train.store.whole() is None and streamed.struck.ids == {gone}

        texts = load_data("texts.csv", test="none")
        tokens = texts.tokenised(Words())
        assert content_hashes(tokens.train) == content_hashes(texts.train)
        some = np.array([4, 2])
        assert content_hashes(tokens.train.subset(some)) == content_hashes(texts.train.subset(some))
    finally:
        os.chdir(os_folder)


def test_what_code_reads_one_by_one_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Own(torch.utils.data.Dataset[Any]):
        targets = (0, 1) * 10

        def __len__(self) -> int:
            return len(self.targets)

        def __getitem__(self, row: int) -> Any:
            return torch.full((6,), float(row)), self.targets[row]

    ledger = ledger_at(tmp_path)
    monkeypatch.setenv("EXPUNGE_LEDGER", str(ledger.folder))
    assert load_data(Own()).struck.ids == frozenset()
    add(ledger, asked("a"), [NamedSample("a", "learned", "c")], decided=True)
    with pytest.raises(RequestError, match="one by one by code"):
        load_data(Own())


def test_tokens_are_told_whatever_they_are_padded_to() -> None:
    from expunge.data.samples import Samples
    from expunge.data.tokens import TokenStore

    def samples(width: int, kind: torch.dtype) -> list[str]:
        tokens = torch.zeros(2, width, dtype=kind)
        tokens[0, :2], tokens[1, :1] = torch.tensor([5, 6]), 7
        store = TokenStore({"input_ids": tokens}, np.array([2, 1]), {"input_ids": 0})
        made = Samples.__new__(Samples)
        object.__setattr__(made, "store", store)
        return content_hashes(made)

    assert samples(3, torch.int8) == samples(9, torch.int64)
    assert len({*samples(3, torch.int8)}) == 2


# --- what leads to a ledger


@pytest.fixture
def pointed(tmp_path: Path) -> tuple[Ledger, Callable[[], Data]]:
    """A ledger that struck a sample, and data beside which its pointer lies."""
    ledger = ledger_at(tmp_path)
    data = exported(tmp_path, ledger, ROWS[:20])
    found = NamedSample("n1", "learned", content_hashes(data.train)[1])
    add(ledger, asked("n1"), [found], data_set=data_set_name(data.spec), decided=True)
    return ledger, lambda: load_data(str(tmp_path / "later.npz"), test="none")


def test_without_its_ledger_nothing_is_loaded(
    pointed: tuple[Ledger, Callable[[], Data]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, again = pointed
    assert again().struck.ids == {"n1"}
    ledger.folder.rename(tmp_path / "moved")
    with pytest.raises(RequestError, match="it is not there; bring it back, or name where it lies"):
        again()
    command = ["train", "--data", str(tmp_path / "later.npz"), "--model", "mlp", "--out", "x"]
    said = expunge(*command, cwd=tmp_path, ok=False)
    assert said.returncode == 2 and "it is not there" in " ".join(said.stderr.split())
    assert not (tmp_path / "x").exists() and "Traceback" not in said.stderr
    monkeypatch.setenv("EXPUNGE_LEDGER", str(tmp_path / "moved"))
    assert again().struck.ids == {"n1"} and found_ledger(None) == tmp_path / "moved"
    monkeypatch.delenv("EXPUNGE_LEDGER")
    (tmp_path / "moved").rename(ledger.folder)
    ledger.key.file.rename(tmp_path / "key")
    with pytest.raises(RequestError, match="nobody can tell who was struck"):
        again()
    (tmp_path / "key").rename(ledger.key.file)
    (ledger.folder / "ledger.db").rename(tmp_path / "db")
    with pytest.raises(RequestError, match=r"has no ledger\.db; bring it back"):
        again()
    (ledger.folder / "ledger.db").write_text("no database")
    with pytest.raises(RequestError, match="cannot be read"):
        again()


def test_a_ledger_is_found_by_every_path_to_the_data(
    pointed: tuple[Ledger, Callable[[], Data]], tmp_path: Path
) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far/link.npz").symlink_to(tmp_path / "later.npz")
    assert load_data(str(tmp_path / "far/link.npz"), test="none").struck.ids == {"n1"}
    (tmp_path / "mnist").mkdir()
    assert pointers_beside("mnist:100", tmp_path) == (tmp_path / f".mnist{BESIDE}",)
    assert pointers_beside("digits") == ()


def test_a_pointer_keeps_every_ledger(
    pointed: tuple[Ledger, Callable[[], Data]], tmp_path: Path
) -> None:
    ledger, again = pointed
    (tmp_path / "two").mkdir()
    second = ledger_at(tmp_path / "two")
    name = data_set_name(str(tmp_path / "later.npz"))
    add(second, asked("n2"), [NamedSample("n2", "learned")], data_set=name, decided=True)
    pointer = tmp_path / f".later.npz{BESIDE}"
    for _ in range(2):
        second.point_from(pointer)
    assert again().struck.ids == {"n1", "n2"}
    with pytest.raises(RequestError, match="points to 2 ledgers; choose with --ledger"):
        found_ledger(pointer)
    pointer.write_text("{}")
    with pytest.raises(RequestError, match="remove it only if"):
        again()
    with pytest.raises(RequestError, match="remove it only if"):
        ledger.point_from(pointer)


def test_the_database_may_be_postgres(database: str, tmp_path: Path) -> None:
    ledger = ledger_at(tmp_path, database)
    assert read_ledger_file(ledger.folder).url == database
    exported(tmp_path, ledger, ROWS[:20])
    name = data_set_name(str(tmp_path / "later.npz"))
    add(ledger, asked("n3"), [NamedSample("n3", "learned")], data_set=name, decided=True)
    assert load_data(str(tmp_path / "later.npz"), test="none").struck.ids == {"n3"}
    with ledger.read() as connection:
        assert connection.scalars(select(struck.c.id_hmac)).all() == [ledger.key.hmac("n3")]


def test_what_each_id_names(place: Scene) -> None:
    model = load(place.model, place=CPU)
    tested, held = str(model.data.test.ids[0]), model.split.validation[0]
    told = find(model, [place.gone, tested, held, "nobody", place.gone])
    assert [one.what for one in told] == ["struck before", "test", "validation", "unknown"]
    assert [bool(one.content) for one in told] == [True, True, True, False]
    assert place.copy in told[0].copies or place.copy in model.data.test.ids.tolist()


def test_data_that_nobody_could_tell_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(
        "import torch\n"
        "class D(torch.utils.data.Dataset):\n"
        "    targets = [0, 1] * 20\n"
        "    def __len__(self): return 40\n"
        "    def __getitem__(self, i): return torch.full((6,), float(i)), i % 2\n"
        "def make(): return D()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    train(load_data("own:make"), "mlp", recipe=QUICK, place=CPU).save(tmp_path / "m")
    with pytest.raises(RequestError, match="give them ids of their own"):
        begin(tmp_path / "m", told=TOLD, place=replace(CPU, allow_code=True))
    assert not (tmp_path / "m-ledger").exists()
