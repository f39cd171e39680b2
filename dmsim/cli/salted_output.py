"""The output folder of `dmsim salt`."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dmsim import pipeline, sources
from dmsim.cli.output import TruthTables
from dmsim.io import tables
from dmsim.io.parquet import TableWriter
from dmsim.io.provenance import Provenance
from dmsim.io.strax_runs import StraxWriter
from dmsim.pipeline.windows import signal_samples
from dmsim.records import RawRecords


class SaltedOutput:
    """Records with salt, and the truth of the salt apart from them."""

    def __init__(self, folder: Path, provenance: Provenance, *, n_chunks: int):
        """Open the tables of a folder whose provenance has been checked."""
        settings = provenance.settings
        self.truth = TruthTables(folder, provenance, n_chunks=None)  # of chunks with salt only
        self.events = TableWriter(folder, "salted_events", provenance, n_chunks=None)
        self.rows = TableWriter(folder, "salted_records", provenance, n_chunks=n_chunks)
        self.records: TableWriter | StraxWriter
        if settings["format"] == "strax":
            self.records = StraxWriter(folder, settings["run_id"], provenance, n_chunks=n_chunks)
        else:
            self.records = TableWriter(folder, "records", provenance, n_chunks=n_chunks)
        self.span_ns: tuple[int, int] | None = None  # of the records
        self.n_left_out: int | None = None  # not known of a run that was finished before

    @property
    def is_finished(self) -> bool:
        """Whether everything is written."""
        return all(t.is_finished for t in (self.records, self.rows, self.events, self.truth))

    def write(
        self,
        key: Any,
        detector: Any,
        source: tuple[str, dict[str, Any]],
        chunks: Iterable[tuple[RawRecords, int | None]],
        times: np.ndarray | int,
    ) -> None:
        """Salt all chunks and write them.

        Args:
            key: of the simulation.
            detector: as simulated.
            source: its name and options.
            chunks: records, and the start of the next chunk.
            times: of the salted events [ns], or their distance.
        """
        length_ns = signal_samples(detector) * detector.electronics.sample_ns
        n_salted = n_inserted = n_with_salt = n_left_out = 0
        for chunk, (records, next_ns) in enumerate(chunks):
            starts = np.asarray(records.event_time_ns, np.int64)
            first_ns = int(starts[0])
            last = (
                starts[records.event]
                + (records.start_sample.astype(np.int64) + records.length) * records.sample_ns
            )
            end_ns = int(last.max(initial=first_ns + length_ns)) if next_ns is None else next_ns
            self.span_ns = (self.span_ns or (first_ns, end_ns))[0], end_ns
            now = _between(times, first_ns, end_ns)
            # one that reaches into the next chunk would be lost there
            fits = now + length_ns <= end_ns
            n_left_out += int(np.count_nonzero(~fits))
            now = now[fits]
            row = n_added = n_new = np.zeros(0, np.int64)
            salted = records
            if now.size:
                name, options = source
                numbers = {"n_events": now.size, "first_event": n_salted}
                made = sources.named(name)(key, detector, **numbers, **options)
                deposits = replace(made, event_time_ns=now)
                salted, salt = pipeline.salt(key, detector, records, deposits)
                row, n_added, n_new = salt.row, salt.n_added, salt.n_new
                first_event = int(records.first_event) + n_inserted
                columns = {
                    "event": n_salted + np.arange(now.size),
                    "salted_into": np.where(salt.event < 0, -1, salt.event + first_event),
                    "time_ns": now,
                }
                if not self.events.has(n_with_salt):
                    self.events.write(n_with_salt, tables.pack("salted_events", columns, {}))
                if not self.truth.has(n_with_salt):
                    self.truth.write(
                        n_with_salt, pipeline.truth_of(key, detector, deposits, depth=self.truth.depth)
                    )
                n_salted, n_with_salt = n_salted + now.size, n_with_salt + 1
            salted = replace(salted, first_event=np.asarray(int(records.first_event) + n_inserted, np.int32))
            n_inserted += salted.n_events - records.n_events
            if not self.records.has(chunk):
                if isinstance(self.records, StraxWriter):
                    self.records.write_records(chunk, salted)
                else:
                    self.records.write(chunk, tables.pack_records(salted))
            if not self.rows.has(chunk):
                columns = {"row": row, "n_added": n_added, "n_new": n_new}
                self.rows.write(chunk, tables.pack("salted_records", columns, {}))
        # of given times, also those before and behind the data
        self.n_left_out = n_left_out if isinstance(times, int) else times.size - n_salted
        for table in (self.events, self.truth):
            table.finish(n_with_salt)
        if isinstance(self.records, StraxWriter):
            self.records.close()

    def summary(self) -> list[str]:
        """What was written and where, one line a table."""
        left_out = "events that would reach over the end of a chunk, or whose time is outside of the data"
        lines = [
            *self.truth.summary(),
            f"  {'salt':<8} {self.events.n_rows:>12,} events     {self.events.folder}",
            f"  {'touched':<8} {self.rows.n_rows:>12,} records    {self.rows.folder}",
            f"  {'records':<8} {self.records.n_rows:>12,} rows       {self.records.folder}",
        ]
        if self.span_ns is not None and not self.events.n_rows:
            first, end = self.span_ns
            lines.append(
                f"  warning: nothing was salted: the records are from {first} to {end} ns, "
                f"{(end - first) / 1e9:.3g} s; give a higher --rate, or --times inside of them"
            )
        if self.n_left_out is not None:
            lines.append(f"  {'left out':<8} {self.n_left_out:>12,} {left_out}")
        return lines


def _between(times: np.ndarray | int, first_ns: int, end_ns: int) -> np.ndarray:
    """Times in [first_ns, end_ns)."""
    if isinstance(times, int):
        return np.arange(-(-first_ns // times), -(-end_ns // times), dtype=np.int64) * times
    return times[slice(*np.searchsorted(times, [first_ns, end_ns]))]
