"""The last task of a span of time: peaks at the borders of its chunks, then events, in order of time.

What it holds at once: the records between two silences, and the peaks (without their areas per sensor) as far
back as an event can reach. It is repeated as a whole if chunks were set aside and are there now.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np

from dmsim import reconstruction
from dmsim.io import tables
from dmsim.io.columns import TABLES
from dmsim.io.files import sha256_of_json
from dmsim.io.parquet import read_table
from dmsim.io.receipts import FOLDER, read_borders, read_receipt, write_receipt
from dmsim.io.record_columns import RecordColumns, join_columns, no_records, same_layout
from dmsim.pipeline.memory import peak_memory_mb
from dmsim.pipeline.run import (
    Job,
    Setup,
    join_rows,
    peaks_of_span,
    setup,
    write_tables,
)
from dmsim.reconstruction.islands import quiet_ns, split_islands
from dmsim.records import Events, Peaks

NAME = "joined"
_PEAK_ROWS = ("s1_peak", "s2_peak", "alt_s1_peak", "alt_s2_peak")


def joined(job: Job, receipts: dict[int, dict[str, Any]]) -> dict[str, Any] | None:
    """The receipt of this task if it was done with these chunks and need not be done again; else None."""
    found = read_receipt(Path(job.out), NAME, job.digest)
    return found if found is not None and found.get("of") == _identity(receipts) else None


def _identity(receipts: dict[int, dict[str, Any]]) -> str:
    return sha256_of_json({str(i): [r["files"], r["border"]] for i, r in receipts.items()})


def join(job: Job, receipts: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Make the peaks at the borders, and the events.

    Args:
        job: of the run.
        receipts: of the chunks that are done, by number; others were set aside, and are taken for silence.

    Returns:
        Its receipt.

    Raises:
        ValueError: if chunks are not in order of time.
    """
    begin, cpu = time.perf_counter(), time.process_time()
    here = setup(job)
    files, counts = {}, {"peaks": 0, "saturated": 0, "cut": 0, "records": 0}
    builder = _EventBuilder(job, here)
    border = _Border(here)
    for chunk in range(job.n_chunks + 1):
        receipt = receipts.get(chunk)
        if receipt is None:  # set aside, or the end
            peaks, n_cut, n_records = border.close()
        else:
            parts = read_borders(Path(job.out) / f"{FOLDER}/{chunk:06d}.npz", ("head", "tail"))
            peaks, n_cut, n_records = border.add(parts["head"], parts["tail"], receipt, chunk)
        entry = write_tables(job, {("peaks", 2 * chunk): peaks})
        files |= entry
        n_saturated = int(np.count_nonzero(peaks.n_saturated))
        for name, number in zip(counts, (len(peaks), n_saturated, n_cut, n_records), strict=True):
            counts[name] += number
        builder.add(_light(peaks))
        if receipt is not None:
            inside = next(iter(receipt["files"]))
            builder.add(_read_light(Path(job.out) / inside))
        if chunk < job.n_chunks:
            files |= builder.flush(chunk, until_ns=border.known_until_ns(receipt))
    files |= builder.finish(job.n_chunks)
    counts |= {"events": builder.n_events, "memory_mb": peak_memory_mb()}
    counts |= {"seconds": round(time.perf_counter() - begin, 3)}
    counts |= {"cpu_seconds": round(time.process_time() - cpu, 3)}
    content = {
        "provenance": job.digest, "of": _identity(receipts), "files": files, "counts": counts,
    }  # fmt: skip
    write_receipt(Path(job.out), NAME, content)
    return content


class _Border:
    """The records that wait for those after them."""

    def __init__(self, here: Setup):
        self._here = here
        self._quiet_ns = quiet_ns(here.settings)
        self._pending: list[RecordColumns] = []
        self._last_ns: int | None = None  # start of the last record of all so far

    def add(
        self, head: RecordColumns, tail: RecordColumns, receipt: dict[str, Any], chunk: int
    ) -> tuple[Peaks, int, int]:
        """Records before the first and after the last silence of a chunk; gives what is settled by them."""
        if receipt["first_ns"] is not None:
            if self._last_ns is not None and receipt["first_ns"] < self._last_ns:
                raise ValueError(
                    f"chunk {chunk} starts {self._last_ns - receipt['first_ns']} ns before the last record "
                    "of the chunks in front of it: chunks must be in order of time"
                )
            self._last_ns = receipt["last_ns"]
        for part in (head, tail):
            if part.n_records and self._pending:
                same_layout(self._pending[-1], part, origin=f"chunk {chunk}")
        if head.n_records:
            self._pending.append(head)
        if receipt["has_silence"]:
            settled = self.close()
            self._pending = [tail] if tail.n_records else []
            return settled
        return self._settle()

    def close(self) -> tuple[Peaks, int, int]:
        """Peaks of all that waits: silence follows."""
        return self._make(self._take(None))

    def _settle(self) -> tuple[Peaks, int, int]:
        """Peaks of islands that end before the last record; the last one waits, but for what is cut off."""
        if not self._pending:
            return self._make(None)
        records = join_columns(self._pending)
        self._pending = [records]
        islands = split_islands(records.time_ns, records.end_ns, quiet_ns=self._quiet_ns)
        return self._make(self._take(int(islands.first[-1])))

    def _take(self, rows: int | None) -> RecordColumns | None:
        if not self._pending:
            return None
        records = join_columns(self._pending)
        rows = records.n_records if rows is None else rows
        self._pending = [records.take(slice(rows, None))] if rows < records.n_records else []
        return records.take(slice(0, rows))

    def _make(self, records: RecordColumns | None) -> tuple[Peaks, int, int]:
        if records is None:
            records = no_records(self._here.detector.electronics.sample_ns)
        peaks, n_cut = peaks_of_span(self._here, records, "records at the border of chunks")
        return peaks, n_cut, records.n_records

    def known_until_ns(self, receipt: dict[str, Any] | None) -> int | None:
        """All peaks that start before are made; None if nothing is known of that."""
        clustering = self._here.settings.clustering
        left = int(np.ceil(float(clustering.left_extension_ns))) + self._here.detector.electronics.sample_ns
        if self._pending:
            return int(self._pending[0].time_ns[0]) - left
        return None if receipt is None or self._last_ns is None else self._last_ns - left


