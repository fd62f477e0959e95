"""The page of the papers' claims: each claim once, with Holm's p of its study and of the whole page."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from PIL import Image, ImageColor

from expunge.report.figures import DOT
from expunge.scores.rows import SETTING
from expunge.scores.sequential import adjusted
from expunge.study.catalogue import shipped_files
from expunge.study.cells import Row
from expunge.study.claims import parse_claim
from expunge.study.file import read_study
from expunge.study.verdicts import Found

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "docs" / "results"


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import claims

    yield claims
    for name in ("claims", "claims_figure", "claims_lines", "claims_parts", "recorded"):
        del sys.modules[name]


@pytest.fixture
def decided(claims: ModuleType) -> ModuleType:
    return sys.modules["claims_lines"]


@pytest.mark.parametrize(
    ("study", "text", "number"),
    [
        ("sparsity-class", "UA of finetune at sparsity 0 < at 0.95", "0"),
        ("sparsity-class", "RA change of gradient_ascent at sparsity 0.95 < at 0", "0"),
        ("sparsity-class", "TA change of influence at sparsity 0.95 < at 0", "0"),
        ("sparsity-class", "average gap of fisher at sparsity 0.95 < at 0", "1"),
        ("sparsity-class", "UA of finetune at sparsity 0 < UA of l1_sparse", "2"),
        (
            "sparsity-random",
            "average gap of l1_sparse at sparsity 0 < average gap of finetune",
            "2",
        ),
        ("sparsity-random", "average gap of influence at sparsity 0.95 < at 0", "1"),
        ("sparsity-sweep", "average gap of finetune at sparsity 0.75 < at 0", "0"),
        ("l1-schedulers", "average gap of decreasing < average gap of constant", "3"),
        ("pruners", "TA of original at density 95 % imp < at density dense", "4"),
        ("trojan", "ASR of l1_sparse at sparsity 0 < ASR of finetune", "5"),
        ("transfer", "full_finetune of finetune < full_finetune of l1_sparse", "6"),
        ("mnist-mlp", "UA of finetune < UA of unsir", "UNSIR"),
        ("methods", "average gap of salun < average gap of random_label", None),
    ],
)
def test_a_claim_has_its_number(
    decided: ModuleType, study: str, text: str, number: str | None
) -> None:
    assert decided.number_of(study, text) == number


def test_every_number_is_asked_by_a_study_that_ships(
    claims: ModuleType, decided: ModuleType
) -> None:
    asked = {
        decided.number_of(name, text)
        for name in decided.NUMBERS
        for text in read_study(shipped_files()[name]).claims
    }
    assert asked == {*claims.CLAIMS}


def found(p: float, difference: float = -3.0, after: str = "holds") -> Found:
    claim, ends = (
        parse_claim("average gap of a < average gap of b"),
        (difference - 1, difference + 1),
    )
    return Found(claim, "holds", difference, *ends, 5, 5, p=p, after_holm=after)


def test_holm_is_over_all_claims_of_the_page(claims: ModuleType, decided: ModuleType) -> None:
    given = [(0.015, math.nan), (0.001, math.nan), (0.3, 0.002), (math.nan, math.nan)]
    lines = [
        decided.Line("1", "sparsity-class", f"record-{row}", found(both[0]), both)
        for row, both in enumerate(given)
    ]
    looked = decided.Line("5", "trojan", "trojan", found(math.nan), None)
    made = decided.over_page([*lines[:2], looked, *lines[2:]])
    assert made[2] == looked, "what is decided by looks stays out"
    pages = [line.page for line in made if line.page is not None]
    assert [one.after_holm for one in pages] == ["holds", "holds", "equivalent", "undecided"]
    assert pages[0].holm == pytest.approx(0.045) and pages[1].holm == pytest.approx(0.004)
    assert pages[2].holm == pytest.approx(0.006)
    page = claims.page_of(made)
    assert "4 claims asked" in page and page.count("[trojan](trojan/table.md)") == 1
    assert "After Holm, in their studies: 4 hold." in page and "By looks: 1 hold." in page
    assert "0.045, holds" in page and "by its looks †" in page and "\n\n† Decided" in page


def test_a_figure_has_a_line_for_each_claim_in_points(
    claims: ModuleType, decided: ModuleType, tmp_path: Path
) -> None:
    seconds = parse_claim("mask_s of original at density 95 % omp < at density 95 % imp")
    short = replace(
        found(math.nan, -200.0),
        low=math.nan,
        high=math.nan,
        n=1,
        verdict="undecided",
        after_holm="",
    )
    given = {
        "sure": ("1", found(0.001), (0.001, math.nan)),
        "alike": ("1", found(0.3, 0.1, "equivalent"), (0.3, 0.002)),
        "short": ("1", short, (math.nan, math.nan)),
        "lacking": ("4", replace(short, difference=math.nan, n=0), (math.nan, math.nan)),
        "slow": ("4", replace(found(0.001), claim=seconds), (0.001, math.nan)),
        "looks": ("5", found(math.nan, 40.0), None),
    }
    lines = [
        decided.Line(
            number,
            "trojan",
            "trojan",
            one,
            both,
            data=name,
            scale="papers" if name == "sure" else "two-cores",
            parts=decided.Parts(-1.0, -2.0, 0.5, -2.0) if name == "sure" else None,
        )
        for name, (number, one, both) in given.items()
    ]
    figure = claims.figure_of(decided.over_page(lines), claims.CLAIMS)
    told = [[label.get_text() for label in axes.get_yticklabels()] for axes in figure.axes]
    claim = "average gap of a < of b"
    assert told == [
        [f"{claim} · sure, papers ‡", f"{claim} · alike", f"{claim} · short, 1 of 5 seeds"],
        [f"{claim} · looks †"],
    ]
    dots = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "o"]
    at = [float(dot.get_xdata()[0]) for dot in dots]
    assert at == [-3.0, 0.1, -200.0, 40.0]
    assert [dot.get_markerfacecolor() == "white" for dot in dots] == [False, False, True, False]
    below = figure.get_supxlabel()
    assert "of the study" in below and "1 claim in seconds." in below and "no seed has" in below
    figure.savefig(tmp_path / "claims.png", dpi=50)  # warnings are errors: nothing is out of place
    for few in (lines[3:5], lines[:1]):
        drawn = claims.figure_of(few, claims.CLAIMS)
        drawn.savefig(tmp_path / "few.png", dpi=50)


def test_records_give_what_their_studies_decide(
    claims: ModuleType, decided: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("mnist-mlp", "trojan", "methods", "detection"):
        (tmp_path / name).symlink_to(RECORDS / name)
    before = {file: file.stat().st_mtime_ns for file in RECORDS.rglob("*")}
    assert claims.main([str(tmp_path)]) == 0
    assert {file: file.stat().st_mtime_ns for file in RECORDS.rglob("*")} == before
    page = capsys.readouterr().out
    assert "(methods/table.md)" not in page and "## (5) " in page and "## (UNSIR) " in page
    for name, own in (("mnist-mlp", True), ("trojan", False)):
        lines = decided.lines_of(RECORDS / name)
        file = RECORDS / name / "study.yaml"
        assert [one.found.claim.text for one in lines] == [*read_study(file, recorded=file).claims]
        assert all((one.both is not None) == own for one in lines)
        if own:  # within one study it is that study's own
            for one, (different, same) in zip(
                lines, adjusted([x.both for x in lines]), strict=True
            ):
                p = same if one.found.after_holm == "equivalent" else different
                assert one.found.holm == pytest.approx(p, nan_ok=True)
    assert page.count("(trojan/table.md)") == page.count("by its looks †") == len(lines)


def test_a_page_goes_between_its_marks(claims: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "README.md"
    with pytest.raises(SystemExit, match=r"README\.md lacks <!-- claims -->"):
        claims.written(file, "a page\n")
    file.write_text("<!-- /claims --> and <!-- claims -->")
    with pytest.raises(SystemExit, match="and after it"):
        claims.written(file, "a page\n")
    file.write_text("Before.\n\n<!-- claims -->\n<!-- /claims -->\n\nAfter.\n")
    for page in ("a page\n", "another\n", "another\n"):
        claims.written(file, page)
        told = f"Before.\n\n<!-- claims -->\n\n{page}\n<!-- /claims -->\n\nAfter.\n"
        assert file.read_text() == told
    with pytest.raises(SystemExit, match="holds no record"):
        claims.main([str(tmp_path)])


def test_write_makes_the_figure_and_shows_it(
    claims: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trojan").symlink_to(RECORDS / "trojan")
    with pytest.raises(SystemExit, match="lacks <!-- claims -->"):
        claims.main([str(tmp_path), "--write"])
    assert not (tmp_path / "claims.png").exists()
    (tmp_path / "README.md").write_text("<!-- claims -->\n<!-- /claims -->\n")
    assert claims.main([str(tmp_path), "--write"]) == 0
    told = (tmp_path / "README.md").read_text()
    assert told.count("\n\n![all claims](claims.png)\n<!-- /claims -->") == 1
    assert "SA stays | mnist:2000+patch |" in told and "(poison) | **holds** -22.4 |" in told
    assert "## (5) ASR" in (tmp_path / "claims.md").read_text()
    made = (tmp_path / "claims.png").read_bytes()
    assert made.startswith(b"\x89PNG") and len(made) > 10_000
    with Image.open(tmp_path / "claims.png") as drawn:
        dots = drawn.convert("RGB").getcolors()
    assert any(math.dist(colour, ImageColor.getrgb(DOT)) < 12 for _, colour in dots), "of a verdict"
    assert claims.main([str(tmp_path), "--figure", str(tmp_path / "own.png")]) == 0
    assert (tmp_path / "own.png").read_bytes() == made
    assert "claims.png" not in capsys.readouterr().out


def scores(values: Mapping[tuple[str, str], Sequence[float]]) -> pd.DataFrame:
    """RA of each seed by method and density, times 4; UA, MIA and TA are 0."""
    setting = {"data": "digits", "model": "cnn", "recipe": "r", "scenario": "class"}
    return pd.DataFrame(
        [
            setting
            | {"density": density, "method": method, "seed": seed, "score": score, "n": 1000}
            | {"value": 4 * value if score == "RA" else 0.0}
            for (method, density), own in values.items()
            for seed, value in enumerate(own)
            for score in ("UA", "MIA", "RA", "TA")
        ]
    )


def rows_of(frame: pd.DataFrame) -> list[Row]:
    """What a study of these rows plans."""
    whole = frame[[*SETTING, "method", "seed"]].drop_duplicates().to_dict("records")
    return [
        Row(tuple(one[name] for name in SETTING), one["method"], one["seed"], "", "")
        for one in whole
    ]


REFERENCES = {("retrain", "dense"): [20.0, 21.0], ("retrain", "95 % omp"): [14.0, 15.0]}
ZEROED = {("head_zeroed", "dense"): [20.0, 21.0], ("head_zeroed", "95 % omp"): [18.0, 19.0]}


@pytest.mark.parametrize(
    ("dense", "sparse", "model", "reference", "borne"),
    [
        ([10.0, 11.0], [10.0, 11.0], 0.0, -6.0, False),  # below both, and nearer for the lower one
        ([5.0, 6.0], [8.0, 9.0], -3.0, -6.0, True),
        ([24.0, 25.0], [22.0, 23.0], -2.0, 6.0, False),  # above both, and farther for the lower one
        ([24.0, 25.0], [26.0, 27.0], 2.0, 6.0, True),
    ],
)
def test_a_difference_parts_into_the_models_and_the_references(
    claims: ModuleType,
    decided: ModuleType,
    dense: list[float],
    sparse: list[float],
    model: float,
    reference: float,
    borne: bool,
) -> None:
    own = {("finetune", "dense"): dense, ("finetune", "95 % omp"): sparse}
    frame = scores({**REFERENCES, **ZEROED, **own})
    claim = parse_claim("average gap of finetune at sparsity 0.95 < at 0")
    one = decided.parts_of(claim, frame, rows_of(frame))
    assert (one.model, one.reference) == (pytest.approx(model), pytest.approx(reference))
    assert one.low <= model <= one.high
    assert (one.control, one.control_model) == ("head_zeroed", pytest.approx(0.0))
    assert one.control_reference == pytest.approx(4.0)
    whole = model + reference
    told = found(0.001, whole, "holds" if whole < 0 else "fails")
    line = decided.Line("1", "sparsity-class", "record", told, (0.001, math.nan), parts=one)
    assert decided.by_reference(line) is not borne
    assert ("‡" in claims.sum_of([line])) is not borne
    assert f"], {reference:+.2f}; head_zeroed +0.00, +4.00 |" in claims.row_of(line)


@pytest.mark.parametrize(
    "text",
    [
        "UA of finetune at sparsity 0.95 < at 0",
        "average gap of finetune at sparsity 0.95 < average gap of head_zeroed",
        "average gap of finetune at sparsity 0 < average gap of head_zeroed",
        "average gap of finetune at sparsity 0.95 < at 0.5",
    ],
)
def test_other_claims_have_no_parts(decided: ModuleType, text: str) -> None:
    own = {("finetune", "dense"): [1.0, 2.0], ("finetune", "95 % omp"): [1.0, 2.0]}
    frame = scores({**REFERENCES, **ZEROED, **own})
    assert decided.parts_of(parse_claim(text), frame, rows_of(frame)) is None


def test_without_a_zeroed_row_the_original_is_the_control(decided: ModuleType) -> None:
    own = {("finetune", "dense"): [9.0, 9.0], ("finetune", "95 % omp"): [8.0, 8.0]}
    claim = parse_claim("average gap of finetune at sparsity 0.95 < at 0")
    frame = scores({**REFERENCES, **own})
    assert decided.parts_of(claim, frame, rows_of(frame)).control == ""
    own |= {("original", "dense"): [19.0, 20.0], ("original", "95 % omp"): [12.0, 13.0]}
    frame = scores({**REFERENCES, **own})
    one = decided.parts_of(claim, frame, rows_of(frame))
    assert (one.control, one.control_model) == ("original", pytest.approx(2.0))
    assert one.control_reference == pytest.approx(-1.0)
