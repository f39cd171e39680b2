"""Host kernel of times of area quantiles: one pass for the total, one for the crossings."""

import numpy as np

from dmsim.reconstruction.host.jit import njit


@njit(cache=True, nogil=True)
def quantile_times(first_piece, start_ns, begin, end, total, dt, twentieths):
    """Times of area quantiles, centre and maximum of peaks that are made of one or several pieces.

    The running area is linear inside a sample and constant between pieces. A level is where it is first
    reached; that of nothing is where the running area first rises above zero. Levels are compared as whole
    numbers.

    Args:
        first_piece: int64 [peak + 1]; peak p is made of pieces first_piece[p] to first_piece[p + 1].
        start_ns: int64 [piece], ascending.
        begin: int64 [piece], its first sample in `total`.
        end: int64 [piece], one past its last.
        total: int64 [sample], summed waveforms.
        dt: ns a sample.
        twentieths: int64 [level], ascending, 0 to 20.

    Returns:
        Time of each level [peak, level], of the centre [peak] (NaN where the area is not positive) and of
        the start of the largest sample (int64 [peak], the first of equals), from the peak's start [ns].
    """
    n_peaks, n_levels = len(first_piece) - 1, len(twentieths)
    times = np.full((n_peaks, n_levels), np.nan)
    center = np.full(n_peaks, np.nan)
    maximum = np.zeros(n_peaks, np.int64)
    for peak in range(n_peaks):
        first, last = first_piece[peak], first_piece[peak + 1]
        if first == last:
            continue
        peak_ns = start_ns[first]
        area, moment = np.int64(0), 0.0
        largest = np.iinfo(np.int64).min
        for piece in range(first, last):
            late = start_ns[piece] - peak_ns
            low = begin[piece]
            for i in range(low, end[piece]):
                w = total[i]
                time = late + (i - low) * dt
                area += w
                moment += float(w) * (time + 0.5 * dt)
                if w > largest:
                    largest = w
                    maximum[peak] = time
        if area <= 0:
            continue
        center[peak] = moment / area
        level, before = 0, np.int64(0)
        for piece in range(first, last):
            late = start_ns[piece] - peak_ns
            low = begin[piece]
            for i in range(low, end[piece]):
                w = total[i]
                after = before + w
                while level < n_levels:
                    # the level, area x twentieths / 20, as a whole and 20ths: no product overflows
                    whole, rest = area // 20 * twentieths[level], area % 20 * twentieths[level]
                    if after < whole + (rest + 19) // 20 or after <= 0:
                        break
                    # the area was below the level before this sample, so w > 0
                    inside = (whole - before + rest / 20) / w
                    times[peak, level] = late + (i - low + inside) * dt
                    level += 1
                before = after
    return times, center, maximum
