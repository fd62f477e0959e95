"""Names and texts from elsewhere, wherever they are shown: they say what they are, and do nothing."""

from __future__ import annotations

import contextlib
import csv
import io
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import report_helpers
from commands import expunge, started
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report_helpers import results, study
from rich.table import Table
from rich.text import Text
from thorough import THOROUGH, but_first

from expunge.cli.arguments import read_pairs, read_recipe
from expunge.cli.screen import PlainConsole
from expunge.cli.show import losses_table, study_tables
from expunge.errors import ConfigError, UserError
from expunge.progress import Bars
from expunge.report.data_files import csv_text
from expunge.report.drawn import inline_svg
from expunge.report.figures import gap_figure
from expunge.report.files import write_tables
from expunge.report.forgetting import forgetting_figures
from expunge.report.markdown import escape_markdown
from expunge.report.page import PlainTable, Report, render, write_report
from expunge.scores.score import Score
from expunge.scores.shown import as_text

HOSTILE = (
    "[/x]",
    "[red]a[/red]",
    ":smile:",
    "\x1b[2Ja\x07",
    "a\u202egpj.exe",
    "lone \udc80\ud800",
    "=1+1|x",
    "$\\frac{1$",
    "a\nb\rc\td\x00",
    "`code` ![i](http://e.vil/i.png) <img src=x onerror=alert(1)>",
    "n" * 5000,
)
ALL = " ".join(HOSTILE[:-1])
MADE = (ALL, HOSTILE[-1], "[/x]", "=1+1")
"""For what takes long to draw: all of them in one name, and what a name begins with."""
SRC = Path(__file__).resolve().parents[2] / "src"


def shown(what: object, **settings: object) -> str:
    file = io.StringIO()
    PlainConsole(file=file, width=120, **settings).print(what)
    return file.getvalue()


def hostile_frame(name: str) -> pd.DataFrame:
    """Of one scenario, in which scenario and method are called that."""
    frame = results(scenarios=["class"], methods=["original", "retrain", "floor", "x"], seeds=2)
    table = report_helpers.for_tables(frame)
    methods = [name if one == "x" else one for one in table["method"]]
    return table.assign(
        scenario=pd.Series([name] * len(table), dtype=object),
        method=pd.Series(methods, dtype=object),
    )


def small_study() -> Report:
    """Two models of one setting."""
    frame = results(scenarios=["class"], methods=["original", "retrain", "finetune"], seeds=1)
    return study(frame=frame)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_shown_as_it_stands(name: str) -> None:
    table = Table(title=name)
    table.add_column(name)
    table.add_row(name)
    for what in (name, table, Text(name), study_tables(hostile_frame(name), 120)):
        text = shown(what)
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", text)
        assert name[:2] in text or not name[:2].isprintable()
    if name == HOSTILE[0]:
        assert "[/x]" in shown(losses_table([], [])) + shown(table)


def test_styles_of_ones_own_still_reach_the_screen() -> None:
    text = shown(Text.assemble(("warning:", "yellow"), " [x]"), force_terminal=True)
    assert text == "\x1b[33mwarning:\x1b[0m [x]\n"


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_any_label(name: str, terminal: bool) -> None:
    file = io.StringIO()
    bars = Bars(PlainConsole(file=file, force_terminal=terminal, width=100), 0.0, 0.0)
    with bars.work(name, 3, unit=name) as outer, bars.work(name, 2) as step:
        step.advance(name)
        outer.advance(name)
    assert "\x1b[2J" not in file.getvalue() and "\x07" not in file.getvalue()


@pytest.mark.parametrize("name", HOSTILE)
def test_scores_as_text_hold_any_name(name: str) -> None:
    text = as_text([Score(name, 1.0, 3, None, None, name, "low")], [name])
    assert text.encode("utf-8") and "\x1b" not in text and "\u202e" not in text


@pytest.mark.parametrize("name", but_first(1, MADE))
def test_every_file_of_a_study_holds_any_name(name: str, tmp_path: Path) -> None:
    frame = hostile_frame(name)
    for path in write_tables(frame, tmp_path / "out", figure=gap_figure, explanation=[name]):
        data = path.read_bytes()
        assert path.suffix == ".png" or data.decode("utf-8")
        assert b"\x1b" not in data or path.suffix == ".png"


