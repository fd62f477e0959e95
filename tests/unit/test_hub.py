"""Hugging Face: datasets as they are, texts from a table to the audited model, models of transformers.

All is made here, and no hub can be reached. Whatever needs transformers is in this file, for to import
it takes seconds.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import hub_helpers
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from commands import expunge as command
from commands import refused
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

import expunge
from expunge.data.arrow import digest_table
from expunge.data.columns import Columns
from expunge.data.duplicates import duplicates_left
from expunge.data.hub import load_hub
from expunge.data.load import Data, load_data
from expunge.data.parts import Part
from expunge.data.samples import resident
from expunge.data.spec import DataSpec
from expunge.data.split import Split
from expunge.data.tokens import TokenStore
from expunge.data.view import DataView
from expunge.errors import ConfigError, DataError, ModelError
from expunge.folders.elsewhere import import_folder
from expunge.folders.make import sized, train_folder
from expunge.models.hub import (
    HubModel,
    _building,
    check_base,
    class_names_of,
    folder_of,
    load_tokenizer,
    plain_config,
)
from expunge.models.processor import Processor, processor_of
from expunge.models.table import build_model, check_model
from expunge.study.changes import with_changes
from expunge.study.schema import Study
from expunge.trained.papers import read_papers

RECIPE = expunge.Recipe(epochs=20, batch_size=16, optimizer="adamw", lr=0.01, weight_decay=0.0)
SHORT = expunge.Recipe(epochs=1, batch_size=16, augmentation="none")


@pytest.fixture(scope="module", autouse=True)
def _offline() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("HF_DATASETS_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`base`: a BERT with its tokenizer; `vit`: a ViT; `reviews.csv`: 120 texts."""
    folder = tmp_path_factory.mktemp("hub")
    hub_helpers.text_model(folder / "base")
    hub_helpers.image_model(folder / "vit")
    write_reviews(folder / "reviews.csv", hub_helpers.reviews(120))
    return folder


def write_reviews(file: Path, rows: list[tuple[str, str]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "text", "label", "user"])
        writer.writerows((f"{i:04d}", text, label, i % 7) for i, (text, label) in enumerate(rows))


@pytest.fixture(scope="module")
def trained(place: Path) -> expunge.Trained:
    """A folder of a model that was trained on the reviews."""
    return train_folder(
        str(place / "reviews.csv"), f"hf:{place / 'base'}", place / "model", recipe=RECIPE
    )


@pytest.fixture(scope="module")
def loaded(place: Path, trained: expunge.Trained) -> expunge.Trained:
    """The same folder, read back while its base is elsewhere: nothing but the folder is needed."""
    (place / "base").rename(place / "away")
    try:
        return expunge.load(place / "model")
    finally:
        (place / "away").rename(place / "base")


def logits(model: expunge.Trained) -> torch.Tensor:
    store = model.data.test.store
    with torch.no_grad():
        return model.model(
            **store.fetch(np.arange(len(model.data.test)), torch.device("cpu"))
        ).logits


def learned(model: expunge.Trained) -> torch.Tensor:
    tokens = model.data.train.store.fetch(np.arange(20), torch.device("cpu"))
    with torch.no_grad():
        return model.model(**tokens).logits


# Texts, from a table to the audited model


def test_a_csv_of_texts_names_its_samples_classes_and_groups(place: Path) -> None:
    data = load_data(place / "reviews.csv")
    assert data.classes == ("neg", "pos")
    assert {"0000", "0119"} <= {*data.train.ids.tolist(), *data.test.ids.tolist()}
    assert set(data.train.columns["user"].tolist()) == set("0123456")
    with pytest.raises(
        DataError, match=r"texts, which only a model with a tokenizer reads.*hf:FOLDER"
    ):
        expunge.train(data, "cnn", recipe=SHORT)


def test_a_model_of_texts_learns_them(trained: expunge.Trained) -> None:
    assert (logits(trained).argmax(1).numpy() == trained.data.test.labels).mean() > 0.9
    told = json.loads((trained.path / "model.json").read_text())
    assert told["hub"]["length"] == trained.data.train.shape()[0] == told["shape"][0] <= 16
    assert not any("id2label" in name for name in told["hub"]["config"])
    assert trained.record.cost.warmed_up  # so its time is not that of a cold start


def test_a_folder_is_read_without_its_base(
    trained: expunge.Trained, loaded: expunge.Trained
) -> None:
    assert torch.equal(logits(loaded), logits(trained))
    assert loaded.data.train.fingerprint == trained.data.train.fingerprint


def test_a_retrained_model_begins_with_the_base_and_a_new_head(
    place: Path, loaded: expunge.Trained, trained: expunge.Trained
) -> None:
    torch.manual_seed(1)
    fresh = loaded.fresh().state_dict()
    base = hub_helpers.weights_of(place / "base")
    heads = ("classifier.weight", "classifier.bias")
    assert all(torch.equal(fresh[name], base[name]) for name in base if name not in heads)
    assert not torch.equal(fresh[heads[0]], base[heads[0]])  # it may have learned from the data
    assert "pretrained weights of base and a new head" in trained.data.notes[-1]


def test_a_base_that_lacks_its_body_is_refused(place: Path, tmp_path: Path) -> None:
    def changed(name: str, keep: str = "", **config: object) -> HubModel:
        shutil.copytree(place / "base", tmp_path / name)
        file = tmp_path / name / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | config))
        weights = hub_helpers.weights_of(place / "base")
        some = {one: value for one, value in weights.items() if keep not in one or not keep}
        hub_helpers.save(some, tmp_path / name / "model.safetensors")
        return HubModel.of_folder(tmp_path / name, "text", ("a", "b"), str(tmp_path / name))

    for model in (
        changed("half", "encoder"),
        changed("sizes", intermediate_size=8),
        changed("other", model_type="distilbert"),
    ):
        with pytest.raises(
            ModelError, match=r"lacks weights for .* of the model's body|is of a model"
        ):
            model()
    changed("headless", "classifier")()
    changed("unpooled", "pooler")()


