"""The columns that the hard chain hands from step to step, and what fills the first of them.

    RecordTable -> HitTable -> Windows -> Waveforms -> Peaks

All times are int64 ns on one axis, all samples int16, all areas int64 in units of `PE_PER_UNIT`: sums of them
do not depend on order, on where a chunk ends or on the processor.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from dmsim.detector import Detector

PE_PER_UNIT = 2.0**-31  # exact in a float; 2^63 units are 4e9 PE
ADC_PER_COUNT = 2.0**-6  # unit of baselines and heights: 1/64 ADC count, far below a baseline's error of 0.4
_MAX_START = 2**30  # |start_sample|: half the room that an event has on the joint axis, less a record
_EVENT_SAMPLES = 2**32  # samples between the starts of events that carry numbers in place of a clock


class RecordTable(NamedTuple):
    """Records sorted by (time, channel), linked into pulses."""

    time_ns: Int[np.ndarray, "record"]  # int64, of sample 0
    channel: Int[np.ndarray, "record"]  # int32
    length: Int[np.ndarray, "record"]  # int32, valid samples
    record_i: Int[np.ndarray, "record"]  # int32, number of the fragment in its pulse
    pulse: Int[np.ndarray, "record"]  # int64, number of the pulse in this table, ascending by its first row
    first: Int[np.ndarray, "record"]  # int64, row of the pulse's first fragment; -1: it is missing
    data: Int[np.ndarray, "record sample"]  # int16 ADC counts, negative-going
    dt: int  # ns a sample
    baseline_adc: int  # nominal: of a pulse without its first fragment

    @property
    def n_pulses(self) -> int:
        """Number of pulses."""
        return int(self.pulse.max(initial=-1)) + 1


class HitTable(NamedTuple):
    """Runs of samples of one sensor above threshold, over fragments; sorted by (time, channel)."""

    time_ns: Int[np.ndarray, "hit"]  # int64, start of the first sample
    end_ns: Int[np.ndarray, "hit"]  # int64, end of the last sample
    max_time_ns: Int[np.ndarray, "hit"]  # int64, start of the largest sample, the first of equals
    channel: Int[np.ndarray, "hit"]  # int32
    record: Int[np.ndarray, "hit"]  # int64, row of the record that it begins in
    pulse: Int[np.ndarray, "hit"]  # int64
    height: Int[np.ndarray, "hit"]  # int32, of the largest sample, in `ADC_PER_COUNT`
    alone: Bool[np.ndarray, "hit"]  # the only one of its pulse

    def rows(self, which: np.ndarray | slice) -> "HitTable":
        """Some of them."""
        return HitTable(*(column[which] for column in self))


class Windows(NamedTuple):
    """Disjoint intervals of time, ascending."""

    start_ns: Int[np.ndarray, "peak"]  # int64
    end_ns: Int[np.ndarray, "peak"]  # int64, exclusive

    def find(self, time_ns: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """Number of the window that holds each time, -1 where none does."""
        at = np.searchsorted(self.start_ns, time_ns, side="right") - 1
        inside = (at >= 0) & (time_ns < self.end_ns[at]) if len(self.start_ns) else np.zeros(at.shape, bool)
        return np.where(inside, at, -1)


class Waveforms(NamedTuple):
    """What the records hold inside each window. Peak i has samples offset[i] to offset[i + 1] at full width.

    Sample k of peak i begins at start_ns[i] + k dt. Every sample that was read out counts, above threshold or not.
    """

    offset: Int[np.ndarray, "peak+1"]  # int64
    total: Int[np.ndarray, "sample"]  # int64, all live sensors, in `scale`
    top: Int[np.ndarray, "sample"]  # int64, those of the top array
    area_per_channel: Int[np.ndarray, "peak sensor"]  # int64
    n_saturated: Int[np.ndarray, "peak"]  # int64, samples of live sensors at the digitiser's floor
    scale: float = PE_PER_UNIT  # PE a unit

    @property
    def area_pe(self) -> np.ndarray:
        """Area of each peak [PE]."""
        return self.area_per_channel.sum(axis=1) * self.scale


class Gains(NamedTuple):
    """Conversion of each sensor, quantised once."""

    units_per_count: Int[np.ndarray, "sensor"]  # int64: `PE_PER_UNIT` a sample of `ADC_PER_COUNT`; 0: ignored
    n_top: int

    @property
    def live(self) -> Bool[np.ndarray, "sensor"]:
        """Whether a sensor counts."""
        return self.units_per_count > 0


def gains_of(detector: Detector) -> Gains:
    """Conversion to PE of each sensor; those of zero efficiency or gain are ignored."""
    sensors = detector.light.sensors
    adc_per_pe = np.broadcast_to(np.asarray(detector.electronics.adc_per_pe, np.float64), sensors.n_sensors)
    live = (adc_per_pe > 0) & (np.asarray(sensors.efficiency) > 0)
    # 2^18 at 117 ADC samples a PE: quantised to 2e-6
    units = np.rint(ADC_PER_COUNT / PE_PER_UNIT / np.where(live, adc_per_pe, 1.0)).astype(np.int64)
    return Gains(np.where(live, np.maximum(units, 1), 0), sensors.n_top)