@pytest.mark.parametrize("name", but_first(1, MADE))
def test_every_part_of_a_page_holds_any_name(name: str, tmp_path: Path) -> None:
    report = small_study()
    names = pd.Series([name] * len(report.frame), dtype=object)
    frame = report.frame.assign(data=names, model=names)
    classes = [name, "b"]
    details = [
        {**one, "data": name, "model": name, "classes": classes, "class_accuracy": [50.0, 60.0]}
        | {"forgotten_classes": [name]}
        for one in report.details
    ]
    hostile = replace(
        report,
        title=name,
        frame=frame,
        details=details,
        published=[PlainTable(name, [name], [[name]])],
        tuned=[name],
        configuration=name,
        environment={name: name},
        command=name,
        warnings=[name],
    )
    for path in write_report(hostile, tmp_path / "page"):
        data = path.read_bytes()
        assert path.suffix == ".pdf" or not re.search(
            "[\x00-\x08\x0b\x0c\x0e-\x1f\u202e]", data.decode("utf-8")
        )
    page = (tmp_path / "page/report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in page and page == render(hostile)


@pytest.mark.parametrize("name", but_first(1, MADE))
def test_figures_of_forgetting_hold_any_name(name: str, tmp_path: Path) -> None:
    accuracy = pd.DataFrame(
        {
            "class": pd.Series([name, "b"], dtype=object),
            "forgotten": [True, False],
            "before": [90.0] * 2,
            "after": 10.0,
        }
    )
    layers = pd.Series([name, "b.c"], dtype=object)
    distance = pd.DataFrame({"layer": layers, "from_original": [0.1, 0.2]})
    noise = np.zeros((1, 2, 3, 4, 4))
    forgetting_figures(
        tmp_path / "f", accuracy=accuracy, distance=distance, noise=noise, noise_names=[name]
    )


@THOROUGH
def test_ten_thousand_classes_make_no_larger_figure(tmp_path: Path) -> None:
    count = 10_000
    classes = [f"class {number}" for number in range(count)]
    accuracy = pd.DataFrame(
        {"class": classes, "forgotten": True, "before": 90.0, "after": np.arange(count) % 100}
    )
    distance = pd.DataFrame({"layer": ["a"], "from_original": [0.1]})
    paths = forgetting_figures(tmp_path / "f", accuracy=accuracy, distance=distance)
    sizes = {path.name: path.stat().st_size for path in paths}
    assert max(size for name, size in sizes.items() if not name.endswith(".csv")) < 500_000
    report = small_study()
    details = [
        {**one, "classes": classes, "class_accuracy": [50.0] * count, "forgotten_classes": classes}
        for one in report.details
    ]
    assert len(render(replace(report, details=details))) < 1_000_000


def test_a_cell_of_a_csv_is_no_formula() -> None:
    names = ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx", "plain", "a=b", None]
    frame = pd.DataFrame({"=name": names, "value": np.arange(9) - 4.5, "n": range(-4, 5)})
    rows = list(csv.reader(io.StringIO(csv_text(frame))))
    assert rows[0] == ["'=name", "value", "n"]
    found = [row[0] for row in rows[1:]]
    assert found[:4] == ["'=1+1", "'+1", "'-1", "'@SUM(A1)"]
    assert found[4:] == ["'\tx", "'\\rx", "plain", "a=b", ""]
    assert [float(row[1]) for row in rows[1:]] == frame["value"].tolist(), "numbers stay numbers"
    assert rows[1][2] == "-4"


def test_every_csv_is_written_by_one_function() -> None:
    for path in (SRC / "expunge").rglob("*.py"):
        own = path.name == "data_files.py"
        assert ".to_csv(" not in path.read_text(encoding="utf-8") or own, path


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("[a](http://e.vil)", r"\[a](http\://e.vil)"),
        ("![a](b)", r"!\[a](b)"),
        ("<b>x</b> & y", "&lt;b&gt;x&lt;/b&gt; &amp; y"),
        ("a|b\nc", r"a\|b c"),
        ("`x` *y* ~z~ \\", r"\`x\` \*y\* \~z\~ \\"),
        ("_x_ gradient_ascent", r"\_x\_ gradient_ascent"),
        ("[+1.0, -2.5] [1, 2](x)", r"[+1.0, -2.5] \[1, 2](x)"),
        ("# head", r"\# head"),
        ("- item", r"\- item"),
        ("1. item", r"1\. item"),
        ("-1.5 points, UA < MIA", "-1.5 points, UA < MIA"),
        ("> quote", "&gt; quote"),
    ],
)
def test_markdown_shows_a_name_as_it_stands(text: str, safe: str) -> None:
    assert escape_markdown(text) == safe


def test_matplotlib_is_imported_in_one_place() -> None:
    for path in (SRC / "expunge").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        own = path.name == "plotting.py"
        assert own or not re.search(r"^\s*(import|from) matplotlib", text, re.MULTILINE), path


