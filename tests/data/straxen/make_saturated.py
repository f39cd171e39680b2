"""straxen's peaklets of saturated records; runs in the interpreter that straxen is installed in.

    python make_saturated.py saturated.npz

Writes the records, what straxen restored in them, and the peaklets.
"""

import sys
from pathlib import Path

import numpy as np
import strax
import straxen
from immutabledict import immutabledict

ROOT = Path(__file__).parents[3]
N_CHANNELS, N_TOP = 12, 5
SEED, N_SIGNALS = 11, 4
MARGIN_NS = 1_000_000


def raw_records() -> np.ndarray:
    """The random records of the tests, without dmsim."""
    source = (ROOT / "tests" / "dmsim" / "reconstruction" / "random_raw.py").read_text()
    source = source.replace("from dmsim.strax_layout import raw_record_dtype", "")
    names = {"raw_record_dtype": lambda n: np.dtype(strax.raw_record_dtype(n))}
    exec(compile(source, "random_raw.py", "exec"), names)
    return names["saturating_raw"](SEED, n_signals=N_SIGNALS)


def main() -> None:
    """Run straxen's plugin as it comes, with a flat gain."""
    raw = raw_records()
    plugin = straxen.Peaklets()
    plugin.config = {
        "n_tpc_pmts": N_CHANNELS,
        "n_top_pmts": N_TOP,
        "gain_model": np.full(N_CHANNELS, 0.0076),
        "hit_min_amplitude": 15,
        "channel_map": immutabledict(tpc=(0, N_CHANNELS - 1)),
    }
    plugin.config |= {
        name: option.default for name, option in plugin.takes_config.items() if name not in plugin.config
    }
    plugin.run_id, plugin.deps = "0", {}
    plugin.setup()
    records = strax.raw_to_records(raw)
    strax.zero_out_of_bounds(records)
    strax.baseline(records)
    strax.integrate(records)
    records = strax.cut_outside_hits(records, strax.find_hits(records, 15), 3, 20)
    start, end = raw["time"].min() - MARGIN_NS, strax.endtime(raw).max() + MARGIN_NS
    peaks = plugin.compute(records, int(start), int(end))["peaklets"]
    plain = [strax.remove_titles_from_dtype(array.dtype) for array in (raw, records, peaks)]
    arrays = [array.astype(dtype) for array, dtype in zip((raw, records, peaks), plain, strict=True)]
    np.savez_compressed(sys.argv[1], **dict(zip(("raw", "records", "peaks"), arrays, strict=True)))


if __name__ == "__main__":
    main()
