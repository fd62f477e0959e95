"""A statistic of a model is taken once, kept beside it, and used for nothing else."""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import CPU, digits, named_digits, original, run_on_cpu, same_state, view_of
from torch import Tensor

from expunge.api import adopt, unlearn
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.methods.ssd import Ssd
from expunge.per_sample import fisher_diagonal
from expunge.trained import kept
from expunge.trained.opening import load
from expunge.trained.trained import Trained
from expunge.training import statistics
from expunge.training.rehearsal import Rehearsal, rehearsing

TRIAL = replace(CPU, strike=False)
FILE = "artifacts/statistic-importance.safetensors"
ASKED = "indices:3,5"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    adopted().save(tmp_path / "original")
    return tmp_path / "original"


def adopted() -> Trained:
    model = original("mlp")
    split = Split.whole(digits(), validation=0.1)
    return replace(adopt(model, digits(), split=split), architecture="mlp")


def forget(one: Trained, asked: str = ASKED, place: Any = CPU, **settings: Any) -> Trained:
    return unlearn(one, asked, Ssd(**{"alpha": 1.0, **settings}), place=place)


def reads(made: Trained) -> tuple[int, int]:
    found = made.record.cost.reads
    return found["retain"], found["forget"]


def told(made: Trained) -> str:
    return str(made.record.log["statistics"]["importance"])


def anew(one: Trained, asked: str = ASKED) -> Trained:
    made = forget(one, asked, TRIAL)
    assert "statistics" not in made.record.log
    return made


def test_a_second_request_reads_the_forget_set_alone(folder: Path) -> None:
    count = len(load(folder).split.retain)
    first = forget(load(folder))
    assert reads(first) == (count - 2, 2)
    assert told(first) == "taken over all samples, and kept beside the original"
    second = forget(load(folder))
    assert reads(second) == (0, 2)
    assert told(second) == "used as kept beside the original"
    assert same_state(first.model, second.model)
    other = forget(load(folder), "class:7", alpha=3.0)
    assert reads(other)[0] == 0
    exact = forget(load(folder), "class:7", TRIAL, alpha=3.0)
    for name, value in exact.model.state_dict().items():
        torch.testing.assert_close(other.model.state_dict()[name], value)


def test_a_trial_takes_it_anew(folder: Path) -> None:
    """Its seconds are compared with those of other methods."""
    forget(load(folder))
    assert reads(anew(load(folder)))[0] > 0


def test_a_rehearsal_uses_it_and_never_writes_one(folder: Path) -> None:
    """Or a method that has next to nothing left to do would be foretold as dear as the first time."""

    def rehearsed() -> Trained:
        with rehearsing(Rehearsal(seconds=0.0)):
            return forget(load(folder), ASKED, TRIAL)

    first = rehearsed()
    assert reads(first)[0] > 0 and told(first) == "taken, and kept nowhere"
    assert not (folder / FILE).exists()
    assert told(rehearsed()) == "taken, and kept nowhere", "nor in memory"
    forget(load(folder))
    before = (folder / FILE).read_bytes()
    assert reads(rehearsed())[0] == 0 and told(rehearsed()) == "used as kept beside the original"
    assert (folder / FILE).read_bytes() == before


def test_it_is_kept_in_memory_for_a_model_without_a_folder() -> None:
    one, other = adopted(), adopted()
    assert told(forget(one)) == "taken over all samples, and kept in memory"
    assert told(forget(one)) == "used as kept in memory"
    assert reads(forget(one)) == (0, 2)
    assert reads(forget(other))[0] > 0


def test_it_never_serves_other_weights(folder: Path) -> None:
    forget(load(folder))
    one = load(folder)
    model = copy.deepcopy(one.model)
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1e-3
    changed = replace(one, model=model)
    made = forget(changed)
    assert reads(made)[0] > 0
    assert same_state(made.model, anew(changed).model)
    frozen = replace(one, model=copy.deepcopy(one.model))
    next(frozen.model.parameters()).requires_grad_(False)
    assert reads(forget(frozen))[0] > 0


