"""The harness of scripts/gpu-check: no GPU, no time, a part that fails, a folder that is another's."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CPU, changed, digits, original, run_on_cpu, same_state, unlearned

from expunge.audits.observe import observe_test
from expunge.data.split import Split
from expunge.training.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
MINE = ("gpu", "machine", "training", "per_sample", "plain_loop")
"""Modules of benchmarks/, which scripts import by these short names."""


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The folder of the script on the path for as long as a test lasts, and nothing left of it."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in (*MINE, "gpu_check"):
            del sys.modules[name]


def read(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "gpu-check.json").read_text("utf-8"))
    return content


def page(folder: Path) -> str:
    return (folder / "summary.md").read_text("utf-8")


def said(lines: list[str]) -> Callable[[str], None]:
    return lines.append


class Now:
    """A clock that goes only when it is told to."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def run(folder: Path, work: Callable[[str, float], Any], *parts: Any, now: Now) -> tuple[Any, str]:
    """A check of 100 seconds of such parts: its record, and all that it said."""
    from gpu.parts import Clock, run_all
    from gpu.record import Outcome, Record, open_folder

    open_folder(folder)
    lines: list[str] = []
    record = Record(folder, {"date": "today"}, {part.name: Outcome() for part in parts})
    clock = Clock(100, now)
    run_all(parts, record, clock, lambda part, budget: work(part.name, budget), said(lines))
    return record, "\n".join(lines)


def part(name: str, share: float = 0.5, least: float = 10) -> Any:
    from gpu.parts import Part

    return Part(name, f"shows {name}", share, least)


def test_where_there_is_no_gpu_everything_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import gpu_check

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_check.main(["--out", str(tmp_path / "out")]) == 3
    told = capsys.readouterr().out
    line = next(line for line in told.splitlines() if "no GPU here" in line)
    assert "--device cpu tries the machinery on a processor, at a tiny scale" in line
    content = read(tmp_path / "out")
    assert content["no_gpu"] in line and content["exit_code"] == 3
    assert content["machine"]["torch"] == torch.__version__
    assert {one["status"] for one in content["parts"].values()} == {"left out"}
    assert content["no_gpu"] in page(tmp_path / "out")
    assert "passed" not in page(tmp_path / "out")
    assert gpu_check.main(["--out", str(tmp_path / "out")]) == 3, "its own folder is taken again"


def test_a_folder_with_something_else_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import gpu_check

    (tmp_path / "thesis.tex").write_text("mine", encoding="utf-8")
    assert gpu_check.main(["--out", str(tmp_path), "--device", "cpu"]) == 2
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 2 and "holds something else (thesis.tex)" in told[1]
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    assert gpu_check.main(["--out", str(tmp_path / "thesis.tex"), "--device", "cpu"]) == 2
    (tmp_path / "thesis.tex").rename(tmp_path / "gpu-check.json")
    assert gpu_check.main(["--out", str(tmp_path), "--device", "cpu"]) == 2
    assert (tmp_path / "gpu-check.json").read_text("utf-8") == "mine"
    for wrong in ([], ["--out", "x", "--minutes", "0"], ["--out", "x", "--only", "nothing"]):
        with pytest.raises(SystemExit) as stopped:
            gpu_check.main(wrong)
        assert stopped.value.code == 2


def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import gpu_check

    monkeypatch.setattr(gpu_check, "NEEDED", ("torch", "no_such_package"))
    assert gpu_check.main(["--out", str(tmp_path / "out"), "--device", "cpu"]) == 2
    assert "no_such_package; install" in capsys.readouterr().out


