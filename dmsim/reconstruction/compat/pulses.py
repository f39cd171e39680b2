"""raw_records -> records: baseline off, upright, integrated; fragments linked into pulses."""

import numpy as np

from dmsim.reconstruction.compat.intervals import CACHED
from dmsim.reconstruction.host.jit import njit
from dmsim.strax_layout import raw_record_dtype, record_dtype

_COPIED = ("time", "length", "dt", "channel", "pulse_length", "record_i")


def records_of(raw: np.ndarray, *, baseline_samples: int) -> np.ndarray:
    """Records in strax's layout.

    Args:
        raw: strax's raw_records, sorted by time.
        baseline_samples: first samples of each pulse that are averaged, >= 1.

    Raises:
        ValueError: if they are not raw_records, out of order, or a pulse lacks its first fragment.
    """
    _check(raw)
    records = np.zeros(len(raw), record_dtype(raw.dtype["data"].shape[0]))
    for name in _COPIED:
        records[name] = raw[name]
    if not len(raw):
        return records
    n_channels = int(raw["channel"].max()) + 1
    orphan = _subtract(raw["data"], records, n_channels, baseline_samples)
    if orphan >= 0:
        time, channel = raw["time"][orphan], raw["channel"][orphan]
        raise ValueError(
            f"raw_records row {orphan} (channel {channel}, {time} ns) continues a pulse of which channel "
            f"{channel} has no first fragment (record_i 0): strax cannot take its baseline; use mode 'fast'"
        )
    return records


def _check(raw: np.ndarray) -> None:
    wanted = raw_record_dtype()
    names = raw.dtype.names or ()
    wrong = [n for n in wanted.names or () if n not in names or raw.dtype[n].base != wanted[n].base]
    if wrong:
        raise ValueError(f"raw_records lack the fields {', '.join(wrong)}, or have them in another type")
    if not len(raw):
        return
    n_samples = raw.dtype["data"].shape[0]
    for name, low, high in (("length", 1, n_samples), ("channel", 0, 2**15 - 1), ("record_i", 0, 2**15 - 1)):
        bad = (raw[name] < low) | (raw[name] > high)
        if bad.any():
            row = int(np.argmax(bad))
            raise ValueError(
                f"raw_records.{name} is {raw[name][row]} in row {row}: allowed are {low} to {high}"
            )
    if (raw["dt"] != raw["dt"][0]).any() or raw["dt"][0] <= 0:
        raise ValueError(
            f"raw_records.dt has values {np.unique(raw['dt']).tolist()} ns: one above 0 is needed"
        )
    if (np.diff(raw["time"]) < 0).any():
        row = int(np.argmax(np.diff(raw["time"]) < 0)) + 1
        raise ValueError(f"raw_records are not sorted by time: row {row} starts before the one above it")


@njit(**CACHED)
def _subtract(raw_data, records, n_channels, baseline_samples):
    """Fill data, baseline, baseline_rms and area of records; the first row that cannot be, or -1.

    A later fragment takes the baseline that its channel saw last, be it of another pulse, and takes its
    whole part after rounding to float32.
    """
    n_samples = raw_data.shape[1]
    n_mean = min(baseline_samples, n_samples)
    last_mean = np.zeros(n_channels, np.float32)
    last_rms = np.zeros(n_channels, np.float32)
    seen = np.zeros(n_channels, np.bool_)
    for i in range(len(records)):
        channel, length = records["channel"][i], records["length"][i]
        wave = raw_data[i]
        if records["record_i"][i] == 0:
            # a pulse shorter than the window is averaged with the zeros behind it
            n_inside = min(n_mean, length)
            total = 0
            for s in range(n_inside):
                total += wave[s]
            mean = float(total) / n_mean
            squares = 0.0
            for s in range(n_mean):
                off = (wave[s] if s < n_inside else 0) - mean
                squares += off * off
            last_mean[channel] = mean
            last_rms[channel] = (squares / n_mean) ** 0.5
            seen[channel] = True
            whole = int(mean)
        else:
            if not seen[channel]:
                return i
            whole = int(last_mean[channel])
        baseline = last_mean[channel]
        data = records["data"][i]
        area = 0
        for s in range(length):
            data[s] = np.int16(whole - wave[s])
            area += data[s]
        records["baseline"][i] = baseline
        records["baseline_rms"][i] = last_rms[channel]
        records["area"][i] = area + int(round((baseline % 1) * length))
    return -1


@njit(**CACHED)
def links(records):
    """Rows of the fragment before and after each in its pulse, -1 if there is none.

    A fragment is joined to the last one of its channel if it starts a full record after that started.
    """
    n = len(records)
    before, after = np.full(n, -1, np.int32), np.full(n, -1, np.int32)
    if n == 0:
        return before, after
    n_channels = records["channel"].max() + 1
    last = np.full(n_channels, -1, np.int32)
    expected = np.zeros(n_channels, np.int64)
    span = records["data"].shape[1] * np.int64(records["dt"][0])
    for i in range(n):
        channel = records["channel"][i]
        time = records["time"][i]
        if records["record_i"][i] != 0 and time == expected[channel]:
            previous = last[channel]
            before[i] = previous
            if previous >= 0:
                after[previous] = i
        last[channel] = i
        expected[channel] = time + span
    return before, after