def test_it_never_serves_when_other_weights_are_trained() -> None:
    one = adopted()
    forget(one)
    next(one.model.parameters()).requires_grad_(False)
    assert reads(forget(one))[0] > 0


def test_it_never_serves_under_another_mask(folder: Path) -> None:
    forget(load(folder))
    one = load(folder)
    name = next(n for n, p in one.model.named_parameters() if p.ndim > 1)
    mask = {name: torch.ones_like(one.model.get_parameter(name), dtype=torch.bool)}
    assert reads(forget(replace(one, mask=mask)))[0] > 0


def test_it_never_serves_under_another_normalisation(folder: Path) -> None:
    forget(load(folder))
    one = load(folder)
    assert one.data.normalisation is not None
    normal = replace(one.data.normalisation, mean=(0.4,))
    assert reads(forget(replace(one, data=one.data.with_normalisation(normal))))[0] > 0


def test_what_was_struck_is_left_out(folder: Path, tmp_path: Path) -> None:
    """A second deletion takes it over what is left, though the first one's lies in its own folder."""
    forget(load(folder)).save(tmp_path / "first")
    assert not (tmp_path / "first/artifacts").exists()
    one = load(tmp_path / "first")
    made = forget(one, "indices:7")
    assert reads(made) == (len(one.split.retain) - 1, 1)
    kept = statistics.load((tmp_path / "first" / FILE).read_bytes())
    left = view_of(one.data, one.split.settled())
    assert left.size(Part.RETAIN) == len(one.split.retain)
    exact = fisher_diagonal(
        one.model, left.batches(Part.RETAIN, 64, augment=False), run_on_cpu(), labels="true"
    )
    for name, value in exact.items():
        torch.testing.assert_close(kept[name], value)
        assert (kept[name] >= 0).all()
    assert reads(forget(load(folder))) == (0, 2)  # the original's own is still there


def test_it_never_serves_other_samples(folder: Path) -> None:
    """Of the same weights, when some of them were struck since."""
    forget(load(folder))
    one = load(folder)
    fewer = replace(one, split=one.asked("indices:9").settled())
    made = forget(fewer)
    assert reads(made) == (len(fewer.split.retain) - 2, 2)
    assert same_state(made.model, anew(fewer).model)


def damaged(file: Path, how: str) -> None:
    content = file.read_bytes()
    if how == "a bit":
        content = content[:-3] + bytes([content[-3] ^ 1]) + content[-2:]
    elif how == "cut short":
        content = content[:-100]
    elif how == "a number":  # of the right form and key, and not as it was written
        size = int.from_bytes(content[:8], "little")
        about = json.loads(content[8 : 8 + size])["__metadata__"]
        found = {name: value * 0 for name, value in statistics.load(content).items()}
        content = statistics.save(found, about)
    elif how == "another form":
        content = statistics.save({"weight": torch.ones(3)}, {"key": "", "digest": ""})
    elif how == "nonsense":
        content = b"\xff" * 4096
    elif how == "pickled":
        torch.save({"weight": torch.ones(3)}, file)
        return
    elif how == "a link":
        elsewhere = file.parent.parent.parent / "elsewhere"
        elsewhere.write_bytes(content)
        file.unlink()
        file.symlink_to(elsewhere)
        return
    file.write_bytes(content)


HOW = ("a bit", "cut short", "a number", "another form", "nonsense", "pickled", "a link", "empty")


@pytest.mark.parametrize("how", HOW)
def test_a_foreign_or_damaged_file_is_never_used(folder: Path, how: str) -> None:
    exact = forget(load(folder))
    damaged(folder / FILE, how) if how != "empty" else (folder / FILE).write_bytes(b"")
    made = forget(load(folder))
    assert reads(made)[0] > 0
    assert same_state(made.model, exact.model)
    assert reads(forget(load(folder))) == (0, 2)
    if how == "a link":
        assert not (folder / FILE).is_symlink()


