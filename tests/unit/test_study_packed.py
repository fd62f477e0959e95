"""Records of a study: many cells in one file, read wherever cells are read."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import pytest
from commands import expunge, refused

from expunge.errors import ConfigError
from expunge.study.packed import PACKED, read_packed, write_packed
from expunge.study.store import CellStore

ROOT = Path(__file__).resolve().parents[2]
CELL = {
    "scores": [{"name": "UA", "value": 0.1 + 0.2}],
    "label": "é\u2028\nü",
    "b": {"z": 1, "a": []},
}
FAILED = {"error": "ValueError", "message": "broke", "run": "r"}
STUDY = """\
name: small
data: ["digits:150"]
models: [mlp]
recipes: {quick: {epochs: 2, lr: 0.05, batch_size: 32}}
scenarios: [class]
methods: {finetune: {epochs: 1}}
seeds: [0, 1]
"""


# --- the file


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = tmp_path / PACKED
    write_packed(file, {"k": CELL, "a": {}}, {"f": FAILED})
    found = read_packed(file)
    assert found.cell("k") == CELL and found.cell("a") == {}
    assert found.failure("f") == FAILED
    assert set(found.cells) == {"a", "k"} and set(found.failures) == {"f"}
    found.cell("k")["scores"].clear()
    assert found.cell("k") == CELL, "nobody changes it for others"


def test_the_same_results_give_the_same_bytes(tmp_path: Path) -> None:
    turned = dict(reversed(CELL.items()))
    write_packed(tmp_path / "one.gz", {"k": CELL, "a": {}}, {"f": FAILED, "e": FAILED})
    write_packed(tmp_path / "two.gz", {"a": {}, "k": turned}, {"e": FAILED, "f": FAILED})
    one = (tmp_path / "one.gz").read_bytes()
    assert one == (tmp_path / "two.gz").read_bytes()
    assert one[4:8] == bytes(4), "no time of writing"
    assert one[3] == 0, "no name of a file"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"nothing packed",
        gzip.compress(b'{"key": "k", "cell": {}}\n' * 99)[:-12],
        gzip.compress(b"{"),
        gzip.compress(b"[]\n"),
        gzip.compress(b'{"key": "k"}\n'),
        gzip.compress(b'{"cell": {}}\n'),
        gzip.compress(b"\xff\xfe"),
    ],
)
def test_a_damaged_file_is_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / PACKED).write_bytes(content)
    with pytest.raises(ConfigError, match=r"cannot read .*cells\.jsonl\.gz"):
        CellStore(tmp_path).done("k")


# --- the store


def store_of(folder: Path) -> CellStore:
    write_packed(folder / PACKED, {"k": CELL, "both": CELL}, {"f": FAILED, "both": FAILED})
    return CellStore(folder)


def test_a_store_reads_packed_cells(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    assert store.done("k") and not store.done("f") and not store.done("other")
    assert store.read("k") == CELL
    assert not store.has_weights("k")
    failure = store.failure("f")
    assert failure is not None and (failure.error, failure.message) == ("ValueError", "broke")
    assert store.failure("both") is not None, "it could not be renewed"
    assert store.failure("k") is None


def test_a_folder_beside_goes_before_the_packed_cell(tmp_path: Path) -> None:
    store = store_of(tmp_path).prepare()
    with store.writing("k", {"new": 1}):
        pass
    with store.writing("f", {"made": "at last"}):
        pass
    assert store.read("k") == {"new": 1}
    assert store.done("f") and store.failure("f") is None
    store.fail("both", OSError("disk full"), "later")
    failure = store.failure("both")
    assert failure is not None and failure.run == "later"


# --- commands


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study that was run, as `out`; its records, as `kept`; and these the old way, as `old`."""
    folder = tmp_path_factory.mktemp("packed")
    (folder / "study.yaml").write_text(STUDY)
    expunge("study", "run", "study.yaml", "--out", "out", "--device", "cpu", cwd=folder)
    expunge("study", "records", "out", "--out", "kept", cwd=folder)
    for name in ("study.yaml", "data.json"):
        (folder / "old").mkdir(exist_ok=True)
        shutil.copy(folder / "out" / name, folder / "old")
    ignored = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(folder / "out/cells", folder / "old/cells", ignore=ignored)
    return folder


