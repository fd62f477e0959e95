"""Folders of studies that strangers or accidents have changed: read with care, or refused in a line."""

from __future__ import annotations

import copy
import errno
import fcntl
import gzip
import hashlib
import importlib
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import expunge, refused
from helpers import CPU, cell_of_study, same_figure_once
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from thorough import THOROUGH, but_first

from expunge.audits import details
from expunge.data.load import load_data
from expunge.disk import whole
from expunge.disk.reading import parse_json
from expunge.errors import ConfigError, UserError
from expunge.place import Place
from expunge.progress import Silent
from expunge.study import launch, packed, written
from expunge.study.cells import Cell, key_of
from expunge.study.file import read_study
from expunge.study.launch import Planned, planned, run_study
from expunge.study.packed import PACKED, read_packed, write_packed
from expunge.study.runner import Watch, Worker
from expunge.study.store import KILLED, CellStore
from expunge.study.written import check_cell, check_sources

__all__ = ["same_figure_once"]

STUDY = """\
name: small
data: ["digits:150"]
models: [mlp]
recipes: {quick: {epochs: 1, lr: 0.05, batch_size: 32}}
densities: [{pruner: omp, sparsity: 0.5}]
scenarios: ["ids:gone.txt"]
methods: {finetune: {epochs: 1}}
seeds: [0, 1]
"""
EVIL = """\
from pathlib import Path
Path("ran").touch()
def build(shape, classes):
    from expunge.models.mlp import mlp
    return mlp(shape, classes)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study as `out`, its records as `kept`, and code that leaves a trace when it runs."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "study.yaml").write_text(STUDY)
    (folder / "gone.txt").write_text("\n".join(load_data("digits:150").train.ids[:20].tolist()))
    (folder / "evil.py").write_text(EVIL)
    expunge("study", "run", "study.yaml", "--out", "out", "--device", "cpu", cwd=folder)
    expunge("study", "records", "out", "--out", "kept", cwd=folder)
    return folder


@pytest.fixture
def mine(place: Path, tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    return shutil.copytree(place, tmp_path / "mine")


HANG = 30
"""Seconds that no such command takes, on whatever machine; it is done in one or two."""
RUN = ("study", "run", "study.yaml", "--out", "out", "--device", "cpu")
LOOKS = {
    "status": ("study", "status", "study.yaml", "--out"),
    "results": ("study", "results", "study.yaml", "--tables", "tables", "--out"),
    "report": ("study", "report", "--out", "page"),
    "records": ("study", "records", "--out", "copy"),
}


def originals(folder: Path) -> list[Path]:
    """Folders of the cells that are originals."""
    files = sorted((folder / "out/cells").glob("*/cell.json"))
    return [f.parent for f in files if json.loads(f.read_text())["kind"] == "original"]


def change(file: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def without_others(folder: Path) -> None:
    """Leave the originals alone, so that everything else is made from them again."""
    kept = {cell.name for cell in originals(folder)}
    for cell in (folder / "out/cells").iterdir():
        if cell.name not in kept:
            shutil.rmtree(cell)


# --- consent


def test_a_file_called_as_code_is_no_consent(mine: Path) -> None:
    """What exists as a path is data; an architecture is code all the same."""
    (mine / "evil:build").touch()
    for old, new in (("[mlp]", '["evil:build"]'), ('["digits:150"]', '["evil:data"]')):
        (mine / "study.yaml").write_text(STUDY.replace(old, new))
        message = refused("study", "run", "study.yaml", "--out", "other", cwd=mine)
        assert "look at that code, then pass --allow-code" in message
    assert not (mine / "ran").exists()


@pytest.mark.parametrize("consent", but_first(1, [[], ["--allow-code"]]))
def test_names_come_from_the_study_and_never_from_its_cells(mine: Path, consent: list[str]) -> None:
    """Whoever consents has looked at the study: no cell can name something else."""
    without_others(mine)
    for cell in originals(mine):
        change(cell / "model.json", lambda card: card.update(architecture="evil:build"))
        digest = hashlib.sha256((cell / "model.json").read_bytes()).hexdigest()
        change(cell / "cell.json", lambda one, to=digest: one["files"].update({"model.json": to}))
    assert expunge(*RUN, *consent, cwd=mine).returncode == 0
    assert not (mine / "ran").exists()
    for cell in (mine / "out/cells").iterdir():
        card = cell / "model.json"
        if card.exists() and cell not in originals(mine):
            assert json.loads(card.read_text())["architecture"] == "mlp"


def test_a_cell_whose_config_was_changed_is_refused(mine: Path) -> None:
    cell = originals(mine)[0]
    change(cell / "cell.json", lambda one: one["config"].update(model="evil:build", data="evil:x"))
    message = refused(*RUN, "--allow-code", cwd=mine)
    assert "its config was changed" in message
    assert f"delete {cell.relative_to(mine)}, and run the study again" in message
    assert not (mine / "ran").exists()


def test_all_published_cells_have_the_key_of_their_config() -> None:
    root = Path(__file__).resolve().parents[2]
    files = sorted(root.glob(f"docs/results/*/{PACKED}"))
    assert len(files) >= 12 and sum(len(read_packed(file).cells) for file in files) > 1000


# --- links, pipes, devices, bombs


def fifo(file: Path, elsewhere: Path) -> None:
    os.mkfifo(file)


def link_out(file: Path, elsewhere: Path) -> None:
    file.symlink_to(elsewhere)


def zeros(file: Path, elsewhere: Path) -> None:
    file.symlink_to("/dev/zero")


def folder_instead(file: Path, elsewhere: Path) -> None:
    file.mkdir()


def large(file: Path, elsewhere: Path) -> None:
    with file.open("wb") as stream:
        stream.truncate(10**10)


def deep(file: Path, elsewhere: Path) -> None:
    file.write_text("[" * 100_000)


def no_utf8(file: Path, elsewhere: Path) -> None:
    file.write_bytes(b"\xff\xfe{")


BAD = (fifo, link_out, zeros, folder_instead, large, deep, no_utf8)


READ_BY = {
    "cell.json": ("results", "report", "records"),
    "failed": ("status", "records"),
    "attempts": ("status", "records"),
}
"""The commands that need to read it; any file else is read by all."""


@pytest.mark.parametrize("bad", BAD, ids=lambda one: one.__name__)
@pytest.mark.parametrize(
    "name",
    but_first(1, ["cell.json", "study.yaml", "data.json", "failed", "attempts", PACKED]),
)
def test_small_files_that_are_none(
    mine: Path,
    name: str,
    bad: Callable[[Path, Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("expunge.report.page.inline_svg", lambda *_: "")  # nothing is read in them
    monkeypatch.setattr("expunge.report.page.save_figure", lambda *_: None)
    secret = mine / "secret"
    what = "kept" if name == PACKED else "out"
    files = sorted(mine.glob("out/cells/*/cell.json"))
    key = next(f.parent.name for f in files if json.loads(f.read_text())["kind"] == "unlearn")
    file = {
        "cell.json": mine / f"out/cells/{key}/cell.json",
        "failed": mine / f"out/failed/{key}.json",
        "attempts": mine / f"out/attempts/{key}.json",
    }.get(name, mine / what / name)
    if file.exists():
        shutil.copy(file, secret)
    else:
        secret.write_text('{"error": "secret", "message": "secret", "run": "secret"}')
    file.unlink(missing_ok=True)
    bad(file, secret)
    # what a command does not read cannot hold it up, but as a pipe that it opens all the same
    asked = (
        LOOKS if bad is fifo else {c: w for c, w in LOOKS.items() if c in READ_BY.get(name, LOOKS)}
    )
    for command, words in asked.items():
        begun = time.monotonic()
        done = expunge(*words, what, cwd=mine, ok=None)
        assert time.monotonic() - begun < HANG
        assert "secret" not in done.stdout
        if command not in READ_BY.get(name, LOOKS):
            continue
        assert done.returncode == 2, done.stdout
        (message,) = done.stderr.splitlines()
        assert message.startswith("error: ") and "secret" not in message
        assert file.name in message or "is no folder of a study" in message
        assert not (mine / "copy").exists()
    file.rmdir() if file.is_dir() else file.unlink()
    shutil.copy(secret, file)
    if name not in ("failed", "attempts"):
        assert expunge(*LOOKS["status"], what, cwd=mine).returncode == 0, "it was that file alone"


def test_a_packed_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for content in (bytes(64 * 2**20), b"\n" * 2 * 10**6, b"0" * 9 * 2**20 + b"\n"):
        (tmp_path / PACKED).write_bytes(gzip.compress(content))
        begun = time.monotonic()
        with pytest.raises(ConfigError, match=r"cannot read .*cells\.jsonl\.gz"):
            read_packed(tmp_path / PACKED)
        assert time.monotonic() - begun < HANG
    (tmp_path / PACKED).unlink()
    (key, one), (more, other) = cell_of_study("one"), cell_of_study("other")
    monkeypatch.setattr(packed, "MOST_BYTES", 300)
    with pytest.raises(ConfigError, match="too many for one file of records"):
        write_packed(tmp_path / PACKED, {key: one, more: other}, {})
    line = json.dumps({"key": key, "cell": one}).encode() + b"\n"
    (tmp_path / PACKED).write_bytes(gzip.compress(line + line))
    with pytest.raises(ConfigError, match=r"a second time|holds more than"):
        read_packed(tmp_path / PACKED)


def test_nothing_outside_the_folder_is_written(mine: Path) -> None:
    """Folders and locks that lead elsewhere, and names that would."""
    elsewhere = mine / "elsewhere"
    elsewhere.mkdir()
    shutil.rmtree(mine / "out/failed")
    (mine / "out/failed").symlink_to(elsewhere)
    assert "failed is a link" in refused(*RUN, cwd=mine)
    (mine / "out/failed").unlink()
    without_others(mine)
    for lock in (mine / "out/locks").iterdir():
        lock.unlink()
        lock.symlink_to(elsewhere / lock.name)
    assert "cannot read out/locks/" in refused(*RUN, cwd=mine)
    assert not list(elsewhere.iterdir())
    shutil.rmtree(mine / "out/locks")
    victim = mine / "victim"
    victim.mkdir()
    (victim / "kept").touch()
    (mine / f"out/cells/.{'0' * 32}.abc").symlink_to(victim)
    (mine / "out/cells/..x").mkdir()
    assert expunge(*RUN, cwd=mine).returncode == 0
    assert (victim / "kept").exists()


@pytest.mark.parametrize("name", ["../../../secret", "/etc/hostname", "model.safetensors"])
def test_files_of_a_cell_lie_in_its_folder(mine: Path, name: str) -> None:
    store = CellStore(mine / "out")
    cell = originals(mine)[0]
    (mine / "secret").write_text("x")
    if name == "model.safetensors":
        (cell / name).rename(mine / "weights")
        (cell / name).symlink_to(mine / "weights")
    else:
        change(cell / "cell.json", lambda one: one["files"].update({name: "0" * 64}))
    with pytest.raises(ConfigError, match="is a link that leads out of its folder"):
        store.check_files(cell.name)


# --- files of any content


def anything() -> st.SearchStrategy[Any]:
    odd = st.sampled_from(
        [
            None,
            True,
            [],
            {},
            "",
            "a\nb",
            "\x1b[31m",
            "2001-12-14",
            "1e400",
            10**17,
            -1,
            0.5,
            float("nan"),
            float("inf"),
            "module:Class",
            "digits",
            [[[]]],
            {"a": {"b": None}},
            "ids:-",
            "x" * 5000,
        ]
    )
    leaf = odd | st.integers(-(10**17), 10**17) | st.floats() | st.text(max_size=5)
    return st.recursive(
        leaf,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=6,
    )


def places(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Of every part of plain data."""
    if here:
        yield here
    if not isinstance(value, dict | list):
        return
    for step, one in value.items() if isinstance(value, dict) else enumerate(value):
        yield from places(one, (*here, step))