def test_a_part_that_fails_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    from gpu.parts import FailedError, LeftOutError, exit_code
    from gpu.record import Outcome

    now = Now()
    seen: list[dict[str, Any]] = []

    def work(name: str, budget: float) -> Outcome:
        now.seconds += 5
        seen.append(read(tmp_path))
        if name == "breaks":
            raise ValueError("the | card\nis on fire")
        if name == "differs":
            raise FailedError("two tests failed\nfirst: 1 is not 2")
        if name == "lacks":
            raise LeftOutError("there are no data")
        return Outcome("passed", figures={"rows": [{"x": 1.23456, "y": float("nan")}]})

    names = ("breaks", "differs", "lacks", "works")
    record, told = run(tmp_path, work, *map(part, names), now=now)
    content = read(tmp_path)
    found = {name: one["status"] for name, one in content["parts"].items()}
    assert found == dict(zip(names, ("failed", "failed", "left out", "passed"), strict=True))
    assert content["parts"]["breaks"]["error"].startswith("ValueError: the | card\nis on fire")
    assert "test_gpu_check.py" in content["parts"]["breaks"]["error"], "where it came from"
    assert content["parts"]["differs"]["error"] == "two tests failed\nfirst: 1 is not 2"
    assert content["parts"]["lacks"]["reason"] == "there are no data"
    assert content["parts"]["works"]["figures"] == {"rows": [{"x": 1.235, "y": "nan"}]}
    assert content["parts"]["works"]["seconds"] == 5
    assert exit_code(record) == 1
    # a kill loses nothing: what was over was written, and what was under way said so
    for number, before in enumerate(seen):
        statuses = [one["status"] for one in before["parts"].values()]
        assert statuses[number:] == ["running"] + ["waiting"] * (len(names) - number - 1)
        assert before["exit_code"] is None
    assert "differs: failed (two tests failed), 5 s; 86 s left" in told
    for text in ("| breaks | failed |", "first: 1 is not 2", "there are no data", "Not finished"):
        assert text in page(tmp_path)


def test_a_run_on_a_processor_says_that_it_is_none_on_a_gpu() -> None:
    from gpu.summary import page

    done = {"exit_code": 0, "parts": {"tests": {"status": "passed"}}}
    assert "nothing of a GPU" in page({**done, "device": "cpu"})
    assert "nothing of a GPU" not in page({**done, "device": "cuda"})


def test_time_that_is_over_is_never_a_pass(tmp_path: Path) -> None:
    from gpu.parts import exit_code
    from gpu.record import Outcome

    now = Now()
    budgets: dict[str, float] = {}

    def work(name: str, budget: float) -> Outcome:
        budgets[name] = budget
        now.seconds += budget
        return Outcome("passed")

    names = ("first", "second", "third", "fourth")
    record, _ = run(tmp_path, work, *map(part, names), now=now)
    assert budgets == {"first": 50, "second": 46}, "its share, and then what is left of the time"
    for name in ("third", "fourth"):
        assert record.parts[name].status == "left out"
        assert record.parts[name].reason.startswith("time: 0 s were left")
    assert now.seconds < 100
    assert exit_code(record) == 0
    record.parts = {name: Outcome("left out", reason="time") for name in names}
    assert exit_code(record) == 1, "nothing was run"


def test_a_part_over_its_budget_is_cut_with_all_that_it_started(tmp_path: Path) -> None:
    """The one process here: it starts another, which would outlive it."""
    from gpu.child import cut

    mark = tmp_path / "mark"
    code = (
        "import subprocess, sys, time\n"
        f"late = \"import time; time.sleep(2); open({str(mark)!r}, 'w')\"\n"
        "subprocess.Popen([sys.executable, '-S', '-c', late])\n"
        "print('begun', flush=True)\n"
        "time.sleep(60)\n"
    )
    with (tmp_path / "output").open("wb") as stream:
        start = time.monotonic()
        assert cut([sys.executable, "-S", "-c", code], 1.0, stream) is None
    assert time.monotonic() - start < 10
    assert (tmp_path / "output").read_text() == "begun\n"
    time.sleep(max(0.0, 2.5 - (time.monotonic() - start)))
    assert not mark.exists()


def test_what_a_part_wrote_counts_even_if_it_was_cut(tmp_path: Path) -> None:
    from gpu.child import Asked, _outcome

    asked = Asked("cpu", "tiny", 60)
    file = tmp_path / "part.json"
    lost = _outcome(file, -11, "one\ntwo\nSegmentation fault\n", asked)
    assert lost.status == "failed" and "exit code -11" in lost.error
    assert "Segmentation fault" in lost.error
    file.write_text(json.dumps({"status": "running", "figures": {"loops": [1]}}), encoding="utf-8")
    late = _outcome(file, None, "", asked)
    assert (late.status, late.reason) == ("left out", "time: cut after 60 s")
    assert late.figures == {"loops": [1]}
    file.write_text(json.dumps({"status": "passed", "figures": {}}), encoding="utf-8")
    assert _outcome(file, None, "", asked).status == "passed", "it was done, and did not end"