def test_a_folder_without_a_tokenizer_is_refused(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "base", tmp_path / "base")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "base" / name).unlink()
        with pytest.raises(
            ModelError, match=r"no tokenizer; copy tokenizer\.json there|no tokenizer"
        ):
            expunge.train(load_data(place / "reviews.csv"), f"hf:{tmp_path / 'base'}", recipe=SHORT)


@pytest.mark.parametrize("told", ["x", 0, -4, [3], float("nan")])
def test_an_odd_length_of_a_tokenizer_is_refused(place: Path, tmp_path: Path, told: object) -> None:
    shutil.copytree(place / "base", tmp_path / "base")
    file = tmp_path / "base/tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": told}))
    with pytest.raises(ModelError, match=r"model_max_length|no tokenizer can be loaded") as caught:
        load_tokenizer(tmp_path / "base", {"model_type": "bert"})
    assert "\n" not in str(caught.value)


def test_a_text_is_never_longer_than_its_model_reads(place: Path) -> None:
    for told, config, expected in (
        (512, {"model_type": "bert", "max_position_embeddings": 16}, 16),
        (8, {"model_type": "bert", "max_position_embeddings": 16}, 8),
        (512, {"model_type": "camembert", "max_position_embeddings": 16, "pad_token_id": 1}, 14),
        (512, {"model_type": "t5"}, 512),
    ):
        shutil.copytree(place / "base", place / "long", dirs_exist_ok=True)
        file = place / "long/tokenizer_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": told}))
        assert load_tokenizer(place / "long", config).model_max_length == expected
    data = load_data(place / "reviews.csv").tokenised(hub_helpers.tokenizer(), max_length=40)
    data.train.store.lengths[0] = 40
    with pytest.raises(
        ConfigError, match=r"up to 40 tokens, and the model reads 16.*max_length=16"
    ):
        expunge.train(data, f"hf:{place / 'base'}", recipe=SHORT)


@pytest.mark.parametrize(
    "config",
    [
        {"hidden_size": 10**9},
        {"vocab_size": 10**12},
        {"num_hidden_layers": 20_000},
        {"extra": {"num_hidden_layers": 20_000}},
        {"id_list": [1] * 2000},
    ],
)
@pytest.mark.parametrize("weights", [True, False])
def test_a_config_of_a_giant_is_refused_before_it_is_built(
    place: Path, tmp_path: Path, config: dict[str, object], weights: bool
) -> None:
    shutil.copytree(place / "base", tmp_path / "base")
    file = tmp_path / "base/config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    if not weights:
        (tmp_path / "base/model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no model of such a size|is of a model of"):
        expunge.train(load_data(place / "reviews.csv"), f"hf:{tmp_path / 'base'}", recipe=SHORT)
    made = HubModel.of_folder(tmp_path / "base", "text", ("neg", "pos"), str(tmp_path / "base"))
    with pytest.raises(ModelError, match=r"no model of such a size|is of a model of"):
        made.checkpoint(None if weights else place / "base/model.safetensors")


def test_what_implements_a_model_is_not_for_its_config_to_say(place: Path, tmp_path: Path) -> None:
    theirs = {"attn_implementation": "kernels-community/flash-attn"}
    theirs |= {f"_{name}": value for name, value in theirs.items()}
    theirs |= {f"{name}_internal": value for name, value in theirs.items()}
    theirs |= {"experts_implementation": "x/y", "nested": {"_attn_implementation": "x/y", "n": 1}}
    config = json.loads((place / "base/config.json").read_text())
    assert plain_config({**config, **theirs}) == plain_config(config) | {"nested": {"n": 1}}
    # nor for the card of a model folder
    HubModel("text", {**plain_config(config), **theirs}, ("a", "b")).blank()
    with pytest.raises(ModelError, match=r"a package that is not there") as caught, _building("x"):
        raise ImportError("Unable to load: run `pip install evil`")
    assert "evil" not in str(caught.value)


