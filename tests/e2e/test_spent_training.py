"""Whatever can be known before a training is said before it, by every command that works long.

Each command is tried with each place that cannot be written: one line, exit code 2, nothing left
behind, and no model was trained or looked at for it.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import expunge, refused, train_digits
from PIL import Image
from torch.utils.data import TensorDataset

from expunge import load_data
from expunge.errors import DataError

DATA = ("--data", "digits:300", "--model", "mlp", "--epochs", "1")
FORGET = ("unlearn", "model", "--forget", "class:3", "--method", "finetune")
POISON = ("--poison", "ids:poison.txt", "--method", "finetune")
COMMANDS: dict[str, tuple[str, ...]] = {
    "train": ("train", *DATA, "--out"),
    "import": (
        "import", "--model", "cnn", "--weights", "model/model.safetensors", "--data", "digits", "--out",
    ),
    "prune": ("prune", *DATA, "--pruner", "omp", "--out"),
    "prune a folder": ("prune", "model", "--out"),
    "unlearn": (*FORGET, "--out"),
    "unlearn with reference": (*FORGET, "--with-reference", "--out"),
    "unlearn, page": (*FORGET, "--out", "fine", "--report"),
    "unlearn, figures": (*FORGET, "--out", "fine", "--figures"),
    "unlearn with floor": (*FORGET, "--with-floor", "--out"),
    "cleanse": ("cleanse", "model", *POISON, "--out"),
    "cleanse with reference": ("cleanse", "model", *POISON, "--with-reference", "--out"),
    "cleanse, page": ("cleanse", "model", *POISON, "--out", "fine", "--report"),
    "diagnose": ("diagnose", "sparsity", *DATA, "--forget", "class:3", "--out"),
    "demo": ("demo", "--out"),
    "study run": ("study", "run", "smoke", "--out"),
    "study results": ("study", "results", "smoke", "--out", "study", "--tables"),
    "study report": ("study", "report", "study", "--out"),
    "study records": ("study", "records", "study", "--out"),
}  # fmt: skip
WITH_REFERENCE = ("unlearn with reference", "cleanse with reference")


@pytest.fixture(scope="module")
def ground(
    tmp_path_factory: pytest.TempPathFactory, shared: Callable[[str, Callable[[Path], None]], Path]
) -> Path:
    """A folder with a model, ids of poisoned samples, and every place that cannot be written."""
    folder = tmp_path_factory.mktemp("spent")
    shutil.copytree(shared("digits-cnn", train_digits) / "original", folder / "model")
    (folder / "poison.txt").write_text("5\n6\n")
    (folder / "file").write_text("mine")
    (folder / "beside-retrained").write_text("mine")
    (folder / "others").mkdir()
    (folder / "others/thesis.tex").write_text("mine")
    (folder / "dangling").symlink_to("/nowhere/at/all")
    (folder / "loop").symlink_to("loop")
    (folder / "to-others").symlink_to("others")
    return folder


SOME = {
    "dangling": ("dangling", "which is not there"),
    "long": ("n" * 250, "too long"),
    "under a file": ("file/x/y", "is no folder"),
    "file": ("file", "exists"),
}
"""Places that no command can write, and what is said of them."""
MORE = {
    "under a dangling link": ("dangling/x", "which is not there"),
    "loop": ("loop", "cannot be made"),
    "link": ("to-others", "links are not replaced"),
    "somebody else's": ("others", "exists"),
    "no folders can be made": ("/proc/self/x", "cannot be made"),
    "nothing": ("", "lie in each other"),
    "here": (".", "lie in each other"),
    "null": ("a\0b", "null"),
}
TRIED = [(command, bad) for command in COMMANDS for bad in SOME]
TRIED += [(command, bad) for command in ("train", "unlearn with reference") for bad in MORE]


@contextmanager
def untouched(folder: Path) -> Iterator[None]:
    """Nothing is left, and no file is changed, within a folder."""

    def seen() -> dict[Path, float]:
        return {
            path: 0.0 if path.is_dir() else path.lstat().st_mtime
            for path in sorted(folder.rglob("*"))
        }

    before = seen()
    yield
    assert seen() == before


@pytest.fixture(autouse=True)
def _no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def reached(*_: object, **__: object) -> None:
        raise AssertionError("something was trained before the place was looked at")

    for name in (
        "expunge.training.session.open_session",
        "expunge.training.session.Session.measured",
        "expunge.study.runner.Worker.work",
        "expunge.study.demo.run_demo",
    ):
        monkeypatch.setattr(name, reached)


@pytest.mark.parametrize(("command", "bad"), TRIED)
def test_a_place_that_cannot_be_written_is_refused_before_any_training(
    command: str, bad: str, ground: Path
) -> None:
    out, why = {**SOME, **MORE}[bad]
    with untouched(ground):
        line = refused(*COMMANDS[command], out, cwd=ground)
    assert any(word in line for word in (why, "exists", "cannot be made")), line


@pytest.mark.parametrize("command", WITH_REFERENCE)
@pytest.mark.parametrize("out", ["beside", "n" * 228], ids=["taken", "long"])
def test_the_place_of_the_reference_is_looked_at_too(command: str, out: str, ground: Path) -> None:
    with untouched(ground):
        assert f"{out}-retrained" in refused(*COMMANDS[command], out, cwd=ground)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_full_disk_is_known_before_any_training(
    command: str, ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with untouched(ground):
        assert "No space left on device" in refused(*COMMANDS[command], "new", cwd=ground)


@pytest.mark.parametrize("command", [*WITH_REFERENCE, "prune a folder"])
def test_room_for_a_model_as_large_is_looked_for(
    command: str, ground: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (ground / "model/model.safetensors").stat().st_size
    for free, fits in ((size - 1, False), (2 * size, True)):
        usage = type(shutil.disk_usage(ground))(10 * size, 0, free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
        with untouched(ground):
            if fits:
                with pytest.raises(AssertionError, match="was trained"):
                    expunge(*COMMANDS[command], "new", cwd=ground)
            else:
                assert "has no room" in refused(*COMMANDS[command], "new", cwd=ground)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--device", "xpu"], "no device 'xpu' here"),
        (["--ray", "127.0.0.1:9"], "no Ray cluster answers"),
    ],
)
def test_a_study_leaves_nothing_where_its_machine_is_not_there(
    options: list[str], words: str, ground: Path
) -> None:
    with untouched(ground):
        assert words in refused("study", "run", "smoke", *options, "--out", "s", cwd=ground)


# --- test inputs of another shape


def test_test_inputs_of_another_shape_are_known_on_loading(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, sizes in (("sizes", (8, 12)), ("modes", (8, 8))):
        for part, size in zip(("train", "test"), sizes, strict=True):
            grey = name == "modes" and part == "test"
            for row in range(4):
                folder = tmp_path / name / part / "ab"[row % 2]
                folder.mkdir(parents=True, exist_ok=True)
                pixels = rng.integers(0, 255, (size, size) if grey else (size, size, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{row}.png")
    shapes = {"vectors": ((5,), (6,)), "images": ((1, 8, 8), (1, 8, 9)), "axes": ((64,), (1, 8, 8))}
    for name, (ours, theirs) in shapes.items():
        np.savez(
            tmp_path / f"{name}.npz",
            x_train=rng.random((8, *ours), np.float32),
            y_train=np.arange(8) % 2,
            x_test=rng.random((4, *theirs), np.float32),
            y_test=np.arange(4) % 2,
        )
    for name in ("sizes", "modes", *(f"{name}.npz" for name in shapes)):
        with untouched(tmp_path):
            line = refused(*("train", "--data", name, "--epochs", "1", "--out", "m"), cwd=tmp_path)
        assert "those to test on" in line and "shape" in line
    assert "@SIZE" in refused("train", "--data", "sizes", "--out", "m", cwd=tmp_path)


def test_images_that_are_read_on_the_way_are_of_one_shape_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part, size in (("train", 8), ("test", 12)):
        for label in "ab":
            (tmp_path / part / label).mkdir(parents=True)
            for row in range(2):
                Image.new("RGB", (size, size)).save(tmp_path / part / label / f"{row}.png")
    monkeypatch.setattr("expunge.data.images.fits", lambda _: False)
    with pytest.raises(DataError, match="those to test on"):
        load_data(tmp_path)
    assert load_data(f"{tmp_path}@8").test.known_shape == (3, 8, 8)


def test_somebodys_own_pictures_may_be_larger_in_the_test_set() -> None:
    labels = torch.arange(8) % 2
    train, test = (TensorDataset(torch.rand(8, 3, size, size), labels) for size in (8, 12))
    assert load_data((train, test)).test.shape() == (3, 12, 12)
