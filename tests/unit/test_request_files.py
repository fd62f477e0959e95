"""What the lines of a list of ids mean, and what is told of each sample that a request names."""

from __future__ import annotations

import fnmatch
from pathlib import Path

import numpy as np
import pytest
from helpers import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge import SplitError
from expunge.data.answer import answer
from expunge.data.load import Data
from expunge.data.lookup import look_up
from expunge.data.samples import ResidentStore, Samples
from expunge.data.split import Split

IDS = [
    *(f"train/cat/p007_{row}.png" for row in range(3)),
    "train/cat/p008_0.png",
    "train/dog/p008_0.png",
    "train/dog/p0081.png",
    "train/dog/odd [1].png",
    "#1",
    "train/dog/rex#2.png",
    *(f"train/dog/other-{row}.png" for row in range(8)),
]
TESTED = ["test/cat/p007_9.png", "test/dog/p011_1.png"]


def photos(ids: list[str] = IDS) -> Data:
    labels = [int("/dog/" in name) for name in ids]
    people = [name.rpartition("/")[2].partition("_")[0] for name in ids]
    data = toy(labels, ids=ids, columns={"person": np.array(people)}, test=2)
    test = Samples(
        np.array(TESTED),
        np.array([0, 1]),
        ResidentStore(data.test.store.whole()),
        "test",
        False,
        columns={"person": np.array(["p007", "p011"])},
    )
    return Data(data.train, test, data.classes, normalise=False)


PHOTOS = photos()


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("train/cat/p008_0.png", ["train/cat/p008_0.png"]),
        ("p007_1.png", ["train/cat/p007_1.png"]),
        ("p007_1", ["train/cat/p007_1.png"]),
        ("train/cat/p007_2", ["train/cat/p007_2.png"]),
        ("*/p007_*", [*IDS[:3], TESTED[0]]),
        ("p007_?.png", [*IDS[:3], TESTED[0]]),
        ("train/*/p008_0.png", IDS[3:5]),
        ("*[89]_0.png", IDS[3:5]),
        ("odd [1].png", ["train/dog/odd [1].png"]),
        ("train/dog/odd [1].png", ["train/dog/odd [1].png"]),
        ("#1", ["#1"]),
        ("# of Anna", []),
        ("p007_1.png # of Anna", ["train/cat/p007_1.png"]),
        ("train/dog/rex#2.png", ["train/dog/rex#2.png"]),
        ("p011_1.png", [TESTED[1]]),
    ],
)
def test_what_a_line_means(line: str, names: list[str]) -> None:
    found = look_up([line], PHOTOS)
    assert found.names == names and not found.unknown


@pytest.mark.parametrize(
    "line", ["p00", "p008_00", "p009", "*/p009_*", "train", "P007_1.png", "tha*"]
)
def test_what_fits_nothing_is_unknown(line: str) -> None:
    """A beginning that ends within a word is somebody else's: p00 is not p007."""
    try:
        assert look_up([line], PHOTOS).unknown == [line]
    except SplitError as error:
        assert line == "train" and "fits several" in str(error)


@pytest.mark.parametrize("line", ["p008_0.png", "p008_0", "p007", "train/cat"])
def test_what_fits_several_is_refused_with_the_candidates(line: str) -> None:
    with pytest.raises(
        SplitError, match=r"fits several samples: 'train/cat/.*; write the whole id, or"
    ):
        look_up([line], PHOTOS)


def test_row_numbers_are_ids_and_nothing_else() -> None:
    numbers = toy([0, 1] * 10)
    found = look_up(["7", "07", "1*", "19", "20", "# 3", "t1"], numbers)
    assert found.names == ["7", "19"] and found.unknown == ["07", "1*", "20", "t1"]


def test_a_line_that_names_what_another_has_named_counts_once() -> None:
    found = look_up(["p007_1.png", "*/p007_*", IDS[0], IDS[0]], PHOTOS)
    assert sorted(found.names) == sorted([*IDS[:3], TESTED[0]]) and found.again == 3


words = st.text("ab1/._", min_size=1, max_size=6).filter(lambda text: text == text.strip())