def test_a_new_head_is_drawn_by_the_seed(place: Path) -> None:
    config = HubModel.of_folder(place / "base", "text", ("a", "b", "c"), str(place / "base"))

    def head(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return config().classifier.weight

    assert head(1).shape == (3, 16)
    assert torch.equal(head(1), head(1)) and not torch.equal(head(1), head(2))


@pytest.mark.parametrize(
    "method", ["finetune", "gradient_ascent", "neggrad_plus", "l1_sparse", "retrain"]
)
def test_methods_forget_texts(loaded: expunge.Trained, method: str) -> None:
    short = dataclasses.replace(loaded, recipe=SHORT)
    kind = expunge.METHODS[method]
    made = kind(epochs=1) if "epochs" in kind.model_fields else kind()
    forgot = expunge.unlearn(short, "group:user=3", made)
    assert len(forgot.split.forget) > 5
    scores = expunge.audit(forgot, original=short)
    assert 0 <= scores["TA"].value <= 100 and "MIA" in {score.name for score in scores}


def test_a_method_that_texts_are_nothing_for_says_so(loaded: expunge.Trained) -> None:
    with pytest.raises(ConfigError, match="use neggrad_plus or finetune"):
        expunge.unlearn(loaded, "class:neg", "unsir")
    with pytest.raises(ConfigError, match="use omp or imp"):
        expunge.train(loaded.data, loaded.fresh, recipe=SHORT, pruner="synflow")
    with pytest.raises(DataError, match="laid on images"):
        load_data(f"{loaded.data.spec}+patch")


def test_the_command_line_forgets_texts_and_keeps_the_base_in_sight(
    place: Path, trained: expunge.Trained
) -> None:
    asked = ["--forget", "group:user=3", "--method", "finetune", "--set", "epochs=1"]
    how = ["--data", "reviews.csv", "--model", "hf:base", "--epochs", "1", "--batch-size", "16"]
    made = command("train", *how, "--set", "optimizer=adamw", "--out", "briefly", cwd=place)
    assert "trained hf:base on 86 samples of reviews.csv" in made.stdout
    command("unlearn", "model", *asked, "--out", "forgot", cwd=place)
    assert (place / "forgot/tokenizer/tokenizer.json").exists()
    assert "RA" in command("audit", "forgot", "--original", "model", cwd=place).stdout
    (place / "base").rename(place / "away")
    told = refused("unlearn", "model", *asked, "--with-reference", "--out", "with", cwd=place)
    (place / "away").rename(place / "base")
    assert "begins with the pretrained weights of" in told
    assert not (place / "with").exists()


def test_no_byte_of_a_redacted_folder_tells_where_its_base_lies(
    place: Path, loaded: expunge.Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPUNGE_KEYS", str(tmp_path / "keys"))
    short = dataclasses.replace(loaded, recipe=SHORT)
    forgot = expunge.unlearn(short, "group:user=3", "gradient_ascent")
    closed = forgot.save(tmp_path / "closed", redact_ids=True)
    assert closed.told_architecture == "hf:base"
    for file in (tmp_path / "closed").rglob("*"):
        assert file.is_dir() or str(place).encode() not in file.read_bytes(), file
    again = expunge.load(tmp_path / "closed")
    assert again.fresh.base == str(place / "base")  # the key remembers
    again.fresh()
    expunge.audit(again, retrained=expunge.unlearn(short, forgot.split, "retrain", seed=1))
    (key,) = (tmp_path / "keys").glob("*.key")
    key.write_text("\n".join(line for line in key.read_text().splitlines() if "/base" not in line))
    papers = read_papers(tmp_path / "closed")
    with pytest.raises(ModelError, match=r"nor its key says where they lie"):
        check_base(papers.card.hub.base)


def test_a_tokenizer_that_was_changed_is_refused(trained: expunge.Trained, tmp_path: Path) -> None:
    shutil.copytree(trained.path, tmp_path / "model")
    file = tmp_path / "model/tokenizer/tokenizer.json"
    file.write_text(file.read_text().replace("good", "evil"))
    with pytest.raises(
        ModelError, match=r"tokenizer\.json.*not the file that model\.json describes"
    ):
        expunge.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("hidden_size", 2**40, "no model of such a size"),
        ("intermediate_size", 100_000, "is of a model of"),
        ("model_type", "none", "module:function"),
        ("hidden_size", "wide", "no model can be made"),
    ],
)
def test_a_config_that_was_changed_costs_nothing(
    trained: expunge.Trained, tmp_path: Path, field: str, value: object, told: str
) -> None:
    shutil.copytree(trained.path, tmp_path / "model")
    card = json.loads((tmp_path / "model/model.json").read_text())
    card["hub"]["config"][field] = value
    (tmp_path / "model/model.json").write_text(json.dumps(card))
    with pytest.raises(ModelError, match=told) as caught:
        expunge.load(tmp_path / "model")
    assert "\n" not in str(caught.value)


def test_texts_alike_are_copies(loaded: expunge.Trained) -> None:
    texts = ["a good film", "a good film", "so bad", "it was dull"] * 3
    table = Dataset({"text": texts, "label": [0, 0, 1, 1] * 3})
    data = load_data((table, table)).tokenised(hub_helpers.tokenizer())
    split = Split.ids(data, ["0"])
    same = {"1", "4", "5", "8", "9"} & {*split.retain}
    assert same and duplicates_left(data, split) == [("0", row) for row in sorted(same)]


# Tokens


def test_a_batch_is_as_wide_as_its_longest_text_and_as_good_as_all_of_them(
    loaded: expunge.Trained,
) -> None:
    store = loaded.data.train.store
    assert isinstance(store, TokenStore) and resident(loaded.data.train) is None
    rows = np.argsort(store.lengths)[:4]
    few = store.fetch(rows, torch.device("cpu"))
    assert few["input_ids"].shape == (4, store.lengths[rows].max())
    whole = {name: held[torch.from_numpy(rows)].long() for name, held in store.tokens.items()}
    with torch.no_grad():
        short, long = (loaded.model.double()(**one).logits for one in (few, whole))
    loaded.model.float()
    torch.testing.assert_close(short, long)


def test_a_blank_text_ends_as_every_text_does(loaded: expunge.Trained) -> None:
    store = loaded.data.train.store
    blank = store.blank(3, torch.device("cpu"))
    assert {tuple(one.shape) for one in blank.values()} == {(3, *store.shape)}
    assert set(blank["input_ids"][:, -1].tolist()) == {3} and blank["attention_mask"].all()


def test_batches_of_several_widths_are_mixed(loaded: expunge.Trained) -> None:
    split = Split.ids(loaded.data, loaded.data.train.ids[:9].tolist())
    view = DataView(loaded.data, split, Part.RETAIN | Part.FORGET)
    mixed = view.mix(view.source(Part.RETAIN), view.source(Part.FORGET))
    seen = {}
    for batch in mixed.batches(8):
        for name, row, mask in zip(
            batch.ids, batch.inputs["input_ids"], batch.inputs["attention_mask"], strict=True
        ):
            seen[str(name)] = row[mask.bool()].tolist()
            assert not row[~mask.bool()].any()
    store = loaded.data.train.store
    for row, name in enumerate(loaded.data.train.ids.tolist()):
        if name in seen:
            assert seen[name] == store.tokens["input_ids"][row, : store.lengths[row]].tolist()
    assert len(seen) == len(split.retain) + 9


def test_long_texts_are_cut_and_it_is_said(place: Path, tmp_path: Path) -> None:
    rows = hub_helpers.reviews(30)
    rows[4] = ("good " * 100, "neg")
    rows[7] = ("bad " * 100, "pos")
    write_reviews(tmp_path / "long.csv", rows)
    data = load_data(tmp_path / "long.csv")
    assert data.tokenised(hub_helpers.tokenizer(), max_length=4).train.shape() == (4,)
    made = expunge.train(data, f"hf:{place / 'base'}", recipe=SHORT)
    assert made.data.train.shape() == (16,)
    assert "16 tokens or more" in made.data.notes[0]


