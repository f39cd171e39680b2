"""raw_records of random pulses: anything that a digitiser may give, not physics."""

import numpy as np

from dmsim.strax_layout import raw_record_dtype

DT, BASELINE = 10, 16_000


def random_raw(seed, *, n_channels=12, n_pulses=150, samples=110, span_ns=400_000, floor=0):
    """Sorted raw_records of whole pulses that do not overlap within a channel.

    Single photoelectrons, pairs, bursts over all channels, long tails over several fragments, pulses shorter
    than the baseline window, saturated ones, noise alone and samples of garbage behind a record's length.
    """
    random = np.random.default_rng(seed)
    bursts = random.uniform(0.05, 0.95, random.integers(1, 6)) * span_ns
    free_from = np.zeros(n_channels, np.int64)
    rows = []
    starts = np.where(
        random.random(n_pulses) < 0.8,
        random.choice(bursts, n_pulses) + random.exponential(600.0, n_pulses),
        random.uniform(0, span_ns, n_pulses),
    )
    for time in np.sort(starts).astype(np.int64) // DT * DT + 1_000_000:
        channel = random.integers(n_channels)
        start = max(time, free_from[channel])
        n = int(
            random.choice([1, 5, 30, 60, 104, 110, 111, 220, 300, 700], p=[0.02, 0.03, *[0.125] * 7, 0.075])
        )
        wave = _wave(random, n)
        wave = np.clip(np.round(wave), floor, 2**14).astype(np.int16)
        for k in range(-(-n // samples)):
            part = wave[k * samples : (k + 1) * samples]
            rows.append((start + k * samples * DT, len(part), DT, channel, n, k, BASELINE, part))
        # now and then a pulse begins where the one before ended
        free_from[channel] = start + n * DT + int(random.choice([0, 10, 500])) * DT
    return _assembled(rows, random, samples)


def _wave(random, n):
    """Samples of one pulse."""
    at = np.arange(n)
    wave = BASELINE + random.uniform(-3, 3) + random.normal(0, random.choice([0.5, 2.5, 6.0]), n)
    for _ in range(random.integers(0, 5)):
        height = 10 ** random.uniform(1, 2.5)
        begin = random.uniform(0, n)
        wave -= height * np.exp(-np.abs(at - begin) / random.choice([1.0, 2.0, 15.0]))
    kind = random.random()
    if kind < 0.12:  # an S2's rise and fall, up to far below the floor
        wave -= 10 ** random.uniform(2, 5.2) * np.exp(-(((at - n * random.uniform(0.2, 0.8)) / (n / 7)) ** 2))
    elif kind < 0.14:
        wave[:] = 0
    return wave


def saturating_raw(seed, *, n_signals=6, n_channels=12, samples=110):
    """Large signals on all channels at once, of which some channels lie far below the floor."""
    random = np.random.default_rng(seed)
    rows = []
    begin = 1_000_000
    for _ in range(n_signals):
        n = int(random.choice([150, 330, 900]))
        at = np.arange(n)
        middle, width = n * random.uniform(0.5, 0.7), n / random.uniform(8, 20)
        shape = np.exp(-(((at - middle) / width) ** 2))
        for channel in range(n_channels):
            shift = int(random.integers(0, 20))
            height = random.uniform(3000, 12_000) if channel % 5 else random.uniform(14_000, 90_000)
            wave = BASELINE + random.normal(0, 2.5, n) - height * shape
            wave = np.clip(np.round(wave), 0, 2**14).astype(np.int16)
            for k in range(-(-n // samples)):
                part = wave[k * samples : (k + 1) * samples]
                time = begin + (shift + k * samples) * DT
                rows.append((time, len(part), DT, channel, n, k, BASELINE, part))
        begin += (n + 50 + int(random.integers(0, 300))) * DT
    return _assembled(rows, random, samples)


def _assembled(rows, random, samples):
    raw = np.zeros(len(rows), raw_record_dtype(samples))
    raw["data"] = random.integers(-100, 100, raw["data"].shape)
    for i, (*values, part) in enumerate(rows):
        for name, value in zip(raw.dtype.names, values, strict=False):
            raw[name][i] = value
        raw["data"][i, : len(part)] = part
    return raw[np.lexsort((raw["channel"], raw["time"]))]
