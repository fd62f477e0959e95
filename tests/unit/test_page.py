from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from report_helpers import deletion, details, findings, for_tables, results, study, write_page
from rich.console import Console
from thorough import THOROUGH

from expunge.cli.show import study_tables
from expunge.errors import ConfigError
from expunge.report.cells import text_of
from expunge.report.data_files import SCORES_FILE, findings_csv, to_csv
from expunge.report.markdown import to_markdown
from expunge.report.page import CLAIMED, Report, as_markdown, render, write_report
from expunge.report.score_tables import score_tables
from expunge.report.sections import sections
from expunge.scores.columns import MEANINGS
from expunge.scores.verdict import PageVerdict, stated_margins

NASTY = "<script>alert('x')</script> & \"co\""
VOID = {"meta", "img", "br", "link", "input"}


@dataclass
class Node:
    """An element: tag, attributes, and children that are elements or texts."""

    tag: str
    attributes: dict[str, str]
    children: list[Any] = field(default_factory=list)

    def all(self, tag: str, **wanted: str) -> list[Node]:
        found = []
        for child in self.children:
            if isinstance(child, Node):
                if child.tag == tag and all(
                    child.attributes.get(k) == v for k, v in wanted.items()
                ):
                    found.append(child)
                found += child.all(tag, **wanted)
        return found

    @property
    def text(self) -> str:
        parts = (c.text if isinstance(c, Node) else c for c in self.children)
        return " ".join("".join(parts).split())

    @property
    def classes(self) -> list[str]:
        return self.attributes.get("class", "").split()

    def elements(self) -> list[Node]:
        own = [child for child in self.children if isinstance(child, Node)]
        return own + [element for child in own for element in child.elements()]


class Tree(HTMLParser):
    """Reads as a browser does, as far as this page needs; a tag that is left open is an error."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("", {})
        self.open = [self.root]
        self.feed(html)
        self.close()
        assert self.open == [self.root], f"left open: {[node.tag for node in self.open]}"

    def handle_starttag(self, tag, attrs) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        assert len(node.attributes) == len(attrs), f"an attribute of {tag} stands twice"
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag, attrs) -> None:
        self.open[-1].children.append(Node(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag) -> None:
        assert self.open.pop().tag == tag

    def handle_data(self, data) -> None:
        self.open[-1].children.append(data)


def tree(html: str) -> Node:
    return Tree(html).root


def one_scenario(**changes: Any) -> Report:
    """Quick: one setting, no details."""
    frame = changes.pop("frame", None)
    frame = results(scenarios=["class"]) if frame is None else frame
    return study(**{"frame": frame, "details": (), **changes})


def rows(table: Node) -> dict[str, dict[str, Node]]:
    """Row's name -> header -> cell."""
    heads = [head.text for head in table.all("thead")[0].all("th")]
    found = {}
    for body in table.all("tbody"):
        for row in body.all("tr"):
            cells = [c for c in row.children if isinstance(c, Node)]
            found[cells[0].text] = dict(zip(heads, cells, strict=True))
    return found


def papers(root: Node) -> list[Node]:
    return [table for table in root.all("table") if "papers" in table.classes]


@pytest.fixture(scope="module")
def whole() -> Report:
    return study()


