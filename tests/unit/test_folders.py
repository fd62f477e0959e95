"""Model folders over time: data that shrink, files that are tampered with, requests made again."""

from __future__ import annotations

import errno
import functools
import json
import shutil
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import expunge
from helpers import CPU
from PIL import Image
from torch import nn

from expunge import (
    ConfigError,
    DivergenceError,
    ModelError,
    Recipe,
    Split,
    SplitError,
    load,
    load_data,
    train,
)
from expunge.data.pseudonyms import Key
from expunge.data.samples import Samples
from expunge.folders.audit import Request, audit_folder, audit_forgotten
from expunge.folders.elsewhere import Elsewhere, import_folder
from expunge.folders.make import Beside, train_folder, unlearn_folder
from expunge.folders.page import deletion_report
from expunge.methods import make_method
from expunge.methods.finetune import Finetune
from expunge.methods.retrain import Retrain
from expunge.models.checkpoint import load_weights
from expunge.place import Place
from expunge.study.file import read_study
from expunge.study.launch import planned, run_study
from expunge.study.results import results
from expunge.trained.card import FORMAT, ModelCard
from expunge.trained.record import Record, without_ids
from expunge.trained.trained import Trained

QUICK = Recipe(epochs=2, lr=0.05, batch_size=32)
METHOD = make_method("finetune", {"epochs": 1, "batch_size": 32}, allow_code=True)


def write_npz(path: Path, keep: np.ndarray | None = None) -> None:
    """120 samples of 3 classes with ids, and no test set of their own."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    inputs = (rng.normal(size=(120, 6)) + 2 * labels[:, None]).astype(np.float32)
    ids = np.array([f"person-{row}" for row in range(120)])
    rows = np.arange(120) if keep is None else keep
    np.savez(path, x=inputs[rows], y=labels[rows], id=ids[rows], classes=["ant", "bee", "cow"])


def rows_without(folder: Path, *parts: str) -> np.ndarray:
    split = json.loads((folder / "split.json").read_text())
    gone = {int(key.removeprefix("person-")) for part in parts for key in split[part]}
    return np.array([row for row in range(120) if row not in gone])


@pytest.fixture
def original(tmp_path: Path) -> Path:
    write_npz(tmp_path / "data.npz")
    train_folder(str(tmp_path / "data.npz"), "mlp", tmp_path / "original", recipe=QUICK)
    return tmp_path / "original"


def scores(folder: Path) -> dict[str, float]:
    return {s.name: s.value for s in audit_folder(folder).scores if s.name != "RTE"}


@pytest.mark.parametrize("request_", ["random:0.2", "class:bee"])
def test_struck_samples_may_be_gone_from_the_data(original: Path, request_: str) -> None:
    """The test set was drawn from the data; it stays what it was when samples are deleted."""
    first, second = original.with_name("first"), original.with_name("second")
    unlearn_folder(original, request_, METHOD, first)
    before = load(first)
    assert before.split.forget
    write_npz(original.with_name("data.npz"), rows_without(first, "forget", "excluded"))
    after = load(first)
    assert after.data.test.ids.tolist() == before.data.test.ids.tolist()
    assert after.split == before.split
    assert after.split.forgotten_classes(after.data) == before.split.forgotten_classes(before.data)
    unlearn_folder(first, "random:0.1", METHOD, second)
    split = load(second).split
    assert set(before.split.forget) <= set(split.excluded)
    assert scores(second).keys() >= {"UA", "RA", "TA", "MIA"}
    assert ("TA_forget" in scores(second)) == (request_ == "class:bee")


def test_a_redacted_folder_loads_when_struck_samples_are_gone(original: Path) -> None:
    first = original.with_name("first")
    unlearn_folder(original, "random:0.2", METHOD, first, beside=Beside(redact_ids=True))
    before = load(first).split
    gone = {int(key.removeprefix("person-")) for key in before.forget}
    write_npz(original.with_name("data.npz"), np.array([r for r in range(120) if r not in gone]))
    after = load(first).split
    assert after.retain == before.retain and len(after.forget) == len(before.forget)
    unlearn_folder(first, "random:0.1", METHOD, original.with_name("second"))


@pytest.mark.parametrize("request_", ["random:0.2", "class:bee"])
def test_a_redacted_request_can_be_given_again(original: Path, request_: str) -> None:
    first = original.with_name("first")
    unlearn_folder(original, request_, METHOD, first, forget_seed=3, beside=Beside(redact_ids=True))
    assert audit_folder(first, forget=Request(request_, 3)).scores
    with pytest.raises(SplitError, match="is not what"):
        audit_folder(first, forget=Request("random:0.3", 3))


@pytest.mark.filterwarnings("ignore:.*exact copies")
def test_a_redacted_folder_names_nobody(tmp_path: Path) -> None:
    """Neither what was struck nor copies of it that stay, in no file, whatever warned of them."""
    rng = np.random.default_rng(0)
    inputs, labels = rng.normal(size=(120, 6)).astype(np.float32), np.arange(120) % 3
    inputs[::10], labels[::10] = inputs[0], labels[0]  # exact copies, some struck and some kept
    ids = np.array([f"person-{row}" for row in range(120)])
    np.savez(tmp_path / "data.npz", x=inputs, y=labels, id=ids, classes=["ant", "bee", "cow"])
    source = str(tmp_path / "data.npz")
    train_folder(source, "mlp", tmp_path / "original", recipe=QUICK)
    beside = Beside(redact_ids=True)
    made = unlearn_folder(
        tmp_path / "original", "random:0.5", METHOD, tmp_path / "less", beside=beside
    )
    assert any("exact cop" in one for one in made.result.record.warnings)
    for file in (tmp_path / "less").rglob("*"):
        assert file.is_dir() or b"person-" not in file.read_bytes(), file.name


def test_a_cell_of_a_study_is_not_overwritten(original: Path) -> None:
    (original / "cell.json").write_text("{}")
    with pytest.raises(ModelError, match="is a cell of a study; choose another name"):
        train_folder(
            str(original.with_name("data.npz")),
            "mlp",
            original,
            recipe=QUICK,
            place=Place(overwrite=True),
        )


def test_the_reference_takes_the_place_of_no_model_that_is_to_forget(original: Path) -> None:
    first = original.with_name("first-retrained")
    original.rename(first)
    with pytest.raises(ConfigError, match="would take the place of"):
        unlearn_folder(
            first,
            "random:0.2",
            METHOD,
            original.with_name("first"),
            beside=Beside(reference=True),
            place=Place(overwrite=True),
        )


TASK = """from expunge.data.task import Classification

