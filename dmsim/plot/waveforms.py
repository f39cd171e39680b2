"""The waveform of one event, summed over sensors."""

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes

from dmsim.detector import Detector
from dmsim.plot.style import GREY
from dmsim.records import RawRecords

_FLOOR_PE = 0.05  # a sample; below is the noise of the sensors read out
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


def draw_event(
    ax: Axes, waveform: WaveForm, peaks: dict[str, tuple[float, float, str]], *, sample_ns: int
) -> None:
    """The whole event on a logarithmic scale, with its main peaks named.

    Args:
        ax: to draw on.
        waveform: of `summed_waveform`.
        peaks: start and end [ns from the event's start] and colour, by name.
        sample_ns: length of a sample, for the axis label.
    """
    time_ns, pe = waveform
    shown = pe > _FLOOR_PE
    ax.vlines(time_ns[shown] / 1e3, _FLOOR_PE, pe[shown], color=GREY, lw=0.6)
    for name, (start_ns, end_ns, colour) in peaks.items():
        inside = shown & (time_ns >= start_ns) & (time_ns < end_ns)
        ax.vlines(time_ns[inside] / 1e3, _FLOOR_PE, pe[inside], color=colour, lw=0.9)
        height = pe[inside].max() if inside.any() else 1.0
        ax.annotate(name, ((start_ns + end_ns) / 2e3, height), xytext=(0, 3), textcoords="offset points",
                    ha="center", color=colour, fontweight="bold")  # fmt: skip
    ax.set(
        yscale="log",
        ylim=(_FLOOR_PE, 4 * max(pe.max(), 1.0)),
        xlabel="time [µs]",
        ylabel=f"PE / {sample_ns} ns",
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
    x = time_ns[inside] / unit_ns
    ax.fill_between(x, pe[inside], step="post", color=colour, alpha=0.25, lw=0)
    ax.step(x, pe[inside], where="post", color=colour, lw=1.2 if x.size < 300 else 0.5)
    ax.set(
        xlim=(from_ns / unit_ns, to_ns / unit_ns),
        ylim=(min(0.0, float(pe[inside].min(initial=0))), None),
        xlabel=f"time [{'ns' if unit_ns == 1 else 'µs'}]",
        ylabel=f"PE / {sample_ns} ns",
    )
