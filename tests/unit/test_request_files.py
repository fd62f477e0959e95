"""What the lines of a list of ids mean, and what is told of each sample that a request names."""

from __future__ import annotations

import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import toy
from hypothesis import given, settings
from hypothesis import strategies as st

from expunge import SplitError
from expunge.data.answer import answer
from expunge.data.classes import resolve_class
from expunge.data.id_names import IdNames
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
    assert sorted(found.names) == sorted(names) and not found.unknown


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
    pattern=st.text("ab1/*?_[]!", min_size=1, max_size=7),
)
def test_patterns_find_what_a_look_at_each_id_finds(ids: list[str], pattern: str) -> None:
    """However many there are, each is matched as by `fnmatch`, over the id or its base name."""
    if pattern in ids or not set(pattern) & set("*?"):
        return
    bases = [one.rpartition("/")[2] if "/" not in pattern else one for one in ids]
    wanted = [
        one
        for one, base in zip(ids, bases, strict=True)
        if fnmatch.fnmatchcase(one, pattern) or fnmatch.fnmatchcase(base, pattern)
    ]
    assert sorted(IdNames(ids).like(pattern)) == sorted(wanted)


def named(*ids: str, **fields: Any) -> Data:
    """Data of these ids, and one sample to test on."""
    data = toy([0] * len(ids), ids=list(ids), test=1)
    return Data(data.train, data.test, data.classes, normalise=False, **fields)


HASHES = ("cat/photo", "cat/photo #1.jpg", "cat/photo #2.jpg", "cat/#self.png", "dog/x.png")


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("photo #2.jpg", HASHES[2:3]),
        ("cat/photo #2.jpg", HASHES[2:3]),
        ("photo #2", HASHES[2:3]),
        ("photo #?.jpg", HASHES[1:3]),
        ("photo #2.jpg # the second", HASHES[2:3]),
        ("#self.png", HASHES[3:4]),
        ("#self*", HASHES[3:4]),
        ("photo # of Anna", HASHES[:1]),
        ("x.png\t#7", HASHES[4:]),
        ("#", ()),
        ("#elf.png", ()),
    ],
)
def test_a_hash_is_of_a_name_first_and_of_a_comment_else(line: str, names: tuple[str, ...]) -> None:
    """A sample whose name has a hash is not taken for another one, nor left out."""
    found = look_up([line, "dog/x.png"], named(*HASHES))
    assert set(found.names) == {*names, "dog/x.png"} and not found.unknown
    assert found.comments == (0 if names else 1)
    assert (line in found.read_as) == (bool(names) and line not in HASHES)


def test_an_id_and_a_comment_are_not_told_as_another_reading() -> None:
    found = look_up(["cat/photo # of Anna", "cat/photo #3.jpg", "x.png # dog"], named(*HASHES))
    assert [*found.read_as] == ["cat/photo #3.jpg", "x.png # dog"]


def test_comments_are_told(tmp_path: Path) -> None:
    told = answer(PHOTOS, asked(tmp_path, "# a", "#b", IDS[1]), base=BASE)
    assert told.comments == 2 and "  comments in the list: 2" in told.lines()


@pytest.mark.parametrize(
    ("ids", "line", "hint"),
    [
        (("a/p12_a.png", "a/p12_b.png", "a/p123.png"), "p12", "p12_*"),
        (("a/p12_a.png", "a/p12-b.png", "a/p123.png"), "a/p12", "a/p12[-_]*"),
        (("a/x.png", "b/x.png", "b/x.png.png"), "x.png", "*/x.png"),
        (("a/x [1].png", "b/x [1].png"), "x [1].png", "*/x [[]1].png"),
        (("a/x.png", "a/x.jpg", "a/x_crop.png"), "x", "x.*"),
        (("dog/1.png", "dog/2.png", "dogs/1.png"), "dog", "dog/*"),
        (("a/x.png", "a/x.jpg", "a/x.tar.gz"), "x", None),
    ],
)
def test_the_hint_fits_the_candidates_and_nobody_else(
    ids: tuple[str, ...], line: str, hint: str | None
) -> None:
    with pytest.raises(SplitError, match="fits several samples") as caught:
        look_up([line], named(*ids))
    said = str(caught.value)
    assert said.endswith("write the whole id" if hint is None else f"or {hint!r} for all of them")
    if hint is not None:
        assert set(look_up([hint], named(*ids)).names) == {one for one in ids if repr(one) in said}


@pytest.mark.parametrize("line", ["IMG_1", "a/IMG_1"])
def test_a_name_without_its_ending_goes_before_one_that_goes_on(line: str) -> None:
    ids = ("a/IMG_1.png", "a/IMG_1_crop.png", "a/IMG_1.orig.png", "b/IMG_10.png")
    assert look_up([line], named(*ids)).names == ["a/IMG_1.png"]


