"""flamedisx's simulation of 10 keV electron recoils, its own model or with `nest` its NEST; its interpreter.

flamedisx fetches two correction maps of XENON1T while it is imported, though these models do not use them;
without a network they are replaced by flat ones.
"""

import contextlib
import io
import json
import os
import sys
import tempfile
import urllib.request
from pathlib import Path

from timing import measure, report

N = 100_000
_FLAT = {
    "coordinate_system": [["x", [-50, 50, 2]], ["y", [-50, 50, 2]]],
    "map": [[1.0, 1.0], [1.0, 1.0]],
    "name": "flat",
    "description": "",
    "timestamp": 0,
}


def main() -> None:
    """Time `simulate`."""
    urllib.request.urlopen = lambda *_, **__: io.BytesIO(json.dumps(_FLAT).encode())
    os.chdir(tempfile.mkdtemp())
    cache = Path("/tmp/straxen_resource_cache")  # flamedisx keeps what it fetched: not what we gave it
    before = set(cache.glob("*"))
    with contextlib.redirect_stdout(sys.stderr):
        import flamedisx  # noqa: PLC0415 (after the replacement above)
    for new in set(cache.glob("*")) - before:
        new.unlink()
    import tensorflow as tf  # noqa: PLC0415

    base = flamedisx.nest.nestERSource if "nest" in sys.argv else flamedisx.ERSource
    source = base()
    if "nest" in sys.argv:
        source = base(energy_min=9.999, energy_max=10.001, num_energies=3)
    else:
        line = tf.constant([9.999, 10.0, 10.001], flamedisx.float_type())
        flat = tf.constant([1.0, 1.0, 1.0], flamedisx.float_type())
        source = type("Line", (base,), {"energies": line, "rates_vs_energy": flat})()
    with contextlib.redirect_stdout(sys.stderr):
        figures = measure(lambda: source.simulate(N))
    report(**figures, n_events=N, events_per_cpu_s=N / figures["cpu_s"])


if __name__ == "__main__":
    main()
