"""How our figures look: colours that colour-blind readers can tell apart, few lines, no frame."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

# Okabe and Ito's palette (https://jfly.uni-koeln.de/color/)
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
VERMILION, SKY, PURPLE = "#D55E00", "#56B4E9", "#CC79A7"
BROWN = "#A86B00"  # of ours: the palette's orange, dark enough for words on white
INK, GREY = "#222222", "#8a8a8a"
RED = "#b00020"  # of ours: words that speak against something
LIGHT = "viridis"  # colour map of areas

_RC: dict[Any, Any] = {
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#555555",
    "axes.linewidth": 0.8,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.4,
}


@contextmanager
def style() -> Iterator[None]:
    """Figures made inside look like ours; figures are closed at the end."""
    with plt.rc_context(_RC):
        try:
            yield
        finally:
            plt.close("all")


def note(ax: Axes, text: str, *, x: float = 0.98, y: float = 0.96, colour: str = INK) -> None:
    """A few words in a corner of the axes, right-aligned right of the middle."""
    ax.text(
        x,
        y,
        text,
        transform=ax.transAxes,
        ha="right" if x > 0.5 else "left",
        va="top" if y > 0.5 else "bottom",
        fontsize=8,
        color=colour,
    )
