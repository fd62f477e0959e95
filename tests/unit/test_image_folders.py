"""Folders of images as people have them: read rightly, or refused with the remedy; what is not read is
told."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from expunge.cli.screen import warnings_as_lines
from expunge.data.decoded import FINGERPRINT
from expunge.data.load import Data, load_data
from expunge.data.read_as import ReadAs
from expunge.data.split import Split
from expunge.data.split_file import home_of, split_to_plain
from expunge.data.tree import part_of
from expunge.errors import DataError, DataWarning

CLASSES = ("cat", "dog")


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def fill(folder: Path, count: int = 4) -> Path:
    """Some images, each of one colour that tells its name."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        shade = (17 * i + 31 * sum(map(ord, folder.name))) % 256
        Image.new("L", (4, 4), shade).save(folder / f"{i}.png")
    return folder


def photos(root: Path, *, classes: tuple[str, ...] = CLASSES, count: int = 4) -> Path:
    for name in classes:
        fill(root / name, count)
    return root


def names(data: Data) -> set[str]:
    return {*data.train.ids.tolist(), *data.test.ids.tolist()}


def told(read: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What a call gives, and the warnings on the way."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = read()
    assert all(issubclass(one.category, DataWarning) for one in caught)
    return made, [str(one.message) for one in caught]


# --- parts


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"), ("Train", "Test"), ("TRAINING", "testing"), ("train", "val"),
        ("training_set", "test_set"), ("seg_train", "seg_test"), ("train", "Validation"),
        ("train2017", "val2017"),
    ],
)  # fmt: skip
def test_parts_are_known_by_their_names(tmp_path: Path, train: str, test: str) -> None:
    photos(tmp_path / train)
    photos(tmp_path / test, count=2)
    data = load_data(tmp_path)
    assert data.classes == CLASSES and not data.test_drawn
    assert (len(data.train), len(data.test)) == (8, 4)
    assert data.train.ids[0] == f"{train}/cat/0.png"


def test_a_part_within_a_folder_of_its_name(tmp_path: Path) -> None:
    for name in ("seg_train", "seg_test"):
        photos(tmp_path / "Scenes" / name / name)
    (data, notes) = told(lambda: load_data(tmp_path))
    assert data.classes == CLASSES and not data.test_drawn
    assert notes == [f"{tmp_path / 'Scenes'} is read, the one folder of images in {tmp_path}"]


def test_a_folder_that_was_unzipped_into_one_of_its_name(tmp_path: Path) -> None:
    photos(tmp_path / "pets" / "pets")
    data = load_data(tmp_path / "pets")
    assert data.classes == CLASSES
    assert "pets/cat/0.png" in names(data), "ids are paths in what was named"


def test_what_is_of_no_part_is_told(tmp_path: Path) -> None:
    for name in ("train", "valid", "test", "extra"):
        photos(tmp_path / name)
    fill(tmp_path, 1)
    data, notes = told(lambda: load_data(tmp_path))
    assert len(data.test) == 8 and data.test.ids[0].startswith("test/")
    assert notes == [
        f"{tmp_path / 'extra'} is not read (8 images)",
        f"{tmp_path / 'valid'} is not read (8 images): to validate, some to train on are drawn",
        f"not read, being of no part: 1 image of {tmp_path} itself",
    ]


@pytest.mark.parametrize(
    ("train", "test", "more"),
    [
        ("seg_train", "seg_test", "seg_pred"), ("seg_train", "seg_test", "samples"),
        ("training_set", "test_set", "single_prediction"), ("my train", "my val", "old/cat"),
        ("scenes_train", "scenes_test", "scenes_train_old_test/cat"),
    ],
)  # fmt: skip
def test_what_lies_beside_parts_of_longer_names_is_no_class(
    tmp_path: Path, train: str, test: str, more: str
) -> None:
    photos(tmp_path / train)
    photos(tmp_path / test, count=2)
    fill(tmp_path / more, 3)
    data, notes = told(lambda: load_data(tmp_path))
    assert data.classes == CLASSES and not data.test_drawn
    assert (len(data.train), len(data.test)) == (8, 4)
    assert notes == [f"{tmp_path / more.partition('/')[0]} is not read (3 images)"]


