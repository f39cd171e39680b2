"""One reconstructed event: waveform, hit pattern, and what every peak's class was decided by."""

from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

from dmsim.detector import Detector
from dmsim.plot.hit_patterns import draw_hit_pattern
from dmsim.plot.style import BLUE, GREY, INK, ORANGE, RED, VERMILION, note
from dmsim.plot.waveforms import WaveForm, draw_event, draw_zoom
from dmsim.records import Peaks, Signal

_COLOURS = {Signal.S1: BLUE, Signal.S2: VERMILION, Signal.UNKNOWN: ORANGE}
_MOST_ROWS = 12  # of the table of decisions
_ROW_INCHES = 0.24  # of it
_WIDER = 0.15  # of a zoom than its peak, on either side


class Decision(NamedTuple):
    """A cell of the table: what was measured against what, and whether it spoke for the peak's class."""

    text: str
    held: bool | None  # None: nothing was decided by it


class EventView(NamedTuple):
    """What is drawn. Peaks in order of time, on the same clock as the waveform."""

    title: str
    waveform: WaveForm
    peaks: Peaks
    start_ns: np.ndarray  # of each peak on the waveform's axis
    names: list[str]  # S1, S2, alternate S1, ... or ""
    columns: list[str]  # of the table
    decisions: list[list[Decision]]  # for each peak
    sample_ns: int


def draw_decided_event(detector: Detector, view: EventView) -> Figure:
    """The whole event, zooms on its main S1 and S2, the main S2's light on top, and a table of decisions.

    Args:
        detector: places of its sensors.
        view: of the event; main peaks are those named S1 and S2.
    """
    shown = _listed(view)
    heights = [3.0, 4.0, 0.4 + _ROW_INCHES * (len(shown) + 1)]
    figure = plt.figure(figsize=(12.0, sum(heights)), layout="constrained")
    rows: Any = figure.subfigures(3, 1, height_ratios=heights)
    ax = rows[0].subplots()
    spans = {
        name: (float(start), float(start + length), _COLOURS[Signal(int(signal))])
        for name, start, length, signal in zip(
            view.names, view.start_ns, view.peaks.length_ns, view.peaks.signal, strict=True
        )
        if name
    }
    draw_event(ax, view.waveform, spans, sample_ns=view.sample_ns)
    ax.set_title(view.title)
    for start, length, signal in zip(view.start_ns, view.peaks.length_ns, view.peaks.signal, strict=True):
        ax.axvspan(start / 1e3, (start + length) / 1e3, color=_COLOURS[Signal(int(signal))], alpha=0.12, lw=0)
    s1_ax, s2_ax, pattern_ax = rows[1].subplots(1, 3, width_ratios=[1, 1, 1.15])
    _zoom(s1_ax, view, "S1", unit_ns=1.0)
    _zoom(s2_ax, view, "S2", unit_ns=1e3)
    _pattern(pattern_ax, detector, view)
    _table(rows[2].subplots(), view, shown)
    return figure


def _zoom(ax: Axes, view: EventView, name: str, *, unit_ns: float) -> None:
    if name not in view.names:
        ax.axis("off")
        note(ax, f"no {name}", x=0.5, y=0.5, colour=GREY)
        return
    i = view.names.index(name)
    start, length = float(view.start_ns[i]), float(view.peaks.length_ns[i])
    draw_zoom(
        ax, view.waveform, from_ns=start - _WIDER * length, to_ns=start + (1 + _WIDER) * length,
        colour=_COLOURS[Signal(int(view.peaks.signal[i]))], unit_ns=unit_ns, sample_ns=view.sample_ns,
    )  # fmt: skip
    for edge in (start, start + length):
        ax.axvline(edge / unit_ns, color=GREY, ls=":", lw=1)
    for decile, style in ((1, "--"), (5, "-"), (9, "--")):
        ax.axvline((start + view.peaks.decile_ns[i, decile]) / unit_ns, color=INK, ls=style, lw=0.8)
    ax.set_title(f"{name}: {view.peaks.area_pe[i]:,.1f} PE; lines at 10, 50 and 90 % of it")


def _pattern(ax: Axes, detector: Detector, view: EventView) -> None:
    named = [name for name in ("S2", "S1") if name in view.names]
    if not named:
        ax.axis("off")
        return
    i = view.names.index(named[0])
    peaks = view.peaks
    found = (float(peaks.x_mm[i]), float(peaks.y_mm[i])) if np.isfinite(peaks.x_mm[i]) else None
    lit = draw_hit_pattern(ax, detector, peaks.area_per_channel_pe[i], side="top", found_mm=found)
    ax.figure.colorbar(lit, ax=ax, label="PE", shrink=0.8)
    title = f"{named[0]} on the top array"
    if found is not None and np.isfinite(peaks.x_error_mm[i]):
        covariance = peaks.xy_correlation[i] * peaks.x_error_mm[i] * peaks.y_error_mm[i]
        matrix = np.array(
            [[peaks.x_error_mm[i] ** 2, covariance], [covariance, peaks.y_error_mm[i] ** 2]], np.float64
        )
        size, axes = np.linalg.eigh(matrix)
        width, height = 2 * 3 * np.sqrt(np.maximum(size, 0.0))
        angle = np.degrees(np.arctan2(axes[1, 0], axes[0, 0]))
        ax.add_patch(Ellipse(found, width, height, angle=angle, fill=False, edgecolor=VERMILION))
        title += f"; 3 sigma: {3 * peaks.x_error_mm[i]:.1f} x {3 * peaks.y_error_mm[i]:.1f} mm"
    ax.set_title(title)


def _listed(view: EventView) -> np.ndarray:
    """Rows of the table: the largest peaks and those with a name, in order of time."""
    largest = np.argsort(-view.peaks.area_pe, kind="stable")[:_MOST_ROWS]
    named = [i for i, name in enumerate(view.names) if name and i not in largest]
    return np.sort(np.append(largest, named).astype(int))


def _table(ax: Axes, view: EventView, shown: np.ndarray) -> None:
    ax.axis("off")
    if not shown.size:
        note(ax, "no peak", x=0.5, y=0.5, colour=GREY)
        return
    table = ax.table(
        cellText=[[cell.text for cell in view.decisions[i]] for i in shown],
        colLabels=view.columns,
        loc="upper center",
        cellLoc="right",
    )
    table.auto_set_font_size(value=False)
    table.set_fontsize(8)
    table.auto_set_column_width(list(range(len(view.columns))))
    for (row, column), cell in table.get_celld().items():
        cell.set(edgecolor="none", height=1.0 / (len(shown) + 1))
        if row == 0:
            cell.set_text_props(color=GREY)
        elif (held := view.decisions[shown[row - 1]][column].held) is not None:
            cell.set_text_props(color=INK if held else RED, fontweight="normal" if held else "bold")
    hidden = len(view.decisions) - len(shown)
    more = f"; {hidden} smaller ones are not listed" if hidden else ""
    ax.set_title(
        f"Peaks, each quantity with the bound it is held against; bold red: spoke against an S1 or S2{more}"
    )