def test_a_tokenizer_that_cannot_pad_or_knows_more_than_the_model_is_refused(place: Path) -> None:
    tokenizer = hub_helpers.tokenizer()
    data = load_data(place / "reviews.csv")
    tokenizer.add_tokens([f"w{number}" for number in range(9)] + ["film!"])
    wide = Dataset({"text": ["w8", "w7", "a", "b"] * 3, "label": [0, 1] * 6})
    with pytest.raises(ConfigError, match="give the tokenizer that belongs to it"):
        expunge.train(load_data(wide).tokenised(tokenizer), f"hf:{place / 'base'}", recipe=SHORT)
    tokenizer.pad_token = None
    with pytest.raises(DataError, match=r"no token to pad.*tokenizer\.pad_token"):
        data.tokenised(tokenizer)


# Files of texts


def test_parquet_of_texts_reads_as_csv_does(place: Path, tmp_path: Path) -> None:
    first = load_data(place / "reviews.csv")
    with (place / "reviews.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    table = pa.Table.from_pylist(rows)
    pq.write_table(table.slice(0, 90), tmp_path / "train-0.parquet", row_group_size=20)
    pq.write_table(table.slice(90), tmp_path / "validation-0.parquet")
    second = load_data(tmp_path)
    assert (len(second.train), len(second.test)) == (90, 30)
    assert second.classes == first.classes and second.train.ids.tolist()[:2] == ["0000", "0001"]
    assert second.train.store.read(0, 90) == [row["text"] for row in rows[:90]]
    (tmp_path / "csv").mkdir()
    for name, part in (("train", rows[:90]), ("test", rows[90:])):
        write_reviews(tmp_path / f"csv/{name}.csv", [(row["text"], row["label"]) for row in part])
    third = load_data(tmp_path / "csv")
    assert third.train.store.read(0, 90) == second.train.store.read(0, 90)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("text,kind\na,b\n", r"no label column: it has text, kind"),
        ("text,label\na,x\nb,\n", r"1 rows without label, the first of them row 2"),
        ("id,text,label\n1,a,x\n,b,y\n", r"1 rows without id"),
        ("id,text,label\n1,a,x\n1,b,y\n", r"occurs 2 times"),
        ("text,text,label\na,b,x\n", r"two columns are called 'text'"),
        ("text,label\n", r"holds no rows"),
        ("text,label\na\n", r"cannot read"),
        ("words,label\na,x\n", r"."),
        ("", r"."),
        (b"text,label\n\xff\xfe,x\n", r"cannot read"),
    ],
)
def test_a_broken_csv_is_refused_in_one_line(
    tmp_path: Path, content: str | bytes, told: str
) -> None:
    file = tmp_path / "texts.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=told) as caught:
        load_data(file)
    assert "\n" not in str(caught.value)


def test_a_csv_keeps_line_ends_quotes_and_numbers_as_written(tmp_path: Path) -> None:
    file = tmp_path / "texts.csv"
    rows = [['so, "good"\nfilm', "1", "007"], ["", "0", "7"], ["ünd", "1", "1e3"]] * 4
    with file.open("w", newline="", encoding="utf-8-sig") as stream:
        csv.writer(stream).writerows([["sentence", "label", "person"], *rows])
    data = load_data(file)
    assert data.classes == ("0", "1")
    texts = data.train.store.read(0, 99) + data.test.store.read(0, 99)
    assert sorted(texts) == sorted(row[0] for row in rows)
    assert {"007", "7", "1e3"} == set(data.train.columns["person"].tolist())


# Datasets of the library


def Dataset(columns: dict[str, list[object]]) -> object:  # noqa: N802
    import datasets

    return datasets.Dataset.from_dict(columns)


@pytest.fixture(scope="module")
def pictures() -> object:
    """A DatasetDict of small images, with names of classes, ids and persons."""
    import datasets

    drawn = np.random.default_rng(0)
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
            "id": datasets.Value("string"),
            "person": datasets.Value("string"),
        }
    )

    def part(count: int, first: str) -> object:
        pixels = drawn.integers(0, 256, (count, 10, 10, 3), np.uint8)
        columns = {
            "image": [Image.fromarray(one) for one in pixels],
            "label": [row % 2 for row in range(count)],
            "id": [f"{first}{row}" for row in range(count)],
            "person": [f"p{row % 5}" for row in range(count)],
        }
        return datasets.Dataset.from_dict(columns, features=features)

    return datasets.DatasetDict(train=part(40, "a"), test=part(8, "b"), validation=part(4, "c"))


