"""One self-contained HTML page of a study or of one deletion, and the folder that it comes in.

The page fetches nothing: figures are inline SVG, images data URIs, and its content policy forbids
the rest. Every name and text of the input is escaped.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import jinja2
import pandas as pd
from markupsafe import Markup

from expunge.disk.whole import written_whole
from expunge.errors import ConfigError
from expunge.names.text import clean, clean_all
from expunge.report.claims import sentence, shown_claim
from expunge.report.data_files import findings_csv, scores_csv, to_csv
from expunge.report.drawn import inline_svg, save_figure
from expunge.report.latex import ALL, LatexStyle, to_latex
from expunge.report.markdown import items, plain_markdown, to_markdown
from expunge.report.places import PAGE, check_folder
from expunge.report.score_tables import ScoreTables, score_tables
from expunge.report.sections import Picture, Section, sections
from expunge.report.tables import clean_frame
from expunge.report.together import TITLE
from expunge.scores.rows import NO_METHODS, RETRAIN
from expunge.scores.verdict import PageVerdict, stated_margins

CLAIMED = (
    "Claims go seed by seed: in them the average gap is the mean of each seed's own, and so may differ "
    "from avg gap, the gap of the means."
)
TEMPLATES = files("expunge.report") / "templates"


@dataclass(frozen=True)
class PlainTable:
    """A table of texts: title, headers, and rows as long as these."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Together:
    """What the audits of a strength say. says: the sentence in all; table: a row for each score; lines:
    what else a terminal says below the sentence, such as what several models say of their method.
    """

    says: str
    table: PlainTable
    pictures: Sequence[Picture] = ()
    lines: Sequence[str] = ()


@dataclass(frozen=True)
class Report:
    """What a page shows. Whatever is empty is left out of it, heading and all.

    Attributes:
        title: the page's heading.
        kind: "study", or "deletion" for one request to one model.
        generated: when the page was made, as it is to be printed.
        version: of the library.
        frame: a row per setting (data, model, recipe, density, scenario), method, seed and score:
            value, 95 % interval over samples (low, high) and n, as `expunge.study.results.results`
            has it. Percent; RTE in seconds. The score "failed" marks a run that broke off.
        table: of this frame, scenario, method, seed, score and value as `expunge.report.tables`
            takes them. In both, the rows of a score that is in no table of this package may say unit
            and target (retrained, low or high).
        claims: objects or mappings with text (or claim.text), verdict (holds, fails or undecided),
            difference and its 95 % interval low, high, n seeds of `of`, why (what was missing), holm (p
            adjusted for the number of claims), after_holm, margin, look and capped.
        chance: how many claims would be decided by chance alone, in a sentence.
        looks: when a study that goes on until it is decided was looked at, and by which boundary.
        chain: of a deletion, every request that the model has met so far; None where there is none yet.
        published: tables of papers to stand beside.
        tuned: sentences on how settings were chosen.
        details: a mapping for each run: the setting, method and seed, and any of class_accuracy
            (percent of each class's test samples, or None), classes and forgotten_classes (names),
            confidence (forget, retain and test -> counts in equal bins of [0, 1]), and gallery (id,
            label, predicted, probability, true_probability in [0, 1], image as a data URI or None).
        configuration: YAML.
        environment: what the runs were made with, name -> version or device.
        command: that makes this page again.
        warnings: that runs gave.
        verdict, hint: on one deletion; what else to do, in a sentence.
        proof: of one deletion, what the method itself proves, in a sentence.
        together: of one deletion, what all audits of a strength say, where one was asked for.
        methods: of a study, what each of its methods forgets, proves and reads.
        findings: of a study, what its audits found, as `expunge.study.findings` has it; None without.
    """

    title: str
    kind: Literal["study", "deletion"]
    generated: str
    version: str
    frame: pd.DataFrame
    table: pd.DataFrame
    claims: Sequence[Any] = ()
    chance: str = ""
    looks: PlainTable | None = None
    chain: PlainTable | None = None
    published: Sequence[PlainTable] = ()
    tuned: Sequence[str] = ()
    details: Sequence[Mapping[str, Any]] = ()
    configuration: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    command: str = ""
    warnings: Sequence[str] = ()
    verdict: PageVerdict | None = None
    hint: str = ""
    proof: str = ""
    together: Together | None = None
    methods: PlainTable | None = None
    findings: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        for name, cleaned in (
            ("frame", clean_frame(self.frame)),
            ("table", clean_frame(self.table)),
            ("details", clean_all(self.details)),
        ):
            object.__setattr__(self, name, cleaned)


