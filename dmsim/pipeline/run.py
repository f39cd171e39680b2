"""A run's records into peaks and events, as tasks that go from file to file.

Chunks of whole events: one task a chunk. A span of time, where peaks and events cross the borders of chunks:
one task a chunk makes the peaks of every island (`reconstruction.islands`) that lies inside it and keeps the
records at its borders; `join` then makes the peaks at the borders and builds events, in order of time.
A task is (job, chunk), both small; what it reads and writes are files.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dmsim import reconstruction
from dmsim.charge import prepare
from dmsim.detector import Detector, load_detector
from dmsim.io import tables
from dmsim.io.parquet import chunk_name, write_chunk
from dmsim.io.provenance import tree_sha256
from dmsim.io.receipts import FOLDER, read_receipt, write_borders, write_receipt
from dmsim.io.record_columns import RecordColumns, check_columns, stuck_channels
from dmsim.io.records_input import RecordsInput, open_records
from dmsim.pipeline.memory import peak_memory_mb
from dmsim.reconstruction.islands import quiet_ns, split_islands
from dmsim.reconstruction.peaks import peaks_of
from dmsim.reconstruction.settings import Settings, settings_from
from dmsim.reconstruction.tables import record_table_from_columns
from dmsim.records import Peaks, RawRecords

BATCH_ROWS = 131_072  # records worked on at once: 29 MB of samples
NO_EVENT = -1  # of a peak in a span of time: events are windows there, and say which peaks are in them


@dataclass(frozen=True)
class Job:
    """What all tasks of a run share; plain values, so that it can be sent anywhere."""

    records: str  # path
    out: str  # path
    detector: str  # preset or TOML file
    provenance: dict[str, Any]
    is_stream: bool
    n_chunks: int

    @property
    def digest(self) -> str:
        """Of the provenance: what a receipt must carry."""
        return self.provenance["digest"]

    @property
    def n_peak_files(self) -> int:
        """In a span of time: borders and insides by turns."""
        return 2 * self.n_chunks + 1 if self.is_stream else self.n_chunks

    def inside(self, chunk: int) -> int:
        """Number of the file of peaks that the task of a chunk writes."""
        return 2 * chunk + 1 if self.is_stream else chunk


class Setup(NamedTuple):
    """What a job's names stand for."""

    source: RecordsInput
    detector: Detector
    settings: Settings
    mode: str  # "fast" or "compat"


def setup(job: Job) -> Setup:
    """Open the input and build the detector, once a process.

    Raises:
        ValueError: if they are not those that the job was made with.
    """
    return _setup(job.records, job.detector, job.digest, _Hidden(job.provenance))


class _Hidden(NamedTuple):
    value: dict[str, Any]

    def __hash__(self) -> int:
        return 0  # the digest beside it stands for it


@lru_cache(maxsize=2)
def _setup(records: str, detector_name: str, digest: str, provenance: _Hidden) -> Setup:
    source, detector = open_records(Path(records)), load_detector(detector_name)
    expected = provenance.value
    if tree_sha256(detector) != expected["detector_sha256"] or source.digest != expected["inputs"]["records"]:
        raise ValueError(f"{records} or the detector {detector_name} changed while the run was going on")
    settings = settings_from(expected["settings"]["reconstruction"])
    return Setup(source, prepare(detector), settings, expected["settings"]["mode"])


def do_chunk(job: Job, chunk: int) -> dict[str, Any]:
    """The task of a chunk.

    Args:
        job: of the run.
        chunk: number of the chunk.

    Returns:
        Its receipt.

    Raises:
        ValueError: if the chunk is missing, damaged, or cannot be what a digitiser wrote.
    """
    begin, cpu = time.perf_counter(), time.process_time()
    here = setup(job)
    work = _span if job.is_stream else _events
    content = work(job, here, chunk)
    content |= {"chunk": chunk, "provenance": job.digest}
    content["counts"] |= {
        "seconds": round(time.perf_counter() - begin, 3),
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "memory_mb": peak_memory_mb(),
    }
    write_receipt(Path(job.out), f"{chunk:06d}", content)
    return content


