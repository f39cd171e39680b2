"""straxen's default chain on records of dmsim; runs in the interpreter that straxen is installed in.

    python peer_straxen.py SETUP.json

Reads lines "RECORDS.npy OUT.npz" from standard input and answers each with a line. The plugins are straxen's
own, with its own settings (those that need no file of the experiment: its "vanilla" chain), each called
on one chunk. SETUP.json gives what belongs to the detector: gain, threshold, drift, sensors. Positions, which
the building of events needs, are the centroid of the top array, as straxen's networks are not public.
"""

import json
import logging
import sys
from typing import Any

import numpy as np
import strax
import straxen
from immutabledict import immutabledict

MARGIN_NS = 100_000_000  # more than the windows in which plugins look around a peak


class RecordsFromMemory(strax.Plugin):
    """Stands for the source of raw records; never asked to compute."""

    provides = "raw_records"
    depends_on = ()
    dtype = strax.raw_record_dtype()

    def compute(self, chunk_i):
        """Not called."""
        raise NotImplementedError


class Centroid(strax.Plugin):
    """Positions as the charge-weighted mean place of the top sensors [cm]."""

    provides = "peak_positions"
    depends_on = ("peaks",)
    data_kind = "peaks"
    sensor_x_cm = straxen.URLConfig(infer_type=False)
    sensor_y_cm = straxen.URLConfig(infer_type=False)
    dtype = [
        *strax.time_fields,
        *((name, np.float32) for name in ("x", "y", "x_centroid", "y_centroid")),
    ]

    def compute(self, peaks):
        """Centroid of each peak."""
        n_top = len(self.sensor_x_cm)
        area = np.maximum(peaks["area_per_channel"][:, :n_top], 0).astype(np.float64)
        total = area.sum(axis=1)
        result = np.zeros(len(peaks), self.dtype)
        result["time"], result["endtime"] = peaks["time"], strax.endtime(peaks)
        with np.errstate(invalid="ignore"):
            for axis, place in (("x", self.sensor_x_cm), ("y", self.sensor_y_cm)):
                result[axis] = area @ np.asarray(place) / total
                result[f"{axis}_centroid"] = result[axis]
        return result


PLUGINS = [
    RecordsFromMemory,
    Centroid,
    straxen.PulseProcessing,
    straxen.Peaklets,
    straxen.PeakletClassificationVanilla,
    straxen.MergedS2sVanilla,
    straxen.PeaksVanilla,
    straxen.PeakBasicsVanilla,
    straxen.PeakProximity,
    straxen.Events,
    straxen.EventBasicsVanilla,
]
TARGETS = (
    "records",
    "peaklets",
    "peaklet_classification",
    "merged_s2s",
    "peaks",
    "peak_basics",
    "peak_positions",
    "peak_proximity",
    "events",
    "event_basics",
)


def plugins(setup: dict[str, Any]) -> dict[str, strax.Plugin]:
    """The plugins by what they provide, ready to compute."""
    n = setup["n_sensors"]
    config = {
        "n_tpc_pmts": n,
        "n_top_pmts": setup["n_top"],
        "gain_model": np.full(n, 1 / setup["adc_per_pe"]),
        "hit_min_amplitude": np.full(n, setup["hit_threshold_adc"]),
        "channel_map": immutabledict(tpc=(0, n - 1)),
        "electron_drift_velocity": setup["drift_speed_cm_per_ns"],
        "max_drift_length": setup["drift_length_cm"],
        "sensor_x_cm": tuple(setup["sensor_x_cm"]),
        "sensor_y_cm": tuple(setup["sensor_y_cm"]),
        # straxen's own context of the vanilla chain turns these off
        "store_data_top": False,
        "store_data_start": False,
    }
    context = strax.Context(storage=[], register=PLUGINS, config=config)
    return {name: context.get_single_plugin("0", name) for name in TARGETS}


def reconstruct(chain: dict[str, strax.Plugin], raw: np.ndarray) -> dict[str, np.ndarray]:
    """Peaks and events of one chunk of raw records."""
    start, end = max(int(raw["time"][0]) - MARGIN_NS, 0), int(strax.endtime(raw).max()) + MARGIN_NS
    records = chain["records"].compute(raw, start, end)["records"]
    found = chain["peaklets"].compute(records, start, end)
    peaklets, lone_hits = found["peaklets"], found["lone_hits"]
    types = chain["peaklet_classification"].compute(peaklets)
    dtype = strax.merged_dtype((types.dtype, peaklets.dtype))
    peaklets = strax.merge_arrs([peaklets, types], dtype=dtype)  # of equal names the later one counts
    merged = chain["merged_s2s"].compute(peaklets, lone_hits)
    peaks = chain["peaks"].compute(peaklets, merged)
    basics = chain["peak_basics"].compute(peaks)
    places = chain["peak_positions"].compute(peaks)
    basics = strax.merge_arrs([basics, places])
    basics = strax.merge_arrs([basics, chain["peak_proximity"].compute(basics)])
    events = chain["events"].compute(basics, start, end)
    events = chain["event_basics"].compute(events, basics) if len(events) else np.zeros(0, events.dtype)
    columns = {
        name: basics[name]
        for name in ("time", "endtime", "center_time", "area", "area_fraction_top", "n_channels",
                     "tight_coincidence", "range_50p_area", "rise_time", "type", "x", "y")
    }  # fmt: skip
    columns |= {f"peaklet_{name}": peaklets[name] for name in ("time", "area", "type")}
    columns["peaklet_endtime"] = strax.endtime(peaklets)
    columns |= {
        f"event_{name}": events[name] if len(events) else np.zeros(0)
        for name in ("time", "endtime", "s1_time", "s1_endtime", "s2_time", "s2_endtime")
    }
    # events name their peaks by position within themselves: -1 where there is none
    for s in ("s1", "s2"):
        columns[f"event_{s}_index"] = events[f"{s}_index"] if len(events) else np.zeros(0, np.int64)
    return columns


def main() -> None:
    """Answer one line of standard input after the other."""
    logging.disable(logging.WARNING)
    answer = sys.stdout
    sys.stdout = sys.stderr  # plugins print
    with open(sys.argv[1]) as file:
        chain = plugins(json.load(file))
    print(f"straxen {straxen.__version__}, strax {strax.__version__}", file=answer, flush=True)
    for line in sys.stdin:
        source, target = line.split()
        np.savez(target, **reconstruct(chain, np.load(source)))
        print(target, file=answer, flush=True)


if __name__ == "__main__":
    main()
