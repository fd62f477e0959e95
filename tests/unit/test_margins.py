"""Margins that are fixed in a file, and the words that a verdict is said in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from expunge.audits.references import read_beside
from expunge.errors import ConfigError
from expunge.scores.info import ScoreInfo
from expunge.scores.joint import DIRECTIONS
from expunge.scores.margins import STATED, Margins, read_margins, write_margins
from expunge.scores.score import Score
from expunge.scores.table import SCORES
from expunge.scores.verdict import VERDICTS, Asked, stated_margins, verdict_of
from expunge.scores.words import (
    MEANINGS,
    AuditWord,
    GateWord,
    JointWord,
    PageWord,
    audit_word,
)


def test_a_file_takes_the_place_of_the_table(tmp_path: Path) -> None:
    file = tmp_path / "margins.yaml"
    file.write_text("UA: 3\nrmia: 2.5\n")
    found = read_margins(file)
    assert (found.of("UA"), found.of("rmia"), found.of("RA")) == (3, 2.5, STATED.of("RA"))
    assert found.digest != STATED.digest
    write_margins(found, file)
    assert read_margins(file) == found and read_margins(file).digest == found.digest
    (tmp_path / "empty.yaml").write_text("{}\n")
    assert read_margins(tmp_path / "empty.yaml").digest == STATED.digest


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("UB: 3", "no score 'UB' is judged by a margin"),
        ("UA: 0.5", "UA: 0.5 is no margin; give 1 or more points"),
        ("RA: -2", "RA: -2 is no margin"),
        ("UA: .nan", "UA: nan is no margin"),
        ("UA: true", "UA: True is no margin"),
        ("UA: five", "UA: 'five' is no margin"),
        ("relearn_time: 3", "no score 'relearn_time'"),
        ("- UA", "holds no margins"),
        ("", "holds no margins"),
        ("UA: [", "cannot read"),
    ],
)
def test_what_is_no_margin_is_refused_in_a_line(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "margins.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as raised:
        read_margins(file)
    assert told in str(raised.value) and "\n" not in str(raised.value)


def test_an_absent_file_is_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        read_margins(tmp_path / "none.yaml")


def values(ua: float, references: list[float] | None = None) -> list[Score]:
    retrained = {"UA": 5.0, "MIA": 10.0, "RA": 99.0, "TA": 95.0}
    return [
        Score(
            name,
            ua if name == "UA" else value,
            2_000,
            None,
            None,
            "percent",
            "retrained",
            {"references": [value] * 5},
            reference=value,
        )
        for name, value in retrained.items()
    ]


def test_findings_and_verdicts_go_by_the_margins_given(tmp_path: Path) -> None:
    file = tmp_path / "margins.yaml"
    file.write_text("UA: 1.5\nrmia: 1\n")
    strict = read_margins(file)
    assert verdict_of(values(2.5), Asked(2_000)).word == "within the stated margins"
    refused = verdict_of(values(2.5), Asked(2_000), strict)
    assert refused.word == "not forgotten"
    assert strict.digest in refused.margins and "1.5 points of UA" in refused.margins
    rmia = Score("rmia", 53.0, 2_000, None, None, "percent", "retrained")
    near = [50.0, 50.1, 49.9, 50.0, 50.1, 49.9]
    found = [
        read_beside(rmia, None, near, SCORES["rmia"], margins).finding
        for margins in (STATED, strict)
    ]
    assert [one.word for one in found if one] == ["within", "outside"]


def test_every_word_has_a_place_in_every_vocabulary() -> None:
    assert {one.audit for one in MEANINGS} == set(get_args(AuditWord))
    assert {one.page for one in MEANINGS} == set(get_args(PageWord)) == set(VERDICTS)
    assert {one.joint for one in MEANINGS} == set(get_args(JointWord))
    assert {one.gate for one in MEANINGS} == set(get_args(GateWord))
    assert set(DIRECTIONS.values()) == {one.joint for one in MEANINGS if one.audit == "outside"}
    assert [audit_word(word) for word in ("forgot", "told apart")] == ["within", "outside"]
    assert not any("significant" in one.means for one in MEANINGS)


def test_only_what_was_shown_to_be_near_is_equivalent() -> None:
    for one in MEANINGS:
        near = (
            one.audit == "within",
            one.page == "within the stated margins",
            one.joint == "forgot",
        )
        assert set(near) == {one.gate == "equivalent"}


@pytest.mark.parametrize("name", [name for name in STATED.by_score if name in SCORES])
def test_a_margin_that_was_given_is_the_one_told(name: str) -> None:
    info, told = SCORES[name], "margin 1.25"
    margins = Margins({**STATED.by_score, name: 1.25})
    score = Score(name, 60.0, 100, None, None, info.unit, info.target)
    found = read_beside(score, None, [50.0] * 5, info, margins).finding
    assert found is not None and told in found.why


def test_a_score_of_another_package_has_the_margin_of_its_own_line() -> None:
    own = ScoreInfo("own", "", "percent", "retrained", "", margin=7)
    assert STATED.judging(own) == 7
    assert Margins({"own": 2.0}).judging(own) == 2
    assert STATED.judging(replace(own, margin=None)) is None


@pytest.mark.parametrize(("name", "word"), [("rmia", "not measurable"), ("RA", "within")])
def test_nobody_is_within_by_what_the_original_has_too(name: str, word: str) -> None:
    info, near = SCORES[name], [50.0, 50.1, 49.9, 50.0, 50.1, 49.9]
    score = Score(name, 50.0, 2_000, None, None, "percent", "retrained")
    found = [read_beside(score, before, near, info, STATED).finding for before in (50.0, 90.0)]
    assert [one.word for one in found if one] == [word, "within"]


def test_the_margins_that_were_gone_by_are_said() -> None:
    told = stated_margins(
        STATED, ["UA", "rmia", "zrf", "tpr_01pct", "cka", "relearn_time", "theirs"]
    )
    parts = ("5 points of UA, rmia", "0.05 of zrf", "1 point of tpr_01pct", "relearn_time from 0.5")
    assert told.startswith("; ".join(parts))
    assert STATED.digest in told and "cka" not in told
