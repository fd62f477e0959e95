"""What reports draw: accuracy by class, confidence, single samples."""

from __future__ import annotations

import torch

from expunge.audits.details import BINS, SHOWN, details
from expunge.audits.outputs import Outputs, PartOutputs


def part(rows: list[tuple[list[float], int]], name: str) -> PartOutputs:
    logits = torch.tensor([row for row, _ in rows])
    return PartOutputs(
        logits,
        torch.tensor([label for _, label in rows]),
        tuple(f"{name}{i}" for i in range(len(rows))),
    )


FAR, HALF = [20.0, 0.0, -20.0], [1.0, 1.0, -40.0]


def test_by_hand() -> None:
    outputs = Outputs(
        forget=part([(FAR, 0), (FAR, 1), (HALF, 1)], "f"),
        retain=part([(FAR, 0)] * 4, "r"),
        test_kept=part([(FAR, 0), (FAR, 1), (HALF, 0)], "k"),
        test_forgotten=part([(FAR, 1)], "g"),
    )
    found = details(outputs, ["cat", "<dog>", "none"])
    assert found["class_accuracy"] == [100.0, 0.0, None]
    first, middle, last = 0, BINS // 2, BINS - 1
    forget = found["confidence"]["forget"]
    assert sum(forget) == 3 and forget[first] == forget[middle] == forget[last] == 1
    assert found["confidence"]["retain"][last] == 4
    test = found["confidence"]["test"]
    assert sum(test) == 4 and test[first] == 2, "both parts of the test set"
    wrong = found["gallery"][1]
    assert (wrong["id"], wrong["label"], wrong["predicted"]) == ("f1", "<dog>", "cat")
    assert wrong["probability"] > 0.99 and wrong["true_probability"] < 0.01


def test_parts_that_are_not_there() -> None:
    outputs = Outputs(None, part([(FAR, 0)], "r"), None, None)
    found = details(outputs, ["a", "b", "c"])
    assert found["gallery"] == [] and set(found["confidence"]) == {"retain"}
    assert found["class_accuracy"] == [None, None, None]


def test_the_gallery_is_short() -> None:
    outputs = Outputs(part([(FAR, 0)] * 50, "f"), None, None, None)
    assert [one["id"] for one in details(outputs, "abc")["gallery"]] == [
        f"f{row}" for row in range(SHOWN)
    ]