@THOROUGH
def test_a_figure_reads_no_settings_of_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text("open('ran', 'w')\n")
    (tmp_path / "matplotlibrc").write_text("backend: module://evil\nfigure.dpi: 7\n")
    code = (
        "import expunge.report.figures, matplotlib, os; from matplotlib import pyplot;"
        "assert matplotlib.rcParams['figure.dpi'] != 7; pyplot.figure(); print(os.getcwd())"
    )
    environment = {**os.environ, "PYTHONPATH": f"{SRC}{os.pathsep}{tmp_path}"}
    for rc in ("file", "pipe"):
        if rc == "pipe":
            (tmp_path / "matplotlibrc").unlink()
            os.mkfifo(tmp_path / "matplotlibrc")
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str(tmp_path) and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("variables", [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"}])
def test_an_output_of_few_signs_is_written_to(variables: dict[str, str], tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(SRC), "PYTHONUTF8": "0", **variables}
    code = (
        "import sys\nfrom expunge.cli import main\n"
        "for words in (['list', 'scores'], ['--help'], ['list', 'recipe']):\n"
        "    sys.argv[1:] = words\n"
        "    try:\n        main()\n"
        "    except SystemExit as stop:\n        assert not stop.code, stop.code\n"
        "    sys.stdout.reconfigure(errors='strict')\n"  # as each finds it
        "    print('--- said', flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *said, rest = done.stdout.split(b"--- said\n")
    assert len(said) == 3 and all(said) and not rest


def test_an_error_moves_no_cursor(tmp_path: Path) -> None:
    done = subprocess.run(
        [*started(), "list", "\x1b[2J\u202e" + "x" * 9000],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SRC)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    told = done.stderr.decode("utf-8")
    assert done.returncode == 2 and "\\x1b[2J" in told and len(told) < 2500
    assert "\x1b" not in told and "\u202e" not in told


@pytest.mark.parametrize("title", HOSTILE)
def test_an_svg_is_labelled_with_any_title(title: str) -> None:
    from expunge.report.drawn import canvas

    figure = canvas(2, 2)
    figure.subplots().set_title("x")
    assert "<script" not in inline_svg(figure, "a", title)


# --- what people type


DEEP = "[" * 5000 + "]" * 5000
ALIASES = (
    "a: &a [" + "x," * 90 + "]\nb: &b [" + "*a," * 90 + "]\nc: &c [" + "*b," * 90 + "]\nd: [*c,*c]"
)


@pytest.mark.parametrize(
    "value",
    [
        "[1",
        "2024-01-01x: [",
        "!!python/object:os.system x",
        "9" * 400,
        DEEP,
        ALIASES,
        "&a [*a]",
        "\x00",
    ],
)
def test_an_odd_setting_costs_one_line(value: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_pairs([f"lr={value}"])
    assert len(str(caught.value)) < 700
    (tmp_path / "recipe.yaml").write_text(f"lr: {value}", encoding="utf-8")
    with pytest.raises(ConfigError):
        read_recipe(tmp_path / "recipe.yaml", {})


def test_a_date_stays_text() -> None:
    assert read_pairs(["since=2024-01-01", "lr=1e-3", "a=", "b=[1, x]"]) == {
        "since": "2024-01-01",
        "lr": 1e-3,
        "a": None,
        "b": [1, "x"],
    }


def test_a_recipe_is_a_regular_file_of_settings(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"#" * 2**20)
    (tmp_path / "latin").write_bytes(b"lr: \xff")
    (tmp_path / "list").write_text("- 1")
    for name in ("pipe", "large", "latin", "list", "missing", "", "/dev/zero"):
        with pytest.raises(ConfigError):
            read_recipe(tmp_path / name, {})


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text(max_size=60) | st.text(alphabet="[]{}:,&*!|>-? \n'\"01e.", max_size=60))
def test_any_recipe_is_read_or_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(text, encoding="utf-8", errors="backslashreplace")
    for call in (lambda: read_recipe(file, {}), lambda: read_pairs([text, f"lr={text}"])):
        with contextlib.suppress(UserError):
            call()


# --- a screen that is gone


def test_a_screen_that_is_gone_costs_no_page(tmp_path: Path) -> None:
    words = ("--model", "mlp", "--epochs", "1", "--out", "first")
    expunge("train", "--data", "digits:200", *words, cwd=tmp_path)
    read, write = os.pipe()
    os.close(read)
    words = ("--forget", "class:3", "--method", "finetune", "--set", "epochs=1", "--out", "second")
    further = ("--report", "page", "--figures", "pictures")
    done = subprocess.run(
        [*started(), "unlearn", "first", *words, *further],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SRC)},
        stdout=write,
        stderr=subprocess.PIPE,
        timeout=120,
        check=False,
    )
    os.close(write)
    assert done.returncode in (1, 141) and b"Traceback" not in done.stderr
    for name in ("second/model.json", "page/report.html", "pictures/accuracy_by_class.csv"):
        assert (tmp_path / name).is_file()
