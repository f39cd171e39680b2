"""What one looks at first in simulated events."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dmsim.detector import Detector
from dmsim.plot.style import BLUE, GREY, ORANGE
from dmsim.plot.waveforms import summed_waveform
from dmsim.records import RawRecords, Signal, Truth

_SHOWN = 20_000  # points that can be told apart
_SIGNALS = ((Signal.S1, BLUE), (Signal.S2, ORANGE))


def simulated_events(detector: Detector, truth: Truth, records: RawRecords | None = None) -> Figure:
    """Places, quanta, signals and one waveform of a batch.

    Args:
        detector: whose volume is outlined.
        truth: of the batch; signals are drawn where it has peaks.
        records: of the batch, for the waveform of its first event with any.
    """
    deposits, quanta = truth.deposits, truth.quanta
    figure, axes = plt.subplots(2, 2, figsize=(9.6, 7.6), layout="constrained")
    figure.suptitle(f"{detector.name}: {len(deposits)} deposits in {deposits.n_events} events")
    r_mm = np.hypot(np.asarray(deposits.x_mm), np.asarray(deposits.y_mm))
    radius, length = float(detector.geometry.radius_mm), float(detector.geometry.drift_length_mm)
    axes[0, 0].plot([0, radius, radius, 0], [0, 0, -length, -length], color="0.4", ls="--", lw=1)
    _points(axes[0, 0], r_mm, np.asarray(deposits.z_mm), BLUE)
    axes[0, 0].set(xlabel="r [mm]", ylabel="z [mm]", title="deposits")

    _points(axes[0, 1], np.asarray(quanta.n_photons), np.asarray(quanta.n_electrons), BLUE)
    axes[0, 1].set(xlabel="photons", ylabel="electrons", title="quanta", xlim=(0, None), ylim=(0, None))

    ax = axes[1, 0]
    if truth.peaks is None:
        _points(ax, np.asarray(truth.detected.n_s1_photons), np.asarray(truth.detected.n_extracted), BLUE)
        ax.set(xlabel="detected S1 photons", ylabel="extracted electrons", title="detected")
    else:
        for signal, colour in _SIGNALS:
            rows = (
                (truth.peaks.signal == signal) & (truth.peaks.area_pe > 0) & (truth.peaks.time_spread_ns > 0)
            )
            _points(ax, truth.peaks.area_pe[rows], truth.peaks.time_spread_ns[rows], colour, signal.name)
        # of an S1 late light sets it: a few photons of many pull a standard deviation
        what = "standard deviation of photon times [ns]"
        ax.set(xscale="log", yscale="log", xlabel="area [PE]", ylabel=what, title="signals")
        ax.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0, frameon=False)
    _waveform(axes[1, 1], detector, records)
    return figure


def _points(ax: Axes, x: np.ndarray, y: np.ndarray, colour: str, label: str | None = None) -> None:
    size = max(2.0, 24 - 5 * np.log10(max(x.size, 1)))
    ax.scatter(x[:_SHOWN], y[:_SHOWN], s=size, alpha=0.6, lw=0, color=colour, label=label)


def _waveform(ax: Axes, detector: Detector, records: RawRecords | None) -> None:
    if records is None or not records.event.size:
        ax.set_axis_off()
        return
    event = int(records.event[0])
    time_ns, pe = summed_waveform(detector, records, event)
    shown = pe > 0.05  # PE a sample; below is noise
    ax.vlines(time_ns[shown] / 1e3, 0.05, pe[shown], color=GREY, lw=0.7)
    ax.set(
        yscale="log",
        xlabel="time [µs]",
        ylabel=f"PE / {records.sample_ns} ns",
        title=f"event {int(records.first_event) + event}, all sensors",
    )