def test_a_folder_that_cannot_be_written_is_told_of(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(statistics, "write_file", refuse)
    one = load(folder)
    made = forget(one)
    assert told(made).endswith("it cannot be kept beside the original (Read-only file system)")
    assert same_state(made.model, anew(one).model)
    assert told(forget(one)) == "used as kept in memory"


def test_nothing_is_written_through_a_link(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (folder / "artifacts").symlink_to(tmp_path / "mine")
    assert "cannot be kept" in told(forget(load(folder)))
    assert not list((tmp_path / "mine").iterdir())


def test_a_folder_with_one_can_be_replaced(folder: Path) -> None:
    left = folder / "artifacts/.statistic-importance.safetensors.expunge-new-0123abcd"
    left.parent.mkdir()
    left.touch()  # by a kill
    made = forget(load(folder))
    assert not left.exists()
    left.touch()
    made.save(folder, overwrite=True)
    assert not (folder / "artifacts").exists()
    assert len(load(folder).split.forget) == 2


def test_a_redacted_folder_tells_of_no_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXPUNGE_KEYS", str(tmp_path / "keys"))
    _, data = named_digits()
    one = adopt(original("mlp"), data, split=Split.whole(data, validation=0))
    closed = replace(one, architecture="mlp").save(tmp_path / "closed", redact_ids=True)
    asked = f"ids:{tmp_path / 'asked'}"
    (tmp_path / "asked").write_text("scan-003.png\n")
    assert "kept beside" in told(forget(closed, asked))
    content = (tmp_path / "closed" / FILE).read_bytes()
    assert b"scan-" not in content
    size = int.from_bytes(content[:8], "little")
    assert json.loads(content[8 : 8 + size])["__metadata__"]["key"].startswith("keyed:")
    again = load(tmp_path / "closed", data=data)
    assert reads(forget(again, asked)) == (0, 1)


def test_a_request_whose_ids_are_redacted_uses_and_spares_what_an_open_folder_keeps(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key is new, and nobody could find again what stands there under it."""
    monkeypatch.setenv("EXPUNGE_KEYS", str(folder / "keys"))
    forget(load(folder))
    before = (folder / FILE).read_bytes()
    assert reads(forget(load(folder).redacting()))[0] == 0
    assert (folder / FILE).read_bytes() == before
    assert reads(forget(load(folder)))[0] == 0


def test_a_method_that_asks_for_none_costs_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a statistic is of is every id, and every file of code."""

    def refuse(things: Any) -> list[str]:
        raise AssertionError("nobody asked for a statistic")

    monkeypatch.setattr(kept, "code_of", refuse)
    unlearn(load(folder), ASKED, "finetune", place=CPU)
    with pytest.raises(AssertionError, match="nobody asked"):
        forget(load(folder))


def test_it_never_serves_other_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The same weights under a file of another text, which may compute something else."""
    name = type(original("mlp")).__module__
    before = kept.code_of([name])
    assert len(before) == 1
    other = tmp_path / "other.py"
    other.write_text("changed")
    monkeypatch.setattr(sys.modules[name], "__file__", str(other))
    assert kept.code_of([name]) != before


def test_a_task_without_a_name_keeps_it_in_memory_alone(folder: Path) -> None:
    """Two tasks made in Python could not be told apart by what a folder says."""

    class Doubled(type(digits().task)):  # type: ignore[misc]
        def losses(self, model: Any, batch: Any) -> Tensor:
            found: Tensor = 2 * super().losses(model, batch)
            return found

    one = load(folder)
    one = replace(one, data=replace(one.data, task=Doubled()))
    assert told(forget(one)) == "taken over all samples, and kept in memory"
    assert not (folder / FILE).exists()