def test_classes_of_words_that_name_parts_stay_classes(tmp_path: Path) -> None:
    for classes in (("train station", "tunnel"), ("test tube", "train", "x")):
        assert load_data(photos(tmp_path / classes[-1], classes=classes)).classes == classes


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("2019/cat", "2019/dog", "2020/cat", "2021/cat", "2021/dog", "2021/cow"), "2019, 2020, 2021 "),
        (("2019/cat", "2019/dog", "2020/cat"), "the folders cat, dog, so either may"),
        (("training_set/cat", "training_set/dog", "test_set"), "test_set holds 4 images and no class"),
        (("test/cat", "test/dog", "val/cat"), "holds test, val and no images to train on"),
        (("train/cat", "Training/dog"), "Training and train, each train data by its name; rename one"),
        (("train", "test"), "train holds 4 images and no class folders; .*metadata.csv"),
        (("a/cat", "a/dog", "b/cat", "b/dog"), "a, b .*nothing but the folders cat, dog, so either may"),
        (("only",), "all images of .* are of one class, only, .*give two classes or more"),
        (("train/cat", "train/dog", "test/cat", "test/Dog"), "Dog .4 images.*did you mean 'dog'"),
        ((".",), "holds 4 images and no class folders; move each to"),
    ],
)  # fmt: skip
def test_what_nobody_can_tell_is_refused(
    tmp_path: Path, folders: tuple[str, ...], message: str
) -> None:
    for name in folders:
        fill(tmp_path / name)
    with pytest.raises(DataError, match=message):
        load_data(tmp_path)


def test_classes_may_bear_the_names_of_parts(tmp_path: Path) -> None:
    classes = ("bus", "car", "train")
    data = load_data(photos(tmp_path / "vehicles", classes=classes))
    assert data.classes == classes
    assert load_data(photos(tmp_path / "trial", classes=("control", "test"))).classes == (
        "control",
        "test",
    )
    assert [part_of(name) for name in ("straining", "train_test", "Trainer", "dev")] == [
        None, None, None, "valid",
    ]  # fmt: skip


def test_persons_within_classes_are_read_as_before(tmp_path: Path) -> None:
    for place in ("cat/p1", "cat/p2", "dog/p1", "dog/p3"):
        fill(tmp_path / place)
    data = load_data(tmp_path)
    assert data.classes == CLASSES and len(names(data)) == 16


# --- what systems leave there


def test_hidden_things_are_no_classes_and_no_images(tmp_path: Path) -> None:
    photos(tmp_path)
    for hidden in (".ipynb_checkpoints", "__MACOSX", "@eaDir", "cat/.thumbnails"):
        fill(tmp_path / hidden)
    for junk in (".DS_Store", "cat/.DS_Store", "cat/Thumbs.db", "dog/desktop.ini"):
        (tmp_path / junk).write_bytes(b"\0")
    (tmp_path / "cat" / "._0.png").write_bytes(b"\0\5\x16\7")
    data = load_data(tmp_path)
    assert data.classes == CLASSES and len(names(data)) == 8


def test_classes_without_images_are_refused(tmp_path: Path) -> None:
    photos(tmp_path)
    (tmp_path / "emu" / "deep").mkdir(parents=True)
    (tmp_path / "fox").mkdir()
    (tmp_path / "fox" / "a.heic").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"holds emu, fox without images.*remove them, or add images"
    ):
        load_data(tmp_path)


def test_photos_of_every_ending_are_read(tmp_path: Path) -> None:
    for i, ending in enumerate(("jpg", "jfif", "JFIF", "JPEG", "pgm", "tiff", "webp")):
        kind = {"pgm": "PPM", "tiff": "TIFF", "webp": "WEBP"}.get(ending, "JPEG")
        for name in CLASSES:
            (tmp_path / name).mkdir(exist_ok=True)
            Image.new("L", (4, 4), 9 * i).save(tmp_path / name / f"{i}.{ending}", kind)
    assert len(names(load_data(tmp_path))) == 14