def test_records_are_five_files(place: Path) -> None:
    names = {file.name for file in (place / "kept").iterdir()}
    assert names == {"study.yaml", "data.json", PACKED, "table.md", "report.html"}
    packed = read_packed(place / "kept" / PACKED)
    for folder in (place / "out/cells").iterdir():
        assert packed.cell(folder.name) == json.loads((folder / "cell.json").read_text())
    assert len(packed.cells) == len(list((place / "out/cells").iterdir()))


def test_results_status_and_report_are_those_of_the_study(place: Path, tmp_path: Path) -> None:
    here = tmp_path / "here"
    shutil.copytree(place, here)
    for what in ("out", "kept", "old"):
        said = expunge("study", "status", "study.yaml", "--out", what, cwd=here)
        assert said.stdout == "study small: 10 of 10 cells done\n"
        expunge("study", "results", "study.yaml", "--out", what, cwd=here)
    for name in ("scores.csv", "table.md", "table.json"):
        told = {(here / what / "results" / name).read_bytes() for what in ("out", "kept", "old")}
        assert len(told) == 1, name
    expunge("study", "report", "kept", cwd=here)
    assert (here / "kept/table.md").read_bytes() == (here / "kept/report/table.md").read_bytes()


def test_records_of_records_are_the_same(place: Path, tmp_path: Path) -> None:
    for what in ("kept", "old"):
        expunge("study", "records", what, "--out", str(tmp_path / what), cwd=place)
        for name in (PACKED, "study.yaml", "data.json", "table.md"):
            assert (tmp_path / what / name).read_bytes() == (place / "kept" / name).read_bytes()


def test_a_run_goes_on_from_records(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "kept", tmp_path / "kept")
    before = (tmp_path / "kept" / PACKED).read_bytes()
    more = STUDY.replace("seeds: [0, 1]", "seeds: [0, 1, 2]")
    (tmp_path / "study.yaml").write_text(more)
    where = ["study.yaml", "--out", "kept", "--device", "cpu"]
    assert "15 of 15 cells done" in expunge("study", "run", *where, cwd=tmp_path).stdout
    made = list((tmp_path / "kept/cells").iterdir())
    assert len(made) == 5, "the cells of the new seed, and no other"
    # a further method starts from originals that the record has no weights of: they are trained again
    added = more.replace("methods: {", "methods: {neggrad_plus: {epochs: 1}, ")
    (tmp_path / "study.yaml").write_text(added)
    assert "18 of 18 cells done" in expunge("study", "run", *where, cwd=tmp_path).stdout
    kinds = [
        json.loads(file.read_text())["kind"]
        for file in (tmp_path / "kept/cells").glob("*/cell.json")
    ]
    assert sorted(kinds).count("original") == 3 and len(kinds) == 5 + 3 + 2
    assert (tmp_path / "kept" / PACKED).read_bytes() == before, "it is only read"
    expunge("study", "records", "kept", "--out", "again", cwd=tmp_path)
    assert len(read_packed(tmp_path / "again" / PACKED).cells) == 18


def test_a_damaged_record_costs_one_line(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "kept", tmp_path / "kept")
    (tmp_path / "kept" / PACKED).write_bytes(b"?")
    shutil.copy(place / "study.yaml", tmp_path)
    message = refused("study", "status", "study.yaml", "--out", "kept", cwd=tmp_path)
    assert "cannot read kept/cells.jsonl.gz" in message


@pytest.mark.parametrize(
    "record", sorted(ROOT.glob("docs/results/*/study.yaml")), ids=lambda f: f.parent.name
)
def test_published_records_hold_five_files(record: Path) -> None:
    names = {file.name for file in record.parent.iterdir()}
    assert names == {"study.yaml", "data.json", PACKED, "table.md", "report.html"}
    assert read_packed(record.parent / PACKED).cells