@settings(max_examples=60, deadline=None)
@given(
    ids=st.lists(words, min_size=2, max_size=12, unique=True),
    pattern=st.text("ab1/*?_", min_size=1, max_size=5),
)
def test_patterns_find_what_a_look_at_each_id_finds(ids: list[str], pattern: str) -> None:
    """However many there are, each is matched as by `fnmatch`, over the id or its base name."""
    if pattern in [*ids, "t0"] or not set(pattern) & set("*?"):
        return
    data = toy([0] * len(ids), ids=ids, test=1)
    bases = [one.rpartition("/")[2] if "/" not in pattern else one for one in [*ids, "t0"]]
    wanted = [
        one
        for one, base in zip([*ids, "t0"], bases, strict=True)
        if fnmatch.fnmatchcase(one, pattern) or fnmatch.fnmatchcase(base, pattern)
    ]
    assert sorted(look_up([pattern], data).names) == sorted(wanted)


def test_a_million_ids_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of ids are made only where a line is none, and no pattern meets each id."""
    data = toy([0, 1] * 500, ids=[f"a/{row}.png" for row in range(1000)])
    with monkeypatch.context() as patched:
        patched.setattr("expunge.data.lookup._Names.ids", property(lambda _: 1 / 0))
        assert len(look_up(data.train.ids.tolist(), data).names) == 1000
    seen: list[str] = []
    real = fnmatch.translate

    def translated(pattern: str) -> str:
        seen.append(pattern)
        return real(pattern)

    monkeypatch.setattr("expunge.data.lookup.fnmatch.translate", translated)
    assert look_up(["*/99?.png", "5.png"], data).names == [f"a/99{d}.png" for d in range(10)] + [
        "a/5.png"
    ]
    assert seen == ["*/99?.png"]


# --- the answer


def asked(tmp_path: Path, *lines: str) -> str:
    (tmp_path / "asked.txt").write_text("\n".join(lines))
    return f"ids:{tmp_path}/asked.txt"


BASE = Split(
    retain=tuple(IDS[1:8]), validation=("train/dog/rex#2.png",), excluded=(IDS[0], "long-gone")
)


def test_each_sample_is_told_what_it_is(tmp_path: Path) -> None:
    lines = ("# Anna, 3 May", "", "*/p007_*", "rex#2.png", "long-gone", "nobody.png", "p011_1")
    told = answer(
        PHOTOS, asked(tmp_path, *lines), base=BASE, when=lambda ids: {"by r1": sorted(ids)}
    )
    assert told.split.forget == (IDS[1], IDS[2])
    assert told.tested == [TESTED[0], TESTED[1]]
    assert told.validation == ["train/dog/rex#2.png"]
    assert told.before == {"by r1": ["long-gone", IDS[0]]}
    assert told.unknown == ["nobody.png"]
    assert told.split.excluded == tuple(sorted((*BASE.excluded, "train/dog/rex#2.png")))
    text = "\n".join(told.lines())
    assert "8 samples asked for: 2 learned, to be forgotten" in text
    for part in (
        "2 struck before by r1 (long-gone, train/cat/p007_0.png)",
        "1 unknown",
        "nobody.png",
    ):
        assert part in text
    silent = "\n".join(told.lines(redacted=True)) + "\n".join(told.warnings)
    assert not any(word in silent for word in ("p007", "gone", "nobody", "rex"))
    assert told.plain() == {
        "asked": 8,
        "learned": 2,
        "validation": 1,
        "test": 2,
        "struck_before": {"by r1": 2},
        "unknown": 1,
    }


def test_a_group_is_told_of_its_test_samples_too() -> None:
    told = answer(PHOTOS, "group:person=p007", base=BASE)
    assert told.split.forget == (IDS[1], IDS[2]) and told.tested == [TESTED[0]]
    assert list(map(list, told.before.values())) == [[IDS[0]]]
    with pytest.raises(SplitError, match="1 of the test set"):
        answer(PHOTOS, "group:person=p011", base=BASE)
    with pytest.raises(SplitError, match="never reads 'p012'"):
        answer(PHOTOS, "group:person=p012", base=BASE)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["long-gone", IDS[0]], "2 struck before by whom is not recorded"),
        (["p007_9.png", "nobody"], "1 of the test set.*1 unknown"),
        (["rex#2.png"], "1 held for validation: never learned from"),
        (["nobody"], r"id 'nobody' is not in the training data.*1 of 1 unknown; an id looks like"),
        (["# only", "# comments"], "holds comments alone"),
    ],
)
def test_nothing_to_forget_is_told_by_what_there_is(
    lines: list[str], says: str, tmp_path: Path
) -> None:
    with pytest.raises(SplitError, match=says):
        answer(PHOTOS, asked(tmp_path, *lines), base=BASE)