ran = print("imported")


class Mine(Classification):
    pass
"""


def test_a_task_of_ones_own_is_run_with_consent_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    write_npz(tmp_path / "data.npz")
    (tmp_path / "a_task.py").write_text(TASK)
    train_folder("data.npz", "mlp", Path("made"), recipe=QUICK, task="a_task:Mine")
    assert "imported" in capsys.readouterr().out
    monkeypatch.delitem(sys.modules, "a_task")
    with pytest.raises(ModelError, match=r"a_task:Mine.*--allow-code"):
        load("made")
    assert "a_task" not in sys.modules
    assert type(load("made", place=Place(allow_code=True)).data.task).__name__ == "Mine"


def test_a_task_that_its_data_bring_comes_with_them_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "its_data.py").write_text(
        "from dataclasses import replace\nfrom expunge import load_data\n"
        "from expunge.data.task import Classification\n\n\n"
        "class Weighted(Classification):\n    def __init__(self, by):\n        self.by = by\n\n\n"
        "def data():\n    return replace(load_data('digits:100'), task=Weighted(2.0))\n"
    )
    train_folder("its_data:data", "mlp", Path("made"), recipe=QUICK)
    found = load("made", place=Place(allow_code=True))
    assert found.data.task.by == 2.0  # type: ignore[attr-defined]
    found.save("again")
    load("again", place=Place(allow_code=True))


def test_ids_in_the_warnings_of_old_records_are_redacted() -> None:
    old = "2 exact copies of forget samples stay in the retain set: a/1.png (copy of a/2.png); add them"
    record = Record(
        step="finetune", warnings=(old, "few samples"), log={"exact_copies": [["1", "2"]]}
    )
    found = without_ids(record, Key(bytes(32)), ["1", "2"])
    assert found.log == {}
    assert found.warnings == (
        "2 exact copies of forget samples stay in the retain set",
        "few samples",
    )


def test_a_class_that_is_gone_does_not_move_the_others_up(tmp_path: Path) -> None:
    for part, count in (("train", 12), ("test", 4)):
        for number, name in enumerate(("cat", "dog", "horse")):
            folder = tmp_path / "pets" / part / name
            folder.mkdir(parents=True)
            for row in range(count):
                image = np.full((8, 8), 40 + 80 * number + row, dtype=np.uint8)
                Image.fromarray(image).save(folder / f"{row}.png")
    train_folder(str(tmp_path / "pets"), "mlp", tmp_path / "original", recipe=QUICK)
    unlearn_folder(tmp_path / "original", "class:cat", METHOD, tmp_path / "first")
    shutil.rmtree(tmp_path / "pets/train/cat")
    data = load(tmp_path / "first").data
    names = {data.classes[label] for label in data.train.labels.tolist()}
    assert data.classes == ("cat", "dog", "horse") and names == {"dog", "horse"}
    for row, name in enumerate(data.train.ids.tolist()):
        assert data.classes[data.train.labels[row]] in name


def test_a_changed_split_is_refused(original: Path) -> None:
    first = original.with_name("first")
    unlearn_folder(original, "random:0.2", METHOD, first)
    split = json.loads((first / "split.json").read_text())
    split["retain"].append(split["forget"].pop())
    (first / "split.json").write_text(json.dumps(split))
    with pytest.raises(SplitError, match="changed after it was written"):
        load(first)


def test_a_lost_mask_is_noticed(original: Path) -> None:
    data = load_data(str(original.with_name("data.npz")))
    result = train(data, "mlp", recipe=QUICK)
    name = next(n for n, p in result.model.named_parameters() if p.ndim == 2)
    keep = {name: torch.rand_like(result.model.get_parameter(name)) > 0.5}
    sparse = original.with_name("sparse")
    replace(result, mask=keep).save(sparse)
    assert load(sparse).mask is not None
    (sparse / "mask.safetensors").unlink()
    with pytest.raises(ModelError, match=r"has no mask\.safetensors"):
        load(sparse)


def test_each_model_is_scored_with_its_own_normalisation(original: Path, tmp_path: Path) -> None:
    """The same function, once with the normalisation in the folder and once in the weights."""
    loaded = load(original)
    card = loaded.card()
    mean, std = (torch.tensor(values) for values in (card.mean, card.std))
    first = next(m for m in loaded.model.modules() if isinstance(m, nn.Linear))
    with torch.no_grad():
        first.weight.div_(std)
        first.bias.sub_(first.weight @ mean)
    torch.save(loaded.model.state_dict(), tmp_path / "folded.pt")
    spec = str(original.with_name("data.npz"))
    ids = tmp_path / "ids.txt"
    ids.write_text("\n".join(loaded.split.retain))
    folded = tmp_path / "folded"
    import_folder(
        "mlp", tmp_path / "folded.pt", spec, folded, how=Elsewhere(trained_on=f"ids:{ids}")
    )
    report = audit_folder(original, forget=Request("random:0.1"), original=folded)
    for score in report.scores:
        if score.name in ("UA", "RA", "TA"):
            assert score.detail["original"] == pytest.approx(score.value)
    losses = {loss.id: loss.loss for loss in report.losses}
    other = audit_folder(folded, forget=Request("random:0.1"))
    assert {k.id: pytest.approx(k.loss, abs=1e-4) for k in other.losses} == losses


def test_a_data_path_means_the_same_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_npz(tmp_path / "data.npz")
    monkeypatch.chdir(tmp_path)
    train_folder("data.npz:60", "mlp", "original", recipe=QUICK)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert len(load(tmp_path / "original").data.train) == 60
    unlearn_folder("../original", "random:0.2", METHOD, "here")
    with pytest.raises(ModelError, match="exists"):
        unlearn_folder("../original", "random:0.2", METHOD, ".")


def test_a_second_retrained_model_shows_how_far_chance_goes(original: Path, tmp_path: Path) -> None:
    """It lies beside the first, is a row of the page, and the verdict rests on both."""
    beside = Beside(reference=True, floor=True)
    done = unlearn_folder(original, "class:bee", METHOD, tmp_path / "new", beside=beside)
    exact = [tmp_path / "new-retrained", tmp_path / "new-floor"]
    names = [load(folder).record.names for folder in exact]
    assert names == [("retrain", 0), ("retrain", 0, "floor")]
    audited = audit_forgotten(done)
    assert len(audited["UA"].detail["references"]) == audited.verdict.references == 2
    page = deletion_report(audited, "class:bee", "expunge")
    assert [*page.frame["method"].unique()] == ["original", "retrain", "floor", "finetune"]
    later = audit_folder(tmp_path / "new", original=original, retrained=exact, floor=True)
    assert later.verdict.references == 3
    assert later["UA"].detail["references"][:2] == audited["UA"].detail["references"]
    assert later.to_dict()["verdict"]["references"] == 3
    third = audit_folder(tmp_path / "new", original=original, retrained=exact[1], floor=True)
    assert third.verdict.references == 2
    assert third.panel.others[0].record.names == ("retrain", 1, "floor")
    with pytest.raises(ConfigError, match="give --original"):
        audit_folder(tmp_path / "new", retrained=exact[0], floor=True)
    with pytest.raises(ConfigError, match="--with-reference"):
        unlearn_folder(original, "class:bee", METHOD, tmp_path / "x", beside=Beside(floor=True))


def test_a_model_that_cannot_be_written_where_it_belongs_is_kept_elsewhere(
    original: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A disk that is full at the end of it all: the work is not thrown away."""
    real, full = Trained.write, OSError(errno.ENOSPC, "No space left on device")

    def writes(self: Trained, folder: Path) -> ModelCard:
        if ".expunge-" in str(folder):
            raise full
        return real(self, folder)

    monkeypatch.setattr(Trained, "write", writes)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    forget = functools.partial(unlearn_folder, original, "class:bee", METHOD, tmp_path / "new")
    with pytest.raises(ModelError, match=r"No space left on device.*lies in .*elsewhere") as told:
        forget(beside=Beside(reference=True))
    (kept,) = (tmp_path / "elsewhere").iterdir()
    assert str(kept) in str(told.value)
    assert sorted(folder.name for folder in kept.iterdir()) == ["new", "new-retrained"]
    assert load(kept / "new").record.step == "finetune"
    monkeypatch.setattr(Trained, "write", lambda *_, **__: (_ for _ in ()).throw(full))
    with pytest.raises(ModelError, match="the model is lost; make room"):
        forget()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "data.npz",
        "elsewhere",
        "original",
    ]