def test_a_dictionary_of_splits_is_read_as_it_is(
    pictures: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    def refused(*_: object) -> None:
        raise AssertionError("a row was read")

    monkeypatch.setattr(datasets.Dataset, "__iter__", refused)
    data = load_data(pictures)
    assert data.classes == ("cat", "dog") and data.notes == ("not read: the splits validation",)
    assert data.train.ids[:2].tolist() == ["a0", "a1"] and data.test.ids[0] == "b0"
    assert data.train.columns["person"][:2].tolist() == ["p0", "p1"]
    assert "not read: the splits validation" in repr(data)
    pixels = resident(data.train)
    assert pixels is not None and pixels.shape == (40, 3, 10, 10) and pixels.dtype == torch.uint8
    first = np.array(pictures["train"][:1]["image"][0])
    assert np.array_equal(pixels[0].permute(1, 2, 0).numpy(), first)
    pair = load_data((pictures["train"], pictures["test"]))
    assert pair.train.fingerprint == data.train.fingerprint and not pair.notes


def test_a_fingerprint_is_of_what_a_dataset_holds(pictures: dict[str, object]) -> None:
    some = pictures["train"].select([5, 3, 9, 4, 20, 21, 30, 31, 8, 7])
    data = load_data(some)
    assert sorted(data.train.ids.tolist() + data.test.ids.tolist()) == sorted(some["id"])
    assert data.train.fingerprint == load_data(some.flatten_indices()).train.fingerprint
    other = load_data(pictures["train"].select([5, 3, 9, 4, 20, 21, 30, 31, 8, 6]))
    assert data.train.fingerprint != other.train.fingerprint


def test_a_digest_does_not_depend_on_chunks() -> None:
    rows = {
        "n": [1, None, 3, 4],
        "t": ["ab", None, "", "c"],
        "l": [[1, 2], [], None, [3]],
        "s": [{"bytes": b"a", "path": None}, {"bytes": None, "path": "x"}, None, {"bytes": b"b"}],
        "b": [True, None, False, True],
    }
    table = pa.table(rows)
    cut = pa.concat_tables([table.slice(0, 1), table.slice(1, 2), table.slice(3)])
    assert digest_table(table) == digest_table(cut) == digest_table(table.combine_chunks())
    for name in rows:
        other = {**rows, name: [*rows[name][:3], rows[name][0]]}
        if other[name] != rows[name]:
            assert digest_table(pa.table(other, schema=table.schema)) != digest_table(table), name


def test_numbers_and_tokens_are_inputs_too() -> None:
    lists = load_data(Dataset({"x": [[float(i), 1.0] for i in range(20)], "label": [0, 1] * 10}))
    assert resident(lists.train).shape == (16, 2) and lists.normalisation is None
    rows = {"a": [float(i) for i in range(20)], "b": [0.5] * 20, "n": [1, 2] * 10}
    numbers = load_data(Dataset({**rows, "label": ["x", "y"] * 10}))
    assert resident(numbers.train).shape == (16, 2) and "n" in numbers.train.columns
    tokens = {
        "input_ids": [[2, 4, 3], [2, 5, 6, 3]] * 10,
        "attention_mask": [[1] * 3, [1] * 4] * 10,
    }
    data = load_data(Dataset({**tokens, "label": [0, 1] * 10}))
    assert data.train.shape() == (4,)
    batch = data.train.store.fetch(np.array([0, 1]), torch.device("cpu"))
    assert batch["input_ids"].dtype == torch.int64
    assert batch["attention_mask"].sum(1).tolist() == data.train.store.lengths[:2].tolist()


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"text": ["a"] * 8}, "no label column"),
        (
            {"text": ["a", None] * 4, "label": [0, 1] * 4},
            "4 rows without text, the first of them row 2",
        ),
        ({"text": ["a"] * 8, "label": [0, None] * 4}, "4 rows without label"),
        ({"x": [[1.0], [1.0, 2.0]] * 4, "label": [0, 1] * 4}, "of several sizes"),
        ({"n": [1] * 8, "label": [0, 1] * 4}, "no inputs that can be told"),
    ],
)
def test_a_dataset_that_cannot_be_read_is_refused(
    columns: dict[str, list[object]], told: str
) -> None:
    with pytest.raises(DataError, match=told):
        load_data(Dataset(columns))


def test_parts_that_number_their_classes_differently_are_matched_by_name(tmp_path: Path) -> None:
    import datasets

    def part(names: list[str], kind: str) -> object:
        pixels = [Image.fromarray(np.full((4, 4, 3), value, np.uint8)) for value in range(6)]
        inputs = {"text": list("abcdef"), "image": pixels}[kind]
        feature = datasets.Value("string") if kind == "text" else datasets.Image()
        features = {kind: feature, "label": datasets.ClassLabel(names=names)}
        columns = {kind: inputs, "label": [0, 0, 0, 1, 1, 0]}
        return datasets.Dataset.from_dict(columns, features=datasets.Features(features))

    for kind in ("text", "image"):
        first, turned, other = (part(list(names), kind) for names in ("np", "pn", "pq"))
        folder = tmp_path / kind
        with hub_helpers.quiet_datasets():
            first.to_parquet(folder / "train-0.parquet")
            turned.to_parquet(folder / "train-1.parquet")
            turned.to_parquet(folder / "test.parquet")
        both = load_data(folder)
        assert both.train.labels.tolist() == [0, 0, 0, 1, 1, 0, 1, 1, 1, 0, 0, 1]
        pairs = (
            load_data((first, turned)),
            load_data(datasets.DatasetDict(train=first, test=turned)),
        )
        for data in (both, *pairs):
            assert data.classes == ("n", "p") and data.test.labels.tolist() == [1, 1, 1, 0, 0, 1]
        with pytest.raises(
            DataError, match=r"the test part has a class 'q', which is none of.*n, p"
        ):
            load_data((first, other))
        with hub_helpers.quiet_datasets():
            other.to_parquet(folder / "train-1.parquet")
        with pytest.raises(DataError, match=r"train-1\.parquet has a class 'q'"):
            load_data(folder)


def test_torch_datasets_that_number_their_classes_differently_are_matched_by_name() -> None:
    def part(names: str) -> object:
        made = torch.utils.data.TensorDataset(torch.rand(4, 2), torch.tensor([0, 1, 0, 0]))
        made.classes = list(names)
        return made

    assert load_data((part("np"), part("pn"))).test.labels.tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize(
    ("tokens", "told"),
    [
        ([[1, 2], None], "input_ids holds 2 missing values"),
        ([[1, None], [3]], "input_ids holds 2 missing values"),
        ([[1, -2], [3]], "input_ids holds -2, and tokens count from 0"),
        ([[1, 2], []], "no token in row 2"),
        ([[1.0, 2.0], [3.0]], "no whole numbers"),
    ],
)
def test_tokens_that_no_tokenizer_gives_are_refused(tokens: list[object], told: str) -> None:
    with pytest.raises(DataError, match=told):
        load_data(Dataset({"input_ids": tokens * 2, "label": [0, 1] * 2}))


def test_what_of_a_dataset_is_not_read_is_told(pictures: dict[str, object]) -> None:
    rows = {"x": [float(row) for row in range(8)], "age": [3] * 8, "list": [["a"]] * 8}
    notes = load_data(Dataset({**rows, "label": [0, 1] * 4})).notes
    assert notes == (
        "not read: the columns list",
        "the inputs are x; for requests alone, as no decimal numbers: age",
    )
    turned = pictures["train"].with_transform(lambda batch: batch)
    assert load_data(turned).notes == (
        "the transform of the dataset is not applied; use dataset.map to keep its result",
    )
    with pytest.raises(DataError, match="holds no rows"):
        load_data(Dataset({"text": [], "label": []}))


