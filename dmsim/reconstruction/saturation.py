"""Saturated samples restored from the shape that the other sensors saw."""

import numpy as np

from dmsim.reconstruction.host import saturation as host
from dmsim.reconstruction.pulses import PER_ADC, Pulses
from dmsim.reconstruction.settings import Saturation
from dmsim.reconstruction.tables import Gains, RecordTable, Waveforms, Windows


def correct_saturation(
    settings: Saturation,
    table: RecordTable,
    pulses: Pulses,
    gains: Gains,
    windows: Windows,
    waveforms: Waveforms,
) -> Waveforms:
    """Raise samples at the digitiser's floor in every peak that has some.

    Light reaches all sensors of a peak with one shape. So a sensor's saturated sample is taken for that of
    the sum of the sensors that do not saturate in this peak, scaled by the ratio of both over the samples
    before the sensor's first saturated one: up to `reference_samples`, at least `min_reference_samples`. A
    sample is never lowered; nothing is done where all sensors saturate, or too early. Peaks without
    saturated samples are not touched.

    Args:
        settings: of the correction.
        table: records.
        pulses: of the records.
        gains: of the sensors.
        windows: of the peaks.
        waveforms: of the windows.

    Returns:
        Waveforms with areas as restored; `n_saturated` still counts the samples at the floor.

    Source: the idea is that of strax's saturation correction; the rule is our own.
    """
    peaks = np.flatnonzero(waveforms.n_saturated)
    if not settings.correct or not len(peaks):
        return waveforms
    total, top, area = waveforms.total.copy(), waveforms.top.copy(), waveforms.area_per_channel.copy()
    host.restore(
        table.data, table.time_ns, table.channel, *table.kept, table.pulse, pulses.baseline,
        gains.units_per_count, gains.n_top, peaks, windows.start_ns, windows.end_ns, waveforms.offset,
        total, top, area, settings.reference_samples, settings.min_reference_samples, table.dt, PER_ADC,
    )  # fmt: skip
    return waveforms._replace(total=total, top=top, area_per_channel=area)
