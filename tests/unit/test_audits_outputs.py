from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from expunge.audits.outputs import PartOutputs
from expunge.errors import ConfigError, DataError, ModelError
from expunge.scores.score import Score

LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0], [-3.0, 1.0, 4.0]])
LABELS = torch.tensor([0, 1, 2])
IDS = ("a", "b", "c")


def test_what_follows_from_the_logits() -> None:
    part = PartOutputs(LOGITS, LABELS, IDS)
    for row in range(3):
        exponentials = [math.exp(value) for value in LOGITS[row].tolist()]
        p = exponentials[LABELS[row]] / sum(exponentials)
        assert part.true_class_confidence[row].item() == pytest.approx(p, abs=1e-12)
        assert part.losses[row].item() == pytest.approx(-math.log(p), abs=1e-12)
    assert part.n == 3
    assert part.probabilities.dtype == torch.float64
    assert part.probabilities.sum(dim=1).tolist() == pytest.approx([1, 1, 1])
    assert part.correct.tolist() == [True, False, True]  # a tie goes to the first class


def test_far_logits_stay_finite() -> None:
    part = PartOutputs(torch.tensor([[1e30, -1e30]]), torch.tensor([0]), ("a",))
    assert part.losses.tolist() == [0]
    assert part.probabilities.tolist() == [[1, 0]]


def test_a_closed_class_is_allowed() -> None:
    part = PartOutputs(torch.tensor([[0.0, -math.inf]]), torch.tensor([1]), ("a",))
    assert part.losses.tolist() == [math.inf]


def test_no_samples_are_allowed() -> None:
    part = PartOutputs(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), ())
    assert part.n == len(part.losses) == len(part.correct) == len(part.true_class_confidence) == 0


@pytest.mark.parametrize(
    ("logits", "labels", "ids", "says"),
    [
        (LOGITS[0], LABELS, IDS, "n, classes"),
        (LOGITS.double(), LABELS, IDS, "float32"),
        (LOGITS, LABELS[:2], IDS, "one per row"),
        (LOGITS, LABELS.int(), IDS, "int64"),
        (LOGITS, LABELS, ("a", "b"), "2 ids for 3 rows"),
    ],
)
def test_misfits_are_refused(
    logits: torch.Tensor, labels: torch.Tensor, ids: tuple[str, ...], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        PartOutputs(logits, labels, ids)


def test_a_label_the_model_lacks_is_refused() -> None:
    with pytest.raises(DataError, match="label 3"):
        PartOutputs(LOGITS, torch.tensor([0, 3, 1]), IDS)
    with pytest.raises(DataError, match="label -1"):
        PartOutputs(LOGITS, torch.tensor([0, -1, 1]), IDS)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_outputs_that_mean_nothing_are_refused(value: float) -> None:
    logits = LOGITS.clone()
    logits[1, 0] = value
    with pytest.raises(ModelError, match="1 of 3"):
        PartOutputs(logits, LABELS, IDS)


def test_gap_is_absolute_and_absent_without_a_reference() -> None:
    score = Score("UA", 5.0, 100, 2.0, 9.0, "percent", "retrained")
    assert score.gap is None
    assert Score("UA", 5.0, 100, 2.0, 9.0, "percent", "retrained", reference=7.5).gap == 2.5


def test_to_dict_is_json_without_nan() -> None:
    detail = {
        "nan": math.nan,
        "inside": [np.float64(math.inf), np.int64(3), torch.tensor([1.0, math.nan])],
        "pair": (1, None),
        "set": {"b", "a"},
        4: True,
    }
    score = Score("UA", math.nan, 1, None, 1.5, "percent", "retrained", detail, reference=2.0)
    text = json.dumps(score.to_dict(), allow_nan=False)
    assert json.loads(text) == {
        "name": "UA",
        "value": None,
        "n": 1,
        "low": None,
        "high": 1.5,
        "unit": "percent",
        "target": "retrained",
        "reference": 2.0,
        "gap": None,
        "detail": {
            "nan": None,
            "inside": [None, 3, [1.0, None]],
            "pair": [1, None],
            "set": ["a", "b"],
            "4": True,
        },
    }
