"""The output folder of `dmsim simulate`: which tables a level has, chunk by chunk."""

import argparse
from pathlib import Path
from typing import Any

from dmsim import pipeline
from dmsim.io import tables
from dmsim.io.parquet import TableWriter, remove_tables
from dmsim.io.provenance import FILE_NAME, Provenance, check_output, write_provenance
from dmsim.io.strax_runs import StraxWriter, remove_strax_folders


class Output:
    """The files of one simulation: truth, and the level's table or strax folders."""

    def __init__(self, folder: Path, provenance: Provenance, *, n_chunks: int):
        """Open the tables of a folder whose provenance has been checked.

        Args:
            folder: output folder.
            provenance: of the run; its settings say level and format.
            n_chunks: chunks of the whole run.
        """
        self.folder = folder
        settings = provenance.settings
        self.level: str = settings["level"]
        self.n_chunks = n_chunks
        self.truth = TableWriter(folder, "truth", provenance, n_chunks=n_chunks)
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
        first_event = int(deposits.first_event)
        if isinstance(self.table, StraxWriter):
            self.table.write_records(chunk, pipeline.simulate_records(key, detector, deposits))
        elif self.table is not None:
            if self.level == "areas":
                areas = pipeline.simulate_areas(key, detector, deposits)
                table = tables.pack_areas(areas, first_event=first_event)
            elif self.level == "hits":
                hits = pipeline.simulate_hits(key, detector, deposits)
                table = tables.pack_hits(hits, first_event=first_event)
            else:
                table = tables.pack_records(pipeline.simulate_records(key, detector, deposits))
            self.table.write(chunk, table)
        quanta = pipeline.simulate_quanta(key, detector, deposits)
        self.truth.write(chunk, tables.pack_truth(deposits, quanta))

    def close(self) -> None:
        """Finish what is finished by a rename."""
        if isinstance(self.table, StraxWriter):
            self.table.close()

    def summary(self) -> list[str]:
        """What was written and where, one line a table, and what did not fit."""
        lines = [f"  truth    {self.truth.n_rows:>12,} deposits   {self.truth.folder}"]
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
        remove_tables(folder)
        remove_strax_folders(folder)
        same = False
    if not same:
        write_provenance(folder, provenance)
