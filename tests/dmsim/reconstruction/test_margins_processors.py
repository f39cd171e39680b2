"""Decisions of a million random peaks with and without the processor's vector instructions.

numpy's exp, log10 and tanh differ in the last digit between processors. Values that are written out do not
use them; decisions do, and change only where a margin is within some 1e-15 of its threshold.
"""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from dmsim.reconstruction import margins
from dmsim.reconstruction.settings import Classification, Merging, Splitting

N_PEAKS = 1_000_000
# names before and from numpy 2.4 on; unknown ones are passed over
OFF = "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX X86_V3 X86_V4 AVX512_ICL AVX512_SPR"


def digests():
    """Of decisions, and of the margins that they rest on."""
    random = np.random.default_rng(1)
    area, rise = 10 ** random.uniform(0.5, 5, N_PEAKS), 10 ** random.uniform(0.5, 4, N_PEAKS)
    top, count = random.random(N_PEAKS), random.integers(0, 8, N_PEAKS)
    # numbers made by a power differ too: few digits make them the same
    area, rise = np.round(area, 6), np.round(rise, 6)
    cuts = margins.classes(
        Classification(s1_min_coincidence=3), area_pe=area, area_fraction_top=top, rise_time_ns=rise,
        n_sensors=count, tight_coincidence=count,
    )  # fmt: skip
    split = margins.split(Splitting(), top, area, rise)
    merge = np.minimum.reduce(margins.merge(Merging(), 3 * rise, area, rise))
    decisions = [*margins.passed(cuts), split > 0, merge >= 0]
    return [
        hashlib.sha256(np.stack(part).tobytes()).hexdigest() for part in (decisions, [*cuts, split, merge])
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="names of processor features are those of x86 Linux")
def test_decisions_do_not_depend_on_vector_instructions():
    off = {"NPY_DISABLE_CPU_FEATURES": OFF}
    out = subprocess.run(
        [sys.executable, __file__], env={**os.environ, **off}, capture_output=True, text=True, check=True
    )
    decisions, values = out.stdout.split()
    assert decisions == digests()[0]
    # the twin, where the processor has what was switched off: the margins themselves differ in the last digit
    if "AVX512" in str(np.show_config(mode="dicts")):
        assert values != digests()[1]


if __name__ == "__main__":
    print(*digests())
