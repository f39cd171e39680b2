"""Areas and summed waveforms of windows."""

import numpy as np

from dmsim.reconstruction import xla
from dmsim.reconstruction.host import integrate as host
from dmsim.reconstruction.pulses import PER_ADC, Pulses
from dmsim.reconstruction.splitting import Pieces
from dmsim.reconstruction.tables import PE_PER_UNIT, Gains, RecordTable, Waveforms, Windows

_LARGEST = 2.0**62  # units: 1.7e10 PE


def integrate(
    table: RecordTable, pulses: Pulses, gains: Gains, windows: Windows, *, backend: str = "host"
) -> Waveforms:
    """Sum every sample that the records keep inside the windows, over threshold or not.

    Args:
        table: records.
        pulses: of the records.
        gains: of the sensors.
        windows: disjoint, ascending.
        backend: "host", or "xla", which gives the same.

    Raises:
        ValueError: if a peak is too large for its integers.
    """
    offset = np.zeros(len(windows.start_ns) + 1, np.int64)
    np.cumsum((windows.end_ns - windows.start_ns) // table.dt, out=offset[1:])
    if backend == "xla":
        sums = xla.integrate(table, pulses.baseline, gains, windows, offset, per_adc=PER_ADC)
    else:
        sums = host.integrate(
            table.data, table.time_ns, table.channel, table.length, *table.kept, table.pulse,
            pulses.baseline, gains.units_per_count, gains.n_top, windows.start_ns, windows.end_ns, offset,
            table.dt, PER_ADC,
        )  # fmt: skip
    total, top, area, saturated, largest = sums
    if largest > _LARGEST:
        raise ValueError(
            f"a peak has an area of {largest * PE_PER_UNIT:.3g} PE: at most {_LARGEST * PE_PER_UNIT:.3g} PE "
            "can be summed: are the gains right?"
        )
    return Waveforms(offset, total, top, area, saturated)


def integrate_pieces(
    table: RecordTable, pulses: Pulses, gains: Gains, pieces: Pieces, waveforms: Waveforms
) -> Waveforms:
    """The waveforms of what windows were split into; only those that were split are summed again.

    Args:
        table: records.
        pulses: of the records.
        gains: of the sensors.
        pieces: of the windows.
        waveforms: of the windows before they were split.
    """
    area, saturated = waveforms.area_per_channel[pieces.parent], waveforms.n_saturated[pieces.parent]
    split = pieces.of_split
    if split.any():
        again = integrate(table, pulses, gains, Windows(*(column[split] for column in pieces.windows)))
        area[split], saturated[split] = again.area_per_channel, again.n_saturated
    return waveforms._replace(offset=pieces.offset, area_per_channel=area, n_saturated=saturated)
