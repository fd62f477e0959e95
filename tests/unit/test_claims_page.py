"""The page of the papers' claims: each claim once, with Holm's p of its study and of the whole page."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from expunge.scores.sequential import adjusted
from expunge.study.catalogue import shipped_files
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
    del sys.modules["claims"]


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
        ("l1-schedulers", "average gap of decreasing < average gap of finetune", "2"),
        ("pruners", "TA of original at density 95 % imp < at density dense", "4"),
        ("trojan", "ASR of l1_sparse at sparsity 0 < ASR of finetune", "5"),
        ("transfer", "full_finetune of finetune < full_finetune of l1_sparse", "6"),
        ("mnist-mlp", "UA of finetune < UA of unsir", "UNSIR"),
        ("methods", "average gap of salun < average gap of random_label", None),
    ],
)
def test_a_claim_has_its_number(
    claims: ModuleType, study: str, text: str, number: str | None
) -> None:
    assert claims.number_of(study, text) == number


def test_every_number_is_asked_by_a_study_that_ships(claims: ModuleType) -> None:
    asked = {
        claims.number_of(name, text)
        for name in claims.NUMBERS
        for text in read_study(shipped_files()[name]).claims
    }
    assert asked == {*claims.CLAIMS}


def found(p: float, difference: float = -3.0) -> Found:
    claim = parse_claim("average gap of a < average gap of b")
    return Found(claim, "holds", difference, difference - 1, difference + 1, 5, 5, p=p)


def test_holm_is_over_all_claims_of_the_page(claims: ModuleType) -> None:
    given = [(0.015, math.nan), (0.001, math.nan), (0.3, 0.002), (math.nan, math.nan)]
    lines = [
        claims.Line("1", "sparsity-class", f"record-{row}", found(both[0]), both)
        for row, both in enumerate(given)
    ]
    looked = claims.Line("5", "trojan", "trojan", found(math.nan), None)
    made = claims.over_page([*lines[:2], looked, *lines[2:]])
    assert made[2] == looked, "what is decided by looks stays out"
    pages = [line.page for line in made if line.page is not None]
    assert [one.after_holm for one in pages] == ["holds", "holds", "equivalent", "undecided"]
    assert pages[0].holm == pytest.approx(0.045) and pages[1].holm == pytest.approx(0.004)
    assert pages[2].holm == pytest.approx(0.006)
    page = claims.page_of(made)
    assert "4 claims asked" in page and page.count("[trojan](trojan/table.md)") == 1
    assert "2 hold, 1 equivalent, 1 undecided." in page and "By looks: 1 hold." in page
    assert "0.045, holds" in page and "by its looks †" in page and "\n\n† Decided" in page


def test_records_give_what_their_studies_decide(
    claims: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("mnist-mlp", "trojan", "methods", "detection"):
        (tmp_path / name).symlink_to(RECORDS / name)
    before = {file: file.stat().st_mtime_ns for file in RECORDS.rglob("*")}
    assert claims.main([str(tmp_path)]) == 0
    assert {file: file.stat().st_mtime_ns for file in RECORDS.rglob("*")} == before
    page = capsys.readouterr().out
    assert "(methods/table.md)" not in page and "**5. " in page and "**UNSIR: " in page
    for name, own in (("mnist-mlp", True), ("trojan", False)):
        lines = claims.lines_of(RECORDS / name)
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
