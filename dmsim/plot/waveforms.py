"""The waveform of one event, summed over sensors."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from dmsim.detector import Detector
from dmsim.plot.style import BLUE, GREY, VERMILION
from dmsim.records import RawRecords

WaveForm = tuple[Float[np.ndarray, "sample"], Float[np.ndarray, "sample"]]


def summed_waveform(detector: Detector, records: RawRecords, event: int) -> WaveForm:
    """Time of each sample from the event's start [ns], and the sensors' sum in it [PE a sample].

    Args:
        detector: gives the PE of an ADC count.
        records: of a batch.
        event: position in the batch.

    Returns:
        Every sample from the first to the last that a sensor kept; 0 where none did.

    Raises:
        ValueError: if the event has no records.
    """
    rows = np.flatnonzero(np.asarray(records.event) == event)
    if not rows.size:
        raise ValueError(f"event {event} has no records: there is no waveform to draw")
    data = np.asarray(records.data[rows])
    start, length = np.asarray(records.start_sample[rows]), np.asarray(records.length[rows])
    column = np.arange(data.shape[1])
    first = int(start.min())
    place = start[:, None] - first + column
    kept = column < length[:, None]
    pe = (records.baseline_adc - data) / float(detector.electronics.adc_per_pe)
    total = np.bincount(place[kept], pe[kept], minlength=int((start + length).max()) - first)
    return (first + np.arange(total.size)) * float(records.sample_ns), total


def draw_event(ax: Axes, waveform: WaveForm, *, s1_ns: float, s2_ns: float, sample_ns: int) -> None:
    """The whole event on a logarithmic scale, with S1 and S2 named.

    Args:
        ax: to draw on.
        waveform: of `summed_waveform`.
        s1_ns: where the S1 is, from the event's start.
        s2_ns: where the S2 is.
        sample_ns: length of a sample, for the axis label.
    """
    time_ns, pe = waveform
    shown = pe > 0.05  # below: baseline noise between pulses
    ax.vlines(time_ns[shown] / 1e3, 0.05, pe[shown], color=GREY, lw=0.6)
    for name, at_ns, colour in (("S1", s1_ns, BLUE), ("S2", s2_ns, VERMILION)):
        near = shown & (np.abs(time_ns - at_ns) < 8e3)
        ax.vlines(time_ns[near] / 1e3, 0.05, pe[near], color=colour, lw=0.9)
        height = pe[near].max() if near.any() else 1.0
        ax.annotate(name, (at_ns / 1e3, height), xytext=(0, 3), textcoords="offset points", ha="center",
                    color=colour, fontweight="bold")  # fmt: skip
    ax.set(
        yscale="log",
        ylim=(0.05, 4 * max(pe.max(), 1.0)),
        xlabel="time [µs]",
        ylabel=f"all sensors [PE / {sample_ns} ns]",
    )


def draw_zoom(
    ax: Axes, waveform: WaveForm, *, from_ns: float, to_ns: float, colour: str, unit_ns: float, sample_ns: int
) -> None:
    """A part of the waveform, linear.

    Args:
        ax: to draw on.
        waveform: of `summed_waveform`.
        from_ns: start of the window, from the event's start.
        to_ns: its end.
        colour: of the line.
        unit_ns: 1 for an axis in ns, 1000 for one in µs.
        sample_ns: length of a sample, for the axis label.
    """
    time_ns, pe = waveform
    inside = (time_ns >= from_ns) & (time_ns < to_ns)
    shift_ns = from_ns
    x = (time_ns[inside] - shift_ns) / unit_ns
    ax.step(x, pe[inside], where="post", color=colour, lw=1.1)
    ax.fill_between(x, pe[inside], step="post", color=colour, alpha=0.18, lw=0)
    unit = "ns" if unit_ns == 1 else "µs"
    ax.set(
        xlim=(0, (to_ns - from_ns) / unit_ns),
        ylim=(min(0.0, float(pe[inside].min(initial=0))), None),
        xlabel=f"time from {shift_ns / 1e3:,.2f} µs [{unit}]",
        ylabel=f"PE / {sample_ns} ns",
    )