def _light(peaks: Peaks) -> Peaks:
    """Peaks without areas per sensor, which events do not need."""
    columns = {name: getattr(peaks, name) for name in Peaks.__dataclass_fields__}
    return Peaks(**columns | {"area_per_channel_pe": peaks.area_per_channel_pe[:, :0]})


def _read_light(path: Path) -> Peaks:
    names = [column.name for column in TABLES["peaks"] if column.name != "area_per_channel_pe"]
    return tables.unpack_light_peaks(read_table(path, names), origin=path)


class _EventBuilder:
    """Builds events as the peaks come in, and holds no more of them than later events may need."""

    def __init__(self, job: Job, here: Setup):
        self._job, self._here = job, here
        self._parts: list[Peaks] = []
        self._first_row = 0  # in the run, of the first peak that is held
        self._triggers_from_ns: int | None = None
        self.n_events = 0

    def add(self, peaks: Peaks) -> None:
        """Take the next peaks."""
        if len(peaks):
            self._parts.append(peaks)

    def flush(self, chunk: int, *, until_ns: int | None) -> dict[str, Any]:
        """Write the events that no later peak can change."""
        if until_ns is None or not self._parts:
            return self._write(chunk, self._events(None, 0))
        settings = self._here.settings.events
        peaks = self._held()
        windows = reconstruction.event_windows(
            self._here.detector, peaks, settings, triggers_from_ns=self._triggers_from_ns
        )
        carry = reconstruction.carry_over(self._here.detector, settings, windows, until_ns=until_ns)
        events = self._events(windows, carry.n_settled)
        drop = int(np.searchsorted(peaks.time_ns, carry.keep_from_ns, side="left"))
        self._parts = [_rows(peaks, slice(drop, None))]
        self._first_row += drop
        self._triggers_from_ns = carry.triggers_from_ns
        return self._write(chunk, events)

    def finish(self, n_chunks: int) -> dict[str, Any]:
        """Write what is left: nothing follows."""
        if not self._parts:
            return self._write(n_chunks, self._events(None, 0))
        windows = reconstruction.event_windows(
            self._here.detector, self._held(), self._here.settings.events,
            triggers_from_ns=self._triggers_from_ns,
        )  # fmt: skip
        return self._write(n_chunks, self._events(windows, len(windows.start_ns)))

    def _held(self) -> Peaks:
        self._parts = [join_rows(self._parts)]
        return self._parts[0]

    def _events(self, windows: Any, n: int) -> Events:
        here = self._here
        if windows is None or not self._parts:
            peaks = _light(peaks_of_nothing(here))
            settled = reconstruction.event_windows(here.detector, peaks, here.settings.events)
        else:
            peaks, settled = self._held(), type(windows)(*(column[:n] for column in windows))
        events = reconstruction.build_events(
            here.detector, peaks, windows=settled, first_event=self.n_events, settings=here.settings
        )
        self.n_events += len(events)
        columns = {name: getattr(events, name) for name in Events.__dataclass_fields__}
        for name in _PEAK_ROWS:
            columns[name] = np.where(columns[name] >= 0, columns[name] + self._first_row, -1)
        return Events(**columns)

    def _write(self, number: int, events: Events) -> dict[str, Any]:
        return write_tables(self._job, {("events", number): events})


def peaks_of_nothing(here: Setup) -> Peaks:
    """No rows, with every column."""
    return peaks_of_span(here, no_records(here.detector.electronics.sample_ns), "no records")[0]


def _rows(peaks: Peaks, rows: slice) -> Peaks:
    return Peaks(**{name: getattr(peaks, name)[rows] for name in Peaks.__dataclass_fields__})