def test_patterns_that_begin_with_letters_do_not_meet_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A hundred of them on a million ids are not a hundred million comparisons."""
    monkeypatch.setattr("expunge.data.id_names.IdNames._holding", lambda *_: 1 / 0)
    data = named(*(f"p{row:03d}/{row % 7}.png" for row in range(500)))
    found = look_up([f"p{row:03d}/*" for row in range(0, 500, 5)], data)
    assert len(found.names) == 100 and not found.unknown
    assert look_up(["3*", "3.p?g"], data).again == len(range(3, 500, 7))


COMPOSED, APART = "Zo\u00eb.png", "Zoe\u0308.png"


@pytest.mark.parametrize("line", ["cat/{}", "{}", "./cat/{}", "ca*/{}"])
@pytest.mark.parametrize(("there", "typed"), [(COMPOSED, APART), (APART, COMPOSED)])
def test_letters_are_the_same_however_they_are_composed(line: str, there: str, typed: str) -> None:
    data = named(f"cat/{there}", "cat/zoo.png", "dog/a.png")
    for text in (typed, typed.removesuffix(".png")) if "*" not in line else (typed,):
        assert look_up([line.format(text)], data).names == [f"cat/{there}"]


def test_letters_that_are_there_in_both_ways_are_those_typed() -> None:
    data = named(f"cat/{COMPOSED}", f"cat/{APART}", "dog/a.png")
    assert look_up([f"cat/{APART}"], data).names == [f"cat/{APART}"]
    assert len(look_up(["cat/Zo*"], data).names) == 2
    with pytest.raises(SplitError, match="fits several"):
        look_up([APART], data)


@pytest.mark.parametrize(("there", "typed"), [(COMPOSED, APART), (APART, COMPOSED)])
def test_groups_and_classes_are_the_same_however_they_are_composed(there: str, typed: str) -> None:
    people = {"person": np.array([there, "Max", there, "Max"])}
    data = toy([0, 1] * 2, columns=people)
    assert Split.parse(data, f"group:person={typed}").forget == ("0", "2")
    assert resolve_class(typed, ["ant", there]) == 1
    assert resolve_class(typed, [typed, there]) == 0
    with pytest.raises(SplitError, match="no class"):
        resolve_class("Zoe.png", [there, "ant"])
    with pytest.raises(SplitError) as caught:
        answer(data, "group:person=Anna", base=Split.whole(data), redacted=True)
    assert not any(one in str(caught.value) for one in ("Anna", "Max", there))


def test_paths_are_read_as_the_ids_they_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my pics"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    ids = ("cat/a.png", "cat/b.png", "dog/b.png")
    for spec in (str(folder), "../my pics", f"{tmp_path}/link:2+patch"):
        data = named(*ids, spec=spec)
        for line in (
            "./cat/a.png",
            "cat//x/../a.png",
            "cat\\a.png",
            "'cat/a.png'",
            '"cat/a.png"',
            '".\\cat\\a.png"',
            "my pics/cat/a.png",
            "./my pics/cat/a.png",
            f"{tmp_path.name}/my pics/cat/a.png",
            "../my pics/cat/a.png",
            f"{folder}/cat/a.png",
            f'"{folder}/cat/a.png"  # this one',
            f"{folder}/*/a.png",
        ):
            assert look_up([line], data).names == ["cat/a.png"], line
        for line in (f"{tmp_path}/other/cat/a.png", "/cat/a.png", "pics/cat/a.png"):
            assert look_up([line], data).unknown == [line]


def test_of_lines_that_fit_nothing_the_nearest_is_told(tmp_path: Path) -> None:
    lines = (
        IDS[1],
        "P007_1.png",
        "train/Dog/p008_0.png",
        "train/cta/p008_00.png",
        "/else/where/p007_0.png",
        "qqqq",
    )
    told = answer(PHOTOS, asked(tmp_path, *lines), base=BASE).lines()
    assert "  'P007_1.png' is unknown, did you mean 'p007_1.png'?" in told
    assert "  'train/Dog/p008_0.png' is unknown, did you mean 'train/dog/p008_0.png'?" in told
    assert "  'train/cta/p008_00.png' is unknown, did you mean 'train/cat/p008_0.png'?" in told
    assert "  '/else/where/p007_0.png' is unknown, did you mean 'train/cat/p007_0.png'?" in told
    assert not any("'qqqq'" in line for line in told)


def test_a_redacted_answer_names_no_sample(tmp_path: Path) -> None:
    """Nor does an error of one."""
    closed = {"base": BASE, "redacted": True}
    lines = answer(PHOTOS, asked(tmp_path, IDS[1], "P007_2.png"), **closed).lines(redacted=True)
    assert not any("007" in line for line in lines)
    for request in ("p007_9.png", IDS[0], "nobody", "train/cat", "p008_0.png"):
        with pytest.raises(SplitError) as caught:
            answer(PHOTOS, asked(tmp_path, "# one", request), **closed)
        assert not any(one in str(caught.value) for one in ("p0", "nobody", "train/", "png"))
    assert "line 2 of the list" in str(caught.value)


def test_what_is_gone_is_told_to_be_known_by_whole_ids_alone(tmp_path: Path) -> None:
    def hidden(name: str) -> str:
        return f"redacted:k:{name[::-1]}"

    base = Split(retain=BASE.retain, excluded=(hidden("train/cat/gone_1.png"),))
    told = answer(
        PHOTOS, asked(tmp_path, IDS[1], "./train/cat/gone_1.png"), base=base, hidden=hidden
    )
    assert not told.unknown and sum(map(len, told.before.values())) == 1
    told = answer(PHOTOS, asked(tmp_path, IDS[1], "gone_*"), base=base, hidden=hidden)
    assert told.gone == 1 and any("write whole ids" in one for one in told.lines(redacted=True))
    with pytest.raises(SplitError, match="write whole ids"):
        answer(PHOTOS, asked(tmp_path, "gone_1"), base=base, hidden=hidden, redacted=True)


def test_a_million_ids_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of ids are made only where a line is none, and no pattern meets each id."""
    data = toy([0, 1] * 500, ids=[f"a/{row}.png" for row in range(1000)])
    with monkeypatch.context() as patched:
        patched.setattr("expunge.data.id_names.IdNames._ids", property(lambda _: 1 / 0))
        assert len(look_up(data.train.ids.tolist(), data).names) == 1000
    seen: list[str] = []
    real = fnmatch.translate

    def translated(pattern: str) -> str:
        seen.append(pattern)
        return real(pattern)

    monkeypatch.setattr("expunge.data.id_names.fnmatch.translate", translated)
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
