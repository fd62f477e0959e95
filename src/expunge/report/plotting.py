"""matplotlib, imported here alone, without the settings of the current folder.

A `matplotlibrc` there is read before all others, and it may name a module to run, or be a pipe.
"""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

with chdir(Path(__file__).parent):
    import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

__all__ = [
    "Artist",
    "Axes",
    "Bbox",
    "ConstrainedLayoutEngine",
    "Figure",
    "FigureCanvasAgg",
    "FuncFormatter",
    "Line2D",
    "LogLocator",
    "MaxNLocator",
    "NullLocator",
    "Patch",
    "SubFigure",
    "mpl",
]
