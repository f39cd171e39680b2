"""strax, called as a package, in the order of steps that straxen's default settings describe.

What straxen adds to strax (window at a peak's maximum, features of its hits) is written here a second time,
from its definition.
"""

import warnings

import numpy as np
import strax

FEATURES = ("tight_coincidence", "max_diff", "min_diff", "first_channel", "last_channel")


def records_of(raw, settings):
    """Records with their baseline off, as strax makes them."""
    titled = np.zeros(len(raw), strax.raw_record_dtype(raw.dtype["data"].shape[0]))
    for name in raw.dtype.names:
        titled[name] = raw[name]
    records = strax.raw_to_records(titled)
    strax.zero_out_of_bounds(records)
    strax.baseline(records, baseline_samples=settings.hits.baseline_samples)
    strax.integrate(records)
    return records


def find(raw, settings, *, pe_per_adc, n_top, chunk_ns=None):
    """Records, all hits, lone hits and peaks, without the correction of saturation."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hits that end out of order are said each time
        return _find(raw, settings, pe_per_adc, n_top, chunk_ns)


def _find(raw, settings, pe_per_adc, n_top, chunk_ns):
    group, n_channels = settings.clustering, len(pe_per_adc)
    records = records_of(raw, settings)
    dt = int(raw["dt"][0])
    noise = np.full(n_channels, settings.hits.threshold_rms)
    hits = strax.find_hits(records, np.full(n_channels, settings.hits.threshold_adc), noise)
    extension = int(group.left_extension_ns), int(group.right_extension_ns)
    samples = [-(-ns // dt) for ns in extension]
    records = strax.cut_outside_hits(records, hits, *samples)
    every_hit = strax.sort_by_time(hits)
    hits = every_hit[pe_per_adc[every_hit["channel"]] != 0]
    if chunk_ns is None:
        chunk_ns = int(raw["time"].min()) - 10**6, int(strax.endtime(raw).max()) + 10**6
    peaks = strax.find_peaks(
        hits, pe_per_adc, gap_threshold=int(group.gap_ns), left_extension=extension[0],
        right_extension=extension[1], min_channels=group.min_sensors,
        max_duration=int(group.max_duration_ns), result_dtype=strax.peak_dtype(n_channels),
    )  # fmt: skip
    clip(peaks, *chunk_ns)
    is_lone = strax.fully_contained_in(hits, peaks) == -1
    lone, hitlets = hits[is_lone], hits[~is_lone]
    strax.integrate_lone_hits(lone, records, peaks, extension, n_channels)
    between = np.zeros(len(peaks) + 1 if len(peaks) else 0, strax.time_fields)
    if len(peaks):
        between["time"] = [chunk_ns[0], *strax.endtime(peaks)]
        between["endtime"] = [*peaks["time"], chunk_ns[1]]
    strax.find_hit_integration_bounds(
        hitlets, between, records, extension, n_channels, allow_bounds_beyond_records=True
    )
    hitlets["time"] -= (hitlets["left"] - hitlets["left_integration"]) * hitlets["dt"]
    hitlets["length"] = hitlets["right_integration"] - hitlets["left_integration"]
    hitlets = strax.sort_by_time(hitlets)
    clip(hitlets, *chunk_ns)
    links = strax.record_links(records)
    data = {"n_top_channels": n_top, "store_data_top": True, "store_data_start": True}
    strax.sum_waveform(peaks, hitlets, records, links, pe_per_adc, **data)
    strax.compute_properties(peaks, n_top_channels=n_top)
    split = settings.splitting
    options = {
        "natural_breaks": {
            "threshold": lambda some: goodness_threshold(some, split),
            "split_low": True,
            "filter_wing_width": int(split.filter_wing_ns),
        },
        "local_minimum": {"min_height": split.minimum_height_pe, "min_ratio": split.minimum_ratio},
    }[split.method]
    peaks = strax.split_peaks(
        peaks, hitlets, records, links, pe_per_adc, algorithm=split.method, min_area=split.min_area_pe,
        do_iterations=split.max_iterations, **data, **options,
    )  # fmt: skip
    describe_hits(peaks, hitlets, settings.coincidence)
    return records, every_hit, lone, peaks


def clip(rows, start, end):
    for row in rows:
        row["time"] = max(row["time"], start)
        if strax.endtime(row) > end:
            row["length"] = (end - row["time"]) // row["dt"]


def goodness_threshold(peaks, split):
    rise = np.clip(-peaks["area_decile_from_midpoint"][:, 1], 1, 1e5)
    s2_like = 1 / (1 + np.exp(-(split.rise_power * np.log10(rise / split.rise_ns))))
    log_area = np.log10(np.clip(peaks["area"], 1, 1e7))
    s1 = np.interp(log_area, split.s1_log10_area, split.s1_threshold)
    return s2_like * np.interp(log_area, split.s2_log10_area, split.s2_threshold) + (1 - s2_like) * s1


def describe_hits(peaks, hitlets, coincidence):
    touching = strax.touching_windows(hitlets, peaks)
    peaks["n_hits"] = touching[:, 1] - touching[:, 0]
    inside = strax.fully_contained_in(hitlets, peaks)
    order = np.argsort(hitlets["max_time"], kind="stable")
    next_hit = 0
    for i, peak in enumerate(peaks):
        mine = order[inside[order] == i]
        apex = hitlets["max_time"][mine]
        gaps = np.diff(apex)
        peak["max_diff"], peak["min_diff"] = (gaps.max(), gaps.min()) if len(gaps) else (-1, -1)
        channels = hitlets["channel"][mine]
        peak["first_channel"], peak["last_channel"] = channels[[0, -1]] if len(mine) else (-1, -1)
        # forward only: a hit that was passed for one peak is not looked at again for the next
        middle = peak["time"] + np.argmax(peak["data"]) * peak["dt"]
        left, right = middle - coincidence.left_ns, middle + coincidence.right_ns
        seen = set()
        while next_hit < len(order) and hitlets["max_time"][order[next_hit]] <= right:
            hit = hitlets[order[next_hit]]
            if hit["max_time"] >= left:
                seen.add(int(hit["channel"]))
            next_hit += 1
        if next_hit == len(order) and len(order):
            next_hit -= 1  # the last one is
        peak["tight_coincidence"] = len(seen)
