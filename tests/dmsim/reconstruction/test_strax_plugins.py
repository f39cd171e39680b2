"""Our plugins in a real strax context."""

import hashlib
import json
import subprocess
import sys
from inspect import Parameter, Signature
from pathlib import Path

import numpy as np
import pytest
from synthetic_records import records_of, s1, s2

import dmsim
from dmsim.io import records_to_strax
from dmsim.reconstruction import settings as tree
from dmsim.reconstruction.settings import Settings, replaced

strax = pytest.importorskip("strax", reason="strax is in the extra `strax`, below Python 3.13")

from dmsim.pipeline import strax_plugins  # noqa: E402 (needs strax)

pytestmark = pytest.mark.quick_compile

RUN, N_EVENTS = "000001", 4
TARGETS = ("dmsim_peaks", "dmsim_events")
# version of each plugin and the start of the SHA-256 of what it gives for `raw`
GIVEN = {"DmsimPeaks": ("1.1.0", "3f6db86d5941419e"), "DmsimEvents": ("1.0.1", "1f9218aea2a5c670")}


@pytest.fixture(scope="module")
def raw(detector):
    """Records of a few events 4 ms apart, S2s with pieces that lie tens of us apart."""
    random = np.random.default_rng(4)
    photons = []
    for event in range(N_EVENTS):
        photons += s1(random, event, 0.0, 60)
        photons += s2(random, detector, event, 3e5, 2000, 150.0 * event, 50.0)
        photons += s2(random, detector, event, 3.15e5, 150, 150.0 * event, 50.0)
    records = records_of(detector, photons, n_events=N_EVENTS)
    raw = records_to_strax(records).raw_records
    # event clocks are 10 ms apart: nearer, so that windows of events look at their neighbours
    raw["time"] -= np.rint(raw["time"] / 10_000_000).astype(np.int64) * 6_000_000
    return raw


