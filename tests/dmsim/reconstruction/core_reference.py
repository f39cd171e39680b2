"""The core of the hard chain once more, slowly and in plain Python: what the host kernels are held
against."""

from fractions import Fraction

import numpy as np

SAMPLES, DT, NOMINAL, PER_ADC = 16, 10, 16_000, 64


def random_columns(random, *, n_pulses=60, n_channels=6, longest=50, span=400):
    """Pulses of random light on random channels, cut into fragments; channels do not overlap themselves.

    Returns (time_ns, channel, length, record_i, data); some fragments are missing, some samples at the floor.
    """
    rows = []
    free = np.zeros(n_channels, int)
    for _ in range(n_pulses):
        channel = int(random.integers(n_channels))
        start = free[channel] + int(random.integers(0, span // 10))
        n = int(random.integers(1, longest))
        free[channel] = start + n
        wave = np.round(NOMINAL + random.normal(0, 3, n)).astype(np.int64)
        for _ in range(random.integers(0, 4)):
            at, width = random.integers(0, n), random.integers(1, 12)
            wave[at : at + width] -= int(random.choice([8, 20, 300, 30_000]))
        wave = np.clip(wave, 0, 16_383)
        for k in range(-(-n // SAMPLES)):
            part = wave[k * SAMPLES : (k + 1) * SAMPLES]
            if random.uniform() < 0.1:
                continue
            data = np.zeros(SAMPLES, np.int16)
            data[: len(part)] = part
            # times below zero, too
            rows.append(((start + k * SAMPLES - 50) * DT, channel, len(part), k, data))
    time_ns, channel, length, record_i = (np.array([row[i] for row in rows]) for i in range(4))
    return time_ns, channel, length, record_i, np.array([row[4] for row in rows]).reshape(-1, SAMPLES)


def links(table):
    """For each record the rows of its pulse, by the definition."""
    start = table.time_ns - table.record_i.astype(np.int64) * table.data.shape[1] * table.dt
    return [
        [r for r in range(len(start)) if table.channel[r] == table.channel[i] and start[r] == start[i]]
        for i in range(len(start))
    ]


def baseline(table, row, *, n_first, clip, threshold, threshold_rms):
    """Baseline [1/64 ADC] and largest sample over threshold, of the pulse that a record is in."""
    first = [r for r in links(table)[row] if table.record_i[r] == 0]
    if not first:
        return NOMINAL * PER_ADC, int(np.floor(NOMINAL - threshold))
    samples = [int(x) for x in table.data[first[0], : min(n_first, table.length[first[0]])]]
    median = sorted(samples)[(len(samples) - 1) // 2]
    kept = [x for x in samples if abs(x - median) <= clip]
    mean = Fraction(sum(kept), len(kept))
    value = int((mean * PER_ADC + Fraction(1, 2)) // 1)
    rms = np.sqrt(float(sum((x - mean) ** 2 for x in kept) / len(kept)))
    near = range(value // PER_ADC - 200, value // PER_ADC + 1)
    return value, max(x for x in near if value / PER_ADC - x >= max(threshold, threshold_rms * rms))


def hits(table, base, limit, live):
    """Rows (start, end, largest, channel, record, pulse, height, alone) by walking through each pulse."""
    out = []
    for pulse in range(table.n_pulses):
        rows = sorted(np.flatnonzero(table.pulse == pulse), key=lambda r: table.time_ns[r])
        if not live[table.channel[rows[0]]]:
            continue
        found, run = [], []
        at_before = None
        for r in rows:
            for j in range(table.length[r]):
                time = int(table.time_ns[r]) + j * DT
                x = int(table.data[r, j])
                over = x <= limit[pulse]
                if run and (not over or at_before != time - DT):
                    found.append(run)
                    run = []
                if over:
                    run.append((time, x, r))
                at_before = time
        if run:
            found.append(run)
        for run in found:
            largest = min(run, key=lambda s: (s[1], s[0]))
            out.append((
                run[0][0], run[-1][0] + DT, largest[0], int(table.channel[rows[0]]), run[0][2], pulse,
                int(base[pulse]) - PER_ADC * largest[1], len(found) == 1,
            ))  # fmt: skip
    return sorted(out, key=lambda hit: (hit[0], hit[3]))


def windows(rows, *, gap, left, right, min_sensors, longest):
    """(start, end) of groups of hits, given as rows (start, end, channel) sorted by time."""
    groups = []
    for start, end, channel in rows:
        if groups:
            group = groups[-1]
            reach = max(e for _, e, _ in group)
            if start - reach <= gap and end - group[0][0] <= longest:
                group.append((start, end, channel))
                continue
        groups.append([(start, end, channel)])
    out, before = [], None
    for i, group in enumerate(groups):
        begin, reach = group[0][0] - left, max(e for _, e, _ in group) + right
        if before is not None:
            begin = max(begin, before)
        if i + 1 < len(groups):
            reach = min(reach, groups[i + 1][0][0])
        before = reach
        if len({c for _, _, c in group}) >= min_sensors:
            out.append((begin, reach))
    return out


def waveforms(table, base, units, n_top, start, end):
    """Total, top, area per channel and saturated samples of one window."""
    n = (end - start) // DT
    total, top, area, saturated = [0] * n, [0] * n, [0] * len(units), 0
    for r in range(len(table.time_ns)):
        c = int(table.channel[r])
        for j in range(table.length[r]):
            k = (int(table.time_ns[r]) + j * DT - start) // DT
            if not 0 <= k < n or units[c] == 0:
                continue
            value = (int(base[table.pulse[r]]) - PER_ADC * int(table.data[r, j])) * int(units[c])
            total[k] += value
            top[k] += value if c < n_top else 0
            area[c] += value
            saturated += table.data[r, j] <= 0
    return total, top, area, saturated