def changed(content: Any, place: tuple[Any, ...], value: Any, *, gone: bool = False) -> Any:
    """A copy with another value at a place, or without it."""
    content = copy.deepcopy(content)
    inner = content
    for step in place[:-1]:
        inner = inner[step]
    if gone:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return content


FULL = yaml.safe_load(
    """
name: full
data: ["digits:150"]
models: [mlp]
recipes: {quick: {epochs: 1, lr: 0.05, schedule: step, milestones: [1]}}
densities: [{}, {pruner: omp, sparsity: 0.5, settings: {rewind_epoch: 1}}]
scenarios: [class, "random:0.1", "classes:2"]
methods: {finetune: {epochs: [1, 2]}, slow: {method: neggrad_plus, settings: {epochs: 1}}}
seeds: [0, 1]
controls: false
class_also: [relearn_time]
pair: false
margins: {UA: 2, relearn_time: 5}
until_decided: {max_seeds: 5}
also: [weight_distance]
transfer: {data: "digits:100"}
criteria: true
tuning: {seed: 7, trials: 2, methods: {slow: {lr: [0.1, 0.2]}}}
claims: ["UA of slow at scenario class < UA of original", "TA of slow at sparsity 0.5 < at 0"]
published: [{title: a table, headers: [a, b], rows: [[1, 2]]}]
validation: 0.1
split_seed: 0
keep_weights: all
scales: {small: {}, large: {seeds: [0, 1, 2], recipes: {quick: {epochs: 2}}}}
"""
)
FUZZ = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
BUGS = ("TypeError", "AttributeError", "KeyError", "IndexError", "ValidationError", "OverflowError")


