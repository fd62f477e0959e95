"""Models from elsewhere: what they learned, what tests them, the order of their classes; and back."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import CPU, digits, run_on_cpu
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torch.nn.utils import prune
from torch.utils.data import Dataset

from expunge.api import adopt, audit, train, unlearn
from expunge.cli.models import looked
from expunge.data.columns import Feature, TableEncoding
from expunge.data.drawing import Drawing
from expunge.data.load import load_data
from expunge.data.parts import Part
from expunge.data.read_as import ReadAs
from expunge.data.split import Split
from expunge.data.undivided import undivided
from expunge.errors import ConfigError, DataError, ModelError, SplitError, UserError
from expunge.folders.audit import Request as Asked
from expunge.folders.audit import TypedBackdoor, audit_folder
from expunge.folders.elsewhere import Elsewhere, Imported, import_folder
from expunge.folders.export import classes_file, export_folder, told_inputs
from expunge.folders.make import unlearn_folder
from expunge.folders.pictures import accuracy_by_class
from expunge.methods.finetune import Finetune
from expunge.models.table import build_model
from expunge.place import Place
from expunge.report.forgetting import forgetting_figures
from expunge.trained.card import DataCard, ModelCard
from expunge.trained.opening import load
from expunge.training.recipe import Recipe

FINE = Finetune(epochs=1, batch_size=64)
NAMES = ["ant", "bee", "cow"]
CODE = Place(device="cpu", allow_code=True)


def write(path: Path, *, seed: int = 0, ids: bool = True, **more: Any) -> str:
    """60 samples of 3 classes that a sum tells apart, without a test set."""
    labels = np.arange(60) % 3
    inputs = np.random.default_rng(seed).normal(size=(60, 4)).astype(np.float32) * 0.1
    inputs[np.arange(60), labels] += 1
    names = {"id": np.array([f"p{row}" for row in range(60)])} if ids else {}
    np.savez(path, **{"x": inputs, "y": labels, "classes": NAMES, **names, **more})
    return str(path)


@pytest.fixture
def data(tmp_path: Path) -> str:
    return write(tmp_path / "data.npz")


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Architectures, and a function that writes weights of one: the class is the largest of 3 inputs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "theirs.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "class Pair(nn.Linear):\n"
        "    def forward(self, x): return self.nothing\n"
        "class Counts(nn.Linear):\n"
        "    def __init__(self):\n"
        "        super().__init__(4, 3)\n"
        "        self.register_buffer('shown', torch.zeros(()))\n"
        "    def forward(self, x):\n"
        "        self.shown += 1\n"
        "        return super().forward(x)\n"
        "class Extra(nn.Linear):\n"
        "    def get_extra_state(self): return {}\n"
        "    def set_extra_state(self, state): pass\n"
        "def counts(): return Counts()\n"
        "def extra(): return Extra(4, 3)\n"
        "def build(): return nn.Linear(4, 3)\n"
        "def few(): return nn.Linear(4, 2)\n"
        "def pair(): return Pair(4, 3)\n"
    )

    def saved(outputs: list[int], **changes: Any) -> Path:
        layer = nn.Linear(4, len(outputs))
        with torch.no_grad():
            layer.weight.copy_(20 * torch.eye(4)[outputs])
            layer.bias.zero_()
        torch.save(layer.state_dict() | changes, tmp_path / "net.pt")
        return tmp_path / "net.pt"

    return saved


def brought(weights: Path, data: str, out: str, model: str = "build", **how: Any) -> Imported:
    return import_folder(f"theirs:{model}", weights, data, out, how=Elsewhere(**how), place=CPU)


# --- what it learned, and what it is tested on


def test_what_is_imported_has_learned_all_that_it_is_given(
    data: str, code: Callable[..., Path]
) -> None:
    made = brought(code([0, 1, 2]), data, "m")
    ids = [f"p{row}" for row in range(60)]
    assert list(made.trained.split.retain) == ids and not len(made.trained.data.test)
    assert made.accuracy == 100 and not made.tested
    told = list(looked(made))
    assert told[0].startswith("no test set") and "which is no test accuracy" in told[1]
    again = load("m", place=CODE)
    assert again.split == made.trained.split and not len(again.data.test)
    assert again.data.train.fingerprint == made.trained.data.train.fingerprint
    drawn = load_data(data).test.ids.tolist()  # what training would have set aside
    gone = unlearn(again, drawn, FINE, place=CPU)
    assert gone.split.forget == tuple(drawn)
    gone.save("gone")
    scores = audit_folder("gone", original="m", place=CODE)
    assert "RA" in scores and "TA" not in scores and "MIA" not in scores
    assert any("no test set" in note for note in scores.notes)


@pytest.mark.parametrize("ids", [True, False])
def test_adopt_learns_what_was_only_drawn_for_testing(tmp_path: Path, ids: bool) -> None:
    spec = write(tmp_path / "data.npz", ids=ids, person=np.arange(60) % 7)
    drawn, whole = load_data(spec), load_data(spec, test="none")
    made = adopt(nn.Linear(4, 3), drawn)
    assert len(drawn.test) == 12 and not len(made.data.test)
    assert made.data.train.ids.tolist() == whole.train.ids.tolist() == list(made.split.retain)
    assert made.data.train.fingerprint == whole.train.fingerprint
    assert made.data.train.labels.tolist() == whole.train.labels.tolist()
    person = made.data.train.columns["person"].tolist()
    assert person == whole.train.columns["person"].tolist()
    inputs, expected = made.data.train.store.whole(), whole.train.store.whole()
    assert inputs is not None and expected is not None and torch.equal(inputs, expected)
    assert made.data.normalisation == drawn.normalisation  # the model's inputs stay as they were
    made.save(tmp_path / "m")
    again = load(tmp_path / "m", fresh=lambda: nn.Linear(4, 3))
    assert again.split == made.split and again.data.train.fingerprint == whole.train.fingerprint


def test_what_somebody_said_was_not_learned_stays_unlearned(data: str) -> None:
    drawn = load_data(data)
    told = adopt(nn.Linear(4, 3), drawn, split=Split.whole(drawn, validation=0.0))
    assert told.data is drawn
    counted = load_data(f"{data}:30")
    assert undivided(counted, allow_code=True) is counted and len(counted.train) == 30
    named = digits()  # whose test part is the same in every version
    assert undivided(named, allow_code=True) is named


class Streamed(Dataset[Any]):
    """Nothing of it is held."""

    def __init__(self) -> None:
        self.labels = [row % 3 for row in range(30)]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return torch.full((4,), float(row)), row % 3


def test_adopt_learns_all_of_streamed_data_and_their_folder_knows(tmp_path: Path) -> None:
    source = load_data(Streamed())
    made = adopt(nn.Linear(4, 3), source)
    rows = np.arange(30)
    inputs = made.data.train.store.fetch(rows, torch.device("cpu"))
    assert len(source.test) == 6 and inputs[:, 0].tolist() == rows.tolist()
    made.save(tmp_path / "m")
    again = load(tmp_path / "m", data=load_data(Streamed()), fresh=lambda: nn.Linear(4, 3))
    assert again.split == made.split and not len(again.data.test)


def test_images_that_were_drawn_for_testing_are_learned_too(tmp_path: Path) -> None:
    for row in range(20):
        folder = tmp_path / "photos" / NAMES[row % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (row, 0, 0)).save(folder / f"{row:02}.png")
    drawn = load_data(tmp_path / "photos")
    whole = load_data(tmp_path / "photos", test="own")
    made = undivided(drawn, allow_code=True)
    assert len(drawn.test) == 4 and made.train.ids.tolist() == whole.train.ids.tolist()
    inputs, expected = made.train.store.whole(), whole.train.store.whole()
    assert inputs is not None and expected is not None and torch.equal(inputs, expected)
    assert made.train.rows is not None and made.train.rows.tolist() == list(range(20))


def test_images_too_many_to_hold_are_read_anew_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for row in range(20):
        folder = tmp_path / "photos" / NAMES[row % 3]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(row).integers(0, 256, (9, 9, 4), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{row:02}.png")
    spec, drawing = f"{tmp_path / 'photos'}@4", Drawing("nearest", "black")
    order = NAMES[::-1]
    expected = undivided(
        load_data(spec, read_as=ReadAs(drawing=drawing), classes=order), allow_code=False
    )
    monkeypatch.setattr("expunge.data.images.fits", lambda size: size < 500)
    monkeypatch.setattr("expunge.data.images.is_bomb", lambda *_: False)
    streamed = load_data(spec, read_as=ReadAs(drawing=drawing), classes=order)
    assert streamed.train.store.whole() is None
    made = undivided(streamed, allow_code=False)
    rows, cpu = np.arange(20), torch.device("cpu")
    assert made.train.labels.tolist() == expected.train.labels.tolist()
    assert torch.equal(made.train.store.fetch(rows, cpu), expected.train.store.fetch(rows, cpu))


def test_a_test_set_by_name(data: str, code: Callable[..., Path], tmp_path: Path) -> None:
    weights = code([0, 1, 2])
    held = write(tmp_path / "held.npz", seed=1)
    made = brought(weights, data, "m", test=held, expect=99.5)
    assert made.tested and list(looked(made)) == [f"test accuracy 100.00 % on 60 samples of {held}"]
    assert len(made.trained.split.retain) == 60
    unlearn_folder("m", "class:bee", FINE, "gone", place=CODE)
    scores = audit_folder("gone", original="m", place=CODE)
    assert scores["TA"].n == 40 and scores["TA_forget"].n == 20


def test_where_test_data_lie_is_redacted_with_the_rest(
    data: str, code: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPUNGE_KEYS", str(tmp_path / "keys"))
    held = write(tmp_path / "held.npz", seed=1)
    brought(code([0, 1, 2]), data, "m", test=held).trained.save("r", redact_ids=True)
    assert "held" not in Path("r/model.json").read_text()
    again = load("r", place=CODE)
    assert again.redacted and len(again.data.test) == 60 and again.data.test_spec == held


def test_test_sets_that_cannot_be_meant(
    data: str, code: Callable[..., Path], tmp_path: Path
) -> None:
    weights = code([0, 1, 2])
    wide = write(tmp_path / "wide.npz", x=np.zeros((60, 5), np.float32))
    other = write(tmp_path / "other.npz", classes=["ant", "bee", "dog"])
    for test, told in (
        (data, "are the training data"),
        (wide, r"\(5,\)"),
        (other, "'dog'"),
        ("no", "no"),
    ):
        with pytest.raises(DataError, match=told):
            brought(weights, data, "m", test=test)
    with pytest.raises(ConfigError, match="bring no test set"):
        brought(weights, data, "m", expect=90)
    assert not Path("m").exists()


def test_a_test_part_of_their_own_is_kept_unless_there_is_to_be_none(
    code: Callable[..., Path], tmp_path: Path
) -> None:
    inputs, labels = np.eye(4, dtype=np.float32)[:3].repeat(4, axis=0), np.arange(3).repeat(4)
    parts = {"x_train": inputs, "y_train": labels, "x_test": inputs[:6], "y_test": labels[:6]}
    np.savez(tmp_path / "both.npz", **parts)
    made = brought(code([0, 1, 2]), "both.npz", "m")
    assert made.tested and made.seen is not None and made.seen.n == 6
    assert len(load("m", place=CODE).data.test) == 6
    made = brought(code([0, 1, 2]), "both.npz", "n", test="none")
    assert not made.tested and not len(load("n", place=CODE).data.test)


def test_without_a_test_set_pictures_and_triggers_say_so(
    data: str, code: Callable[..., Path], tmp_path: Path
) -> None:
    made = brought(code([0, 1, 2]), data, "m").trained
    frame = accuracy_by_class({"before": made.model}, made.data, made.split, run_on_cpu())
    assert frame["before"].isna().all()
    layers = frame.assign(layer=frame["class"], from_original=0.1)
    drawn = forgetting_figures(
        tmp_path / "figures", accuracy=frame.assign(after=frame["before"]), distance=layers
    )
    assert {path.stem for path in drawn if path.suffix == ".png"} == {"weight_distance"}
    with pytest.raises(DataError, match="no test set"):
        audit_folder(
            "m",
            forget=Asked("class:bee"),
            backdoor=TypedBackdoor("patch:size=2", "ant"),
            place=CODE,
        )


# --- a model that does not fit leaves nothing


def test_weights_are_read_before_the_data(
    data: str, code: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the data were read")

    monkeypatch.setattr("expunge.data.load.load_data", never)
    whole, net = code([0, 1, 2]).read_bytes(), Path("net.pt")
    for content, says in ((whole[:200], "damaged"), (nn.Linear(4, 3), "run code"), ([], "a list")):
        if isinstance(content, bytes):
            net.write_bytes(content)
        else:
            torch.save(content, net)
        with pytest.raises(ModelError, match=says):
            brought(net, data, "m")
    torch.save({"net": nn.Linear(4, 3).state_dict()}, net)
    with pytest.raises(ModelError, match="there are: net"):
        brought(net, data, "m", key="zz")


def test_what_a_model_keeps_is_as_it_was_saved(data: str, code: Callable[..., Path]) -> None:
    net = code([0, 1, 2], shown=torch.tensor(7.0))
    made = brought(net, data, "m", "counts")
    assert made.accuracy == 100 and made.trained.model.get_buffer("shown") == 7
    assert load_file("m/model.safetensors")["shown"] == 7
    with pytest.raises(ModelError, match="no tensor, which a model folder cannot hold"):
        brought(code([0, 1, 2]), data, "other", "extra")
    assert not Path("other").exists()


def test_lists_are_read_as_those_of_requests_are(
    data: str, code: Callable[..., Path], tmp_path: Path
) -> None:
    weights = code([0, 1, 2])
    lists = {"learned": "# who\np1\np2  # both\np3*\n", "held": "p4\n"}
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
    made = brought(weights, data, "m", trained_on="ids:learned", validation="ids:held")
    ids = {"p1", "p2", "p3", *(f"p{row}" for row in range(30, 40))}
    assert set(made.trained.split.retain) == ids and made.trained.split.validation == ("p4",)
    assert made.read_as[-1].startswith("--trained-on: 'p3*' is read as p3, p30, ")
    for text, says in (
        ("# none\n", "--trained-on: the list holds comments alone; write one id"),
        ("p1\nq7\n", "--trained-on: id 'q7' is not in the training data.*; mend the list"),
    ):
        (tmp_path / "learned").write_text(text)
        with pytest.raises(SplitError, match=says):
            brought(weights, data, "n", trained_on="ids:learned")


def test_no_test_set_and_an_accuracy_on_one_is_a_conflict(
    data: str, code: Callable[..., Path]
) -> None:
    with pytest.raises(
        ConfigError, match=r"--test none .* --expect-accuracy .*leave one of them out"
    ):
        brought(Path("nothing.pt"), data, "m", test="none", expect=93.0)


def test_what_lies_beside_the_network_is_said(data: str, code: Callable[..., Path]) -> None:
    state = torch.load(code([0, 1, 2]))
    torch.save({f"net.{n}": v for n, v in state.items()} | {"loss.w": torch.ones(2)}, "net.pt")
    taken = brought(Path("net.pt"), data, "m").taken
    assert taken is not None and (taken.key, list(taken.beside)) == ("net", ["loss.w"])


def test_an_import_that_fails_leaves_no_folder(data: str, code: Callable[..., Path]) -> None:
    broken = {"weight": torch.full((3, 4), torch.nan)}
    failing: list[tuple[Callable[[], Path], str]] = [
        (lambda: code([0, 1, 2], **broken), "build"),
        (lambda: code([0, 1, 2], weight=torch.full((3, 4), 3e38)), "build"),
        (lambda: code([0, 1, 2]), "pair"),
        (lambda: code([0, 1]), "few"),
    ]
    for weights, model in failing:
        with pytest.raises(UserError):
            brought(weights(), data, "m", model)
        assert not Path("m").exists()
    with pytest.raises(ModelError, match="does not fit the model"):
        brought(code([0, 1]), data, "m")
    brought(code([0, 1, 2]), data, "m")
    assert Path("m/model.json").is_file()


def test_a_model_of_which_one_class_lacks_is_refused_before_it_is_asked(
    code: Callable[..., Path], tmp_path: Path
) -> None:
    labels = np.arange(60) % 2  # so that no sample of the third class gives it away
    spec = write(tmp_path / "two.npz", y=labels)
    with pytest.raises(ModelError, match="2 outputs, and the data have 3 classes"):
        brought(code([0, 1]), spec, "m", "few")


def test_pruned_weights_are_imported_with_their_mask(data: str, code: Callable[..., Path]) -> None:
    layer = nn.Linear(4, 3)
    prune.random_unstructured(layer, "weight", 0.5)
    torch.save({"state_dict": layer.state_dict()}, "pruned.pth.tar")
    made = brought(Path("pruned.pth.tar"), data, "m").trained
    assert made.mask is not None and int(made.mask["weight"].sum()) == 6
    after = unlearn(load("m", place=CODE), "class:bee", FINE, place=CPU)
    assert torch.equal(after.model.state_dict()["weight"] != 0, made.mask["weight"])


# --- the order of classes, and what is expected


def test_classes_that_look_swapped_are_named_and_put_right(
    data: str, code: Callable[..., Path], tmp_path: Path
) -> None:
    weights = code([1, 0, 2])
    made = brought(weights, data, "m")
    assert made.swapped == (("ant", "bee"),) and made.accuracy == pytest.approx(100 / 3)
    assert "these two classes look swapped: 'ant' and 'bee'; give --classes" in list(looked(made))
    (tmp_path / "order.txt").write_text("ant\nbee\ncow\n")
    given = brought(weights, data, "g", classes="order.txt")
    assert any("see to their order in the file of --classes" in line for line in looked(given))
    (tmp_path / "order.txt").write_text("bee\n ant \ncow\n")
    held = write(tmp_path / "held.npz", seed=1, y=2 - np.arange(60) % 3, classes=NAMES[::-1])
    right = brought(weights, data, "n", classes="order.txt", test=held)
    assert right.accuracy == 100 and not right.swapped
    again = load("n", place=CODE)
    assert again.data.classes == ("bee", "ant", "cow")
    assert again.data.train.labels.tolist() == right.trained.data.train.labels.tolist()
    assert again.data.test.labels.tolist() == right.trained.data.test.labels.tolist()
    asked = again.asked("class:bee")
    assert asked.forget == tuple(f"p{row}" for row in range(1, 60, 3))
    circle = brought(code([1, 2, 0]), data, "o")
    assert set(circle.swapped[0]) == set(NAMES)
    assert any("look to be in another order" in line for line in looked(circle))


def test_a_model_that_calls_all_by_one_name_is_no_swapped_one(
    data: str, code: Callable[..., Path]
) -> None:
    always = {"bias": torch.tensor([99.0, 0.0, 0.0])}
    assert brought(code([0, 1, 2], **always), data, "m").swapped == ()


@pytest.mark.parametrize("spec", ["digits", "ints"])
def test_classes_without_names_keep_their_order_on_the_disk(
    spec: str, tmp_path: Path, code: Callable[..., Path]
) -> None:
    """Class names "0", "1", ... are names too, and labels that are integers mean them."""
    order = [str(number) for number in range(10)]
    if spec == "digits":
        data, model, saved = "digits", "mlp", train(digits(), "mlp", recipe=Recipe(epochs=1)).model
        torch.save(saved.state_dict(), "mlp.pt")
    else:
        order = order[:3]
        data = write(tmp_path / "ints.npz")
        content = dict(np.load(data))
        del content["classes"]
        np.savez(data, **content)
        model = "theirs:build"
        code([1, 0, 2]).rename("mlp.pt")
    order[:2] = order[1::-1]
    (tmp_path / "order.txt").write_text("\n".join(order))
    made = import_folder(
        model, "mlp.pt", data, "m", how=Elsewhere(classes="order.txt"), place=CPU
    ).trained
    plain = load_data(data, test="own").train.labels
    turned = np.where(plain < 2, 1 - plain, plain)
    assert made.data.train.labels.tolist() == turned.tolist()
    assert load("m", place=CODE).data.train.labels.tolist() == turned.tolist()


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("ant\nbee\n", "lacks 'cow'"),
        ("ant\nbee\ncow\ndog\n", "names 'dog', which is no class"),
        ("0\n1\n2\n", "lacks 'ant'"),
        ("ant\nbee\ncow\nant\n", "names the class 'ant' twice"),
        ("", "--classes: "),
    ],
)
def test_class_names_that_do_not_fit_are_refused(
    lines: str, told: str, data: str, code: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "order.txt").write_text(lines)
    with pytest.raises(UserError, match=told):
        brought(code([0, 1, 2]), data, "m", classes="order.txt")
    assert not Path("m").exists()


def test_a_model_that_is_not_as_good_as_expected_is_refused(
    data: str, code: Callable[..., Path], tmp_path: Path
) -> None:
    held = write(tmp_path / "held.npz", seed=1)
    with pytest.raises(ConfigError, match=r"33\.33 % .*not 98 %; nothing was written: .*swapped"):
        brought(code([1, 0, 2]), data, "m", test=held, expect=98)
    assert not Path("m").exists()
    brought(code([0, 1, 2]), data, "m", test=held, expect=98)  # within the interval of 60 samples
    with pytest.raises(ConfigError, match="in percent"):
        brought(code([0, 1, 2]), data, "n", test=held, expect=0.98)


def test_a_normalisation_of_0_to_255_is_refused_for_images_alone(
    data: str, code: Callable[..., Path], tmp_path: Path
) -> None:
    weights = code([0, 1, 2])
    for name in ("ant/1.png", "ant/2.png", "bee/1.png", "bee/2.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "photos" / name)
    table = {name: np.arange(60) * 3.0 + place for place, name in enumerate("abcd")}
    (tmp_path / "rows").mkdir()
    pq.write_table(
        pa.table({**table, "label": [NAMES[row % 3] for row in range(60)]}),
        tmp_path / "rows/train.parquet",
    )
    told = r"divide them by 255: --mean 0\.486,0\.455,0\.408 --std 0\.226,0\.224,0\.227"
    bytes_ = np.zeros((12, 3, 4, 4), np.uint8)
    np.savez(tmp_path / "bytes.npz", x=bytes_, y=np.arange(12) % 3)
    for spec in ("photos", "bytes.npz"):
        with pytest.raises(ConfigError, match=told):
            brought(weights, spec, "m", mean=[124, 116, 104], std=[57.6, 57.2, 57.8])
    brought(weights, data, "m", mean=[0.0] * 4, std=[0.5, 1.5, 2.0, 9.0])
    brought(weights, "rows", "n", mean=[90.0] * 4, std=[50.0] * 4)  # a table laid out as a folder


# --- and back


@pytest.mark.parametrize("name", ["out.pt", "out.pth.tar", "out.safetensors"])
def test_an_export_is_a_plain_state_dict(name: str, data: str, code: Callable[..., Path]) -> None:
    made = brought(code([0, 1, 2]), data, "m").trained
    card = export_folder("m", name, place=CODE)
    assert card.classes == tuple(NAMES)
    safe = name.endswith("safetensors")
    state = load_file(name) if safe else torch.load(name, weights_only=True)
    assert type(state) is dict
    nn.Linear(4, 3).load_state_dict(state)
    assert torch.equal(state["weight"], made.model.state_dict()["weight"])
    back = brought(Path(name), data, "again")
    assert back.accuracy == 100


PEOPLE = TableEncoding(
    features=(Feature(name="age"), Feature(name="job", categories=("cook", "smith")))
)
INPUTS: dict[str, tuple[dict[str, Any], tuple[int, ...], list[str]]] = {
    "arrays": (
        {"spec": "/d/x.npz"},
        (4,),
        [r"inputs: 4, as the data hold them.*numbers as they are"],
    ),
    "made in Python": ({"spec": None}, (1, 8, 8), [r"inputs: 1 x 8 x 8, as the data hold them"]),
    "pictures": (
        {"spec": "/d/photos@32x24", "resize": "bicubic", "ground": "black"},
        (3, 32, 24),
        [r"RGB images of 32 x 24 .*resized by bicubic.* laid on black; bytes divided by 255, then"],
    ),
    "pictures as they are": (
        {"spec": "mnist"},
        (1, 28, 28),
        ["grey images of 28 x 28 [^b]*; bytes"],
    ),
    "a table": (
        {"spec": "/d/people.csv:label=rich,missing=-1", "table": PEOPLE},
        (3,),
        [
            "in this order: 3 numbers, then",
            "  1 age: a number",
            "  2-3 job: 1 for cook, smith",
            "as -1",
        ],
    ),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_what_an_export_says_of_its_inputs_is_true_of_their_kind(kind: str) -> None:
    data, shape, expected = INPUTS[kind]
    known = DataCard.model_construct(
        **{"ground": None, "resize": "bilinear", "table": None, **data}
    )
    card = ModelCard.model_construct(data=known, shape=shape, mean=(0.5,), std=(0.25,))
    lines = list(told_inputs(card))
    assert len(lines) == len(expected)
    for line, pattern in zip(lines, expected, strict=True):
        assert re.search(pattern, line), line
    assert "normalised by mean 0.5, std 0.25" in lines[0] and "from 0 to 1" not in lines[0]


def test_classes_too_many_to_tell_lie_beside_an_export(tmp_path: Path) -> None:
    names = [f"kind {row}" for row in range(25)]
    source = write(tmp_path / "many.npz", y=np.arange(60) % 25, classes=names)
    net = tmp_path / "net.pt"
    adopt(nn.Linear(4, 25), load_data(source), fresh=lines_).save(tmp_path / "m")
    with pytest.raises(ModelError):  # it was made in Python, so nothing is written
        export_folder(tmp_path / "m", net)
    assert not net.exists() and not classes_file(net).exists()
    made = import_folder("mlp", _saved_mlp(tmp_path / "mlp.pt"), source, tmp_path / "n", place=CPU)
    export_folder(tmp_path / "n", net)
    again = import_folder(
        "mlp", net, source, tmp_path / "o", how=Elsewhere(classes=classes_file(net)), place=CPU
    )
    assert again.trained.data.classes == made.trained.data.classes == tuple(names)
    net.unlink()
    with pytest.raises(ConfigError, match=r"classes\.txt exists"):
        export_folder(tmp_path / "n", net)
    assert not net.exists()


def lines_() -> nn.Module:
    return nn.Linear(4, 25)


def _saved_mlp(path: Path) -> Path:
    torch.save(build_model("mlp", (4,), 25, allow_code=False).state_dict(), path)
    return path


def test_an_export_under_a_key_overwrites_nothing_and_asks_for_consent(
    data: str, code: Callable[..., Path]
) -> None:
    brought(code([0, 1, 2]), data, "m")
    export_folder("m", "out.pt", key="model", place=CODE)
    assert torch.load("out.pt", weights_only=True)["model"].keys() == {"weight", "bias"}
    before = Path("out.pt").read_bytes()
    for to, key, told in (
        ("out.pt", None, "out.pt exists"),
        ("out.safetensors", "model", "leave --key out"),
        ("out.npz", None, "does not say its format"),
        ("no/out.pt", None, "no folder"),
    ):
        with pytest.raises(ConfigError, match=told):
            export_folder("m", to, key=key, place=CODE)
    assert Path("out.pt").read_bytes() == before
    with pytest.raises(ModelError, match="allow-code"):
        export_folder("m", "new.pt", place=CPU)
    with pytest.raises(ModelError, match="nothing does not exist"):
        export_folder("nothing", "new.pt", place=CODE)
    assert not Path("new.pt").exists()


def test_tied_weights_are_exported_under_each_name(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tied.py").write_text(
        "from torch import nn\n"
        "def build():\n"
        "    one, other = nn.Linear(4, 4), nn.Linear(4, 4)\n"
        "    other.weight = one.weight\n"
        "    return nn.Sequential(one, other, nn.Linear(4, 3))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import tied  # type: ignore[import-not-found]

    source = load_data(data)
    adopt(tied.build(), source, fresh=tied.build).save("m")
    for name in ("out.pt", "out.safetensors"):
        export_folder("m", name, place=CODE)
        state = load_file(name) if name.endswith("safetensors") else torch.load(name)
        assert torch.equal(state["0.weight"], state["1.weight"]) and len(state) == 6


def test_the_scores_of_an_adopted_model_without_a_test_set_say_why(data: str) -> None:
    made = adopt(nn.Linear(4, 3), load_data(data))
    after = unlearn(made, "class:cow", FINE, place=CPU)
    scores = audit(after, original=made, place=CPU, also=["losses"])
    assert {"UA", "RA", "loss_retain"} <= {score.name for score in scores}
    assert not {"TA", "MIA", "loss_test"} & {score.name for score in scores}
    assert "no test set" in str(scores)
    assert made.split.rows(made.data.train, Part.RETAIN).tolist() == list(range(60))
    assert replace(made, path=None).data.test_spec == "none"