def _events(job: Job, here: Setup, chunk: int) -> dict[str, Any]:
    """A chunk of whole events: peaks and events."""
    source, detector, settings, _ = here
    origin = source.path_of(chunk)
    records = source.read_events(chunk)
    first_event = int(records.first_event)
    peaks = join_rows([find_peaks(here, part, origin) for part in _by_events(records)])
    events = reconstruction.build_events(
        detector, peaks, n_events=records.n_events, first_event=first_event, settings=settings
    )
    files = write_tables(job, {("peaks", chunk): peaks, ("events", chunk): events})
    counts = {"records": len(records.length), "peaks": len(peaks), "events": len(events)}
    counts |= {"saturated": int(np.count_nonzero(peaks.n_saturated))}
    counts |= {"bytes": int(records.data.nbytes)}  # records that overflowed are refused
    return {"files": files, "counts": counts | {"stuck": stuck_channels(records)}}


def _span(job: Job, here: Setup, chunk: int) -> dict[str, Any]:
    """A chunk of a span of time: peaks of the islands inside, and the records at the borders."""
    source, detector, settings, _ = here
    origin = source.path_of(chunk)
    records = source.read_span(chunk)
    n_sensors, n_bits = detector.light.sensors.n_sensors, detector.electronics.n_bits
    check_columns(records, n_sensors=n_sensors, n_bits=n_bits, origin=origin)
    # records of the chunk before end no later than this: they start no later, and are no longer
    reach = int(records.time_ns[0]) + records.data.shape[1] * records.sample_ns if records.n_records else None
    islands = split_islands(
        records.time_ns, records.end_ns, quiet_ns=quiet_ns(settings), max_ns=2**62, reach_ns=reach
    )
    first = islands.first
    head, tail = (int(first[1]), int(first[-1])) if len(first) > 1 else (records.n_records, records.n_records)
    inner = records.take(slice(head, tail))
    peaks, n_cut = peaks_of_span(here, inner, origin)
    files = write_tables(job, {("peaks", job.inside(chunk)): peaks})
    name = f"{FOLDER}/{chunk:06d}.npz"
    borders = {"head": records.take(slice(0, head)), "tail": records.take(slice(tail, None))}
    entry = write_borders(Path(job.out) / name, borders)
    counts = {
        "records": records.n_records,
        "peaks": len(peaks),
        "saturated": int(np.count_nonzero(peaks.n_saturated)),
        "cut": n_cut,
        "border": records.n_records - inner.n_records,
    }
    counts |= {"bytes": int(records.data.size * records.data.itemsize)}
    return {
        "files": files,
        "border": {name: entry},
        "has_silence": len(first) > 1,
        "first_ns": int(records.time_ns[0]) if records.n_records else None,
        "last_ns": int(records.time_ns[-1]) if records.n_records else None,
        "counts": counts | {"stuck": stuck_channels(records)},
    }


def peaks_of_span(here: Setup, records: RecordColumns, origin: object) -> tuple[Peaks, int]:
    """Peaks of records whose first and last islands are whole, and how often a long island was cut."""
    islands = split_islands(records.time_ns, records.end_ns, quiet_ns=quiet_ns(here.settings))
    edges = [*_batches(islands.first, records.n_records), records.n_records]
    parts = [
        _peaks_of_columns(here, records.take(slice(begin, end)), origin)
        for begin, end in zip(edges, edges[1:], strict=False)
    ]
    peaks = join_rows(parts or [_peaks_of_columns(here, records, origin)])
    return with_event(peaks, NO_EVENT), islands.n_cut


def _peaks_of_columns(here: Setup, records: RecordColumns, origin: object) -> Peaks:
    electronics = here.detector.electronics
    with _naming(origin):
        if records.n_records and records.sample_ns != electronics.sample_ns:
            raise ValueError(
                f"samples are {records.sample_ns} ns wide and those of detector {here.detector.name} "
                f"{electronics.sample_ns} ns: reconstruct with the detector that took the records"
            )
        # the detector's nominal baseline, as what a digitiser notes differs from record to record
        table = record_table_from_columns(
            records.time_ns, records.channel, records.length, records.record_i, records.data,
            dt=electronics.sample_ns,
            baseline_adc=electronics.baseline_adc,
            n_sensors=here.detector.light.sensors.n_sensors,
        )  # fmt: skip
        if here.mode == "compat":
            from dmsim.reconstruction import compat  # noqa: PLC0415  only when it is asked for

            return compat.peaks_of_table(here.detector, table, settings=here.settings)
        return peaks_of(here.detector, table, settings=here.settings)


