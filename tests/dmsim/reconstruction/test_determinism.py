"""The same records give the same bytes, in any order, in any batches and on any processor."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic_records import records_of, s1, s2

import dmsim
from dmsim.reconstruction import find_peaks

COLUMNS = ("event", "channel", "start_sample", "length", "pulse_length", "record_i", "data", "valid")
N_EVENTS = 5
OLDER = {  # environment of a process that works as on a processor without AVX
    "XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2",
    "NUMBA_CPU_NAME": "nehalem",
    "NUMBA_CPU_FEATURES": "",  # or numba takes those of the real processor
    # names before and from numpy 2.4 on
    "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX X86_V3 X86_V4 AVX512_ICL",
}


def some_events(detector):
    random = np.random.default_rng(11)
    photons = []
    for event, size in enumerate((2000, 300, 5000, 40, 900)):
        photons += s1(random, event, 5_000.0, 60 + event)
        photons += s2(random, detector, event, 400_000.0, size, 100, -200)
        photons += s2(random, detector, event, 408_000.0, 50, 0, 300, sigma_ns=300.0)
    return records_of(detector, photons, n_events=N_EVENTS)


def taken(records, rows):
    return replace(records, **{name: getattr(records, name)[rows] for name in COLUMNS})


def peaks_bytes(peaks):
    """Every column, as bytes."""
    return {name: np.ascontiguousarray(getattr(peaks, name)).tobytes() for name in peaks.__dataclass_fields__}


def by_batches(detector, records, edges):
    """Events edges[i] to edges[i + 1] at a time."""
    parts = []
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        part = taken(records, (records.event >= low) & (records.event < high))
        part = replace(part, event=part.event - low, n_events=high - low, first_event=np.asarray(low))
        parts.append(find_peaks(detector, part))
    joined = {
        name: np.concatenate([getattr(p, name) for p in parts]) for name in parts[0].__dataclass_fields__
    }
    return type(parts[0])(**joined)


def test_neither_order_nor_batches_change_a_byte(detector, random):
    records = some_events(detector)
    together = peaks_bytes(find_peaks(detector, records))
    for edges in ([0, 5], [0, 1, 2, 3, 4, 5], [0, 2, 5], [0, 4, 5]):
        mixed = taken(records, random.permutation(len(records.event)))
        assert peaks_bytes(by_batches(detector, records, edges)) == together
        assert peaks_bytes(by_batches(detector, mixed, edges)) == together
    # must fail: one count in one sample
    other = replace(records, data=records.data.copy())
    lit = np.argmin(records.data[:, 50] + 1e6 * (records.length < 60))
    other.data[lit, 50] -= 1
    assert peaks_bytes(find_peaks(detector, other)) != together


def test_integer_and_float_samples_are_the_same(detector):
    records = some_events(detector)
    whole = replace(records, data=records.data.astype(np.int16))
    assert peaks_bytes(find_peaks(detector, whole)) == peaks_bytes(find_peaks(detector, records))


def digest() -> str:
    """Of all columns, the position's among them."""
    detector = dmsim.load_detector("xenonnt")
    columns = peaks_bytes(find_peaks(detector, some_events(detector)))
    return hashlib.sha256(b"".join(value for _, value in sorted(columns.items()))).hexdigest()


def registers() -> set[str]:
    """Kinds of vector registers that a kernel works with: ymm with AVX, else xmm alone."""
    from dmsim.reconstruction.host.integrate import integrate

    code = "".join(integrate.inspect_asm().values())
    return {name for name in ("xmm", "ymm", "zmm") if name in code}


@pytest.mark.slow  # compiles every kernel for another processor
def test_an_older_processor_gives_the_same_bytes(tmp_path):
    older = {**OLDER, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", "import test_determinism as t; print(t.digest(), *sorted(t.registers()))"],
        cwd=Path(__file__).parent, env={**os.environ, **older}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    older_digest, *older_registers = done.stdout.split()
    assert older_registers == ["xmm"]  # it was another processor's code
    assert older_digest == digest()
