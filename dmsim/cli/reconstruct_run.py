"""The tasks of `dmsim reconstruct` in order, whoever does them; what is there already is kept."""

import fcntl
import functools
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dmsim.cli import workers
from dmsim.cli.progress import track
from dmsim.io.files import remove_temporary, write_json
from dmsim.io.parquet import TableWriter
from dmsim.pipeline.join import join, joined
from dmsim.pipeline.run import Job, do_chunk, finished

SET_ASIDE = "set_aside.json"


@dataclass
class Result:
    """What became of a run."""

    receipts: dict[int, dict[str, Any]]  # of chunks that are done
    joined: dict[str, Any] | None = None  # of a span of time
    set_aside: dict[int, str] = field(default_factory=dict)  # chunk -> why
    n_done: int = 0  # tasks of this call
    n_before: int = 0  # chunks that were there already

    def total_records(self) -> int:
        """Records in the chunks; those at borders are worked on twice and counted once."""
        return sum(part["counts"]["records"] for part in self.receipts.values())

    def total(self, name: str) -> Any:
        """Sum of a count over all tasks."""
        parts = [*self.receipts.values(), *([self.joined] if self.joined else [])]
        return sum(part["counts"].get(name, 0) for part in parts)


class Run:
    """Does the tasks of a job."""

    def __init__(self, job: Job, *, n_workers: int, scheduler: str | None, retries: int):
        """Set it up.

        Args:
            job: what to do.
            n_workers: processes; 1 works in this one.
            scheduler: of a Dask cluster, in their place.
            retries: how often a chunk that fails is tried again.
        """
        self._job, self._out = job, Path(job.out)
        self._n_workers, self._scheduler, self._retries = n_workers, scheduler, retries

    def do(self, chunks: Sequence[int]) -> Result:
        """Work on chunks, and if these are all, finish the run.

        Raises:
            ValueError: if no chunk at all can be reconstructed.
        """
        job = self._job
        for kind in ("peaks", "events"):
            (self._out / kind).mkdir(exist_ok=True)
        result = Result(receipts={})
        for chunk in range(job.n_chunks):
            receipt = finished(job, chunk)
            if receipt is not None:
                result.receipts[chunk] = receipt
        if job.is_stream and joined(job, result.receipts) is None:
            # its task needs the border records, which are not kept beyond it
            for chunk in [c for c in result.receipts if finished(job, c, with_border=True) is None]:
                del result.receipts[chunk]
        result.n_before = len(result.receipts)
        todo = [chunk for chunk in chunks if chunk not in result.receipts]
        self._do_chunks(todo, result)
        if result.set_aside and not result.receipts:
            raise ValueError(next(iter(result.set_aside.values())))
        for chunk, why in sorted(result.set_aside.items()):
            print(f"dmsim: error: chunk {chunk} set aside: {why}", file=sys.stderr)
        if len(chunks) == job.n_chunks:
            self._finish(result)
        return result

    def _do_chunks(self, todo: list[int], result: Result) -> None:
        for outcome in track(self._outcomes(todo), total=len(todo), what="reconstructing"):
            if outcome.error is not None:
                times = f" ({outcome.n_attempts} times tried)" if outcome.n_attempts > 1 else ""
                result.set_aside[outcome.task] = outcome.error + times
                continue
            result.receipts[outcome.task] = outcome.result
            result.n_done += 1
            counts = outcome.result["counts"]
            events = f", {counts['events']} events" if "events" in counts else ""
            print(
                f"chunk {outcome.task}: {counts['records']:,} records, {counts['peaks']:,} peaks{events}, "
                f"{counts['seconds']:.1f} s",
                flush=True,
            )
        result.receipts = dict(sorted(result.receipts.items()))

    def _outcomes(self, todo: list[int]) -> Iterator[workers.Outcome]:
        work = functools.partial(do_chunk, self._job)
        if self._scheduler is not None:
            return workers.run_on_cluster(work, todo, address=self._scheduler, retries=self._retries)
        if self._n_workers > 1 and todo:
            return workers.run_spawned(work, todo, n_workers=self._n_workers, retries=self._retries)
        return workers.run_here(work, todo, retries=self._retries)

    def _finish(self, result: Result) -> None:
        """Events of a span of time, then what says that the tables are whole."""
        job = self._job
        if job.is_stream:
            result.joined = joined(job, result.receipts)
            if result.joined is None:
                result.joined = join(job, result.receipts)
                result.n_done += 1
        parts = [*result.receipts.values(), *([result.joined] if result.joined else [])]
        entries = {name: entry for part in parts for name, entry in part["files"].items()}
        n_events = job.n_chunks + 1 if job.is_stream else job.n_chunks
        for kind, n_chunks in (("peaks", job.n_peak_files), ("events", n_events)):
            mine = {
                int(Path(name).stem): entry for name, entry in entries.items() if name.startswith(f"{kind}/")
            }
            _write_manifest(job, kind, mine, n_chunks)
        aside = self._out / SET_ASIDE
        if result.set_aside:
            write_json(aside, {str(chunk): why for chunk, why in sorted(result.set_aside.items())})
            return
        aside.unlink(missing_ok=True)
        for receipt in result.receipts.values():  # border records have served
            for name in receipt.get("border", {}):
                (self._out / name).unlink(missing_ok=True)


def _write_manifest(job: Job, kind: str, entries: dict[int, dict[str, Any]], n_chunks: int) -> None:
    """Say which chunks of a table there are, if that is not what its manifest says."""
    writer = TableWriter.of(Path(job.out), kind, job.provenance, n_chunks=n_chunks)
    writer.enter(entries)


@contextmanager
def lock(out: Path, *, shared: bool) -> Iterator[None]:
    """Keep others from writing into an output folder; a kill lets go of it.

    Args:
        out: the folder.
        shared: with others that work on other chunks.

    Raises:
        ValueError: if somebody else is at it.
    """
    folder = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another dmsim reconstruct is writing into {out}: wait for its end") from None
        except OSError:
            pass  # a file system without locks
        if not shared:
            remove_temporary(out)
        yield
    finally:
        with suppress(OSError):
            os.close(folder)