@pytest.fixture(scope="module")
def page(shared: Callable[[str, Callable[[Path], None]], Path]) -> str:
    return (shared("report", write_page) / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def root(page: str) -> Node:
    return tree(page)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages have a figure's place, title and caption, and nothing in it: drawing takes long."""

    def empty(figure: object, name: str, label: str) -> str:
        assert figure and name
        return f'<svg role="img" aria-label="{escape(label)}"></svg>'

    monkeypatch.setattr("expunge.report.page.inline_svg", empty)


def test_cells_hold_mean_spread_and_gap_of_the_frame(whole: Report, root: Node) -> None:
    tables = papers(root)
    assert len(tables) == 2
    for table, scenario in zip(tables, ("class", "random:0.1"), strict=True):
        part = whole.frame[whole.frame["scenario"] == scenario]
        values = part.pivot_table(index=["method", "seed"], columns="score", values="value")
        found = rows(table)
        assert list(found) == list(part["method"].unique())
        for method, score in (("fisher", "UA"), ("finetune", "TA"), ("original", "MIA")):
            own, target = values.loc[method][score], values.loc["retrain"][score]
            gap = abs(own.mean() - target.mean())
            cell = found[method][score]
            assert cell.text == f"{own.mean():.1f}±{own.std():.1f} ({gap:.1f})"
            assert float(cell.attributes["data-value"]) == pytest.approx(own.mean(), rel=1e-5)
            assert "95 % interval of the mean" in cell.attributes["title"]
        four = ["UA", "MIA", "RA", "TA"]
        means = values.groupby("method")[four].mean()
        gaps = (means - means.loc["retrain"]).abs().mean(axis="columns")
        for method in ("fisher", "neggrad_plus", "floor"):
            assert found[method]["avg gap"].text == f"{gaps[method]:.2f}"
        seconds = values.groupby("method")["RTE"].mean()
        ratio = float(found["fisher"]["RTE / retrain"].attributes["data-value"])
        assert ratio == pytest.approx(seconds["fisher"] / seconds["retrain"], rel=1e-5)
        assert (
            found["retrain"]["UA"].text == f"{values.loc['retrain']['UA'].mean():.1f}±"
            f"{values.loc['retrain']['UA'].std():.1f}"
        )


def test_the_best_is_marked_and_answers_the_question(whole: Report, root: Node) -> None:
    for number, table in enumerate(papers(root)):
        best = [row for row in table.all("tr") if "best" in row.classes]
        assert [row.all("th")[0].text for row in best] == ["neggrad_plus"]
        assert [bold.text for bold in table.all("b")] == [
            rows(table)["neggrad_plus"]["avg gap"].text
        ]
        (block,) = root.all("div", id=f"s{number + 1}-1")
        (lead,) = [p for p in block.all("p") if "lead" in p.classes]
        gap = float(rows(table)["neggrad_plus"]["avg gap"].attributes["data-value"])
        assert lead.text.startswith(
            f"neggrad_plus came nearest to retraining: {gap:.1f} points away on average, at "
        )
        ratio = float(rows(table)["neggrad_plus"]["RTE / retrain"].attributes["data-value"])
        assert f"at {100 * ratio:.2g} % of retraining’s cost." in lead.text
        low, high = rows(table)["neggrad_plus"]["95 % interval"].text.strip("[]").split(", ")
        assert f"95 % interval {low} to {high}" in lead.text
        undecided = float(low) <= 0 <= float(high)
        assert ("undecided, not equal" in lead.text) == undecided
    assert "undecided, not equal" in root.text and "it does not hold 0" in root.text


@pytest.mark.usefixtures("undrawn")
def test_the_summary_links_to_every_setting(root: Node) -> None:
    (short,) = [table for table in root.all("table") if "short" in table.classes]
    links = {link.text: link.attributes["href"] for link in short.all("a")}
    assert links == {"one class": "#s1-1", "random 10%": "#s2-1"}
    for target in links.values():
        assert len([e for e in root.elements() if e.attributes.get("id") == target[1:]]) == 1
    single = tree(render(one_scenario()))
    assert not [table for table in single.all("table") if "short" in table.classes]
    assert "came nearest" in single.all("section", id="answer")[0].text


def test_yardsticks_stand_apart_and_each_setting_sorts_alone(root: Node) -> None:
    for table in papers(root):
        assert "sortable" in table.classes
        fixed, own = table.all("tbody")
        assert "fixed" in fixed.classes and "fixed" not in own.classes
        named = [row.all("th")[0].text for row in fixed.all("tr")]
        assert named == ["original", "retrain", "floor"]
        for cell in own.all("td"):
            assert cell.attributes["data-value"] == "" or float(cell.attributes["data-value"]) >= -9
        assert not own.all("tbody") and not table.all("table")


@pytest.mark.usefixtures("undrawn")
def test_every_column_is_explained(root: Node) -> None:
    (reading,) = root.all("section", id="reading")
    explained = [term.text for term in reading.all("dt")]
    for table in papers(root):
        heads = [head.text for head in table.all("thead")[0].all("th")]
        assert set(heads) <= set(explained) <= set(MEANINGS)
    assert "empirical evidence, no formal guarantee" in reading.text
    assert "empirical evidence, no formal guarantee" in root.all("section", id="answer")[0].text
    bare = tree(render(one_scenario(frame=results(scenarios=["random:0.1"]))))
    assert "TA_forget" not in bare.all("section", id="reading")[0].text
    usual = results(scenarios=["random:0.1"])
    more = usual[usual["score"] == "UA"]
    frame = pd.concat([usual, more.assign(score="ASR"), more.assign(score="linear_probe")])
    page = tree(render(one_scenario(frame=frame)))
    known = [term.text for term in page.all("section", id="reading")[0].all("dt")]
    assert {"ASR", "linear_probe"} <= set(known), "further scores are columns too"


@pytest.mark.usefixtures("undrawn")
def test_claims_with_verdicts_of_mappings_and_of_objects(root: Node) -> None:
    def verdicts(part: Node) -> list[list[str]]:
        (table,) = [t for t in part.all("table") if "claims" in t.classes]
        return [
            [c.text for c in row.children if isinstance(c, Node)]
            for row in table.all("tbody")[0].all("tr")
        ]

    assert verdicts(root) == [
        [
            "average gap of neggrad_plus < average gap of finetune",
            "holds",
            "-31.20",
            "[-33.00, -29.40]",
            "–",
            "3",
        ],
        ["TA of l1_sparse < TA of neggrad_plus", "undecided", "+0.08", "[-0.60, +0.76]", "–", "3"],
        ["UA of scrub < UA of finetune", "undecided", "no UA of scrub", "0"],
    ]
    found = SimpleNamespace(
        claim=SimpleNamespace(text="a < b"),
        verdict="fails",
        difference=2.0,
        low=1.0,
        high=3.0,
        n=4,
        why="",
    )
    assert verdicts(tree(render(one_scenario(claims=(found,))))) == [
        ["a < b", "fails", "+2.00", "[+1.00, +3.00]", "–", "4"]
    ]


def test_nothing_comes_from_elsewhere(page: str, root: Node) -> None:
    assert "http:" not in page and "https:" not in page
    assert "//" not in re.sub(r"(?m)// .*$|base64,[^\"]*|sha256-[^']*", "", page)
    for element in root.elements():
        assert element.tag not in {"link", "iframe", "object", "embed", "base", "form"}
        for name in ("src", "href", "xlink:href", "srcset", "action", "data"):
            value = element.attributes.get(name, "#")
            assert value.startswith(("#", "data:image/png;base64,")), (element.tag, value)
    assert "@import" not in page
    assert set(re.findall(r"url\((.)", page)) <= {"#"}
    (policy,) = root.all("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy.attributes["content"].startswith("default-src 'none'; img-src data:;")


def test_the_only_script_is_the_one_that_the_policy_names(page: str, root: Node) -> None:
    (script,) = root.all("script")
    text = "".join(script.children)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page
    assert not [n for e in root.elements() for n in e.attributes if n.startswith("on")]


def test_ids_are_unique_and_links_lead_somewhere(root: Node) -> None:
    ids = [e.attributes["id"] for e in root.elements() if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    links = {e.attributes["href"][1:] for e in root.elements() if "href" in e.attributes}
    assert links and links <= set(ids)


def test_figures_stand_inline_with_words(root: Node) -> None:
    figures = {figure.attributes["id"]: figure for figure in root.all("figure")}
    assert set(figures) == {
        f"{place}-{what}"
        for place in ("01-one-class", "02-random-10")
        for what in ("radar", "cost", "classes", "confidence")
    }
    for figure in figures.values():
        (svg,) = figure.all("svg")
        assert svg.attributes["role"] == "img" and svg.attributes["aria-label"]
        assert figure.all("figcaption")[-1].text
    words = [text.text for text in figures["01-one-class-classes"].all("text")]
    assert {"cat (forgotten)", "neggrad_plus", "retrained"} <= set(words)
    assert "avg gap" not in words


def test_gallery_shows_what_each_model_says(whole: Report, root: Node) -> None:
    gallery = next(table for table in root.all("table") if "gallery" in table.classes)
    heads = [head.text for head in gallery.all("thead")[0].all("th")]
    assert heads[:4] == ["sample", "original", "retrain", "neggrad_plus"]
    lines = gallery.all("tbody")[0].all("tr")
    for detail in whole.details:
        if detail["scenario"] != "class" or detail["seed"] != 0 or detail["method"] not in heads:
            continue
        column = heads.index(detail["method"]) - 1
        for line, sample in zip(lines, detail["gallery"], strict=True):
            assert line.all("th")[0].text == f"{sample['label']}{sample['id']}"
            assert line.all("img")[0].attributes["src"] == sample["image"]
            mark = "●" if sample["predicted"] == sample["label"] else "○"
            percent = f"{100 * sample['probability']:.0f} %"
            assert line.all("td")[column].text == f"{mark} {sample['predicted']}{percent}"


def test_names_stay_text_wherever_they_stand() -> None:
    frame = results(scenarios=["class"], seeds=2)
    frame["method"] = frame["method"].replace("finetune", NASTY)
    frame["scenario"] = f"class:{NASTY}"
    classes = [NASTY, "b", "c", "<img src=x onerror=alert(1)>"]
    found = details(frame, classes)
    for one in found:
        one["forgotten_classes"] = [NASTY]
        for sample in one["gallery"]:
            sample["id"] = sample["label"] = NASTY
    claim = {
        "text": NASTY,
        "verdict": NASTY,
        "difference": 1.0,
        "low": 0.5,
        "high": 2.0,
        "n": 2,
        "why": NASTY,
    }
    report = study(
        title=NASTY,
        generated=NASTY,
        version=NASTY,
        frame=frame,
        details=found,
        claims=(claim,),
        tuned=(NASTY,),
        configuration=NASTY,
        environment={NASTY: NASTY},
        command=NASTY,
        warnings=(NASTY,),
    )
    page = render(report)
    root = tree(page)
    assert len(root.all("script")) == 1
    assert all(image.attributes["src"].startswith("data:image/png") for image in root.all("img"))
    assert not [n for e in root.elements() for n in e.attributes if n.startswith("on")]
    assert root.all("h1")[0].text == " ".join(NASTY.split())
    assert root.all("title")[0].text == NASTY
    assert [pre.text for pre in root.all("pre")] == [NASTY, NASTY]
    words = [text.text for text in root.all("text")]
    assert any("<script>alert(" in word for word in words)
    assert any("<img src=x" in word for word in words)
    assert NASTY in rows(papers(root)[0])
    assert page.count("<script") == 1


@pytest.mark.parametrize(
    "image",
    [
        "https://example.org/x.png",
        "javascript:alert(1)",
        "data:image/svg+xml;base64,AAAA",
        "data:text/html;base64,AAAA",
        'data:image/png;base64,A" onload="x',
        7,
        None,
    ],
)
def test_images_that_are_no_plain_data_are_left_out(image: object) -> None:
    frame = results(scenarios=["class"], methods=["original", "finetune"], seeds=1)
    found = [
        {k: v for k, v in d.items() if k not in ("confidence", "class_accuracy")}
        for d in details(frame)
    ]
    for one in found:
        one["gallery"][0]["image"] = image
    root = tree(render(study(frame=frame, details=found)))
    (gallery,) = [table for table in root.all("table") if "gallery" in table.classes]
    assert len(gallery.all("img")) == 5
    assert len(gallery.all("tbody")[0].all("tr")) == 6


@pytest.mark.usefixtures("undrawn")
def test_what_is_empty_has_no_heading() -> None:
    bare = replace(
        one_scenario(),
        claims=(),
        published=(),
        tuned=(),
        configuration="",
        environment={},
        command="",
        warnings=(),
    )
    root = tree(render(bare))
    names = [section.attributes["id"] for section in root.all("section")]
    assert names == ["answer", "s1", "reading"]
    assert [figure.attributes["id"] for figure in root.all("figure")] == [
        "01-one-class-radar",
        "01-one-class-cost",
    ]
    assert [summary.text for summary in root.all("summary")] == ["Every run 24 runs"]
    assert not [e for e in root.elements() if set(e.classes) & {"warning", "gallery", "claims"}]
    full = tree(render(one_scenario()))
    names = [section.attributes["id"] for section in full.all("section")]
    assert names == [
        "answer",
        "claims",
        "s1",
        "published",
        "reading",
        "tuned",
        "configuration",
    ]


@pytest.mark.usefixtures("undrawn")
def test_one_deletion_says_what_was_asked_done_reached_and_paid() -> None:
    report = deletion(details=())
    root = tree(render(report))
    (request,) = [one for one in root.all("dl") if "request" in one.classes]
    terms = [term.text for term in request.all("dt")]
    assert terms == ["What was asked", "What was done", "How close", "What it cost"]
    asked, done, close, cost = (answer.text for answer in request.all("dd"))
    assert asked == "To forget ids:withdrawn.txt: 4,500 training samples."
    assert done.startswith("neggrad_plus on the model resnet18, which was trained on cifar10")
    values = report.frame.pivot_table(index="method", columns="score", values="value")
    four = ["UA", "MIA", "RA", "TA"]
    gap = (values.loc["neggrad_plus", four] - values.loc["retrain", four]).abs().mean()
    assert close.startswith(f"neggrad_plus is {gap:.1f} points away from retraining on average.")
    assert "was not measured" in close  # how far two retrainings are apart
    seconds = values["RTE"]
    assert f"{seconds['neggrad_plus']:.0f} s" in cost
    assert f"{100 * seconds['neggrad_plus'] / seconds['retrain']:.2g} % of retraining’s" in cost
    assert not root.all("section", id="claims")
    (table,) = papers(root)
    assert "excess gap" not in rows(table)["neggrad_plus"]
    (runs,) = [d for d in root.all("details") if "runs" in d.classes]
    assert "open" in runs.attributes
    single = report.frame[(report.frame["method"] == "retrain") & (report.frame["score"] == "UA")]
    value, low, high = single.iloc[0][["value", "low", "high"]]
    cell = rows(runs.all("table")[0])["retrain"]["UA"]
    assert cell.text == f"{value:.1f} [{low:.1f}, {high:.1f}]"
    assert cell.attributes["title"] == "n = 4,500"


@pytest.mark.usefixtures("undrawn")
def test_the_verdict_stands_before_the_distance() -> None:
    verdict = PageVerdict("not forgotten", "UA 0.0, of retraining 6.0", references=1)
    hint = "an exact model lies in exact: use it; retraining took 2.0 s, unsir 1.5 s"
    root = tree(render(deletion(details=(), verdict=verdict, hint=hint)))
    (request,) = [one for one in root.all("dl") if "request" in one.classes]
    terms = [term.text for term in request.all("dt")]
    assert terms[0] == "Verdict" and "How close" in terms
    said = request.all("dd")[0].text
    assert said.startswith("not forgotten: UA 0.0, of retraining 6.0. An exact model lies in exact")
    assert stated_margins() in said
    own = replace(verdict, margins="3 points of UA (digest 0123)")
    assert "digest 0123" in render(deletion(details=(), verdict=own))
    none = tree(render(deletion(details=(), verdict=PageVerdict("", "none: few samples"))))
    assert none.all("dd", id="verdict")[0].text == "none: few samples."


@pytest.mark.usefixtures("undrawn")
def test_a_retrained_model_with_a_backdoor_is_no_yardstick() -> None:
    frame = results(methods=["original", "retrain", "finetune"], seeds=2)
    asr = frame[frame["score"] == "UA"].assign(score="ASR", value=98.0)
    asr.loc[(asr["scenario"] == "class") & (asr["method"] == "retrain"), "value"] = 1.0
    root = tree(
        render(study(frame=pd.concat([frame, asr], ignore_index=True), claims=(), details=()))
    )
    clean, left = [row.text for row in root.all("table", **{"class": "short"})[0].all("tr")[1:]]
    said = "the retrained model has ASR 98.0 too (2 of 2 models): poison is left in the data"
    assert said in left and "poison is left" not in clean
    assert root.text.count(f"No retrained model is clean here: {said}") == 1


def test_without_a_retrained_model_there_is_no_distance() -> None:
    frame = results(scenarios=["class"], methods=["original", "finetune"], seeds=1)
    root = tree(render(deletion(frame=frame, details=())))
    assert "no retrained model to compare with" in root.all("section", id="answer")[0].text
    assert not root.all("figure")
    assert "avg gap" not in rows(papers(root)[0])["finetune"]
    (request,) = [one for one in root.all("dl") if "request" in one.classes]
    seconds = frame[(frame["method"] == "finetune") & (frame["score"] == "RTE")]["value"].iloc[0]
    assert request.all("dd")[3].text == f"finetune: {seconds:.0f} s."
    untimed = frame[frame["score"] != "RTE"]
    root = tree(render(deletion(frame=untimed, details=())))
    (request,) = [one for one in root.all("dl") if "request" in one.classes]
    assert request.all("dd")[3].text == "finetune: not measured."


@pytest.mark.usefixtures("undrawn")
def test_failed_runs_are_named() -> None:
    frame = results(scenarios=["class"])
    broken = (frame["method"] == "fisher") & (frame["seed"] == 1)
    one = frame[broken].iloc[:1].assign(score="failed", value=np.nan, low=np.nan, high=np.nan)
    frame = pd.concat([frame[~broken], one], ignore_index=True)
    root = tree(render(one_scenario(frame=frame)))
    assert rows(papers(root)[0])["fisher"]["seeds"].text == "2 (1 failed)"
    (runs,) = [d for d in root.all("details") if "runs" in d.classes]
    lines = [[c.text for c in row.children if isinstance(c, Node)] for row in runs.all("tr")]
    assert ["fisher (failed)", "1", *"––––––"] in lines


@pytest.mark.usefixtures("undrawn")
def test_further_scores_have_a_table_of_their_own() -> None:
    frame = results(scenarios=["class"])
    more = frame[frame["score"] == "UA"].assign(score="relearn_time", low=np.nan, high=np.nan)
    more["value"] = more["seed"] * 10.0
    more["bound"] = np.where((more["method"] == "fisher") & (more["seed"] == 2), "at least", None)
    root = tree(render(one_scenario(frame=pd.concat([frame, more], ignore_index=True))))
    (table,) = [
        t for t in root.all("table") if t.all("caption") and "Further" in t.all("caption")[0].text
    ]
    assert rows(table)["finetune"]["relearn_time"].text == "10±10"
    assert rows(table)["fisher"]["relearn_time"].text == "≥ 10±10 (1 of 3 at the cap)"


@pytest.mark.usefixtures("undrawn")
def test_what_the_audits_say_together_is_a_table_in_every_form() -> None:
    made = ["original", "retrain", "finetune"]
    frame = results(scenarios=["class", "random:0.1"], methods=made)
    report = one_scenario(frame=frame, findings=findings(frame, NASTY))
    html = render(report)
    root = tree(html)
    assert NASTY not in html
    tables = [t for t in root.all("table") if "found" in t.classes]
    titles = [f"What the audits say together: {name}" for name in ("one class", "random 10%")]
    assert [table.all("caption")[0].text for table in tables] == titles
    heads = [head.text for head in tables[0].all("thead")[0].all("th")]
    words = ["not forgotten", "damaged", "told apart", "forgot", "cannot tell"]
    assert heads == ["method", "seeds", *words, "outside"]
    assert set(heads) <= {t.text for t in root.all("section", id="reading")[0].all("dt")}
    line = rows(tables[0])["finetune"]
    assert [line[head].text for head in heads] == ["finetune", *"320001", f"{NASTY} 2"]
    assert line["outside"].classes == ["word"] and "retrain" not in rows(tables[0])
    assert "against 1 retrained model. outside:" in root.text
    plain, lines = as_markdown(report), [f"| finetune | {' | '.join('320001')} |", *titles]
    assert all(plain.count(text) == 2 - (text in titles) for text in lines) and NASTY not in plain
    assert plain.count("With fewer than 5 retrained models no score can be found within") == 2
    out = io.StringIO()
    Console(file=out, width=200).print(study_tables(report.table, 200, report.findings))
    told = out.getvalue()
    assert told.count("hat the audits say together, forget") == 2 and f"{NASTY} 2" in told
    assert "audits say together" not in as_markdown(replace(report, findings=None))


@pytest.mark.usefixtures("undrawn")
def test_a_setting_that_a_study_varies_is_drawn() -> None:
    rates = {f"finetune (lr={lr:g})": lr for lr in (0.01, 0.1)}
    frame = results(scenarios=["class"], methods=["original", "retrain", *rates])
    frame["set.lr"] = frame["method"].map(rates)
    root = tree(render(one_scenario(frame=frame, table=for_tables(frame), details=())))
    (figure,) = [one for one in root.all("figure") if "ablation" in one.attributes["id"]]
    assert figure.attributes["id"] == "01-one-class-ablation-finetune-lr"


@THOROUGH
@pytest.mark.usefixtures("undrawn")
def test_densities_share_a_section_and_its_figure() -> None:
    frame = results(scenarios=["class"], densities=["dense", "95 % omp", "90 % imp"], seeds=2)
    report = one_scenario(frame=frame)
    root = tree(render(report))
    headings = [h.text for s in root.all("section", id="s1") for h in s.all("h2") + s.all("h3")]
    assert headings == ["Forget one class", "dense", "95 % omp pruning", "90 % imp pruning"]
    assert not root.all("section", id="s2")
    names = [figure.attributes["id"] for figure in root.all("figure")]
    assert names[:2] == ["01-sparsity-omp", "01-sparsity-imp"]
    assert len(papers(root)) == 3
    found = [t.all("caption")[0].text for t in papers(root)]
    assert found[1] == "Scores beside retraining: one class, 95 % omp"
    values = frame[(frame["density"] == "95 % omp") & (frame["method"] == "fisher")]
    mean = values.loc[values["score"] == "RA", "value"].mean()
    assert rows(papers(root)[1])["fisher"]["RA"].text.startswith(f"{mean:.1f}±")


def test_details_go_to_their_own_setting(whole: Report) -> None:
    parts = sections(
        whole.frame, score_tables(whole.table), whole.details[:24]
    )  # those of the first scenario
    first, second = (part.blocks[0] for part in parts)
    assert first.gallery is not None and second.gallery is None
    assert len(first.pictures) == 4 and len(second.pictures) == 2


@pytest.mark.usefixtures("undrawn")
def test_a_table_of_another_frame_is_refused(whole: Report) -> None:
    other = for_tables(results(scenarios=["class"]))
    with pytest.raises(ConfigError, match="does not belong to the frame"):
        render(replace(whole, table=other))
    fewer = whole.table[whole.table["method"] != "fisher"]
    with pytest.raises(ConfigError, match="does not belong to the frame"):
        render(replace(whole, table=fewer))
    with pytest.raises(ConfigError, match="lacks the columns density"):
        render(replace(whole, frame=whole.frame.drop(columns="density")))
    with pytest.raises(ConfigError, match="choose study or deletion"):
        render(replace(whole, kind="poem"))


def test_the_table_is_made_as_the_study_makes_it() -> None:
    study_results = pytest.importorskip("expunge.study.results")  # needs torch, the page does not
    frame = results(densities=["dense", "95 % omp"], seeds=2)
    broken = (frame["method"] == "fisher") & (frame["seed"] == 1) & (frame["density"] == "dense")
    failed = frame[broken & (frame["score"] == "UA")].assign(score="failed", value=np.nan)
    frame = pd.concat([failed, frame[~broken]], ignore_index=True)
    made = study_results.for_tables(frame)
    key = ["scenario", "method", "seed", "score"]
    pd.testing.assert_frame_equal(
        made.sort_values(key, ignore_index=True),
        for_tables(frame).sort_values(key, ignore_index=True),
    )
    parts = sections(frame, score_tables(made), ())
    assert [block.name for part in parts for block in part.blocks] == [
        "one class, dense",
        "one class, 95 % omp",
        "random 10%, dense",
        "random 10%, 95 % omp",
    ]
    for block in (block for part in parts for block in part.blocks):
        found = {text_of(line.cells[0]): line.cells[1] for line in block.table.lines}
        failures = "(1 failed)" if block.key["density"] == "dense" else ""
        assert found["fisher"].rest == failures


@pytest.mark.thorough
def test_five_hundred_runs_keep_their_structure() -> None:
    names = ["original", "retrain", "floor", *(f"m{n:02d}" for n in range(97))]
    frame = results(scenarios=["class"], methods=names, seeds=5)
    page = render(one_scenario(frame=frame))
    root = tree(page)
    (runs,) = [d for d in root.all("details") if "runs" in d.classes]
    assert len(runs.all("tbody")[0].all("tr")) == 500
    assert len(rows(papers(root)[0])) == 100
    assert len(root.all("figure")) == 2
    assert len(page) < 3_000_000
    assert len(root.elements()) < 20_000


def test_the_folder_holds_page_tables_and_figures(tmp_path: Path) -> None:
    frame = results(scenarios=["class"])
    report = one_scenario(frame=frame, findings=findings(frame))
    before = report.frame.copy()
    out = tmp_path / "new" / "report"
    paths = write_report(report, out)
    figures = [
        f"figures/01-one-class-{n}.{end}" for n in ("cost", "radar") for end in ("pdf", "svg")
    ]
    names = [*figures, "findings.csv", "report.html", "scores.csv"]
    names += ["table.csv", "table.md", "table.tex"]
    assert [str(path.relative_to(out)) for path in paths] == names
    assert all(path.is_file() and path.stat().st_size for path in paths)
    assert list((tmp_path / "new").iterdir()) == [out]
    assert (out / "figures").stat().st_mode & 0o777 == out.stat().st_mode & 0o777
    assert (out / "report.html").read_text(encoding="utf-8") == render(report)
    assert (out / "table.csv").read_text(encoding="utf-8") == to_csv(score_tables(report.table))
    text = (out / "table.md").read_text(encoding="utf-8")
    assert text.startswith(to_markdown(score_tables(report.table, report.findings)))
    last = "- UA of scrub < UA of finetune: undecided (no UA of scrub)"
    assert text.endswith(f"{last}\n\n{CLAIMED}\n")
    assert (
        "gradient_ascent: lr 2e-4" in text and "difference -31.20 [-33.00, -29.40], n = 3" in text
    )
    assert "\\toprule" in (out / "table.tex").read_text(encoding="utf-8")
    assert report.findings is not None
    assert (out / "findings.csv").read_text(encoding="utf-8") == findings_csv(report.findings)
    scores = pd.read_csv(out / "scores.csv")
    assert [*scores.columns] == [*SCORES_FILE]
    assert list(scores["value"]) == pytest.approx(list(report.frame["value"]))
    pd.testing.assert_frame_equal(report.frame, before)


def test_a_folder_in_the_way_is_only_replaced_on_request(tmp_path: Path) -> None:
    out = tmp_path / "report"
    small = one_scenario(frame=results(scenarios=["class"], methods=["original", "x"], seeds=1))
    write_report(replace(small, findings=findings(small.frame)), out)
    with pytest.raises(ConfigError, match="--overwrite"):
        write_report(small, out)
    write_report(replace(small, title="again"), out, overwrite=True)
    assert "<h1>again</h1>" in (out / "report.html").read_text(encoding="utf-8")
    assert not (out / "findings.csv").exists()
    (out / "report.html").unlink()
    with pytest.raises(ConfigError, match="is no folder of a report"):
        write_report(small, out, overwrite=True)