def test_a_part_tells_what_became_of_it(tmp_path: Path) -> None:
    from gpu.child import serve

    order = {
        "name": "shadows",
        "file": str(tmp_path / "part.json"),
        "device": "cpu",
        "scale": "tiny",
        "seconds": 60,
        "start": time.monotonic(),
        "data_dir": None,
    }
    serve(json.dumps(order))
    content = json.loads((tmp_path / "part.json").read_text("utf-8"))
    assert content["status"] == "passed"
    (row,) = content["figures"]["networks"]
    assert (row["model"], row["models_at_once"]) == ("mlp", 2) and row["times_faster"] > 0


JUNIT = """<testsuites><testsuite>
<testcase classname="tests.device.test_a" name="test_one[cpu]" time="0.5"/>
<testcase classname="tests.device.test_a" name="test_two" time="2">
  <failure message="assert 1 &lt; 0&#10; more">long</failure></testcase>
<testcase classname="tests.device.test_a" name="test_three" time="0">
  <skipped message="no"/></testcase>
<testcase classname="tests.device.test_b" name="test_four" time="0">
  <error message="no card"/></testcase>
</testsuite></testsuites>"""

LINES = """\
tests/device/test_a.py::test_one[a b] PASSED [ 1%]
tests/device/test_a.py::test_two FAILED [ 2%]
tests/device/test_a.py::test_three """


def test_tests_are_counted_from_their_report_or_their_lines() -> None:
    from gpu import tests
    from gpu.parts import FailedError, LeftOutError

    figures = tests.read_report(JUNIT)
    assert (figures["passed"], figures["failed"], figures["skipped"]) == (1, 2, 1)
    assert figures["failures"] == [
        {"test": "test_a::test_two", "says": "assert 1 < 0"},
        {"test": "test_b::test_four", "says": "no card"},
    ]
    assert figures["slowest"][0] == {"test": "test_a::test_two", "seconds": 2.0}
    with pytest.raises(FailedError, match=r"2 tests failed\ntest_a::test_two: assert 1 < 0"):
        tests.judge(figures, 1, "")
    cut = tests.read_output(LINES)
    assert (cut["passed"], cut["failed"]) == (1, 1)
    assert cut["last_begun"] == "tests/device/test_a.py::test_three"
    with pytest.raises(FailedError):
        tests.judge(cut, None, "")
    good = {**cut, "failed": 0}
    with pytest.raises(LeftOutError, match=r"cut at .*::test_three; 1 had passed"):
        tests.judge(good, None, "")
    with pytest.raises(FailedError, match="exit code 4"):
        tests.judge({"passed": 0, "failed": 0}, 4, "no such folder")
    tests.judge(good, 0, "")


def test_the_study_is_the_scales_cut_down_and_says_so(tmp_path: Path) -> None:
    from gpu import study
    from gpu.child import Asked
    from gpu.parts import FailedError, LeftOutError

    whole = study.read_study(study.FILE, scale="one-cycle")
    small, words = study.cut_down(whole, tiny=False)
    assert (small.scale, small.models, small.data) == ("one-cycle", ("resnet18",), ("cifar10",))
    assert small.densities == whole.densities
    assert len(small.seeds) == 1 and small.tuning is None and not small.claims
    recipe, before = small.recipes["one-cycle"], whole.recipes["one-cycle"]
    assert recipe == before.but(epochs=study.EPOCHS) and recipe != before
    assert words["epochs"] == f"{study.EPOCHS} of {before.epochs}"
    file = tmp_path / "study.yaml"
    file.write_text(small.to_yaml(), encoding="utf-8")
    assert study.read_study(file).recipes == small.recipes
    with pytest.raises(LeftOutError, match="there are no data"):
        study.run(Asked("cpu", "full", 60, str(tmp_path)), lambda _: None)
    with pytest.raises(LeftOutError, match="3 of 10 cells"):
        study.judge({"cells_finished": 3, "cells_in_all": 10, "cells_failed": 0}, None, "")
    with pytest.raises(FailedError, match="finetune: diverged"):
        failed = {"cells_failed": 1, "failures": {"finetune": "diverged"}}
        study.judge({"cells_finished": 9, **failed}, 1, "")


