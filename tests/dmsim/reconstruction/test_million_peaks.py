"""The same bytes for a million peaks: in 1 or 30 batches, in either order, and on an older processor."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import random_peaks
from test_determinism import OLDER

HERE = Path(__file__).parent


def found(path, n_blocks, n_batches, **environment):
    """Fingerprints from a process of its own, and how many peaks have a place."""
    done = subprocess.run(
        [sys.executable, "random_peaks.py", str(n_blocks), str(n_batches), str(path)],
        cwd=HERE, env={**os.environ, **environment}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return np.load(path), int(done.stdout)


@pytest.mark.slow  # three passes of some 50 CPU-seconds
def test_a_million_peaks_are_the_same(tmp_path):
    once, n_placed = found(tmp_path / "once.npy", 20, 1)
    assert len(once) >= 1_000_000
    assert n_placed >= 50_000
    often, _ = found(tmp_path / "often.npy", 20, 30)
    older, _ = found(tmp_path / "older.npy", 20, 1, NUMBA_CACHE_DIR=str(tmp_path), **OLDER)
    print(f"{len(once):,} peaks, {n_placed:,} of them placed: ", end="")
    print(f"{(once != often).sum()} differ in 30 batches, {(once != older).sum()} on an older processor")
    np.testing.assert_array_equal(often, once)
    np.testing.assert_array_equal(older, once)


def test_some_peaks_are_the_same_in_batches(detector):
    """The same in small, and that it can fail: one count in one sample of one record is another peak."""
    columns = random_peaks.block(3, n_groups=300)
    once = random_peaks.fingerprints(random_peaks.peaks_between(detector, columns, 0, 300))
    edges = [0, 1, 7, 150, 299, 300]
    parts = [random_peaks.peaks_between(detector, columns, *e) for e in zip(edges, edges[1:], strict=False)]
    assert len(once) > 200
    np.testing.assert_array_equal(np.concatenate([random_peaks.fingerprints(p) for p in parts]), once)
    columns[2][400, 46] -= 1
    other = random_peaks.fingerprints(random_peaks.peaks_between(detector, columns, 0, 300))
    assert (other != once).sum() == 1