def test_a_model_whose_target_has_gone_meanwhile_is_kept_elsewhere(
    original: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    real = Finetune.unlearn

    def meanwhile(*given: Any) -> nn.Module:
        (tmp_path / "new").mkdir()
        (tmp_path / "new/thesis.txt").write_text("mine")
        return real(*given)

    monkeypatch.setattr(Finetune, "unlearn", meanwhile)
    with pytest.raises(ModelError, match=r"new exists; .*lies in .*elsewhere"):
        unlearn_folder(original, "class:bee", METHOD, tmp_path / "new")
    (kept,) = (tmp_path / "elsewhere").iterdir()
    assert load(kept / "new").record.step == "finetune"
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["thesis.txt"]


def test_a_key_does_not_lie_in_what_it_opens(
    original: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for keys in ("new", "new/keys", "."):
        monkeypatch.setenv("EXPUNGE_KEYS", str(tmp_path / keys))
        with pytest.raises(ModelError, match="the folder of keys"):
            unlearn_folder(
                original, "class:bee", METHOD, tmp_path / "new", beside=Beside(redact_ids=True)
            )


def test_a_reference_that_cannot_be_made_leaves_the_model_that_was(
    original: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def diverges(*_: object) -> None:
        raise DivergenceError("the loss is nan")

    monkeypatch.setattr(Retrain, "unlearn", diverges)
    with pytest.raises(DivergenceError):
        unlearn_folder(
            original, "class:bee", METHOD, tmp_path / "new", beside=Beside(reference=True)
        )
    assert load(tmp_path / "new").record.step == "finetune"
    assert not (tmp_path / "new-retrained").exists()


def test_what_is_not_ours_in_a_model_folder_is_never_replaced(
    original: Path, tmp_path: Path
) -> None:
    unlearn_folder(original, "class:bee", METHOD, tmp_path / "new")
    (tmp_path / "new/notes.txt").write_text("mine")
    with pytest.raises(ModelError, match=r"also holds notes\.txt"):
        unlearn_folder(original, "class:bee", METHOD, tmp_path / "new", place=Place(overwrite=True))
    assert (tmp_path / "new/notes.txt").read_text() == "mine"
    with pytest.raises(ModelError, match="lie in each other"):
        unlearn_folder(original, "class:bee", METHOD, original / "inside")


def test_weights_under_a_prefix_and_of_a_child_called_module(tmp_path: Path) -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(3, 2)

    for made in (nn.Linear(3, 2), Wrapped()):
        torch.save(made.state_dict(), tmp_path / "plain.pt")
        prefixed = {f"module.{key}": value + 1 for key, value in made.state_dict().items()}
        torch.save(prefixed, tmp_path / "parallel.pt")
        before = {key: value.clone() for key, value in made.state_dict().items()}
        load_weights(made, tmp_path / "plain.pt")
        assert all(torch.equal(value, before[key]) for key, value in made.state_dict().items())
        load_weights(made, tmp_path / "parallel.pt")
        assert all(torch.equal(value, before[key] + 1) for key, value in made.state_dict().items())


def test_a_deviation_of_zero_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    write_npz(tmp_path / "data.npz")
    data = load_data(str(tmp_path / "data.npz"))
    model = train(data, "mlp", recipe=QUICK).model
    torch.save(model.state_dict(), tmp_path / "net.pt")
    with pytest.raises(ConfigError, match="deviations must be above 0"):
        import_folder(
            "mlp",
            tmp_path / "net.pt",
            str(tmp_path / "data.npz"),
            tmp_path / "out",
            how=Elsewhere(mean=[0.0] * 6, std=[1.0] * 5 + [0.0]),
        )
    assert not (tmp_path / "out").exists()


def test_volumes_go_through_three_dimensional_convolutions() -> None:
    class Volumes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv3d(1, 2, 3)
            self.head = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.conv(x).mean((2, 3, 4)))

    dataset = torch.utils.data.TensorDataset(torch.randn(40, 1, 4, 4, 4), torch.arange(40) % 2)
    data = load_data((dataset, dataset))
    assert train(data, Volumes, recipe=QUICK.but(augmentation="none")).record.cost.seconds > 0


def test_a_streamed_store_has_the_statistics_of_the_resident_one() -> None:
    data = load_data("digits:300")

    class Streamed:
        def __init__(self, samples: Samples) -> None:
            self.store, self.labels = samples.store, samples.labels

        def __len__(self) -> int:
            return len(self.labels)

        def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
            return self.store.whole()[row], int(self.labels[row])  # type: ignore[index]

    streamed = load_data((Streamed(data.train), Streamed(data.test))).train.statistics()
    resident = data.train.statistics()
    assert streamed is not None and resident is not None
    assert streamed.mean == pytest.approx(resident.mean, abs=1e-6)
    assert streamed.std == pytest.approx(resident.std, abs=1e-6)


def test_whole_needs_something_to_learn_from() -> None:
    data = load_data("digits:300")
    none = type(data)(data.train.subset(np.array([], dtype=np.int64)), data.test, data.classes)
    with pytest.raises(SplitError, match="no samples to learn from"):
        Split.whole(none)


# --- folders and studies that earlier versions wrote: they load, are audited, and are forgotten from


FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "format1.zip"
HERE = Place(device="cpu", allow_code=True)
OLD_METHOD = make_method("finetune", {"epochs": 1, "batch_size": 32}, allow_code=True)


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the earlier version worked in, where `tiny:build` can be imported."""
    with zipfile.ZipFile(FIXTURE) as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tiny", raising=False)
    return tmp_path


@pytest.mark.parametrize("name", ["original", "forgot", "sparse", "imported", "redacted"])
def test_a_folder_loads_and_forgets(old: Path, name: str) -> None:
    before = load(old / name, place=HERE)
    assert before.record.version
    assert before.redacted == (name == "redacted")
    assert (before.mask is not None) == (name == "sparse")
    done = unlearn_folder(old / name, "random:0.2", OLD_METHOD, old / "new", place=HERE)
    split = done.result.split
    assert set(before.split.forget) <= set(split.excluded), "what was struck stays struck"
    again = load(old / "new", place=HERE)
    assert again.split.forget == split.forget or again.redacted
    assert [one.step for one in again.history] == [
        *(one.step for one in before.history),
        "finetune",
    ]
    assert again.record.parent == before.weights
    assert json.loads((old / "new" / "model.json").read_text())["format"] == FORMAT
    kept = json.loads((old / "new" / "split.json").read_text())
    assert "salt" not in kept and ("pseudonyms" in kept) == before.redacted


def test_an_audit_finds_what_it_found_then(old: Path) -> None:
    found = audit_folder(
        old / "forgot", original=old / "original", retrained=old / "forgot-retrained", place=HERE
    )
    told = json.loads((old / "audit.json").read_text())["scores"]
    assert [score.name for score in found] == [one["name"] for one in told]
    for score, one in zip(found, told, strict=True):
        if score.name != "RTE":
            assert score.value == pytest.approx(one["value"], abs=2), "one sample of 50 at most"
            assert score.reference == pytest.approx(one["reference"], abs=2)


def test_a_study_goes_on(old: Path) -> None:
    study = read_study(old / "study/study.yaml", allow_code=True)
    before = planned(study, old / "study", place=HERE)
    assert before.counts().done == len(before.cells), "the cells have the same keys"
    frame = results(before.rows, before.store)
    more = study.model_copy(update={"also": ("weight_distance",)})
    made = run_study(planned(more, old / "study", place=HERE))
    assert made.counts().done == len(made.cells), [made.store.failure(c.key) for c in made.cells]
    after = results(made.rows, made.store)
    usual = after[after["score"].isin(set(frame["score"]) - {"RTE"})]
    for name in ("finetune", "original"):
        ours, theirs = (
            f[(f["method"] == name) & (f["score"] == "TA")]["value"].tolist()
            for f in (usual, frame)
        )
        assert ours == pytest.approx(theirs, abs=9), "two samples of 24 at most, on any processor"
    assert set(after[after["score"] == "weight_distance"]["method"]) == {"original", "finetune"}


def test_a_cell_that_keeps_weights_is_a_model_folder(old: Path) -> None:
    study = read_study(old / "study.yaml", allow_code=True)
    made = run_study(planned(study, old / "fresh", place=HERE))
    row = next(row for row in made.rows if row.method == "retrain")
    original, retrained = (made.store.path(key) for key in (row.base, row.retrain))
    assert load(original, place=HERE).record.step == "train"
    scores = audit_folder(retrained, original=original, place=HERE)
    cell = {one["name"]: one["value"] for one in made.store.read(row.retrain)["scores"]}
    assert {s.name: s.value for s in scores if s.name != "RTE"} == cell
    said = expunge(
        "audit", str(retrained), "--original", str(original), "--allow-code", cwd=old
    ).stdout
    assert "UA" in said
    done = unlearn_folder(retrained, "random:0.1", OLD_METHOD, old / "further", place=HERE)
    assert set(load(retrained, place=HERE).split.forget) <= set(done.result.split.excluded)


def test_a_format_of_the_future_is_refused(old: Path) -> None:
    card = old / "original" / "model.json"
    card.write_text(card.read_text().replace('"format": 1', f'"format": {FORMAT + 1}'))
    with pytest.raises(
        ModelError, match=f"has format {FORMAT + 1}, this version reads up to {FORMAT}"
    ):
        load(old / "original", place=CPU)