def told_in_a_line(call: Callable[[], object]) -> None:
    """Goes well, or is refused in a line that is not about our own code."""
    try:
        call()
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 3000
        assert not [name for name in BUGS if name in str(error)], str(error)


@FUZZ
@given(st.sampled_from(list(places(FULL))), anything(), st.booleans())
def test_any_value_anywhere_in_a_study_file(
    tmp_path: Path, where: tuple[Any, ...], value: Any, gone: bool
) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(changed(FULL, where, value, gone=gone), allow_unicode=True))
    told_in_a_line(lambda: read_study(file))
    told_in_a_line(lambda: read_study(file, recorded=tmp_path / "none"))
    told_in_a_line(lambda: read_study(tmp_path / "whole.yaml", recorded=file))


@FUZZ
@given(st.text() | st.text(alphabet="&*<>:-[]{}!|?,'\"#%@\n abc012"))
def test_any_text_as_a_study_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(text, encoding="utf-8", errors="surrogatepass")
    told_in_a_line(lambda: read_study(file))


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [x]\n" + "\n".join(f"b{n}: &b{n} [{', '.join(['*a'] * 9)}]" for n in range(3)),
        "a0: &a0 {x: 1}\n"
        + "".join(f"a{n}: &a{n} {{p: *a{n - 1}, q: *a{n - 1}}}\n" for n in range(1, 40)),
        "a0: &a0 {x: 1}\n"
        + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40)),
        "a: &a [*a]",
        "[" * 20_000,
        f"seeds: [{'9' * 10_000}]",
        "name: !!python/object/apply:os.system [true]",
        "name: !!binary aGVsbG8=",
        "? [1, 2]\n: 3",
    ],
)
def test_study_files_that_grow_when_they_are_read(tmp_path: Path, text: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(text)
    begun = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        read_study(file)
    assert time.monotonic() - begun < HANG and "\n" not in str(caught.value)


def content_of_a_cell() -> tuple[str, dict[str, Any]]:
    score = {"name": "UA", "value": 50.0, "low": 1, "high": 99.0, "n": 9, "reference": 40.0}
    gallery = {
        "id": "a",
        "label": "1",
        "predicted": "2",
        "probability": 0.5,
        "true_probability": 0.1,
    }
    return cell_of_study(
        "fuzzed",
        scores=[score, {**score, "name": "own", "unit": "m", "target": "low"}],
        details={
            "class_accuracy": [50.0, None],
            "confidence": {"forget": [1] * written.BINS},
            "gallery": [gallery],
            "classes": ["0", "1"],
        },
        forgotten_classes=["1"],
        made_from={"0" * 32: "2026-01-01"},
        files={"model.safetensors": "0" * 64},
        saw_data=True,
        recipe={"epochs": 1},
    )


KEY, CONTENT = content_of_a_cell()


@FUZZ
@given(st.sampled_from(list(places(CONTENT))), anything(), st.booleans())
def test_any_value_anywhere_in_a_cell(where: tuple[Any, ...], value: Any, gone: bool) -> None:
    """What passes has the types that everything which reads cells takes for granted."""
    content = json.loads(json.dumps(changed(CONTENT, where, value, gone=gone)))
    assume(content != CONTENT)
    try:
        found = check_cell(content, KEY)
    except ValueError as error:
        assert "\n" not in str(error)
        return
    assert found["config"] == CONTENT["config"] and found["kind"] == "unlearn"
    assert all(isinstance(score["name"], str) for score in found["scores"])
    assert all(
        score[part] is None or abs(float(score[part])) < 1e31
        for score in found["scores"]
        for part in ("value", "low", "high")
        if part in score
    )
    assert float(found["cost"]["seconds"]) < 1e31 and isinstance(found["date"], str)


@THOROUGH
@settings(parent=FUZZ, max_examples=15)
@given(where=st.sampled_from(list(places(CONTENT))), value=anything(), gone=st.booleans())
def test_whatever_passes_can_be_shown(
    place: Path, where: tuple[Any, ...], value: Any, gone: bool, tmp_path: Path
) -> None:
    """Cells of a real study with a value changed go through frame and page, or cost one line."""
    from expunge.report.page import render
    from expunge.study.page import study_report

    folder = tmp_path / "kept"
    shutil.copytree(place / "kept", folder, dirs_exist_ok=True)
    kept = read_packed(folder / PACKED)
    cells = {key: kept.cell(key) for key in kept.cells}
    key = next(key for key, one in cells.items() if one["kind"] == "unlearn")
    assume(where[0] in cells[key])
    try:
        cells[key] = changed(cells[key], where, value, gone=gone)
        write_packed(folder / PACKED, cells, {})
    except (KeyError, IndexError, TypeError, ValueError):
        assume(False)
    file = folder / "study.yaml"

    def show() -> None:
        made = planned(read_study(file, recorded=file), folder, recorded=True)
        render(study_report(made, "again"))

    told_in_a_line(show)


def test_histograms_are_as_audits_make_them() -> None:
    assert written.BINS == details.BINS


@FUZZ
@given(anything() | st.dictionaries(st.text(max_size=3), anything(), max_size=3))
def test_any_value_as_what_a_run_found(content: Any) -> None:
    try:
        check_sources(content)
    except ValueError as error:
        assert "\n" not in str(error)


# --- what lies in a cell's folder


@pytest.mark.parametrize("name", ["model.safetensors", "mask.safetensors", "split.json"])
def test_a_damaged_file_of_a_cell_is_found_before_anything_starts_from_it(
    mine: Path, name: str
) -> None:
    without_others(mine)
    for cell in originals(mine):
        content = bytearray((cell / name).read_bytes())
        content[-5] ^= 1
        (cell / name).write_bytes(content)
    done = expunge(*RUN, cwd=mine, ok=False)
    assert done.returncode == 1
    cell = originals(mine)[0]
    assert f"cannot read out/cells/{cell.name}/{name} (it is not as it was written" in done.stdout
    assert f"delete out/cells/{cell.name}, and run the study again" in done.stdout
    if name == "mask.safetensors":  # whichever it was, what is deleted is made again
        for cell in originals(mine):
            shutil.rmtree(cell)
        assert expunge(*RUN, cwd=mine).returncode == 0


@THOROUGH
def test_cells_without_digests_are_read_as_before(mine: Path) -> None:
    without_others(mine)
    for cell in originals(mine):
        change(cell / "cell.json", lambda one: one.pop("files"))
    assert expunge(*RUN, cwd=mine).returncode == 0


# --- cells that kill their process


def recording(made: Planned, run: str) -> tuple[list[Cell], bool]:
    """The cells that a worker does, in order, each as if it went well."""
    seen: list[Cell] = []

    def do(cell: Cell, bench: Any) -> None:
        seen.append(cell)
        content = cell_of_study("")[1] | {"kind": cell.kind, "config": dict(cell.config)}
        with bench.store.writing(cell.key, content | {"needs": list(cell.needs)}):
            pass

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("expunge.study.runner.do_cell", do)
        whole = Worker(made.cells, made.bench, run=run).work()
    return seen, whole


def small(folder: Path) -> Planned:
    file = folder / "small.yaml"
    file.write_text(STUDY.replace("ids:gone.txt", "class"))
    return planned(read_study(file), folder / "out", place=CPU)


def killed_over(made: Planned, cell: Cell, run: str) -> None:
    """Leave what a process leaves that is killed over a cell."""
    (made.store.prepare().folder / "attempts" / f"{cell.key}.json").write_text(
        json.dumps({"run": run})
    )


def replaced(made: Planned, run: str, patch: pytest.MonkeyPatch) -> list[int]:
    """For how many killers a run asks its workers to be replaced, each time; they have all ended."""
    asked: list[int] = []

    class Ended:
        size = 2

        def __init__(self, *_: object) -> None: ...

        def alive(self) -> bool:
            return False

        def replace(self, killers: int) -> bool:
            asked.append(killers)
            return False

        def end(self) -> list[str]:
            return []

    patch.setattr("expunge.training.crew.Processes", Ended)
    patch.setattr(launch, "POLL_SECONDS", 0.0)
    how = launch._How(run, 2, None, False, Silent(), 0, lambda cell: None)
    with how.reporter.work("study") as bar:
        launch._several(made, how, bar)
    return asked


def test_an_unexplained_death_is_a_failure_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = small(tmp_path)
    first = made.cells[0]
    killed_over(made, first, "now")
    failure = made.store.failure(first.key)
    assert failure is not None and failure.error == KILLED
    seen, whole = recording(made, "now")
    assert whole and {cell.seed for cell in seen} == {1}, "what needs it is left, and all else made"
    assert (made.counts().failed, made.counts().blocked) == (1, len(made.cells) // 2 - 1)
    watch = Watch(made.cells, made.store, run="now")
    watch.look()
    assert watch.killers == {first.key} and not watch.more(), "what is left needs what failed"
    for stale in (False, True):
        monkeypatch.setattr("expunge.study.runner.is_stale", lambda *_, stale=stale: stale)
        watch = Watch(made.cells, made.store, run="now", renew=True)
        watch.look()
        assert watch.more() == stale
    assert replaced(made, "now", monkeypatch) == [], "nothing is left to do"
    assert replaced(made, "another", monkeypatch) == [0], "what failed before is left"
    (made.store.folder / "attempts" / f"{first.key}.json").write_text("")
    failure = made.store.failure(first.key)
    assert failure is not None and failure.run == "", "killed before it wrote a word"


def test_a_cell_whose_code_leaves_the_program_is_a_failure_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = small(tmp_path)
    left: list[Cell] = []

    def leaves(cell: Cell, _: Any) -> None:
        left.append(cell)
        raise SystemExit(0)

    monkeypatch.setattr("expunge.study.runner.do_cell", leaves)
    Worker(made.cells, made.bench).work()
    assert {cell.seed for cell in left} == {0, 1}
    failure = made.store.failure(left[0].key)
    assert failure is not None and failure.error == "SystemExit" and not made.store.killers()


def test_what_killed_an_earlier_run_is_tried_again_after_all_else(tmp_path: Path) -> None:
    made = small(tmp_path)
    killed_over(made, made.cells[0], "earlier")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("expunge.study.runner.do_cell", None)
        assert made.cells[0] in Worker(made.cells, made.bench)._deadly_alone(
            [cell for cell in made.cells if cell.seed == 0]
        )
    seen, _ = recording(made, "now")
    assert [cell.seed for cell in seen] == [1] * (len(seen) // 2) + [0] * (len(seen) // 2)
    assert made.counts().done == len(made.cells) and not made.store.killers()
    assert all(made.store.failure(cell.key) is None for cell in made.cells)


def test_a_command_leaves_deadly_cells_to_another_process(tmp_path: Path) -> None:
    made = small(tmp_path)
    killed_over(made, made.cells[0], "earlier")
    worker = Worker(made.cells, made.bench)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            "expunge.study.runner.do_cell", lambda cell, bench: 1 / 0
        )  # all others fail, so nothing is left but what needs it
        assert not worker.work(risky=False)
    assert made.store.killers() == {made.cells[0].key}


def test_who_is_at_work_or_was_interrupted_was_not_killed(tmp_path: Path) -> None:
    made = small(tmp_path)
    store, key = made.store.prepare(), made.cells[0].key
    with store.claim(key), store.attempt(key, "now"):
        assert store.failure(key) is None and not CellStore(store.folder).killers()
        store.forget_attempts(but=set())
        assert (store.folder / f"attempts/{key}.json").exists(), "somebody is at it"
    with pytest.raises(KeyboardInterrupt), store.claim(key), store.attempt(key, "now"):
        raise KeyboardInterrupt
    assert store.failure(key) is None
    killed_over(made, made.cells[0], "now")
    store.forget_attempts(but={key})
    assert store.killers() == {key}
    store.forget_attempts(but=set())
    assert not store.killers()


def test_a_cell_that_was_finished_in_its_last_instant_is_no_failure(tmp_path: Path) -> None:
    store = CellStore(tmp_path).prepare()
    key, content = cell_of_study("late")
    note = tmp_path / "attempts" / f"{key}.json"
    note.write_text('{"run": "now"}')
    os.utime(note, ns=(0, 0))
    with store.writing(key, content):
        pass
    assert store.failure(key) is None


# --- looking, and locks


@pytest.fixture
def read_only(mine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The study in a folder that nobody can write to, as far as Python's own calls go."""
    (mine / "gone.txt").unlink()
    inside = os.path.realpath(mine / "out")

    def guarded(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(path: Any, *rest: Any, **named: Any) -> Any:
            writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT
            writes = name != "open" or rest[0] & writing
            there = isinstance(path, str | Path) and os.path.realpath(path).startswith(inside)
            if writes and there:
                raise OSError(errno.EROFS, "Read-only file system", str(path))
            return real(path, *rest, **named)

        return call

    for name in ("mkdir", "rename", "replace", "unlink", "rmdir", "open"):
        monkeypatch.setattr(os, name, guarded(name))
    return mine


@THOROUGH
def test_a_folder_that_may_only_be_read_can_be_looked_at(read_only: Path, tmp_path: Path) -> None:
    """From another folder, and without the file of ids that the study names."""
    away = tmp_path / "away"
    away.mkdir()
    before = sorted(str(file) for file in read_only.rglob("*"))
    study, out = str(read_only / "study.yaml"), str(read_only / "out")
    assert "12 of 12 cells done" in expunge("study", "status", study, "--out", out, cwd=away).stdout
    told = expunge("study", "results", study, "--out", out, cwd=away).stdout
    assert "forget ids:gone.txt" in told
    assert "were not written" in told and "Read-only file system" in told and "--tables" in told
    told = expunge("study", "results", study, "--out", out, "--tables", "here", cwd=away).stdout
    assert told.endswith("written: here\n") and (away / "here/table.md").is_file()
    again = ("study", "results", study, "--out", out, "--tables", "here")
    assert "pass --overwrite" in refused(*again, cwd=away)
    assert expunge(*again, "--overwrite", cwd=away).returncode == 0
    assert "choose another folder" in refused("study", "report", out, cwd=away)
    expunge("study", "report", out, "--out", "page", cwd=away)
    expunge("study", "records", out, "--out", "copy", cwd=away)
    assert before == sorted(str(file) for file in read_only.rglob("*"))


def test_results_are_written_before_anything_is_shown(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(mine / "out/results")

    def broken(*_: object) -> None:
        raise UnicodeEncodeError("ascii", "é", 0, 1, "cannot be shown")

    command = importlib.import_module("expunge.cli.study")
    monkeypatch.setattr(command, "study_tables", broken)
    monkeypatch.setattr(command, "_show_status", broken)
    for words in (RUN, ("study", "results", "study.yaml", "--out", "out")):
        with pytest.raises(UnicodeEncodeError):
            expunge(*words, cwd=mine)
        assert (mine / "out/results/table.md").is_file()
        shutil.rmtree(mine / "out/results")


def test_a_run_looks_first_whether_its_results_can_be_written(mine: Path) -> None:
    shutil.rmtree(mine / "out/results")
    (mine / "out/results").mkdir()
    (mine / "out/results/thesis.txt").write_text("mine")
    shutil.rmtree(originals(mine)[0])
    assert "out/results exists and" in refused(*RUN, cwd=mine)
    assert len(originals(mine)) == 1, "nothing was made"


def show_thrice(folder: Path) -> None:
    """In a process of its own."""
    command = importlib.import_module("expunge.cli.study")
    os.chdir(folder)
    file = Path("out/study.yaml")
    study = planned(read_study(file, recorded=file), "out", recorded=True)
    for _ in range(3):
        command._written(study, Path("out/results"), overwrite=True)


def test_two_processes_may_write_the_results_at_once(mine: Path) -> None:
    forks = multiprocessing.get_context("fork")
    both = [forks.Process(target=show_thrice, args=(mine,)) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join(timeout=300)
        assert one.exitcode == 0
    assert {"table.md", "scores.csv"} <= {file.name for file in (mine / "out/results").iterdir()}
    assert not [file.name for file in (mine / "out").iterdir() if file.name.startswith(".")]


def test_a_sweep_that_is_quicker_than_a_lock_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process locks a new temporary file or folder before its own does, and removes it then."""
    real, taken = fcntl.flock, []

    def quicker(handle: int, how: int) -> None:
        if not taken:
            name = os.readlink(f"/proc/self/fd/{handle}")
            taken.append((name, os.open(name, os.O_RDONLY)))
            real(taken[0][1], how)
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", quicker)
    for write in (
        lambda: whole.write_file(tmp_path / "file", "x"),
        lambda: written_folder(tmp_path / "folder"),
    ):
        taken.clear()
        write()
        name, handle = taken[0]
        assert os.path.lexists(name), "it was left to who is quicker"
        os.close(handle)
    assert (tmp_path / "file").read_text() == "x" and (tmp_path / "folder/inside").exists()


def written_folder(target: Path) -> None:
    with whole.written_whole(target, overwrite=False) as folder:
        (folder / "inside").touch()


@pytest.mark.parametrize("answer", [None, errno.ENOLCK, errno.EOPNOTSUPP])
def test_locks_that_are_not_honoured_are_noticed_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int | None
) -> None:
    made = small(tmp_path)

    def flock(handle: int, how: int) -> None:
        if answer is not None:
            raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(
        ConfigError, match=r"does not honour locks .*choose another folder with --out"
    ):
        run_study(made)
    assert not list((tmp_path / "out/cells").iterdir())
    assert not list((tmp_path / "out/locks").iterdir())


def test_ids_of_a_file_are_noted_and_believed(mine: Path) -> None:
    noted = json.loads((mine / "out/data.json").read_text())
    assert noted["ids:gone.txt"].keys() == {"content"}
    (mine / "gone.txt").write_text("other\n")
    file = mine / "study.yaml"
    looked = planned(read_study(file), mine / "out", recorded=True)
    assert looked.counts().done == len(looked.cells)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(mine)
        again = planned(read_study(file), mine / "out", place=Place(device="cpu"))
    assert again.counts().done == 2, "a run looks at the file itself: the originals alone stay"


def test_a_key_is_of_what_is_computed() -> None:
    key, content = cell_of_study("x")
    assert check_cell(parse_json(json.dumps(content)), key) == content
    labelled = content | {"config": {**content["config"], "label": "what tables call it"}}
    assert check_cell(labelled, key) == labelled
    with pytest.raises(ValueError, match="it is another cell's"):
        check_cell(content, key_of("retrain", content["config"], ()))
