"""Our side of the benchmark of the reconstruction: raw records -> peaks.

    python benchmarks/ours_reconstruct.py FOLDER --copies 10 --backend host

Prints one line of JSON.
"""

import argparse
from pathlib import Path

import numpy as np
from ours import bare
from reconstruct_inputs import FILE
from timing import measure, report

from dmsim.reconstruction.peaks import peaks_of
from dmsim.reconstruction.tables import record_table_from_columns


def peaks(detector, raw: np.ndarray, backend: str):
    """All peaks of one chunk, from strax's array of raw records."""
    table = record_table_from_columns(
        raw["time"], raw["channel"], raw["length"], raw["record_i"], raw["data"],
        dt=detector.electronics.sample_ns, baseline_adc=detector.electronics.baseline_adc,
        n_sensors=detector.light.sensors.n_sensors,
    )  # fmt: skip
    return peaks_of(detector, table, backend=backend)


def main() -> None:
    """Reconstruct every chunk, several times over."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--copies", type=int, default=10, help="times the file is taken for a chunk of its own"
    )
    parser.add_argument("--backend", choices=("host", "xla"), default="host")
    args = parser.parse_args()
    detector, raw = bare(), np.load(args.folder / FILE)
    chunks = [raw.copy() for _ in range(args.copies)]  # memory of their own, as from a disk

    def one_pass() -> int:
        return sum(len(peaks(detector, chunk, args.backend)) for chunk in chunks)

    figures = measure(one_pass, min_cpu_s=4.0)
    report(**figures, n_peaks=one_pass(), n_sensors=detector.light.sensors.n_sensors)


if __name__ == "__main__":
    main()