def test_what_a_study_was_at_when_its_time_was_over_has_not_failed(tmp_path: Path) -> None:
    """A worker that is ended leaves its cell as one that killed its process."""
    from gpu import study
    from gpu.parts import LeftOutError

    small, _ = study.cut_down(study.read_study(study.FILE, scale="one-cycle"), tiny=True)
    plan = study.planned(small, tmp_path / "out")
    store = plan.store.prepare()
    diverged, under_way = plan.cells[:2]
    assert {cell.kind for cell in (diverged, under_way)} <= {"original", "retrain"}
    with store.claim(under_way.key):
        attempt = store.attempt(under_way.key, "run")
        attempt.__enter__()  # and never out of it
    store.fail(diverged.key, ValueError("the loss is not finite"), "run")
    ended = study.told(plan, cut_short=True)
    assert (ended["cells_failed"], len(ended["failures"])) == (1, 1)
    assert study.told(plan)["cells_failed"] == 2, "nobody ended it from outside"
    store.prepare()
    with pytest.raises(LeftOutError, match="0 of"):
        study.judge({**ended, "cells_failed": 0}, None, "")


def test_the_typical_sample_is_judged_not_a_tie_in_one_of_them() -> None:
    """Two equal pixels under a max-pooling, told apart by the last digit: each way takes another."""
    from gpu.per_sample import Contest, compare

    right = torch.arange(1.0, 13).reshape(4, 3)
    tie, coarse = right.clone(), right * (1 + 0.01)
    tie[2, 1] += 0.1
    device = torch.device("cpu")

    def found(fast: torch.Tensor, *, by_sample: bool = True) -> dict[str, Any]:
        two = Contest(
            "gradients", lambda x: {"w": fast}, lambda x: {"w": right}, 4, by_sample=by_sample
        )
        return compare(two, torch.zeros(4, 1), 4, device, "model")

    one = found(tie)
    assert one["difference"] == 0 and one["largest_difference"] == pytest.approx(0.1 / 12, rel=1e-3)
    assert found(coarse)["difference"] > one["limit"]
    assert found(tie, by_sample=False)["difference"] > one["limit"], "no samples: all counts"


