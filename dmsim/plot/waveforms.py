"""The waveform of one event, summed over sensors."""

import numpy as np
from jaxtyping import Float, Int, Num
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
    start, channel, length, data = (
        np.asarray(getattr(records, name)[rows]) for name in ("start_sample", "channel", "length", "data")
    )
    total = summed_samples(detector, start, channel, length, data, baseline_adc=records.baseline_adc)
    return (start.min() + np.arange(total.size)) * float(records.sample_ns), total


def summed_samples(
    detector: Detector,
    start_sample: Int[np.ndarray, "record"],
    channel: Int[np.ndarray, "record"],
    length: Int[np.ndarray, "record"],
    data: Num[np.ndarray, "record sample"],
    *,
    baseline_adc: int,
) -> Float[np.ndarray, "sample"]:
    """The sensors' sum [PE a sample], from the first sample of all records to the last.

    Args:
        detector: gives the PE of an ADC count in each sensor; those without gain or efficiency add nothing.
        start_sample: of each record, one at least.
        channel: of each record.
        length: valid samples of each record.
        data: ADC counts, negative-going.
        baseline_adc: what they are counted from.
    """
    sensors = detector.light.sensors
    adc_per_pe = np.broadcast_to(np.asarray(detector.electronics.adc_per_pe, np.float64), sensors.n_sensors)
    live = (adc_per_pe > 0) & (np.asarray(sensors.efficiency) > 0)
    pe_per_adc = np.where(live, 1 / np.where(live, adc_per_pe, 1.0), 0.0)
    column = np.arange(data.shape[1])
    place = (start_sample - start_sample.min())[:, None] + column
    kept = column < length[:, None]
    pe = (baseline_adc - data.astype(np.float64)) * pe_per_adc[channel][:, None]
    return np.bincount(place[kept], pe[kept])


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