@contextmanager
def _naming(origin: object) -> Iterator[None]:
    """Say which file an error is of."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{origin}: {error}") from None


def with_event(peaks: Peaks, event: int) -> Peaks:
    """Peaks of one event number."""
    columns = {name: getattr(peaks, name) for name in Peaks.__dataclass_fields__}
    return Peaks(**columns | {"event": np.full(len(peaks), event, np.int64)})


def _batches(first: np.ndarray, n_rows: int) -> list[int]:
    """Rows where batches of whole islands begin: as many rows as may be worked on at once, or one island."""
    edges, begin = [], 0
    while begin < n_rows:
        edges.append(begin)
        later = first[first > begin]
        fits = later[later <= begin + BATCH_ROWS]
        if n_rows - begin <= BATCH_ROWS or not later.size:
            break
        begin = int(fits[-1]) if fits.size else int(later[0])
    return edges


def _by_events(records: RawRecords) -> list[RawRecords]:
    """Batches of whole events; as one where the rows are few."""
    event = np.asarray(records.event)
    if len(event) <= BATCH_ROWS or np.any(np.diff(event) < 0):
        return [records]
    first = np.flatnonzero(np.diff(event, prepend=-1))
    edges = [*_batches(first, len(event)), len(event)]
    parts = []
    for begin, end in zip(edges, edges[1:], strict=False):
        low = 0 if begin == 0 else int(event[begin])
        high = records.n_events if end == len(event) else int(event[end])
        columns = {
            name: np.asarray(getattr(records, name))[begin:end]
            for name in ("channel", "start_sample", "length", "pulse_length", "record_i", "data", "valid")
        }
        clock = records.event_time_ns
        parts.append(
            RawRecords(
                event=event[begin:end] - np.int32(low),
                **columns,
                n_overflow=records.n_overflow if begin == 0 else np.zeros((), np.int32),
                first_event=np.asarray(records.first_event) + np.int32(low),
                event_time_ns=None if clock is None else clock[low:high],
                n_events=high - low,
                sample_ns=records.sample_ns,
                baseline_adc=records.baseline_adc,
            )
        )
    return parts


def find_peaks(here: Setup, records: RawRecords, origin: object) -> Peaks:
    """Peaks of a batch; an error says which file it is of."""
    with _naming(origin):
        if here.mode == "compat":
            from dmsim.reconstruction import compat  # noqa: PLC0415  only when it is asked for

            return compat.find_peaks(here.detector, records, settings=here.settings)
        return reconstruction.find_peaks(here.detector, records, settings=here.settings)


def join_rows(parts: list[Peaks]) -> Peaks:
    """Peaks of consecutive batches as one."""
    if len(parts) == 1:
        return parts[0]
    names = Peaks.__dataclass_fields__
    return Peaks(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def write_tables(job: Job, rows: dict[tuple[str, int], Any]) -> dict[str, dict[str, Any]]:
    """Write chunks of tables; their entries by path."""
    entries = {}
    for (kind, number), values in rows.items():
        rows_of = "run" if job.is_stream else "chunk"
        is_peaks = kind == "peaks"
        table = tables.pack_peaks(values) if is_peaks else tables.pack_events(values, peak_rows=rows_of)
        name = f"{kind}/{chunk_name(number)}"
        entries[name] = write_chunk(Path(job.out) / name, table, job.provenance)
    return entries


def finished(job: Job, chunk: int, *, with_border: bool = False) -> dict[str, Any] | None:
    """The receipt of a chunk's task if it is done and need not be done again; else None."""
    out = Path(job.out)
    content = read_receipt(out, f"{chunk:06d}", job.digest)
    if content is None or not with_border:
        return content
    border = all(
        (out / name).is_file() and (out / name).stat().st_size == entry["n_bytes"]
        for name, entry in content.get("border", {}).items()
    )
    return content if border else None