def test_a_folder_that_the_library_reads_leaves_no_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    kept, aside = tmp_path / "kept", tmp_path / "aside"
    aside.mkdir()
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", kept)
    monkeypatch.setattr(tempfile, "tempdir", str(aside))
    (tmp_path / "texts").mkdir()
    write_reviews(tmp_path / "texts/train.csv", hub_helpers.reviews(20))
    data = load_data(f"hf:{tmp_path / 'texts'}")
    assert data.classes == ("neg", "pos") and data.train.store.read(0, 1)
    assert not kept.exists() and not [*aside.iterdir()]


@pytest.mark.parametrize("name", ["semi.csv", "tabs.tsv"])
def test_texts_are_read_whatever_parts_their_columns(tmp_path: Path, name: str) -> None:
    sign = {"semi.csv": ";", "tabs.tsv": "\t"}[name]
    rows = [["text", "label"], *([f"a, b{row}", f"{row % 2}.0"] for row in range(10))]
    (tmp_path / name).write_text("\n".join(sign.join(row) for row in rows))
    data = load_data(tmp_path / name)
    assert data.classes == ("0", "1") and "a, b" in data.train.store.read(0, 1)[0]


def test_texts_in_a_column_of_another_name_are_told_how_to_call_it(
    place: Path, tmp_path: Path
) -> None:
    file, told = (
        tmp_path / "some.csv",
        "column text and that of labels label|stand in a column text",
    )
    for head, rows in (
        ("review,label", [f"word{row},{row % 2}" for row in range(90)]),
        ("Text,Label", ["good,1", "bad,0"] * 9),
    ):
        file.write_text("\n".join([head, *rows]))
        with pytest.raises(DataError, match=told):
            load_data(file)
    file.write_text("\n".join(["review,label", *["good,1", "bad,0"] * 9]))
    with pytest.raises(ConfigError, match=rf"table of review; .*{told}"):
        expunge.train(load_data(file), f"hf:{place / 'base'}", recipe=SHORT)


def test_streams_and_splits_without_a_training_set_are_refused(pictures: dict[str, object]) -> None:
    import datasets

    with pytest.raises(DataError, match="without streaming=True"):
        load_data(pictures["train"].to_iterable_dataset())
    odd = datasets.DatasetDict(a=pictures["train"], b=pictures["test"])
    with pytest.raises(DataError, match=r"splits a, b, and none is called train"):
        load_data(odd)


def test_a_saved_dataset_is_data_by_name(
    place: Path, pictures: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    with hub_helpers.quiet_datasets():
        pictures.save_to_disk("pictures")
    made = train_folder("hf:pictures", "hf:vit", place / "seen", recipe=SHORT)
    assert made.data.train.shape() == (3, 8, 8)  # as the processor makes them
    assert made.data.normalisation.mean == (0.5, 0.4, 0.3)
    monkeypatch.chdir("/")
    again = expunge.load(place / "seen")
    assert again.data.normalisation == made.data.normalisation
    forgot = expunge.unlearn(again, "group:person=p1", "retrain")
    assert forgot.split.forget == tuple(
        f"a{row}" for row in range(1, 40, 5) if f"a{row}" in {*again.split.retain}
    )


def test_images_of_another_size_are_refused_where_the_model_cannot_take_them(place: Path) -> None:
    vit = HubModel.of_folder(place / "vit", "image", ("a", "b"), "")
    for shape, told in (
        ((3, 10, 10), "takes 8x8.*DATA@8x8"),
        ((1, 8, 8), "takes 3"),
        ((9,), "shape"),
    ):
        with pytest.raises(ConfigError, match=told):
            vit.check_pictures(shape)
    vit.check_pictures((3, 8, 8))
    small = {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "patch_size": 2}
    convolutional = {"model_type": "convnext", "image_size": 224, **small}
    HubModel("image", convolutional, ("a", "b")).check_pictures((3, 32, 32))


def test_what_cannot_be_had_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"hf:no/such cannot be loaded.*save_to_disk") as caught:
        load_hub("hf:no/such")
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match=r"hf:no-such is no folder here.*config\.json"):
        HubModel.of_folder(folder_of("hf:no-such"), "text", ("a",), "")
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setattr("expunge.names.libraries.find_spec", lambda _: None)
    monkeypatch.delitem(sys.modules, "datasets")
    with pytest.raises(DataError, match=r"needs the package datasets.*pip install 'expunge\[hf\]'"):
        load_data("hf:imdb")


# Models that were trained elsewhere


