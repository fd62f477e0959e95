"""A PDF holds the glyphs of its words; which tables go with them takes a third of drawing it.

So in the tests all letters go into each PDF, and what fontTools made of a font is remembered.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

LETTERS = [*range(32, 127), *range(160, 256), *map(ord, "–−≤≥→…ﬁ")]
"""Which glyphs each PDF holds; another sign of one's own makes the font anew."""


def remember_fonts() -> None:
    """From here on in this process, and its forks, once matplotlib's backend for PDF is imported."""
    fonts = sys.modules.get("matplotlib.backends._backend_pdf_ps")
    if fonts is None or hasattr(fonts, "made_before"):
        return
    make, made = fonts.get_glyphs_subset, {}
    fonts.made_before = made

    def remembered(file: Any, glyphs: Any) -> Any:
        from matplotlib.font_manager import get_font

        index = get_font(file).get_char_index
        every = frozenset({*glyphs, *map(index, LETTERS)})
        if (file, every) not in made:
            with make(file, set(every)) as subset:
                content = fonts.font_as_file(subset.font).getvalue()
                made[file, every] = content, subset.glyph_index_map
        content, places = made[file, every]
        font = SimpleNamespace(save=lambda stream, **_: stream.write(content))
        return contextlib.nullcontext(SimpleNamespace(font=font, glyph_index_map=places))

    fonts.get_glyphs_subset = remembered


def draw_before() -> None:
    """Draw a figure of a page, so that forks have its fonts from the start."""
    from expunge.report.drawn import canvas, save_figure

    remember_fonts()
    figure = canvas(1, 1)
    figure.text(0, 0, "regular")
    figure.text(0, 0, "bold", weight="bold")
    with tempfile.TemporaryDirectory() as folder:
        save_figure(figure, Path(folder, "figure"))
