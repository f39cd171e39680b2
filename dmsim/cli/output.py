"""The output folder of `dmsim simulate`: which tables a level has, chunk by chunk."""

import argparse
from pathlib import Path
from typing import Any

from dmsim import batches, pipeline
from dmsim.io import tables
from dmsim.io.parquet import TableWriter, remove_tables
from dmsim.io.provenance import FILE_NAME, Provenance, check_output, write_provenance
from dmsim.io.receipts import remove_receipts
from dmsim.io.strax_runs import StraxWriter, remove_strax_folders
from dmsim.pipeline import truth as truths
from dmsim.pipeline.hits import Batch
from dmsim.records import Truth


class TruthTables:
    """The tables of the truth, to the depth of the run."""

    def __init__(self, folder: Path, provenance: Provenance, *, n_chunks: int | None):
        """Open them; the settings of the provenance say how deep the truth goes."""
        self.depth: str = provenance.settings["truth"]
        kinds = ("truth", "true_peaks", "true_photons")[: truths.DEPTHS.index(self.depth) + 1]
        self.writers = {kind: TableWriter(folder, kind, provenance, n_chunks=n_chunks) for kind in kinds}

    def has(self, chunk: int) -> bool:
        """Whether a chunk is written."""
        return all(writer.has(chunk) for writer in self.writers.values())

    @property
    def is_finished(self) -> bool:
        """Whether all chunks are written, as many as `finish` has said."""
        return all(writer.is_finished for writer in self.writers.values())

    def finish(self, n_chunks: int) -> None:
        """Say how many chunks there are."""
        for writer in self.writers.values():
            writer.finish(n_chunks)

    def write(self, chunk: int, truth: Truth) -> None:
        """Write a chunk."""
        batch = {"first_event": int(truth.deposits.first_event)}
        found = {"truth": tables.pack_truth(truth.deposits, truth.quanta, truth.detected)}
        if truth.peaks is not None:
            n_events = truth.deposits.n_events
            found["true_peaks"] = tables.pack_true_peaks(truth.peaks, **batch, n_events=n_events)
        if truth.photons is not None:
            found["true_photons"] = tables.pack_hits(truth.photons, **batch, kind="true_photons")
        for kind, writer in self.writers.items():
            writer.write(chunk, found[kind])

    def summary(self) -> list[str]:
        """What was written and where, one line a table."""
        what = {"truth": "deposits", "true_peaks": "signals", "true_photons": "photons"}
        return [
            f"  {'truth':<8} {writer.n_rows:>12,} {what[kind]:<10} {writer.folder}"
            for kind, writer in self.writers.items()
        ]


class Output:
    """The files of one simulation: truth, and the level's table or strax folders."""

    def __init__(self, folder: Path, provenance: Provenance, *, n_chunks: int):
        """Open the tables of a folder whose provenance has been checked.

        Args:
            folder: output folder.
            provenance: of the run; its settings say level, format and truth.
            n_chunks: chunks of the whole run.
        """
        self.folder = folder
        settings = provenance.settings
        self.level: str = settings["level"]
        self.n_chunks = n_chunks
        self.truth = TruthTables(folder, provenance, n_chunks=n_chunks)
        self.table: TableWriter | StraxWriter | None = None
        if settings["format"] == "strax":
            self.table = StraxWriter(folder, settings["run_id"], provenance, n_chunks=n_chunks)
        elif self.level != "quanta":
            self.table = TableWriter(folder, self.level, provenance, n_chunks=n_chunks)

    def has(self, chunk: int) -> bool:
        """Whether all files of a chunk are written."""
        return self.truth.has(chunk) and (self.table is None or self.table.has(chunk))

    def write(self, chunk: int, key: Any, detector: Any, deposits: Any) -> None:
        """Simulate a chunk and write its files."""
        first_event, depth, table = int(deposits.first_event), self.truth.depth, None
        if self.level == "records":
            parts = list(pipeline.iterate_records_with_truth(key, detector, deposits, depth=depth))
            records = batches.join_records([part for part, _ in parts], deposits.event_time_ns)
            truth = truths.join([of_part for _, of_part in parts])
            if isinstance(self.table, StraxWriter):
                self.table.write_records(chunk, records)
            else:
                table = tables.pack_records(records)
        elif self.level == "hits":
            hits = pipeline.simulate_hits(key, detector, deposits)
            batch = Batch(deposits, pipeline.simulate_quanta(key, detector, deposits), hits)
            truth = truths.of_batch(key, detector, batch, depth=depth)
            table = tables.pack_hits(hits, first_event=first_event)
        else:
            truth = pipeline.truth_of(key, detector, deposits, depth=depth)
            if self.level == "areas":
                areas = pipeline.simulate_areas(key, detector, deposits)
                table = tables.pack_areas(areas, first_event=first_event)
        if isinstance(self.table, TableWriter) and table is not None:
            self.table.write(chunk, table)
        self.truth.write(chunk, truth)

    def close(self) -> None:
        """Finish what is finished by a rename."""
        if isinstance(self.table, StraxWriter):
            self.table.close()

    def summary(self) -> list[str]:
        """What was written and where, one line a table, and what did not fit."""
        lines = self.truth.summary()
        n_overflow = 0
        if self.table is not None:
            lines.append(f"  {self.level:<8} {self.table.n_rows:>12,} rows       {self.table.folder}")
            n_overflow = self.table.n_overflow
        lines.append(f"  overflow {n_overflow:>12,} rows that no slot was left for")
        lines.append(f"  {self.n_chunks} chunks, provenance in {self.folder / FILE_NAME}")
        return lines


def open_output(args: argparse.Namespace, provenance: Provenance, *, n_chunks: int) -> Output:
    """Check the output folder, clear it if asked to, and open it.

    Raises:
        ValueError: if it holds something else than this run and `--overwrite` was not given.
    """
    claim(args.out, provenance, overwrite=args.overwrite)
    return Output(args.out, provenance, n_chunks=n_chunks)


def claim(folder: Path, provenance: Provenance, *, overwrite: bool) -> None:
    """Make a folder this run's: new, the same run's, or another's whose files are removed if asked to.

    Raises:
        ValueError: if it holds something else and may not be overwritten.
    """
    try:
        same = check_output(folder, provenance)
    except ValueError:
        if not overwrite or not (folder / FILE_NAME).is_file():
            raise  # also with --overwrite, a folder that dmsim did not write is left alone
        remove_receipts(folder)
        remove_tables(folder)
        remove_strax_folders(folder)
        same = False
    if not same:
        write_provenance(folder, provenance)


def draw_simulation(path: Path, folder: Path, detector: Any) -> None:
    """Draw the first chunk of a simulation's output."""
    import matplotlib as mpl

    mpl.use("Agg")  # no window, also where there is no display
    import matplotlib.pyplot as plt

    from dmsim.io.files import write_whole
    from dmsim.io.parquet import TableReader
    from dmsim.io.records_input import iterate, open_records
    from dmsim.plot.simulation import simulated_events

    deposits, quanta, detected = tables.unpack_truth(TableReader(folder / "truth").read(0))
    peaks, records = None, None
    if (folder / "true_peaks").is_dir():
        peaks = tables.unpack_true_peaks(TableReader(folder / "true_peaks").read(0))
    try:
        records = next(iterate(open_records(folder), gap_ns=1))
    except ValueError:
        pass  # of another level
    figure = simulated_events(detector, Truth(deposits, quanta, detected, peaks, None), records)
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=130))
    plt.close(figure)