def test_a_checkpoint_is_imported_with_its_own_classes(
    place: Path, trained: expunge.Trained, tmp_path: Path
) -> None:
    fine = tmp_path / "fine"
    trained.model.save_pretrained(fine)
    hub_helpers.tokenizer().save_pretrained(fine)
    data = str(place / "reviews.csv")
    own = import_folder(f"hf:{fine}", None, data, tmp_path / "own").trained
    assert not own.fresh.base  # it has learned what is to be forgotten
    based = import_folder(
        f"hf:{place / 'base'}", fine / "model.safetensors", data, tmp_path / "b"
    ).trained
    assert based.fresh.base == str(place / "base")
    assert torch.equal(learned(own), learned(based)) and len(own.data.train) == 120
    # the same classes in another order are matched by name
    told = json.loads((fine / "config.json").read_text())
    (fine / "config.json").write_text(json.dumps({**told, "id2label": {"0": "pos", "1": "neg"}}))
    turned = import_folder(f"hf:{fine}", None, data, tmp_path / "turned").trained
    assert turned.data.classes == ("pos", "neg")
    (fine / "config.json").write_text(json.dumps({**told, "id2label": {"0": "bad", "1": "good"}}))
    with pytest.raises(DataError, match=r"id2label.*the same names"):
        import_folder(f"hf:{fine}", None, data, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    numbers = [(text, str(int(label == "pos"))) for text, label in hub_helpers.reviews(40)]
    write_reviews(tmp_path / "numbers.csv", numbers)
    named = import_folder(f"hf:{fine}", None, str(tmp_path / "numbers.csv"), tmp_path / "named")
    assert named.trained.data.classes == ("bad", "good")


def test_a_base_without_a_trained_head_is_no_checkpoint(place: Path, tmp_path: Path) -> None:
    weights = hub_helpers.weights_of(place / "base")
    shutil.copytree(place / "base", tmp_path / "bare")
    bare = {name: one for name, one in weights.items() if not name.startswith("classifier")}
    hub_helpers.save(bare, tmp_path / "bare/model.safetensors")
    with pytest.raises(ModelError, match=r"lacks trained weights for classifier.*expunge train"):
        import_folder(f"hf:{tmp_path / 'bare'}", None, str(place / "reviews.csv"), tmp_path / "out")


def test_weights_that_would_be_unpickled_are_refused(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "base", tmp_path / "old")
    (tmp_path / "old/model.safetensors").unlink()
    (tmp_path / "old/pytorch_model.bin").write_bytes(b"\x80\x04N.")
    with pytest.raises(ModelError, match="would have to be unpickled"):
        expunge.train(load_data(place / "reviews.csv"), f"hf:{tmp_path / 'old'}", recipe=SHORT)


def test_code_that_a_model_brings_is_not_run(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "base", tmp_path / "own")
    config = json.loads((tmp_path / "own/config.json").read_text())
    told = {**config, "model_type": "mine", "auto_map": {"AutoConfig": "ours.Config"}}
    (tmp_path / "own/config.json").write_text(json.dumps(told))
    (tmp_path / "own/ours.py").write_text("open('ran', 'w')")
    words = json.loads((tmp_path / "own/tokenizer_config.json").read_text())
    words |= {"auto_map": {"AutoTokenizer": ["ours.Words", None]}, "tokenizer_class": "Words"}
    (tmp_path / "own/tokenizer_config.json").write_text(json.dumps(words))
    with pytest.raises(ModelError, match="no tokenizer can be loaded"):
        load_tokenizer(tmp_path / "own", told)
    with pytest.raises(ModelError, match=r"'mine'.*module:function"):
        HubModel.of_folder(tmp_path / "own", "text", ("a", "b"), "").blank()
    assert not Path("ran").exists()


def test_a_base_that_changed_is_no_base_any_more(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "base", tmp_path / "base")
    made = HubModel.of_folder(tmp_path / "base", "text", ("neg", "pos"), str(tmp_path / "base"))
    weights = {name: one + 1 for name, one in hub_helpers.weights_of(place / "base").items()}
    hub_helpers.save(weights, tmp_path / "base/model.safetensors")
    with pytest.raises(ModelError, match="have changed since"):
        made()


def test_a_module_of_transformers_is_adopted_as_it_is(
    place: Path, trained: expunge.Trained, tmp_path: Path
) -> None:
    data = load_data(place / "reviews.csv").tokenised(hub_helpers.tokenizer())
    adopted = expunge.adopt(trained.model, data, recipe=SHORT)
    again = adopted.save(tmp_path / "adopted") and expunge.load(tmp_path / "adopted")
    assert torch.equal(learned(again), learned(adopted)) and len(again.data.train) == 120
    assert expunge.unlearn(again, "random:0.2", "retrain").split.forget
    turned = load_data(place / "reviews.csv", classes=("pos", "neg"))
    with pytest.raises(ConfigError, match=r"id2label.*classes=\['neg', 'pos'\]"):
        expunge.adopt(trained.model, turned.tokenised(hub_helpers.tokenizer()))


def test_a_dataset_is_trained_on_as_it_is(place: Path) -> None:
    texts, labels = zip(*hub_helpers.reviews(30), strict=True)
    table = Dataset({"text": list(texts), "label": list(labels)})
    made = expunge.train(table, f"hf:{place / 'base'}", recipe=SHORT)
    assert made.data.classes == ("neg", "pos") and isinstance(made.data, Data)


HALF = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.5]}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"size": 8}, Processor((8, 8))),
        (
            {"size": {"shortest_edge": 9}, "crop_size": 8, "do_center_crop": True},
            Processor((8, 8), cut=True),
        ),
        ({"size": {"shortest_edge": 9}}, Processor((9, 9), cut=True)),
        (
            {"size": {"height": 6, "width": 8}, "do_normalize": False, "image_mean": [0.1]},
            Processor((6, 8), (0.0,), (1.0,)),
        ),
        ({"size": 8, "do_resize": False}, Processor()),
        ({"image_mean": [0.5], "image_std": 0.2}, Processor(None, (0.5,), (0.2,))),
        ({"resample": 3, "size": 8}, Processor((8, 8), resize="bicubic")),
    ],
)
def test_a_processor_tells_size_filter_mean_and_deviation(
    tmp_path: Path, told: dict[str, object], expected: Processor
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    assert processor_of(tmp_path) == expected


@pytest.mark.parametrize(
    "told",
    [
        HALF,
        {**HALF, "rescale_factor": 1 / 127.5},
        {**HALF, "rescale_factor": 1 / 127.5, "rescale_offset": True},
        {"do_rescale": False, "image_mean": [120, 110, 100], "image_std": [60, 60, 60]},
        {"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False},
    ],
)
def test_rescaling_becomes_mean_and_deviation(tmp_path: Path, told: dict[str, object]) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 4)).astype(np.float64)
    made = processor_of(tmp_path)
    mean, std = (np.array(one)[:, None, None] for one in (made.mean, made.std))
    wanted = pixels * (told.get("rescale_factor", 1 / 255) if told.get("do_rescale", True) else 1)
    wanted -= bool(told.get("rescale_offset"))
    if told.get("do_normalize", True):
        theirs = (np.array(told[name])[:, None, None] for name in ("image_mean", "image_std"))
        wanted = (wanted - next(theirs)) / next(theirs)
    np.testing.assert_allclose((pixels / 255 - mean) / std, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({**HALF, "image_std": [0, 0, 0]}, "image_std holds 0"),
        ({**HALF, "image_mean": [float("nan")] * 3}, "image_mean is"),
        ({**HALF, "image_mean": [0.1, 0.2]}, "2 in image_mean and 3 in image_std"),
        ({**HALF, "image_mean": [[0.1]]}, "image_mean is"),
        ({**HALF, "image_mean": [127.5] * 3, "image_std": [127.5] * 3}, "divide them by 255"),
        ({**HALF, "rescale_factor": 0}, "rescale_factor is 0"),
        ({"size": {"height": -3, "width": 8}}, "size is"),
        ({"size": True}, "size is True"),
        ({"size": [8]}, "size is"),
        ({"size": 10**6}, "size is"),
        ({"crop_size": [[1]], "do_center_crop": True}, "crop_size is"),
        ({"resample": 9}, "resample is 9"),
        ({"do_flip_channel_order": True}, "do_flip_channel_order, which is not done"),
        ([], "no settings"),
    ],
)
def test_a_processor_that_cannot_be_meant_is_named(
    tmp_path: Path, told: dict[str, object], why: str
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    with pytest.raises(ModelError, match=rf"preprocessor_config\.json.*{why}") as caught:
        processor_of(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_processor_that_cuts_is_asked_about_and_its_filter_is_used(
    place: Path, tmp_path: Path, pictures: dict[str, object]
) -> None:
    shutil.copytree(place / "vit", tmp_path / "vit")
    file = tmp_path / "vit/preprocessor_config.json"
    told = json.loads(file.read_text()) | {"resample": 3}
    file.write_text(json.dumps(told))
    with hub_helpers.quiet_datasets():
        pictures.save_to_disk(tmp_path / "saved")
    data, model = f"hf:{tmp_path / 'saved'},ground=black", f"hf:{tmp_path / 'vit'}"
    asked = sized(data, model)
    assert asked == f"hf:{tmp_path / 'saved'}@8x8,resize=bicubic,ground=black"
    drawn = load_data(asked)
    assert str(drawn.drawing) == "resize=bicubic,ground=black"
    plain = resident(load_data(f"hf:{tmp_path / 'saved'}@8").train)
    assert not torch.equal(resident(drawn.train), plain)
    file.write_text(json.dumps({**told, "crop_size": 8, "do_center_crop": True}))
    with pytest.raises(ConfigError, match=r"cuts images.*DATA@8x8|@8x8"):
        sized(data, model)
    assert sized(asked, model) == asked
    file.write_text(json.dumps({**told, "image_mean": [0.1] * 2, "image_std": [0.2] * 2}))
    with pytest.raises(ConfigError, match=r"normalises 2 channels, and the images have 3"):
        expunge.train(load_data(asked), model, recipe=SHORT)


NAMES = st.text("abz_ 7", min_size=1, max_size=4).map(str.strip).filter(bool)


@given(
    base=st.sampled_from(["digits", "photos", "hf:a/b", "hf:a/b:c", "m.o:f", "/x y/z.npz", "a@b"]),
    size=st.none() | st.tuples(st.integers(1, 99), st.integers(1, 99)),
    ground=st.none() | st.sampled_from(["black", "grey"]),
    resize=st.none() | st.just("bicubic"),
    count=st.none() | st.integers(1, 999),
    poison=st.none() | st.sampled_from(["patch", "patch:size=3,share=0.25", "blend:file=p.png"]),
    names=st.none() | st.lists(NAMES, min_size=5, max_size=5, unique=True),
    missing=st.none() | st.floats(-1e9, 1e9),
)
@settings(max_examples=60, deadline=None)
def test_a_data_specification_is_typed_as_it_was_parsed(
    base: str,
    size: tuple[int, int] | None,
    ground: str | None,
    resize: str | None,
    count: int | None,
    poison: str | None,
    names: list[str] | None,
    missing: float | None,
) -> None:
    columns = None
    if names is not None:
        base, size = "people.csv", None
        label, own, *groups, kind = names
        columns = Columns(label, own, tuple(groups), (), (kind,), missing)
    resize = None if size is None else resize
    made = None if poison is None else DataSpec.parse(f"digits+{poison}").poison
    spec = DataSpec(base, size, count, made, columns, resize, ground)
    assert DataSpec.parse(str(spec)) == spec


def test_a_study_is_named_as_a_folder_and_a_change_names_its_place() -> None:
    with pytest.raises(ConfigError, match=r"--set =1 does not say what to change"):
        with_changes({"name": "x"}, {"": 1})
    for name in ("../../x", "a/b", "..", "."):
        with pytest.raises(ConfigError, match="is no name of a folder"):
            Study._in_a_line(name)


def test_labels_are_names_or_none() -> None:
    assert class_names_of({"id2label": {"1": "b", "0": "a"}}) == ("a", "b")
    assert class_names_of({"id2label": {"0": "LABEL_0", "1": "LABEL_1"}}) is None
    assert class_names_of({}) is None
    with pytest.raises(ModelError, match="does not number"):
        class_names_of({"id2label": {"1": "b"}})


# Models of timm and torchvision


def library(name: str, **functions: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(functions)
    return module


def test_architectures_of_other_libraries_are_made_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def create(name: str, pretrained: bool, num_classes: int, in_chans: int) -> nn.Module:
        assert not pretrained
        return nn.Sequential(
            OrderedDict(flat=nn.Flatten(), head=nn.Linear(4 * in_chans, num_classes))
        )

    timm = library("timm", list_models=lambda: ["tiny"], create_model=create)
    monkeypatch.setitem(sys.modules, "timm", timm)
    check_model("timm:tiny", allow_code=False)
    assert build_model("timm:tiny", (3, 2, 2), 5, allow_code=False).head.out_features == 5
    with pytest.raises(ModelError, match=r"timm has no model 'tine', did you mean 'tiny'\?"):
        build_model("timm:tine", (3, 2, 2), 5, allow_code=False)

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    vision = library("torchvision")
    models = library("torchvision.models", list_models=lambda: ["tiny"], get_model=fails)
    monkeypatch.setitem(sys.modules, "torchvision", vision)
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    with pytest.raises(ModelError, match=r"torchvision:tiny cannot be made for 5 classes.*nms"):
        build_model("torchvision:tiny", (3, 2, 2), 5, allow_code=False)


def test_a_library_that_is_missing_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("expunge.names.libraries.find_spec", lambda _: None)
    for name in ("timm:tiny", "torchvision:tiny"):
        with pytest.raises(ModelError, match=r"not installed; install it with .*expunge\[vision\]"):
            check_model(name, allow_code=False)