def test_no_loop_that_is_timed_decodes_its_images(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpu import training
    from gpu.child import Asked

    made = []
    real = training.subset
    monkeypatch.setattr(training, "subset", lambda *args: made.append(args[1]) or real(*args))
    asked, size = Asked("cpu", "tiny", 60), training.Size(("mlp",), 16, 8, 1, 0)
    data, _ = training.pictures(asked, size.images)
    loop = training.contenders("mlp", data, size, torch.device("cpu"))[
        "fit, float32 (channels last)"
    ]
    for _ in range(3):
        loop(2)
    assert made == [16], "the same samples each time, made once"


@pytest.mark.thorough
def test_per_sample_work_and_training_at_the_tiny_scale() -> None:
    from gpu import per_sample, training
    from gpu.child import Asked

    found: dict[str, Any] = {}
    asked = Asked("cpu", "tiny", 120)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(per_sample, "TINY", {"cnn": (4, 2)})
        patch.setattr(training, "TINY", training.Size(("cnn",), 16, 8, 1, 0))
        per_sample.run(asked, found.update)
        training.run(asked, found.update)
    assert [row["what"] for row in found["contests"]] == list(per_sample.LIMITS)
    for row in found["contests"]:
        assert 0 <= row["difference"] <= row["limit"]
    assert found["data"].startswith("noise")
    assert len(found["loops"]) == 7
    assert all(row["seconds_per_epoch"] > 0 for row in found["loops"])
    assert all(row["peak_memory_mib"] > 0 for row in found["loops"])


def test_a_failed_comparison_fails_the_part(monkeypatch: pytest.MonkeyPatch) -> None:
    from gpu import per_sample
    from gpu.child import Asked
    from gpu.parts import FailedError

    monkeypatch.setattr(per_sample, "TINY", {"cnn": (2, 1)})
    right = per_sample.gradient_products
    monkeypatch.setattr(per_sample, "gradient_products", lambda *args: right(*args) * 1.1)
    with pytest.raises(FailedError, match="cnn: products: the two ways differ"):
        per_sample.run(Asked("cpu", "tiny", 120), lambda _: None)


# --- what the benchmark scripts promise beyond numbers


BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A script by name, imported as running it does."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def unsir_runs(monkeypatch: pytest.MonkeyPatch) -> Any:
    return script("unsir_runs", monkeypatch)


@pytest.mark.parametrize("name", sorted(file.stem for file in BENCHMARKS.glob("*.py")))
def test_every_script_can_be_imported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They stand outside the package: nothing else notices when a name that they use goes."""
    assert script(name, monkeypatch).__doc__


def test_trap_of_the_mnist_program_ratio_leaves_the_weights_bit_identical(unsir_runs: Any) -> None:
    """Its `ratio` looks like the share of a class that is forgotten; it decides what is measured."""
    data = digits()
    split = Split.classes(data, [0])
    settings = {"noise_batch": 8, "noise_steps": 3}
    start = original("mlp")
    made, measured = [], []
    for ratio in (0.1, 0.5, 1.0):
        model = unlearned(
            start,
            data,
            split,
            unsir_runs.make_method("unsir:mnist_mlp", settings, allow_code=True),
            device="cpu",
        ).model
        before = original("mlp")
        before.load_state_dict(model.state_dict())
        measured.append(unsir_runs.kept_and_forgotten(model, data, [0], run_on_cpu(), ratio))
        assert same_state(model, before)
        made.append(model)
    assert same_state(made[0], made[1]) and same_state(made[0], made[2])
    assert changed(start, made[0])
    assert len({kept for kept, _ in measured}) == 1


def test_ratio_measures_a_share_of_the_forgotten_class(unsir_runs: Any) -> None:
    """By hand: accuracy on all test samples of the class, and on one drawn sample: 0 or 100."""
    data, model = digits(), original("mlp")
    seen = observe_test(model, data, run_on_cpu())
    labels, right = seen.labels.numpy(), seen.correct.numpy()
    for label in range(10):
        mine = right[labels == label]
        kept, gone = unsir_runs.kept_and_forgotten(model, data, [label], run_on_cpu())
        assert gone == pytest.approx(100 * mine.mean())
        assert kept == pytest.approx(100 * right[labels != label].mean())
        one = unsir_runs.kept_and_forgotten(model, data, [label], run_on_cpu(), 1 / len(mine))[1]
        assert one in (0.0, 100.0)


def test_unsir_runs_write_one_row_for_each_score(unsir_runs: Any) -> None:
    experiment = unsir_runs.Experiment(
        "digits:300",
        "mlp",
        Recipe(epochs=3, lr=0.05, batch_size=64),
        ("unsir:notebook",),
        counts=(1, 2),
        floor=False,
        also=("weight_distance",),
    )
    frame = unsir_runs.run_seed(experiment, 7, digits(), CPU)
    assert not frame.duplicated(["scenario", "method", "seed", "score"]).any()
    assert frame["scenario"].unique().tolist() == ["1 of 10 classes", "2 of 10 classes"]
    wide = frame.pivot(index=["scenario", "method"], columns="score", values="value")
    assert set(wide.index.get_level_values("method")) == {"original", "retrain", "unsir:notebook"}
    assert (wide.xs("retrain", level="method")["UA"] == 100).all()
    assert np.isfinite(wide.xs("unsir:notebook", level="method")).all().all()
    one, two = (unsir_runs.struck(experiment, count, 7, 10) for count in (1, 2))
    assert len(two) == 2 and set(one) < set(two)