def test_files_that_are_no_images_are_counted(tmp_path: Path) -> None:
    photos(tmp_path)
    for name in ("cat/a.heic", "cat/b.HEIC", "dog/deep/notes.txt", "README"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    _, notes = told(lambda: load_data(tmp_path))
    assert notes == [
        f"not read in {tmp_path}, for their names are none of images: 3 files (2 .heic, 1 .txt), such "
        "as cat/a.heic"
    ]


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    photos(tmp_path / "a")
    (tmp_path / "a" / "cat" / "more").symlink_to(fill(tmp_path / "store"))
    assert len(names(load_data(tmp_path / "a"))) == 12
    (tmp_path / "a" / "dog" / "again").symlink_to(tmp_path / "store")
    with pytest.raises(
        DataError, match=r"more and .*again are one folder, whose images would count"
    ):
        load_data(tmp_path / "a")
    (tmp_path / "a" / "dog" / "again").unlink()
    (tmp_path / "store" / "back").symlink_to(tmp_path / "a" / "cat")
    with pytest.raises(DataError, match="are one folder"):
        load_data(tmp_path / "a")


# --- after a deletion


def test_a_class_that_is_gone_stays_known(tmp_path: Path) -> None:
    """As a model folder reads its data: it knows the classes, though all images of one were deleted."""
    photos(tmp_path / "train", classes=("cat", "dog", "emu"))
    photos(tmp_path / "test", classes=("cat", "dog", "emu"))
    for file in (tmp_path / "train" / "cat").iterdir():
        file.unlink()
    for empty in (True, False):
        if not empty:
            (tmp_path / "train" / "cat").rmdir()
        data = load_data(tmp_path, classes=("cat", "dog", "emu"))
        assert data.classes == ("cat", "dog", "emu")
        assert set(data.train.labels.tolist()) == {1, 2}
        assert set(data.test.labels.tolist()) == {0, 1, 2}


def test_the_division_of_before_is_made_again(tmp_path: Path) -> None:
    """Nothing of the order in which images are found may move."""
    for place in ("cat", "cat-2", "cat/a", "cat/a.b", "dog"):
        fill(tmp_path / place, 5)
    data = load_data(tmp_path)
    every = [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*.png"))]
    assert sorted(names(data), key=lambda name: Path(name).parts) == every
    plain = split_to_plain(Split.whole(data), data)
    fill(tmp_path / "cat-2", 7)
    again = load_data(tmp_path, read_as=ReadAs(home_of(plain)))
    assert again.test.ids.tolist() == data.test.ids.tolist()


# --- a table beside them


def table(folder: Path, ending: str, columns: dict[str, list[Any]]) -> None:
    """A table in each of the ways in which it may be written."""
    frame = pa.table(columns)
    if ending == "parquet":
        pq.write_table(frame, folder / "metadata.parquet")
        return
    from pandas import DataFrame

    made = DataFrame(columns)
    if ending == "csv":
        made.to_csv(folder / "metadata.csv", index=False)
    else:
        made.to_json(folder / "metadata.jsonl", orient="records", lines=True)


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_a_flat_folder_with_a_table(tmp_path: Path, ending: str) -> None:
    fill(tmp_path, 20)
    rows = {
        "file_name": [f"{i}.png" for i in range(20)],
        "id": [f"s{i:03d}" for i in range(20)],
        "label": [("yes", "no")[i % 2] for i in range(20)],
        "person": [f"00{i % 5}" for i in range(20)],
        "age": [i % 4 for i in range(20)],
    }
    order = np.random.default_rng(0).permutation(20)
    table(tmp_path, ending, {name: [column[i] for i in order] for name, column in rows.items()})
    data = load_data(tmp_path)
    assert data.classes == ("no", "yes")
    for samples in (data.train, data.test):
        numbers = [int(name[1:]) for name in samples.ids.tolist()]
        shades = samples.store.whole()[:, 0, 0, 0].tolist()  # type: ignore[index]
        first = Image.open(tmp_path / "0.png").getpixel((0, 0))
        assert shades == [(first + 17 * i) % 256 for i in numbers]  # type: ignore[operator]
        assert samples.labels.tolist() == [1 - i % 2 for i in numbers]
    split = Split.parse(data, "group:person=003", base=Split.whole(data, validation=0))
    assert set(split.forget) == {s for s in data.train.ids.tolist() if int(s[1:]) % 5 == 3}
    assert len(Split.parse(data, "group:age=2", base=Split.whole(data, validation=0)).forget)


def test_a_table_gives_groups_to_class_folders(tmp_path: Path) -> None:
    photos(tmp_path)
    files = [f"{name}/{i}.png" for name in CLASSES for i in range(4)]
    content = "person,file_name\n" + "".join(f"p00{i % 3},./{f}\n" for i, f in enumerate(files))
    (tmp_path / "metadata.csv").write_text("\ufeff" + content)
    data = load_data(tmp_path)
    assert data.classes == CLASSES and names(data) == set(files), "ids stay paths"
    people = dict(zip(data.train.ids.tolist(), data.train.columns["person"].tolist(), strict=True))
    assert all(people[f] == f"p00{i % 3}" for i, f in enumerate(files) if f in people)
    before = data.train.fingerprint
    (tmp_path / "metadata.csv").write_text(content.replace("p001", "p009"))
    changed = load_data(tmp_path).train.fingerprint
    assert changed != before
    assert changed[:FINGERPRINT] == before[:FINGERPRINT], "its images are those that were struck"


def test_a_table_for_each_part_or_for_all(tmp_path: Path) -> None:
    for part, count in (("train", 8), ("test", 4)):
        fill(tmp_path / part, count)
        rows = "".join(f"{i}.png,{i % 3 + i // 3 % 2}\n" for i in range(count))
        (tmp_path / part / "metadata.csv").write_text(f"file_name,label\n{rows}")
    data = load_data(tmp_path)
    assert data.classes == ("0", "1", "2", "3"), "whole numbers are class indices"
    assert (len(data.train), len(data.test)) == (8, 4)
    whole = []
    for part in ("train", "test"):
        lines = (tmp_path / part / "metadata.csv").read_text().splitlines()[1:]
        whole += [f"{part}/{line}" for line in lines]
        (tmp_path / part / "metadata.csv").unlink()
    (tmp_path / "metadata.csv").write_text("\n".join(["file_name,label", *whole]))
    again = load_data(tmp_path)
    assert again.train.labels.tolist() == data.train.labels.tolist()
    assert again.test.labels.tolist() == data.test.labels.tolist()


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_labels_that_are_decimal_numbers_are_class_indices(tmp_path: Path, ending: str) -> None:
    fill(tmp_path, 10)
    rows = {
        "file_name": [f"{i}.png" for i in range(10)],
        "label": [float(i % 2) for i in range(10)],
    }
    table(tmp_path, ending, rows)
    assert load_data(tmp_path).classes == ("0", "1")


def test_a_table_of_texts_of_several_lines(tmp_path: Path) -> None:
    fill(tmp_path, 60)
    text = f"one, and\n{'x' * 30_000}\n; two"  # over a megabyte in all
    rows = "".join(f'{i}.png;{"ab"[i % 2]};"{text} {i}"\n' for i in range(60))
    (tmp_path / "metadata.csv").write_text(f"file_name;label;text\n{rows}")
    data = load_data(tmp_path, test="none")
    told_of = dict(zip(data.train.ids.tolist(), data.train.columns["text"].tolist(), strict=True))
    assert all(told_of[f"{i}.png"].endswith(f"two {i}") for i in range(60))


def test_lines_end_where_json_lines_do(tmp_path: Path) -> None:
    fill(tmp_path, 6)
    rows = [{"file_name": f"{i}.png", "label": "ab"[i % 2], "t": "a\u2028b\x85c"} for i in range(6)]
    lines = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "metadata.jsonl").write_bytes(lines.encode())
    assert len(names(load_data(tmp_path))) == 6


def test_a_table_that_contradicts_the_folders_is_refused(tmp_path: Path) -> None:
    photos(tmp_path)
    files = [f"{name}/{i}.png" for name in CLASSES for i in range(4)]
    rows = [f"{file},{file.partition('/')[0]}\n" for file in files]
    (tmp_path / "metadata.csv").write_text("file_name,label\n" + "".join(rows))
    assert load_data(tmp_path).classes == CLASSES
    rows[1] = "cat/1.png,dog\n"
    (tmp_path / "metadata.csv").write_text("file_name,label\n" + "".join(rows))
    with pytest.raises(
        DataError, match=r"says dog of cat/1\.png .1 such images., which lies in the"
    ):
        load_data(tmp_path)
    rows[1:] = [f"{file},{'ab'[i % 2]}\n" for i, file in enumerate(files)][1:]
    rows[0] = "cat/0.png,a\n"
    (tmp_path / "metadata.csv").write_text("file_name,label\n" + "".join(rows))
    assert load_data(tmp_path).classes == ("a", "b"), "the folders are no classes then"


def test_rows_whose_images_are_gone_are_told(tmp_path: Path) -> None:
    fill(tmp_path, 6)
    rows = "".join(f"{i}.png,{i % 2}\n" for i in range(9))
    (tmp_path / "metadata.csv").write_text(f"file_name,label\n{rows}")
    data, notes = told(lambda: load_data(tmp_path))
    assert len(names(data)) == 6
    assert notes == [f"3 of 9 rows of {tmp_path / 'metadata.csv'} name no image that is there"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("file_name,label\n0.png,a\n1.png,b\n", "2 of 4 images have no row in .*such as 2.png"),
        (
            "file_name,label\n0.png,a\n1.png,b\n2.png,\n3.png,\n",
            "no label of 2 images, such as 2.png",
        ),
        ("file_name,label\n0.png,a\n1.png,b\n2.png,a\n3.png,b\n./3.png,a", "2 rows for 3.png"),
        ("name,label\n0.png,a\n", "has no column file_name, but label, name"),
        ("file_name,label,label\n0.png,a,b\n", "two of its columns have one name"),
        ("file_name,label\n0.png,a,b\n", r"cannot read .*metadata\.csv"),
        ("", r"cannot read .*metadata\.csv"),
        ("file_name,id,label\n0.png,x,a\n1.png,x,b\n2.png,y,a\n3.png,z,b\n", "id 'x' occurs 2"),
        ("file_name,label\n0.png,a\n1.png,a\n2.png,a\n3.png,a\n", "are of one class, a"),
        (
            "file_name,label\n0.png,a\n1.png,NaN\n2.png,NA\n3.png,b\n",
            "no label of 2 images, .*1.png",
        ),
        ("file_name,label\n0.png,-1\n1.png,0\n2.png,1\n3.png,2\n", r"label -1 is negative .1 such"),
    ],
)
def test_tables_that_do_not_fit(tmp_path: Path, content: str, message: str) -> None:
    fill(tmp_path)
    (tmp_path / "metadata.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        load_data(tmp_path)


def test_two_tables_are_one_too_many(tmp_path: Path) -> None:
    fill(tmp_path)
    for ending in ("csv", "jsonl"):
        table(tmp_path, ending, {"file_name": [f"{i}.png" for i in range(4)], "label": [0, 1] * 2})
    with pytest.raises(DataError, match=r"holds metadata\.csv, metadata\.jsonl; leave one"):
        load_data(tmp_path)


def test_lines_that_are_no_objects(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "0.png"}\n[1]\n')
    with pytest.raises(DataError, match=r"metadata\.jsonl .*no JSON object"):
        load_data(tmp_path)


# --- many files, and the command line


def test_many_files_are_looked_at_in_one_walk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(tmp_path / "train", count=3)
    photos(tmp_path / "test", count=3)
    looked: list[str] = []
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: looked.append(str(path)) or real(path))
    monkeypatch.setattr(Path, "rglob", None)
    load_data(tmp_path)
    ours = [path for path in looked if path.startswith(f"{tmp_path}{os.sep}")]
    classes = [path for path in ours if path.endswith(("cat", "dog"))]
    assert len(classes) == len(set(classes)) == 4 and len(set(ours)) == 6


def test_the_command_line_tells_it_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("train", "valid", "test"):
        photos(tmp_path / name)
    with warnings_as_lines():
        warnings.simplefilter("default")
        load_data(tmp_path)
        load_data(tmp_path)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: {tmp_path / 'valid'} is not read (8 images)")
