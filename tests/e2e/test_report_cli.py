"""Reports as people make them: of a study, of one deletion, on a machine without the data."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import expunge, refused

from expunge.report.data_files import SCORES_FILE
from expunge.study.packed import read_packed, write_packed

NAMES = ["cat", "<script>alert(1)</script>", "dog & mouse"]
STUDY = """\
name: small
data: ["{data}"]
models: [mlp]
recipes:
  quick: {{epochs: 4, lr: 0.05, batch_size: 32, augmentation: none}}
scenarios: [class]
controls: false
class_also: []
methods:
  finetune: {{epochs: 1}}
  neggrad_plus: {{epochs: 1}}
seeds: [0, 1]
claims: ["UA of finetune < UA of neggrad_plus"]
published:
  - {{title: A paper, headers: [method, UA], rows: [[FT, "1.10"]]}}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data whose class names are markup, and a study that was run on them."""
    folder = tmp_path_factory.mktemp("report")
    generator = np.random.default_rng(0)
    labels = np.arange(240) % 3
    images = generator.integers(0, 80, (240, 6, 6), dtype=np.uint8)
    images[np.arange(240), labels * 2, labels * 2] = 250
    np.savez(folder / "animals.npz", x=images, y=labels, classes=np.array(NAMES))
    (folder / "study.yaml").write_text(STUDY.format(data="animals.npz"))
    expunge("study", "run", "study.yaml", "--out", "out", cwd=folder)
    return folder


def text_of(page: str) -> str:
    """What a reader sees."""
    body = re.sub(r"<(style|script)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_a_study_becomes_one_page(place: Path) -> None:
    done = expunge("study", "report", "out", cwd=place, drawn=True)
    assert "written: out/report/report.html" in done.stdout
    page = (place / "out/report/report.html").read_text(encoding="utf-8")
    assert NAMES[1] not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert not re.search(r"(src|href)=\"(?!#|data:)", page), "it needs no other file"
    assert page.count('src="data:image/png;base64,') == 8, "eight samples of the forget set"
    seen = text_of(page)
    for word in (
        "no formal guarantee",
        "neggrad_plus",
        "excess gap",
        "A paper",
        "1.10",
        "UA of finetune",
        "undecided",
    ):
        assert word in seen, word
    table = (place / "out/report/table.md").read_text(encoding="utf-8")
    cell = re.search(r"finetune\*{0,2} \| 2 \| ([\d.±]+)", table)
    assert cell is not None and cell[1] in seen, "the table's number stands on the page"
    names = {file.name for file in (place / "out/report").iterdir()}
    assert {"report.html", "table.md", "table.csv", "table.tex", "scores.csv", "figures"} == names
    expunge("study", "report", "out", cwd=place)  # made again, over what stands there


def test_records_are_enough(place: Path, tmp_path: Path) -> None:
    """Without weights and without the data there is the same table; no picture of a sample."""
    shutil.copytree(
        place / "out", tmp_path / "kept", ignore=shutil.ignore_patterns("*.safetensors", "report")
    )
    expunge("study", "report", "kept", "--out", "page", cwd=tmp_path)
    page = (tmp_path / "page/report.html").read_text(encoding="utf-8")
    assert "data:image/png" not in page and "neggrad_plus" in page
    assert (
        "12 of 12 cells done"
        in expunge("study", "status", "kept/study.yaml", "--out", "kept", cwd=tmp_path).stdout
    )
    message = refused("study", "report", "kept", "--out", "page", cwd=tmp_path)
    assert "page exists" in message and "--overwrite" in message


def test_a_later_run_adds_seeds_to_a_record(place: Path, tmp_path: Path) -> None:
    expunge("study", "records", "out", "--out", str(tmp_path / "kept"), cwd=place)
    shutil.copy(place / "animals.npz", tmp_path)
    more = (place / "study.yaml").read_text().replace("seeds: [0, 1]", "seeds: [0, 1, 2]")
    (tmp_path / "study.yaml").write_text(more)
    done = expunge("study", "run", "study.yaml", "--out", "kept", cwd=tmp_path)
    assert "18 of 18 cells done" in done.stdout
    assert len(list((tmp_path / "kept/cells").iterdir())) == 6, "those of the new seed alone"


def test_a_folder_that_is_no_study(tmp_path: Path) -> None:
    assert "is no folder of a study" in refused("study", "report", ".", cwd=tmp_path)


def test_a_deletion_becomes_a_page(place: Path) -> None:
    expunge(
        "train",
        "--data",
        "animals.npz",
        "--model",
        "mlp",
        "--epochs",
        "3",
        "--out",
        "model",
        cwd=place,
    )
    asked = [
        "unlearn",
        "model",
        "--forget",
        "random:0.2",
        "--method",
        "finetune",
        "--set",
        "epochs=1",
        "--with-reference",
    ]
    done = expunge(*asked, "--out", "forgot", "--report", "page", cwd=place)
    assert "report: page/report.html" in done.stdout
    page = (place / "page/report.html").read_text(encoding="utf-8")
    assert "data:image/png" in page and NAMES[1] not in page
    frames = [pd.read_csv(place / name / "scores.csv") for name in ("page", "out/results")]
    one, study = ([name for name in frame if name in SCORES_FILE] for frame in frames)
    assert one == study == [*SCORES_FILE], "one form for all files of scores"
    for frame in frames:
        own = frame[frame["method"] == "finetune"]
        assert set(own["set.epochs"]) == {1} and "set.lr" in frame
    seen = text_of(page)
    assert re.search(r"Verdict (not forgotten|damaged|cannot tell) ?: ", seen)
    scores = json.loads(
        expunge("audit", "forgot", "--retrained", "forgot-retrained", "--json", cwd=place).stdout
    )["scores"]
    for score in scores:
        if score["name"] in ("UA", "RA", "TA"):
            assert f"{score['value']:.1f}" in seen, score["name"]
    for word in ("random:0.2", "no formal guarantee", "expunge unlearn model --forget"):
        assert word in seen, word
    again = refused(*asked, "--out", "other", "--report", "page", cwd=place)
    assert "page exists" in again
    assert "lie in each other" in refused(
        *asked, "--out", "other", "--report", "other/page", cwd=place
    )
    assert not (place / "other").exists(), "said before the work, not after it"


def test_redacted_ids_leave_no_pictures(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place, tmp_path / "here")
    here = tmp_path / "here"
    expunge(
        "train",
        "--data",
        "animals.npz",
        "--model",
        "mlp",
        "--epochs",
        "1",
        "--out",
        "first",
        cwd=here,
    )
    expunge(
        "unlearn",
        "first",
        "--forget",
        "random:0.2",
        "--method",
        "finetune",
        "--set",
        "epochs=1",
        "--redact-ids",
        "--report",
        "redacted",
        "--out",
        "gone",
        cwd=here,
    )
    page = (here / "redacted/report.html").read_text(encoding="utf-8")
    assert "data:image/png" not in page
    assert "There is no retrained model to compare with" in text_of(page)


def test_a_report_says_what_is_missing_and_shows_no_wrong_pictures(
    place: Path, tmp_path: Path
) -> None:
    expunge("study", "records", "out", "--out", str(tmp_path / "kept"), cwd=place)
    with np.load(place / "animals.npz") as content:
        arrays = {name: content[name] for name in content}
    np.savez(tmp_path / "animals.npz", **{**arrays, "x": arrays["x"][::-1], "y": arrays["y"][::-1]})
    packed = tmp_path / "kept/cells.jsonl.gz"
    cells = {key: read_packed(packed).cell(key) for key in read_packed(packed).cells}
    lost = next(k for k, cell in cells.items() if cell["config"].get("method") == "finetune")
    write_packed(packed, {key: cell for key, cell in cells.items() if key != lost}, {})
    expunge("study", "report", "kept", cwd=tmp_path)
    page = (tmp_path / "kept/report/report.html").read_text(encoding="utf-8")
    assert "11 of 12 cells are done; 1 not made yet" in text_of(page)
    assert "data:image/png" not in page, "today's data are not what the study ran on"
    packed.unlink()
    assert "no row is finished yet" in refused("study", "report", "kept", cwd=tmp_path)


def test_a_strangers_folder_runs_no_code(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "out", tmp_path / "theirs")
    (tmp_path / "evil.py").write_text("print('EVIL CODE RAN')\n\ndef make():\n    return None\n")
    for name in ("study.yaml", "data.json"):
        file = tmp_path / "theirs" / name
        file.write_text(file.read_text().replace("animals.npz", "evil:make"))
    for data_facts in (True, False):
        if not data_facts:
            (tmp_path / "theirs/data.json").unlink()
        for words in (
            ["report", "theirs"],
            ["status", "theirs/study.yaml", "--out", "theirs"],
            ["run", "theirs/study.yaml", "--out", "theirs"],
        ):
            done = expunge("study", *words, cwd=tmp_path, ok=None)
            assert "EVIL" not in done.stdout + done.stderr


def test_exact_unlearning_has_a_page_too(place: Path, tmp_path: Path) -> None:
    expunge(
        "train",
        "--data",
        "animals.npz",
        "--model",
        "mlp",
        "--epochs",
        "2",
        "--out",
        str(tmp_path / "model"),
        cwd=place,
    )
    expunge(
        "unlearn",
        str(tmp_path / "model"),
        "--forget",
        "random:0.2",
        "--method",
        "retrain",
        "--out",
        str(tmp_path / "new"),
        "--report",
        str(tmp_path / "page"),
        cwd=place,
    )
    seen = text_of((tmp_path / "page/report.html").read_text(encoding="utf-8"))
    assert "A new model was trained without those samples" in seen and "Nothing yet" not in seen
    assert re.search(r"retrain 1 [\d.]+ [\d.]+", seen), "its scores stand on the page"
