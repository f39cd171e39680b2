"""Splitting, shapes, coincidence and merging once more, as slow and plain as their definitions."""

from fractions import Fraction

import numpy as np

from dmsim.reconstruction import margins


def deviation(samples, first):
    weight = [max(int(w), 0) for w in samples]
    total = sum(weight)
    if total == 0:
        return Fraction(0)
    mean = Fraction(sum(w * (first + i) for i, w in enumerate(weight)), total)
    return sum(w * (first + i - mean) ** 2 for i, w in enumerate(weight))


def mean_around(samples, k, half):
    part = samples[max(k - half, 0) : k + half]
    return Fraction(int(np.sum(part)), len(part))


def goodness_of_breaks(samples, half):
    """Goodness of every boundary 1 to n - 1, exact."""
    whole = deviation(samples, 0)
    out = []
    means = [mean_around(samples, k, half) for k in range(len(samples) + 1)] if half else []
    for k in range(1, len(samples)):
        if not (np.any(samples[:k] > 0) and np.any(samples[k:] > 0)):
            out.append(Fraction(0))
            continue
        value = 1 - (deviation(samples[:k], 0) + deviation(samples[k:], k)) / whole
        if half and max(means) > 0:
            value *= 1 - max(means[k], Fraction(0)) / max(means)
        out.append(value)
    return out


def middle_of_largest(values):
    """Largest value, and the middle of its first run of equals."""
    largest = max(values)
    low = high = values.index(largest)
    while high + 1 < len(values) and values[high + 1] == largest:
        high += 1
    return largest, (low + high) // 2


def quantile_time(samples, starts, dt, twentieth):
    """First crossing of a level by the running area that is linear inside samples."""
    total, before = sum(map(int, samples)), 0
    if total <= 0:
        return None
    level = Fraction(twentieth * total, 20)
    for w, start in zip(map(int, samples), starts, strict=True):
        after = before + w
        if after >= level and (twentieth > 0 or after > 0):
            return start + dt * (level - before) / w
        before = after
    raise AssertionError("the last sample reaches the total")


def sensors_near(hits, maximum_ns, left, right):
    return [
        len({c for t, c in zip(hits.max_time_ns, hits.channel, strict=True) if m - left <= t <= m + right})
        for m in maximum_ns
    ]


def merged(settings, start, end, area, signal, *, s1=1, s2=2):
    """Groups of consecutive pieces, one gap after the other, the smallest first."""
    groups = [[i] for i in range(len(area))]
    gaps = sorted((int(start[i + 1] - end[i]), i) for i in range(len(area) - 1))
    for gap, i in gaps:
        left = next(g for g in groups if i in g)
        right = next(g for g in groups if i + 1 in g)
        members = left + right
        if any(signal[m] == s1 for m in members) or not any(
            all_s2 for all_s2 in (s2 in signal[left], s2 in signal[right])
        ):
            continue
        smaller = min(area[left].sum(), area[right].sum())
        joint = margins.merge(settings, gap, smaller, end[members[-1]] - start[members[0]])
        if settings.max_duration_ns > 0 and min(joint) >= 0:
            groups = [g for g in groups if g is not left and g is not right] + [members]
            for m in members:
                signal = np.where(np.arange(len(signal)) == m, s2, signal)
    return sorted(groups)
