"""Memory of a long run: bounded, and the same for any number of chunks."""

import json
import subprocess
import sys

import pytest
import synthetic_run

from dmsim.io.strax_folders import FolderWriter, endtime_ns

LIMIT_MB = 2_000
JOIN_MB = 8  # assumed: the code of the join itself, loaded after the last chunk


def write_chunks(folder, raw, n_chunks):
    """The same records again and again, one copy a chunk; of another program: a span of time."""
    writer = FolderWriter(
        folder, "run", "raw_records", raw.dtype, lineage={"raw_records": ["Test", "0", {}]},
        provenance={}, compressor="lz4",
    )  # fmt: skip
    del writer._metadata["dmsim"]
    span = int(endtime_ns(raw).max()) + 10_000  # shorter than a silence: borders are worked on, too
    for chunk in range(n_chunks):
        part = raw.copy()
        part["time"] += chunk * span
        writer.write(part, start_ns=chunk * span, end_ns=(chunk + 1) * span)
    writer.close()
    return writer.folder


@pytest.mark.parametrize(("seconds", "n_chunks"), [(0.01, 24), pytest.param(0.2, 24, marks=pytest.mark.slow)])
def test_memory_does_not_grow_with_the_chunks(seconds, n_chunks, tmp_path):
    raw = synthetic_run.synthetic_run(1, seconds=seconds, event_hz=400.0, s2_pe=3000)
    records = write_chunks(tmp_path, raw, n_chunks)
    command = [sys.executable, "-m", "dmsim.cli.main", "reconstruct", records, "-d", "xenonnt"]
    subprocess.run([*command, "-o", tmp_path / "out"], check=True, capture_output=True)
    receipts = sorted((tmp_path / "out" / "chunks").glob("0*.json"))
    memory = [json.loads(path.read_text())["counts"]["memory_mb"] for path in receipts]
    last = json.loads((tmp_path / "out" / "chunks" / "joined.json").read_text())["counts"]["memory_mb"]
    print(f"{len(memory)} chunks of {raw['data'].nbytes / 1e6:.1f} MB: {memory} MB, in the end {last} MB")
    assert len(memory) == n_chunks
    assert last <= LIMIT_MB
    early = memory[n_chunks // 3]
    kept = (n_chunks - 1 - n_chunks // 3) * raw["data"].nbytes / 1e6  # by a process that lets go of nothing
    assert memory[-1] - early <= kept / 3
    assert last - early <= kept / 3 + JOIN_MB
