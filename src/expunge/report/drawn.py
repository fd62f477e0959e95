"""A figure for a page: how it looks, what is said below it, and how it becomes SVG and PDF."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from expunge.report.figures import STYLE

NARROW, WIDE = 4.6, 7.4
"""Inches. At such a width, 9 points stay legible on a phone; a wide figure scrolls there."""
LOOK: dict[Any, Any] = {**STYLE, "font.size": 9, "svg.fonttype": "none", "pdf.fonttype": 42}
"""Words stay words in SVG and PDF: they can be searched, copied and read aloud."""


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


def short(name: str, width: int) -> str:
    """At most so many letters."""
    return name if len(name) <= width else name[: width - 1] + "…"


def inline_svg(figure: Figure, name: str, label: str) -> str:
    """The figure as `<svg>` for a page: no namespace, no metadata, no id that another one has.

    name: letters, digits and hyphens, unique in the page. label: what it shows, for a reader aloud.
    """
    buffer = io.BytesIO()
    # ids are hashed with the salt, and a clip path is not found where its twin is hidden
    with mpl.rc_context({**LOOK, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
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


def save_figure(figure: Figure, stem: Path) -> None:
    """Write `stem` with .svg and .pdf after it, without a date, so that runs can be compared."""
    with mpl.rc_context(LOOK):
        figure.savefig(stem.with_name(f"{stem.name}.svg"), metadata={"Date": None})
        figure.savefig(stem.with_name(f"{stem.name}.pdf"), metadata={"CreationDate": None})
