from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from report_helpers import for_tables, results

from expunge.report import latex
from expunge.report.latex import escape
from expunge.report.score_tables import score_tables

NASTY = r"50% & 1_a #2 ${x}$ ~^\ <b> | ±"


def to_latex(frame: pd.DataFrame, caption: str = "") -> str:
    return latex.to_latex(score_tables(frame), caption=caption)


def table(**settings) -> pd.DataFrame:
    return for_tables(results(**settings))


def test_every_sign_of_latex_is_disarmed() -> None:
    assert escape("%&_#${}") == r"\%\&\_\#\$\{\}"
    assert escape("~^\\") == r"\textasciitilde{}\textasciicircum{}\textbackslash{}"
    assert escape('<a> | "b"') == (
        r"\textless{}a\textgreater{} \textbar{} \textquotedbl{}b\textquotedbl{}"
    )
    assert escape("1.0±0.2 –") == r"1.0\,$\pm$\,0.2 --"
    assert escape("two\n\nlines\tand \x00\x1b control") == "two lines and  control"
    # nothing is left that would start a command or a comment of its own
    assert not re.search(r"(?<!\\)[%&#$_]", escape(NASTY).replace(r"$\pm$", ""))


def test_one_table_of_each_scenario_with_rules_of_booktabs() -> None:
    text = to_latex(table())
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 2
    for rule, count in (("toprule", 2), ("midrule", 4), ("bottomrule", 2)):
        assert text.count(f"\\{rule}") == count
    assert r"\usepackage{booktabs}" in text.splitlines()[0]
    assert "\\hline" not in text and "|" not in text
    assert "Forget one class. n = 3 seeds." in text
    assert r"Forget random 10\%." in text


def test_rows_hold_what_the_table_holds() -> None:
    frame = table(scenarios=["class"])
    grid = score_tables(frame).papers
    headers, rows = grid.headers, grid.texts
    text = to_latex(frame)
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
    lines = [line.strip() for line in body.splitlines() if line.strip().endswith(r"\\")]
    assert len(lines) == 1 + len(rows)
    for line, texts in zip(lines, [headers, *rows], strict=True):
        found = [one.strip() for one in line.removesuffix(r"\\").split(" & ")]
        plain = [
            re.sub(r"\\textbf\{(.*)\}$", r"\1", one)
            .replace(r"\,$\pm$\,", "±")
            .replace("--", "–")
            .replace("\\", "")
            for one in found
        ]
        assert [one.removeprefix("{").removesuffix("}") for one in plain] == texts
    columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", text)
    assert columns and columns[1] == "l" + "r" * (len(headers) - 1)


def test_the_best_is_bold_and_nothing_else() -> None:
    text = to_latex(table(scenarios=["class"]))
    assert text.count(r"\textbf{") == 2
    assert re.search(r"\\textbf\{neggrad\\_plus\} & .* & \\textbf\{[\d.]+\} & ", text)
    assert "Bold: the method with the smallest average gap." in text
    bare = to_latex(table(scenarios=["class"], methods=["original", "finetune"]))
    assert r"\textbf" not in bare and "Bold" not in bare


def test_names_stay_in_their_cell() -> None:
    frame = table(scenarios=["class"])
    frame["method"] = frame["method"].replace("finetune", NASTY)
    frame["scenario"] = "class:" + NASTY
    text = to_latex(frame, caption="A study")
    (line,) = [line for line in text.splitlines() if r"50\% \& 1" in line and line.endswith(r"\\")]
    (other,) = [line for line in text.splitlines() if line.strip().startswith("fisher")]
    ampersands = [len(re.findall(r"(?<!\\)&", one)) for one in (line, other)]
    assert ampersands[0] == ampersands[1]
    assert rf"\caption{{A study. Forget class:{escape(NASTY)}." in text


def test_a_bracket_is_no_option_of_the_line_before() -> None:
    frame = table(scenarios=["class"])
    frame["method"] = frame["method"].replace("finetune", "[x]")
    assert "\n    {[x]} & " in to_latex(frame)


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no LaTeX on this machine")
def test_it_compiles(tmp_path: Path) -> None:
    frame = table()
    frame["method"] = frame["method"].replace("finetune", NASTY)
    document = (
        "\\documentclass{article}\\usepackage{booktabs}\\usepackage[T1]{fontenc}\n"
        f"\\begin{{document}}\n{to_latex(frame)}\\end{{document}}\n"
    )
    (tmp_path / "t.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "t.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