def printed_time() -> str:
    """The time as a page prints it."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def render(report: Report) -> str:
    """The page, one HTML text that needs no other file and no network.

    Raises:
        ConfigError: if the kind is unknown, or frame and table do not belong together.
    """
    tables = _tables(report)
    return _html(report, tables, _sections(report, tables))


def as_markdown(report: Report) -> str:
    """The tables, and below them how settings were chosen and what became of the claims."""
    said = [*report.tuned, *(sentence(claim) for claim in report.claims)]
    lines = items(said)
    if report.methods is not None:
        lines += (
            f"\n{plain_markdown(report.methods.title, report.methods.headers, report.methods.rows)}"
        )
    if report.looks is not None:
        lines += f"\n{plain_markdown(report.looks.title, report.looks.headers, report.looks.rows)}"
    if report.chain is not None:
        lines += f"\n{plain_markdown(report.chain.title, report.chain.headers, report.chain.rows)}"
    if report.together is not None:
        own = report.together.table
        lines += f"\n{plain_markdown(own.title, own.headers, own.rows)}\n{report.together.says}\n"
        lines += f"\n{items(report.together.lines)}"
    if report.claims:
        lines += f"\n{' '.join(filter(None, (report.chance, CLAIMED)))}\n"
    return f"{to_markdown(_tables(report))}\n{lines}"


def write_report(
    report: Report, out: Path, *, overwrite: bool = False, latex: LatexStyle = ALL
) -> list[Path]:
    """Write report.html, table.md, table.csv, table.tex, scores.csv, findings.csv where there are any,
    and figures/ as SVG and PDF.

    latex: of table.tex.

    Returns the paths. The folder appears under its name only when all of it is there.

    Raises:
        ConfigError: if a folder is in the way, or as `render` does.
    """
    check_folder(out, overwrite=overwrite, mark=PAGE)
    tables = _tables(report)
    parts = _sections(report, tables)
    with written_whole(out, overwrite=overwrite) as folder:
        (folder / PAGE).write_text(_html(report, tables, parts), encoding="utf-8")
        (folder / "table.md").write_text(as_markdown(report), encoding="utf-8")
        (folder / "table.csv").write_text(to_csv(tables), encoding="utf-8")
        (folder / "table.tex").write_text(to_latex(tables, style=latex), encoding="utf-8")
        (folder / "scores.csv").write_text(scores_csv(report.frame), encoding="utf-8")
        if tables.findings is not None:
            text = findings_csv(tables.findings)
            (folder / "findings.csv").write_text(text, encoding="utf-8")
        (folder / "figures").mkdir()
        further = report.together.pictures if report.together else ()
        for picture in (*_pictures(parts), *further):
            save_figure(picture.drawn.figure, folder / "figures" / picture.stem)
        names = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.is_file())
    return [out / name for name in names]


def _tables(report: Report) -> ScoreTables:
    return score_tables(report.table, report.findings)


def _sections(report: Report, tables: ScoreTables) -> list[Section]:
    if report.kind not in ("study", "deletion"):
        raise ConfigError(f"a report of kind {report.kind!r}: choose study or deletion")
    return sections(report.frame, tables, report.details)


def _pictures(parts: Sequence[Section]) -> list[Picture]:
    found = []
    for part in parts:
        found += part.pictures
        found += [picture for block in part.blocks for picture in block.pictures]
    return found


def _html(report: Report, tables: ScoreTables, parts: Sequence[Section]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: (TEMPLATES / name).read_text(encoding="utf-8")),
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["svg"] = _svg
    environment.filters["share"] = share
    environment.filters["sorting"] = sorting
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8").strip()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    blocks = [block for part in parts for block in part.blocks]
    grids = [grid for block in blocks for grid in block.grids]
    columns = {one.header: one.reads for grid in grids for one in grid.columns if one.reads}
    table = report.table
    common = {
        name: values[0]
        for name in ("data", "model", "recipe", "density")
        if len(values := report.frame[name].astype(str).unique()) == 1
    }
    page = environment.get_template("report.html.j2").render(
        report=report,
        sections=parts,
        blocks=blocks,
        claims=[shown_claim(claim) for claim in report.claims],
        columns=columns,
        together=TITLE,
        note=tables.note,
        common=common,
        retrained=bool((table["method"] == RETRAIN).any()),
        seeds=int(table["seed"].nunique()),
        methods=len(set(table["method"]) - set(NO_METHODS)),
        margins=(report.verdict.margins if report.verdict else "") or stated_margins(),
        script=Markup(script),  # a file of this package, and what the digest is of
        digest=digest,
    )
    return page.lstrip()  # a page starts with its type


def _shown(value: Any) -> Any:
    """What the page says of a value: a text from elsewhere is cleaned before it is escaped."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _svg(picture: Picture) -> Markup:
    """Made by an XML writer, which escapes every text in it."""
    return Markup(inline_svg(picture.drawn.figure, picture.stem, picture.drawn.title))


def share(ratio: float) -> str:
    """A share of retraining's cost in words: `6.9 %`, `under 0.1 %`, `1.3 times`."""
    if ratio >= 1:
        return f"{ratio:.2g}\u00a0times" if ratio < 10 else f"{ratio:.0f}\u00a0times"
    return "under 0.1\u00a0%" if ratio < 0.001 else f"{100 * ratio:.2g}\u00a0%"


def sorting(value: float | None) -> str:
    """What a cell is sorted by: six digits; empty where there is no number."""
    return "" if value is None else f"{value:.6g}"