def source(raw, gap_ns=1000):
    """A plugin that gives raw records in chunks that end in every gap of this length, as a digitiser's do."""
    starts = raw["time"]
    reach = np.maximum.accumulate(strax.endtime(raw))
    borders = np.flatnonzero(starts[1:] - reach[:-1] >= gap_ns) + 1
    edges = [0, *borders, len(raw)]

    class Source(strax.Plugin):
        __version__ = "1"
        provides = ("raw_records",)
        data_kind = "raw_records"
        depends_on = ()
        dtype = strax.raw_record_dtype()
        rechunk_on_save = False

        def source_finished(self):
            return True

        def is_ready(self, chunk_i):
            return chunk_i < len(edges) - 1

        def compute(self, chunk_i):
            rows = raw[edges[chunk_i] : edges[chunk_i + 1]]
            out = np.zeros(len(rows), self.dtype)
            for name in rows.dtype.names:
                out[name] = rows[name]
            times = [0, *((reach[b - 1] + starts[b]) // 2 for b in borders), int(reach[-1]) + 10_000_000]
            return self.chunk(start=times[chunk_i], end=times[chunk_i + 1], data=out)

    return Source


@pytest.fixture
def context_of(raw, tmp_path, capfd):
    def make(folder="store", gap_ns=1000, **options):
        context = strax.Context(
            storage=[strax.DataDirectory(str(tmp_path / folder))], register=[source(raw, gap_ns)]
        )
        strax_plugins.register(context, **options)
        return context

    return make


def run(context, target):
    return context.get_array(RUN, target, progress_bar=False)


def test_peaks_and_events_are_those_of_reconstruct(context_of, raw, detector):
    context = context_of()
    peaks, events = run(context, "dmsim_peaks"), run(context, "dmsim_events")
    from dmsim.charge import prepare
    from dmsim.reconstruction import build_events
    from dmsim.reconstruction.peaks import peaks_of
    from dmsim.reconstruction.tables import record_table_from_columns

    columns = [np.ascontiguousarray(raw[n]) for n in ("time", "channel", "length", "record_i", "data")]
    table = record_table_from_columns(*columns, dt=10, baseline_adc=16_000, n_sensors=494)
    ours = peaks_of(prepare(detector), table)
    assert peaks.tobytes() == dmsim.io.peaks_to_strax(ours).tobytes()
    expected = build_events(prepare(detector), ours, n_events=None)
    assert len(events) == len(expected) == N_EVENTS
    for name in ("s1_pe", "s2_pe", "cs2_pe", "drift_time_ns", "x_mm", "n_peaks", "energy_kev"):
        np.testing.assert_array_equal(events[name], getattr(expected, name), err_msg=name)
    np.testing.assert_array_equal(events["s2_time"], ours.time_ns[expected.s2_peak])
    np.testing.assert_array_equal(events["time"], expected.start_ns)
    # peaks are the same bytes on every processor; of events that is promised for what they are made of
    whole = [name for name in events.dtype.names if events.dtype[name].kind in "iu"]
    given = {"DmsimPeaks": [peaks], "DmsimEvents": [events[name] for name in whole]}
    found = {
        plugin: (_version(plugin), hashlib.sha256(b"".join(map(np.ndarray.tobytes, parts))).hexdigest()[:16])
        for plugin, parts in given.items()
    }
    # strax keeps what a plugin of one version has made: where these bytes change, so must the version
    assert found == GIVEN


def _version(plugin):
    return getattr(strax_plugins, plugin).__version__


def test_chunks_do_not_matter(context_of):
    many, one = context_of("many"), context_of("one", gap_ns=10**9)
    for target in TARGETS:
        assert run(many, target).tobytes() == run(one, target).tobytes()

    # twin: without the silences, the pieces of an S2 that a chunk's border parts stay apart
    class Straight(strax_plugins.DmsimRawRecords):
        __version__ = "twin"

        def do_compute(self, chunk_i=None, **kwargs):
            return strax.Plugin.do_compute(self, chunk_i=chunk_i, **kwargs)

    blind = context_of("blind")
    blind.register(Straight)
    assert len(run(blind, "dmsim_peaks")) > len(run(one, "dmsim_peaks"))


def test_every_setting_is_in_the_lineage(context_of):
    context = context_of()
    keys = {target: context.key_for(RUN, target).lineage_hash for target in TARGETS}
    options = {name: value for name, value in context.config.items() if name.startswith("dmsim_")}
    n_settings = sum(len(values) for values in Settings().as_dict().values())
    assert len(options) == n_settings + 3
    for name, value in options.items():
        json.dumps(value)  # flat: no arrays
        other = {str: "other", bool: not value, tuple: (1.0, 2.0), type(None): 3.0}.get(type(value), 123)
        config = {name: other}
        if name == "dmsim_detector":
            config = {name: "lz", "dmsim_detector_sha256": ""}
        if name == "dmsim_detector_sha256":
            config = {name: ""}
        changed = context.new_context(config=config, replace=False)
        for target in TARGETS:
            differs = changed.key_for(RUN, target).lineage_hash != keys[target]
            of_events = name.startswith("dmsim_events_")
            assert differs == (not of_events or target == "dmsim_events"), (name, target)


def peak_basics(kind):
    """A plugin as straxen has them: it depends on ours and knows strax's fields alone."""

    class PeakBasics(strax.Plugin):
        __version__ = "1"
        depends_on = (kind,)
        provides = ("peak_basics",)
        data_kind = kind
        dtype = [
            *strax.time_fields,
            *((name, np.float32) for name in ("area", "range_50p_area", "rise_time", "aft")),
            ("n_channels", np.int16),
            ("type", np.int8),
        ]

        def compute(self, **kwargs):
            peaks = kwargs[kind]
            out = np.zeros(len(peaks), self.dtype)
            out["time"], out["endtime"] = peaks["time"], strax.endtime(peaks)
            out["area"], out["type"] = peaks["area"], peaks["type"]
            out["range_50p_area"] = peaks["width"][:, 5]
            out["rise_time"] = -peaks["area_decile_from_midpoint"][:, 1]
            out["aft"] = peaks["area_fraction_top"]
            out["n_channels"] = (peaks["area_per_channel"] > 0).sum(axis=1)
            return out

    # strax takes the kinds of data from the names of the arguments
    names = ("self", kind)
    PeakBasics.compute.__signature__ = Signature(
        [Parameter(n, Parameter.POSITIONAL_OR_KEYWORD) for n in names]
    )
    return PeakBasics


class EventBasics(strax.LoopPlugin):
    """Loops over our events and over the peaks in each."""

    __version__ = "1"
    depends_on = ("dmsim_events", "peak_basics")
    provides = ("event_basics",)
    loop_over = "dmsim_events"
    dtype = [*strax.time_fields, ("n_inside", np.int32), ("largest", np.float32)]

    def compute_loop(self, event, dmsim_peaks):
        return {
            "time": event["time"],
            "endtime": event["endtime"],
            "n_inside": len(dmsim_peaks),
            "largest": dmsim_peaks["area"].max(),
        }


def test_plugins_in_the_manner_of_straxen_run_on_ours(context_of):
    context = context_of(mode="compat")
    context.register([peak_basics("dmsim_peaks"), EventBasics])
    events, basics = run(context, "dmsim_events"), run(context, "event_basics")
    assert len(basics) == N_EVENTS
    np.testing.assert_array_equal(basics["n_inside"], events["n_peaks"])
    np.testing.assert_allclose(basics["largest"], events["s2_pe"], rtol=1e-6)


def test_peaklets_in_place_of_those_of_straxen(context_of, raw, detector):
    from dmsim.reconstruction import compat

    context = context_of(peaklets=True)
    context.register(peak_basics("peaklets"))
    peaklets, lone = run(context, "peaklets"), run(context, "lone_hits")
    found = compat.find(detector, raw)
    for name in found.peaks.dtype.names:
        if name != "type":
            np.testing.assert_array_equal(peaklets[name], found.peaks[name], err_msg=name)
    for name in lone.dtype.names:
        if name != "record_i":  # counts within a chunk
            np.testing.assert_array_equal(lone[name], found.lone_hits[name], err_msg=name)
    basics = run(context, "peak_basics")
    assert set(basics["type"]) >= {1, 2}
    np.testing.assert_array_equal(basics["time"], peaklets["time"])


@pytest.mark.parametrize("mode", strax_plugins.MODES)
def test_both_modes_find_the_events(context_of, mode):
    context = context_of(mode=mode)
    events = run(context, "dmsim_events")
    assert len(events) == N_EVENTS
    np.testing.assert_allclose(events["s2_pe"], 2150, rtol=0.1)  # 2000 and the 150 of its second piece


def test_settings_and_detector_reach_the_workers(context_of):
    few = replaced(Settings(), clustering=tree.Clustering(min_sensors=400))
    assert len(run(context_of("few", settings=few), "dmsim_peaks")) < 2 * N_EVENTS
    context = context_of("other")
    context.set_config({"dmsim_detector_sha256": "0" * 64})
    with pytest.raises(ValueError, match="detector xenonnt has changed"):
        context.get_array(RUN, "dmsim_peaks", progress_bar=False)
    with pytest.raises(ValueError, match="dmsim_mode is 'quick'"):
        context_of("mode", mode="quick")


WORKERS = """
import multiprocessing, sys
import numpy as np, strax
from dmsim.io.strax_context import register as register_folders
from dmsim.pipeline import strax_plugins

def main():
    multiprocessing.set_start_method(sys.argv[3])
    context = strax.Context(storage=[strax.DataDirectory(sys.argv[1])], allow_multiprocess=True)
    register_folders(context, sys.argv[2])
    strax_plugins.register(context)
    workers = int(sys.argv[4])
    for target in ("dmsim_peaks", "dmsim_events"):
        array = context.get_array(
            "run1", target, max_workers=workers, processor="threaded_mailbox", progress_bar=False
        )
        np.save(f"{sys.argv[1]}/{target}.npy", array)

if __name__ == "__main__":
    main()
"""


@pytest.mark.slow
def test_two_spawned_workers_give_the_same_as_one(raw, tmp_path):
    from dmsim.io.strax_folders import FolderWriter

    script = tmp_path / "workers.py"
    script.write_text(WORKERS)
    results = {}
    for name, method, workers in (("one", "spawn", 1), ("two", "spawn", 2), ("forked", "fork", 2)):
        out = tmp_path / name
        writer = FolderWriter(
            out, "run1", "raw_records", raw.dtype, lineage={"raw_records": ["DmsimRawRecords0", "1", {}]},
            provenance={},
        )  # fmt: skip
        gaps = np.flatnonzero(raw["time"][1:] - np.maximum.accumulate(strax.endtime(raw))[:-1] > 1000) + 1
        edges = [0, *gaps, len(raw)]
        start = 0
        for first, last in zip(edges[:-1], edges[1:], strict=True):
            end = int(raw["time"][last]) - 100 if last < len(raw) else int(strax.endtime(raw).max()) + 10**7
            writer.write(raw[first:last], start_ns=start, end_ns=end)
            start = end
        writer.close()
        command = [sys.executable, str(script), str(out), str(writer.folder), method, str(workers)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
        if method == "fork":
            assert done.returncode != 0
            assert "cannot run in forked processes" in done.stderr
            continue
        assert done.returncode == 0, done.stderr[-2000:]
        results[name] = [Path(out / f"{target}.npy").read_bytes() for target in TARGETS]
    assert results["one"] == results["two"]
