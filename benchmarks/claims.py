"""The papers' claims, one table each, as the records of docs/results decide them.

    python benchmarks/claims.py docs/results            # prints the tables
    python benchmarks/claims.py docs/results --write    # puts them and a figure into its README.md

How a record decides a claim stands in `claims_lines.py`.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from claims_figure import figure_of
from claims_lines import Line, by_reference, lines_of, over_page, stays
from PIL import Image

from expunge.disk.whole import write_file
from expunge.errors import ExpungeError
from expunge.report.claims import shown_claim
from expunge.report.markdown import escape_markdown
from expunge.study.launch import FILE
from expunge.study.verdicts import by_chance

CLAIMS: Mapping[str, str] = {
    "0": "What sparsity does to fine-tuning, gradient ascent and influence; the gain grows with it",
    "1": "At 95 % sparsity the average gap is smaller than dense",
    "2": "l1-sparse lifts the class-wise UA of fine-tuning, at its cost",
    "3": "The decreasing schedule beats the constant and the increasing one",
    "4": "OMP and SynFlow beat IMP as the prior for forgetting",
    "5": "ASR after fine-tuning falls with sparsity, and SA stays",
    "6": "Forgetting harmful source classes helps transfer",
    "UNSIR": "Classes are forgotten without a sample of theirs, the others stay",
}
"""Number -> what the paper says: 0 to 6 of Jia et al. 2023, the last of Tarun et al. 2023."""
STAR = (
    "\\* The paper says that this score stays: *equivalent* speaks for it, *holds* and *fails* tell of "
    "a change."
)
REFERENCE = (
    "‡ Read against one and the same reference, the models alone are not shown to differ so "
    "([how](claims.md)): that the retrained model has changed with the setting may be all of it."
)
BEGIN, END = "<!-- claims -->", "<!-- /claims -->"
FIGURE, TABLES = "claims.png", "claims.md"
HEADS = (
    "claim, as asked | record | seeds | difference | verdict | after Holm, in its study "
    "| after Holm, all of this page | seeds it takes "
    "| of it the model's part, the reference's; a control"
)


def row_of(line: Line) -> str:
    """A row of a table."""
    shown = shown_claim(line.found)
    further = f", {shown.further}" if shown.further else ""
    why = f" ({escape_markdown(shown.why)})" if shown.why else ""
    cells = (
        escape_markdown(shown.text) + (" \\*" if stays(line) else ""),
        f"[{line.record}]({line.record}/table.md)",
        shown.n,
        f"{shown.difference} {shown.interval}".strip() or "–",
        f"{shown.verdict}{further}{why}",
        "by its looks †" if line.both is None else shown.holm or "–",
        "–" if line.page is None else shown_claim(line.page).holm or "–",
        line.takes,
        "–" if line.parts is None else f"{line.parts}",
    )
    return f"| {' | '.join(cells)} |"


def counted(lines: Sequence[Line]) -> str:
    """How many claims hold, fail, are equivalent or undecided."""
    counts = Counter(line.verdict for line in lines)
    told = {"holds": "hold", "fails": "fail", "equivalent": "equivalent", "undecided": "undecided"}
    return ", ".join(f"{counts[word]} {says}" for word, says in told.items() if counts[word])


def sum_of(lines: Sequence[Line]) -> str:
    """A table of verdicts for each number, claims by data, and the figure."""
    family = sum(line.both is not None for line in lines)
    parts = [
        "Each cell: the verdict after Holm's correction within its study, in (5) by its looks, and the "
        "difference, left side less right side, in points: a minus speaks for the claim. Intervals, "
        f"seeds, and what a correction for all {family} claims outside (5) leaves: "
        f"[claims]({TABLES})."
    ]
    for number, says in CLAIMS.items():
        cells: dict[str, dict[str, str]] = {}
        for line in (one for one in lines if one.number == number):
            data, _, scenario = line.data.partition(", ")
            asked = escape_markdown(line.found.claim.text) + (" \\*" if stays(line) else "")
            told = f"**{line.verdict}**" if line.verdict != "undecided" else line.verdict
            if not math.isnan(line.found.difference):
                unit = "" if line.unit == "percent" else f" {line.unit}"
                told += f" {line.found.difference:+.1f}{unit}"
            told += " ‡" if by_reference(line) else ""
            row = f"{asked} ({scenario})" if scenario else asked
            cells.setdefault(row, {})[f"{data}{line.at_scale}"] = told
        columns = list(dict.fromkeys(name for own in cells.values() for name in own))
        table = [f"| ({number}) {says} | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
        for asked, own in cells.items():
            table.append(f"| {asked} | {' | '.join(own.get(name, '–') for name in columns)} |")
        parts += ["\n".join(table)] if cells else []
    notes = [STAR, *([REFERENCE] if any(map(by_reference, lines)) else [])]
    parts += [*notes, f"![all claims]({FIGURE})"]
    return "\n\n".join(parts)


def page_of(lines: Sequence[Line]) -> str:
    """All tables, and what they count."""
    family = sum(line.both is not None for line in lines)
    parts = [
        "# The papers' claims\n\nBy `python benchmarks/claims.py docs/results --write`.",
        f"{by_chance(family)} One column has the claims of a study for a family, the next "
        f"one all {family}. A claim says that its left side is smaller: *holds* where the whole "
        "95 % interval is below 0, *fails* where it is above, *equivalent* where a difference lies "
        "within the margin by two one-sided tests; a difference can be there and be so small.",
        "*Seeds it takes*: those with which the difference that was seen would be told from none in "
        "four of five tries, at 5 % shared out to the claims of the study, where that leaves it open; "
        "a difference that is large by luck takes more.",
        "*The model's part, the reference's*, of a claim about the gap of one method at two densities: "
        "the retrained model changes with the density, too, so both models are read against one and "
        "the same reference as well, once against each. The mean of these two differences is the "
        "model's part, with its own 95 % interval, not adjusted; the rest of the difference is the "
        "reference's. After them both parts of a control, the zeroed row of the last layer or doing "
        "nothing, in the same comparison.",
    ]
    for number, says in CLAIMS.items():
        own = [line for line in lines if line.number == number]
        if not own:
            continue
        head = f"## ({number}) {says}\n\n"
        head += (
            "By looks" if all(one.page is None for one in own) else "After Holm, in their studies"
        )
        table = [f"| {HEADS} |", "|---|---|---:|---|---|---|---|---:|---|"]
        parts += [f"{head}: {counted(own)}.", "\n".join([*table, *map(row_of, own)])]
    if any(stays(line) for line in lines):
        parts.append(STAR)
    if family < len(lines):
        parts.append(
            "† Decided by looks, which share out the error of the study by a boundary of their own "
            "([how](../studies.md)): no part of Holm's family of this page."
        )
    return "\n\n".join(parts) + "\n"


def written(file: Path, page: str) -> None:
    """Put a page between the marks of a file. Raises SystemExit for a file without them."""
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(
            f"{file} lacks {BEGIN} and after it {END}; write them where the tables belong"
        )
    write_file(file, f"{before}{begin}\n\n{page}\n{end}{after}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="folder of records")
    parser.add_argument("--write", action="store_true", help="into files of that folder")
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="write the figure there")
    asked = parser.parse_args(arguments)
    try:
        found = [
            one for file in sorted(asked.results.glob(f"*/{FILE}")) for one in lines_of(file.parent)
        ]
    except ExpungeError as error:
        raise SystemExit(f"{error}") from error
    if not found:
        raise SystemExit(f"{asked.results} holds no record with a claim of these papers")
    page = page_of(lines := over_page(found))
    if asked.write:
        written(asked.results / "README.md", sum_of(lines))
        write_file(asked.results / TABLES, page)
    else:
        print(page, end="")
    for file in filter(None, (asked.figure, asked.results / FIGURE if asked.write else None)):
        figure_of(lines, CLAIMS).savefig(file, dpi=110)
        with Image.open(file) as drawn:  # few colours: a quarter of the bytes
            fewer = drawn.convert("RGB").quantize(  # the other ways lose what few dots have
                64, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE
            )
        fewer.save(file, optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
