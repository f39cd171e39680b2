"""The output folder of continuous time: records, truth, and which window each event is in."""

from pathlib import Path
from typing import Any

import numpy as np

from dmsim.cli.output import TruthTables
from dmsim.cli.progress import track
from dmsim.io import tables
from dmsim.io.parquet import TableWriter
from dmsim.io.provenance import Provenance
from dmsim.io.strax_runs import StraxWriter
from dmsim.pipeline import iterate_stream_with_truth
from dmsim.pipeline.windows import Windows


class StreamOutput:
    """The files of a stream. Silence decides where chunks end, so that their number is known at the end."""

    def __init__(self, folder: Path, provenance: Provenance):
        """Open the tables of a folder whose provenance has been checked."""
        settings = provenance.settings
        self._chunk_ns = provenance.chunks["chunk_ns"]
        self._codes = {name: code for code, name in enumerate(settings["source"])}
        self.truth = TruthTables(folder, provenance, n_chunks=None)
        self.events = TableWriter(folder, "stream_events", provenance, n_chunks=None)
        self.records: TableWriter | StraxWriter
        if settings["format"] == "strax":
            self.records = StraxWriter(folder, settings["run_id"], provenance, n_chunks=0)
        else:
            self.records = TableWriter(folder, "records", provenance, n_chunks=None)

    @property
    def is_finished(self) -> bool:
        """Whether everything is written."""
        return self.records.is_finished and self.events.is_finished and self.truth.is_finished

    def write(self, key: Any, detector: Any, timeline: Any, windows: Windows, *, n_expected: int) -> None:
        """Simulate the stream and write it; chunks that are there already are kept.

        Args:
            key: of the run.
            detector: as simulated.
            timeline: deposits, and the source of each event.
            windows: of the deposits.
            n_expected: chunks, for the progress bar.
        """
        stream = iterate_stream_with_truth(
            key, detector, timeline.deposits, chunk_ns=self._chunk_ns, depth=self.truth.depth
        )
        source = np.array([self._codes[name] for name in timeline.truth.source], np.int16)
        first_event = int(timeline.deposits.first_event)
        n_chunks, first = 0, 0
        for records, truth in track(stream, total=n_expected, what="simulating"):
            assert truth is not None  # a depth was asked for
            events = slice(first, first + truth.deposits.n_events)
            if not self.records.has(n_chunks):
                if isinstance(self.records, StraxWriter):
                    self.records.write_records(n_chunks, records)
                else:
                    self.records.write(n_chunks, tables.pack_records(records))
            if not self.events.has(n_chunks):
                columns = {
                    "event": first_event + np.arange(events.start, events.stop),
                    "window": first_event + windows.window_of_event[events],
                    "time_ns": windows.event_sample[events] * detector.electronics.sample_ns,
                    "source": source[events],
                }
                self.events.write(n_chunks, tables.pack("stream_events", columns, {}))
            if not self.truth.has(n_chunks):
                self.truth.write(n_chunks, truth)
            n_chunks, first = n_chunks + 1, events.stop
        for table in (self.records, self.events, self.truth):
            table.finish(n_chunks)

    def summary(self) -> list[str]:
        """What was written and where, one line a table."""
        return [
            *self.truth.summary(),
            f"  {'events':<8} {self.events.n_rows:>12,} rows       {self.events.folder}",
            f"  {'records':<8} {self.records.n_rows:>12,} rows       {self.records.folder}",
        ]
