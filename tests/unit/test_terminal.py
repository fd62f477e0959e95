"""What commands show on any output: narrow encodings and terminals, full disks, readers that leave."""

from __future__ import annotations

import io
import os
import re
import sys
from pathlib import Path
from typing import Any, TextIO

import pandas as pd
import pytest
from commands import ENVIRONMENT
from rich.console import RenderableType

from expunge import cli
from expunge.cli.listing import first_clause, listing
from expunge.cli.screen import PlainConsole
from expunge.cli.show import study_tables
from expunge.methods import METHODS
from expunge.progress import Bars
from expunge.scores.score import Score
from expunge.scores.shown import scores_table

WIDTHS = (40, 60, 79, 80, 100, 120, 200)
NUMBER = re.compile(r"\d+\.\d+(?:±\d+\.\d+)?")


def shown(what: RenderableType, width: int = 200, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding)
    PlainConsole(file=file, width=width).print(what)
    file.flush()
    return raw.getvalue().decode(encoding)


def papers_frame() -> pd.DataFrame:
    methods = ("original", "retrain", "floor", "finetune", "neggrad_plus (lr=0.01, alpha=0.95)")
    scores = ("UA", "RA", "TA", "MIA", "TA_forget", "RTE", "relearn_time")
    rows = [
        ("one class", method, seed, score, 10.0 * (m + 1) + 7.3 * seed + 1.7 * s)
        for m, method in enumerate(methods)
        for seed in range(3)
        for s, score in enumerate(scores)
    ]
    return pd.DataFrame(rows, columns=["scenario", "method", "seed", "score", "value"])


def panel() -> list[Score]:
    """Scores whose numbers are long, and whose words are longer."""
    return [
        Score(
            name, 93.13, 1_234_567, 87.5, 96.3, "percent", "retrained", {"original": 10.25}, 100.0
        )
        for name in ("UA", "RA", "TA", "MIA")
    ]  # fmt: skip


# --- widths


@pytest.mark.parametrize("width", WIDTHS)
def test_no_number_of_a_table_is_cut(width: int) -> None:
    told = shown(scores_table(panel()), width)
    assert "…" not in told
    for line in (line for line in told.splitlines() if re.match(r" *(UA|RA|TA|MIA) ", line)):
        for number in ("93.13", "87.5 to 96.3", "1234567", "10.25", "100.00", "6.87"):
            assert number in line
    whole = shown(study_tables(papers_frame(), 400), 400)
    narrow = shown(study_tables(papers_frame(), width), width)
    assert "…" not in narrow
    assert set(NUMBER.findall(narrow)) <= set(NUMBER.findall(whole))


@pytest.mark.parametrize("width", (80, 100, 120, 200))
def test_tables_fit_a_terminal_of_a_usual_width(width: int) -> None:
    tables = [scores_table(panel()), study_tables(papers_frame(), width), listing(None, None)]
    for table in tables:
        assert max(map(len, shown(table, width).splitlines())) <= width


def test_words_beside_numbers_are_broken_and_go_before_numbers_do() -> None:
    assert "unlearning accuracy" in shown(scores_table(panel()), 120)
    narrow = shown(scores_table(panel()), 80)
    assert "accuracy" not in narrow and "gap" in narrow


def test_a_name_without_spaces_is_broken_not_cut() -> None:
    from expunge.audits.near_empty import SampleLoss
    from expunge.cli.show import losses_table

    rows = [SampleLoss("x" * 150, 0, 1.5, 2.5)]
    told = shown(losses_table(rows, ["a"]), 80)
    assert told.count("x") == 150 and "1.5000" in told and "…" not in told


# --- encodings


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_what_an_encoding_has_not_is_written_otherwise_and_names_stay_apart(encoding: str) -> None:
    names = ["käfer", "kåfer", "人2", "入2", "ok😀", "ok😁"]
    told = [shown(name, encoding=encoding) for name in names]
    assert len(set(told)) == len(names) and "?" not in "".join(told)
    signs = shown("93.1±0.5 – 3 ≥ 2 • …", encoding=encoding)
    if encoding == "ascii":
        assert signs.strip() == "93.1+-0.5 - 3 >= 2 * ..."
    assert "\\" not in signs


