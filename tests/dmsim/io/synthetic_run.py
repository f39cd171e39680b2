"""A run of continuous records made with NumPy alone: dark counts, S1s, S2s and electrons behind them.

Not physics, but everything that a border between chunks can cut: pulses of several records, peaks, S2s in
pieces, events that overlap. One seed gives one run; how it is cut into chunks is told apart from it.
"""

import numpy as np

from dmsim.io import Provenance, TableWriter, tables
from dmsim.io.provenance import tree_sha256, write_provenance
from dmsim.io.strax_folders import FolderWriter
from dmsim.io.strax_records import raw_record_dtype
from dmsim.records import RawRecords

BASELINE, SAMPLE_NS, SAMPLES = 16_000, 10, 110
_SHAPE = np.array([20, 120, 180, 110, 60, 30, 12, 5])  # ADC counts a photoelectron


def photoelectrons(random, *, seconds, n_channels, dark_hz=200.0, event_hz=50.0, s2_pe=1500):
    """Times [sample] and channels, unordered."""
    length = int(seconds * 1e9 / SAMPLE_NS)
    n_dark = random.poisson(dark_hz * seconds)
    times, channels = [random.integers(0, length, n_dark)], [random.integers(0, n_channels, n_dark)]
    for start in random.integers(0, length, random.poisson(event_hz * seconds)):
        s2_at = start + random.integers(1_000, 100_000)
        n_s1, n_s2 = random.poisson(60), random.poisson(s2_pe)
        n_late = random.poisson(n_s2 / 100)  # single electrons, each of some 30 photoelectrons
        late = s2_at + random.exponential(20_000, n_late)
        hits = [
            start + random.exponential(5, n_s1),
            s2_at + random.normal(0, 80, n_s2),
            np.repeat(late, 30) + random.normal(0, 20, 30 * n_late),
        ]
        for when in hits:
            times.append(when.astype(np.int64))
            channels.append(random.integers(0, n_channels, len(when)))
    time, channel = np.concatenate(times), np.concatenate(channels)
    inside = (time > 200) & (time < length - 200)
    return time[inside], channel[inside]


def records_of(random, time, channel, *, before=40, after=60, noise=2.0):
    """raw_records of photoelectrons, sorted by time: pulses of one channel, in fragments of 110 samples."""
    order = np.lexsort((time, channel))
    time, channel = time[order], channel[order]
    new = np.ones(len(time), bool)
    new[1:] = (np.diff(channel) != 0) | (np.diff(time) > before + after)
    pulse = np.cumsum(new) - 1
    first = np.flatnonzero(new)
    last = np.append(first[1:], len(time)) - 1
    begin = time[first] - before
    length = time[last] + after - begin
    n_fragments = -(-length // SAMPLES)
    row0 = np.cumsum(n_fragments) - n_fragments
    n_rows = int(n_fragments.sum())
    wave = np.full(n_rows * SAMPLES, BASELINE, np.int32)
    wave += np.rint(random.normal(0, noise, wave.shape)).astype(np.int32)
    at = row0[pulse] * SAMPLES + time - begin[pulse]
    for k, height in enumerate(_SHAPE):
        np.subtract.at(wave, at + k, height)
    raw = np.zeros(n_rows, raw_record_dtype(SAMPLES))
    of = np.repeat(np.arange(len(first)), n_fragments)
    raw["record_i"] = np.arange(n_rows) - row0[of]
    raw["time"] = (begin[of] + raw["record_i"].astype(np.int64) * SAMPLES) * SAMPLE_NS
    raw["length"] = np.minimum(length[of] - raw["record_i"].astype(np.int64) * SAMPLES, SAMPLES)
    raw["pulse_length"], raw["dt"], raw["baseline"] = length[of], SAMPLE_NS, BASELINE
    raw["channel"] = channel[first][of]
    data = np.clip(wave, 0, 16_383).reshape(-1, SAMPLES)
    data[np.arange(SAMPLES) >= raw["length"][:, None]] = 0
    raw["data"] = data
    return raw[np.lexsort((raw["channel"], raw["time"]))]


def synthetic_run(seed, *, seconds=0.05, n_channels=494, **rates):
    """raw_records of a run."""
    random = np.random.default_rng(seed)
    return records_of(random, *photoelectrons(random, seconds=seconds, n_channels=n_channels, **rates))


def provenance_of(detector, **settings):
    return Provenance("simulate", settings, detector.name, tree_sha256(detector), 0, {"n_chunks": 1})


def write_tables(folder, raw, cuts, detector):
    """As our tables, cut at any rows, also inside pulses."""
    edges = [0, *cuts, len(raw)]
    parts = [as_records(raw[begin:end]) for begin, end in zip(edges, edges[1:], strict=False)]
    return write_parts(folder, parts, detector)


def write_parts(folder, parts, detector):
    """Records of a stream, a chunk each, as our tables."""
    provenance = provenance_of(detector, duration_s=1.0)
    write_provenance(folder, provenance)
    writer = TableWriter(folder, "records", provenance, n_chunks=len(parts))
    for chunk, part in enumerate(parts):
        writer.write(chunk, tables.pack_records(part))
    return folder


def as_records(raw):
    """All as one event whose clock is 0."""
    columns = {n: raw[n].astype(np.int32) for n in ("channel", "length", "pulse_length", "record_i")}
    return RawRecords(
        **columns,
        event=np.zeros(len(raw), np.int32),
        start_sample=(raw["time"] // SAMPLE_NS).astype(np.int32),
        data=raw["data"].astype(np.float32),
        valid=np.ones(len(raw), bool),
        n_overflow=np.zeros((), np.int32),
        first_event=np.zeros((), np.int32),
        event_time_ns=np.zeros(1, np.int64),
        n_events=1,
        sample_ns=SAMPLE_NS,
        baseline_adc=BASELINE,
    )


def pauses(raw):
    """Rows before which no record is being taken: where strax may end a chunk."""
    end = np.maximum.accumulate(raw["time"] + raw["length"].astype(np.int64) * raw["dt"])
    return np.flatnonzero(raw["time"][1:] >= end[:-1]) + 1


def write_strax(folder, raw, cuts, compressor="blosc"):
    """As a strax folder of another program; cuts at pauses."""
    writer = FolderWriter(
        folder, "run", "raw_records", raw.dtype, lineage={"raw_records": ["Test", "0", {}]},
        provenance={}, compressor=compressor,
    )  # fmt: skip
    del writer._metadata["dmsim"]
    edges, start = [0, *cuts, len(raw)], 0
    for chunk, (begin, stop) in enumerate(zip(edges, edges[1:], strict=False)):
        last = chunk == len(edges) - 2
        end = int(raw["time"][-1]) + 10_000 if last else int(raw["time"][stop])
        writer.write(raw[begin:stop], start_ns=start, end_ns=end)
        start = end
    writer.close()
    return writer.folder
