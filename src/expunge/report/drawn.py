"""A figure for a page: how it looks, what is said below it, and how it becomes SVG and PDF."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from expunge.report.figures import STYLE
from expunge.report.plotting import ConstrainedLayoutEngine, Figure, FigureCanvasAgg, mpl

NARROW, WIDE = 4.6, 7.4
"""Inches. At such a width, 9 points stay legible on a phone; a wide figure scrolls there."""
LOOK: dict[Any, Any] = {
    **STYLE,
    "font.size": 9,
    "font.sans-serif": ["DejaVu Sans"],  # else each text of an SVG lists a dozen more
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}
"""Words stay words in SVG and PDF: they can be searched, copied and read aloud."""

Numbers = npt.NDArray[np.float64]

LONG = re.compile(r"-?\d+\.\d{2,}")
for _prefix, _address in (
    ("", "http://www.w3.org/2000/svg"),
    ("xlink", "http://www.w3.org/1999/xlink"),
    ("rdf", "http://www.w3.org/1999/02/22-rdf-syntax-ns#"),
    ("cc", "http://creativecommons.org/ns#"),
    ("dc", "http://purl.org/dc/elements/1.1/"),
):
    ElementTree.register_namespace(_prefix, _address)  # as matplotlib calls them


@dataclass(frozen=True)
class Drawn:
    """A figure and what must be said below it. wide: it needs the whole width of a page."""

    figure: Figure
    title: str
    caption: str
    wide: bool = False


def canvas(width: float, height: float) -> Figure:
    """An empty figure of that many inches, away from matplotlib's global ones."""
    layout = ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.05, wspace=0.03, hspace=0.04)
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure


def left_out(number: int, what: str, why: str = "") -> str:
    """What a limit hides, to be said in a caption; nothing where nothing is hidden."""
    if number <= 0:
        return ""
    return f" Left out: {number} {what}{'' if number == 1 else 's'}{why}."


def inline_svg(figure: Figure, name: str, label: str) -> str:
    """The figure as `<svg>` for a page: no namespace, no metadata, no id that another one has.

    name: letters, digits and hyphens, unique in the page. label: what it shows, for a reader aloud.
    """
    # ids are hashed with the salt, and a clip path is not found where its twin is hidden
    root = _svg(figure, {"svg.hashsalt": name})
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        given = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        if element.tag == "g":  # named after what it draws, and so as in every other figure
            given.pop("id", None)
        element.attrib.clear()
        element.attrib.update(given)
    box = [float(number) for number in root.attrib["viewBox"].split()]
    root.attrib.clear()
    root.attrib.update({"viewBox": " ".join(f"{number:g}" for number in box), "role": "img"})
    root.set("aria-label", label)
    root.set("style", f"--width:{box[2] / 12:.1f}rem")  # so that all letters have one size
    return ElementTree.tostring(root, encoding="unicode")


def _svg(figure: Figure, settings: dict[Any, Any]) -> ElementTree.Element:
    """The figure as an SVG tree, its lines to a tenth of a point, which nobody can see."""
    buffer = io.BytesIO()
    with mpl.rc_context({**LOOK, **settings}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    figure.set_layout_engine(None)  # it has found its places; each further file keeps them
    root = ElementTree.fromstring(buffer.getvalue())
    for element in root.iter():
        if not (element.text or "").strip() and not element.tag.endswith("}text"):
            element.text = None
        element.tail = None
        for key in {"d", "x", "y"} & element.attrib.keys():
            text = LONG.sub(lambda found: f"{round(float(found[0]), 1):g}", element.attrib[key])
            element.set(key, " ".join(text.split()))
        if element.attrib.get("transform", "").startswith("rotate(-0 "):
            del element.attrib["transform"]  # by nothing; matplotlib says so of every level text
    return root


def save_figure(figure: Figure, stem: Path) -> None:
    """Write `stem` with .svg and .pdf after it, without a date, so that runs can be compared."""
    tree = ElementTree.ElementTree(_svg(figure, {}))
    tree.write(stem.with_name(f"{stem.name}.svg"), encoding="utf-8", xml_declaration=True)
    with mpl.rc_context(LOOK):
        figure.savefig(stem.with_name(f"{stem.name}.pdf"), metadata={"CreationDate": None})
