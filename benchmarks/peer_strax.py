"""strax's side of the benchmark of the reconstruction: raw records -> peaks, in strax's interpreter.

    python benchmarks/peer_strax.py FOLDER --copies 10 --sensors 494 --top 253 --adc-per-pe 116.7

strax's functions are called in the order of straxen's PulseProcessing and Peaklets with its default settings.
Left out: the pulse filter, the saturation correction and the tight coincidence, which straxen runs on top.
"""

import argparse
from pathlib import Path

import numpy as np
import strax
from timing import measure, report

FILE = "raw_records.npy"
BASELINE_SAMPLES, THRESHOLD_ADC = 40, 15
GAP_NS, LEFT_NS, RIGHT_NS, MIN_SENSORS, MAX_DURATION_NS = 700, 30, 200, 2, 10_000_000


def split_threshold(peaks):
    """Goodness of split that a peak must pass, with the numbers that straxen publishes."""
    rise = -peaks["area_decile_from_midpoint"][:, 1]
    slow = 1 / (1 + np.exp(-8 * np.log10(np.clip(rise, 1, 1e5) / 100)))
    size = np.log10(np.clip(peaks["area"], 1, 1e7))
    return slow * np.interp(size, (2.5, 5.625), (1, 0.4)) + (1 - slow) * np.interp(size, (0.5, 6), (1, 0.4))


def peaks_of(raw, to_pe, n_top):
    """Peaks of one chunk."""
    n = len(to_pe)
    records = strax.raw_to_records(raw)
    strax.zero_out_of_bounds(records)
    strax.baseline(records, baseline_samples=BASELINE_SAMPLES, flip=True)
    strax.integrate(records)
    hits = strax.find_hits(records, min_amplitude=np.full(n, THRESHOLD_ADC))
    samples = {"left_extension": LEFT_NS // 10, "right_extension": RIGHT_NS // 10}
    records = strax.cut_outside_hits(records, hits, **samples)
    strax.zero_out_of_bounds(records)

    hits = strax.sort_by_time(strax.find_hits(records, min_amplitude=np.full(n, THRESHOLD_ADC)))
    peaks = np.asarray(strax.find_peaks(
        hits, to_pe, gap_threshold=GAP_NS, left_extension=LEFT_NS, right_extension=RIGHT_NS,
        min_channels=MIN_SENSORS, max_duration=MAX_DURATION_NS,
        result_dtype=strax.peak_dtype(n_channels=n, store_data_top=True, store_data_start=True),
    ))  # fmt: skip
    lone = strax.fully_contained_in(hits, peaks) == -1
    lone_hits, hits = hits[lone], hits[~lone]
    extension = (LEFT_NS, RIGHT_NS)
    strax.integrate_lone_hits(lone_hits, records, peaks, save_outside_hits=extension, n_channels=n)
    between = np.zeros(len(peaks) + 1, strax.time_fields)
    between["time"] = np.append(int(raw["time"][0]) - 10**6, strax.endtime(peaks))
    between["endtime"] = np.append(peaks["time"], int(strax.endtime(raw).max()) + 10**6)
    strax.find_hit_integration_bounds(
        hits, between, records, save_outside_hits=extension, n_channels=n, allow_bounds_beyond_records=True
    )
    hits["time"] -= (hits["left"] - hits["left_integration"]) * hits["dt"]
    hits["length"] = hits["right_integration"] - hits["left_integration"]
    hits = strax.sort_by_time(hits)
    links = strax.record_links(records)
    kept = {"n_top_channels": n_top, "store_data_top": True, "store_data_start": True}
    strax.sum_waveform(peaks, hits, records, links, to_pe, **kept)
    strax.compute_properties(peaks, n_top_channels=n_top)
    return strax.split_peaks(
        peaks, hits, records, links, to_pe, algorithm="natural_breaks", threshold=split_threshold,
        split_low=True, filter_wing_width=70, min_area=40, do_iterations=20, **kept,
    )  # fmt: skip


def main() -> None:
    """Reconstruct every chunk, several times over."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--copies", type=int, default=10)
    parser.add_argument("--sensors", type=int, required=True)
    parser.add_argument("--top", type=int, required=True)
    parser.add_argument("--adc-per-pe", type=float, required=True)
    args = parser.parse_args()
    plain = np.load(args.folder / FILE)
    raw = np.zeros(len(plain), strax.raw_record_dtype(plain["data"].shape[1]))
    for name in plain.dtype.names:
        raw[name] = plain[name]
    chunks = [raw.copy() for _ in range(args.copies)]
    to_pe = np.full(args.sensors, 1 / args.adc_per_pe)

    def one_pass() -> int:
        return sum(len(peaks_of(chunk, to_pe, args.top)) for chunk in chunks)

    figures = measure(one_pass, min_cpu_s=4.0)
    report(**figures, n_peaks=one_pass(), version=strax.__version__)


if __name__ == "__main__":
    main()