def test_columns_stay_under_each_other_in_a_narrow_encoding() -> None:
    from expunge.audits.near_empty import SampleLoss
    from expunge.cli.show import losses_table

    rows = [SampleLoss(name, 0, 1.5, 2.5) for name in ("人😀", "plain")]
    lines = shown(losses_table(rows, ["é"]), encoding="ascii").splitlines()
    assert len({line.rindex("2.5000") for line in lines if "2.5000" in line}) == 1


# --- streams


def ran(
    monkeypatch: pytest.MonkeyPatch, out: TextIO | None, err: TextIO | None, *words: str
) -> object:
    """The exit code of a command with these streams."""
    monkeypatch.setattr(sys, "argv", ["expunge", *words])
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    try:
        cli.main()
    except SystemExit as stop:
        return stop.code
    finally:
        if err is None and sys.stderr is not None:
            sys.stderr.close()
    return 0


def test_ctrl_c_before_the_command_has_begun_costs_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "tolerate_signs", interrupted)
    err = io.StringIO()
    assert ran(monkeypatch, io.StringIO(), err, "list") == 130
    assert "interrupted" in err.getvalue() and err.getvalue().count("\n") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("words", ["list", "--help", "--version", "study list"])
def test_a_full_disk_behind_a_redirect_costs_one_line(
    words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    err = io.StringIO()
    with open("/dev/full", "w", encoding="utf-8") as full:
        assert ran(monkeypatch, full, err, *words.split()) == 2
    assert err.getvalue() == "error: standard output: No space left on device\n"


@pytest.mark.parametrize("words", ["list", "--help", "--version", "train --help"])
def test_nothing_is_said_where_nobody_reads_on(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    err = io.StringIO()
    with os.fdopen(write, "w", encoding="utf-8") as pipe:
        assert ran(monkeypatch, pipe, err, *words.split()) == 141
    assert err.getvalue() == ""


def test_a_closed_output_is_known_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    err = io.StringIO()
    out = str(tmp_path / "m")
    assert ran(monkeypatch, None, err, "train", "--data", "digits", "--out", out) == 2
    assert err.getvalue().startswith("error: standard output is closed") and not os.listdir(
        tmp_path
    )


def test_without_standard_error_a_mistake_still_has_its_exit_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = io.StringIO()
    assert ran(monkeypatch, out, None, "lisst") == 2
    assert out.getvalue() == "", "a message is no result"
    if os.path.exists("/dev/full"):
        full = open("/dev/full", "w", encoding="utf-8", buffering=1)  # noqa: SIM115
        assert ran(monkeypatch, out, full, "lisst") == 2
        with pytest.raises(OSError):
            full.close()


@pytest.mark.parametrize(("colour", "drawn"), [("1", False), ("", True)])
def test_colours_in_a_log_do_not_make_it_a_terminal(
    colour: str, drawn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", colour)
    settings: dict[str, Any] = {} if colour else {"force_terminal": True}
    file = io.StringIO()
    with Bars(PlainConsole(file=file, width=80, **settings), 0.0, 0.0).work("w", 2) as bar:
        bar.advance()
    assert ("\x1b[?25l" in file.getvalue()) is drawn


@pytest.mark.parametrize(("width", "lines"), [(80, 75), (120, 45)])
def test_the_methods_fit_a_page_to_choose_from(width: int, lines: int) -> None:
    text = shown(listing("methods", None), width)
    assert len(text.splitlines()) <= lines
    for name, method in METHODS.items():
        line = next(line for line in text.splitlines() if line.split()[:1] == [name])
        assert method.guarantee.partition("(")[0] in line.split()


def test_a_summary_is_cut_at_a_mark_or_a_word() -> None:
    assert first_clause("Short and whole.", 20) == "Short and whole."
    assert first_clause("Cut here, at the mark and not before.", 20) == "Cut here, at the …"
    assert first_clause("Cut just here, at the mark.", 20) == "Cut just here …"
