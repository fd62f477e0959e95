"""What the pictures of membership are drawn from, against loops; and that they are drawn."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from expunge.errors import ConfigError
from expunge.report.drawn import Numbers
from expunge.report.exposure_figures import (
    AUDITED,
    ORIGINAL,
    RETRAINED,
    SHOWN,
    Exposure,
    before_after_figure,
    exposed_figure,
    exposure_figures,
    most_exposed,
    roc_figure,
    roc_points,
)


def normal(seed: int, n: int, mean: float = 0.0) -> Numbers:
    return np.random.default_rng(seed).normal(mean, 1, n)


@pytest.fixture
def shown() -> Exposure:
    before = normal(5, 80)
    return Exposure(
        {AUDITED: normal(0, 60, 0.5), ORIGINAL: normal(1, 60, 2), RETRAINED: normal(2, 60)},
        {name: normal(3, 200) for name in (AUDITED, ORIGINAL, RETRAINED)},
        {ORIGINAL: before, AUDITED: before + np.linspace(-1, 1, 80)},
        [f"person-{n}" for n in range(80)],
        "log-odds",
    )


def test_points_of_the_roc_are_counted() -> None:
    members, others = normal(0, 31, 1).round(1), normal(1, 17).round(1)
    false, true = roc_points(members, others)
    thresholds = [*sorted(others.tolist(), reverse=True), -np.inf]
    for k, threshold in enumerate(thresholds):
        assert false[k] == sum(one > threshold for one in others) / 17
        assert true[k] == pytest.approx(sum(one > threshold for one in members) / 31)
    assert (false[-1], true[-1]) == (1, 1)
    same = roc_points(others, others)
    assert np.array_equal(same[0], same[1]), "what is alike lies on the line of chance"


def test_places_are_shares_of_the_never_seen(shown: Exposure) -> None:
    found = shown.places(shown.forget, ORIGINAL)
    others = shown.unseen[ORIGINAL]
    for place, value in zip(found, shown.forget[ORIGINAL], strict=True):
        assert place == pytest.approx(100 * np.mean(others < value))
    tied = Exposure({AUDITED: np.ones(3)}, {AUDITED: np.ones(5)}, {}, (), "")
    assert tied.places(tied.forget, AUDITED).tolist() == [50, 50, 50]


def test_who_rose_most() -> None:
    before, after = np.full(30, 50.0), np.full(30, 50.0)
    after[[4, 9, 2]] = [60, 90, 60]
    after[7] = 10
    assert most_exposed(before, after).tolist() == [9, 2, 4]
    assert len(most_exposed(before, after + 1)) == SHOWN


def test_the_pictures(shown: Exposure, tmp_path: Path) -> None:
    paths = exposure_figures(shown, tmp_path / "out")
    names = {path.stem for path in paths if path.suffix == ".svg"}
    assert names == {"roc", "among_unseen", "before_after", "exposed"}
    assert {path.stem for path in paths if path.suffix == ".pdf"} == names
    for name in names:
        ElementTree.parse(tmp_path / "out" / f"{name}.svg")
    assert "person-79" in (tmp_path / "out" / "exposed.svg").read_text()
    captions = (tmp_path / "out" / "captions.txt").read_text()
    assert "Of 80, " in captions
    lines = (tmp_path / "out" / "membership.csv").read_text().splitlines()
    assert lines[0] == f"{AUDITED},{ORIGINAL},{RETRAINED}"
    assert len(lines) == 61
    with pytest.raises(ConfigError, match="exists"):
        exposure_figures(shown, tmp_path / "out")


def test_hidden_ids_stay_hidden(shown: Exposure) -> None:
    hidden = Exposure(shown.forget, shown.unseen, shown.retained, (), shown.scale)
    for one, ids in ((shown, SHOWN), (hidden, 0)):
        drawn = exposed_figure(one)
        names = [label.get_text() for label in drawn.figure.axes[0].get_yticklabels()]
        assert sum("person-" in name for name in names) == ids
        assert ("not shown" in drawn.caption) == (ids == 0)


def test_nothing_to_draw(tmp_path: Path) -> None:
    empty = Exposure({AUDITED: normal(0, 4)}, {AUDITED: np.empty(0)}, {}, (), "")
    with pytest.raises(ConfigError, match="give a test set"):
        exposure_figures(empty, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_under_which_none_is_found_is_drawn(shown: Exposure) -> None:
    shown.forget[AUDITED] = shown.unseen[AUDITED].min() - normal(4, 60) ** 2 - 1
    (axes,) = roc_figure(shown).figure.axes
    line = next(one for one in axes.lines if one.get_label() == AUDITED)
    assert np.min(line.get_ydata()) > axes.get_ylim()[0]
    told = before_after_figure(shown).caption
    assert "of the forgotten 0 % are" in told and "after retraining" in told
