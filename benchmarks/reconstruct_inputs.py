"""Raw records for the benchmark of the reconstruction, simulated once and written as strax's arrays.

python benchmarks/reconstruct_inputs.py FOLDER --distinct 100
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from ours import bare
from timing import report

import dmsim
from dmsim.detector import Detector
from dmsim.io.strax_records import records_to_strax
from dmsim.records import Deposits, Interaction

FILE = "raw_records.npy"
_Z_MM = -75.0  # shallow: an S2 of some 5 records a sensor


def deposits(detector: Detector, n_events: int, s1_pe: float, s2_pe: float) -> Deposits:
    """Light and charge apart, so that an event has S1 and S2 of these mean areas."""
    in_liquid = detector.electrons.survival(detector.electrons.drift_time_ns(jax.numpy.asarray(_Z_MM)))
    yields = detector.light.s1_relative_yield(
        detector.geometry, *(jax.numpy.asarray(float(mm)) for mm in (0.0, 0.0, _Z_MM))
    )
    quanta = (
        s1_pe / float(detector.g1_pe_per_photon) / float(yields),
        s2_pe / float(detector.g2_pe_per_electron) / float(in_liquid),
    )
    return dmsim.sources.deposits(
        detector,
        energy_kev=np.tile(quanta, n_events),
        x_mm=0.0,
        y_mm=0.0,
        z_mm=_Z_MM,
        interaction=np.tile([int(Interaction.PHOTONS), int(Interaction.ELECTRONS)], n_events),
        event=np.repeat(np.arange(n_events), 2),
    )


def main() -> None:
    """Simulate and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--distinct", type=int, default=100, help="events simulated")
    parser.add_argument("--s1-pe", type=float, default=100.0)
    parser.add_argument("--s2-pe", type=float, default=1e4)
    args = parser.parse_args()
    detector = bare()
    wanted = deposits(detector, args.distinct, args.s1_pe, args.s2_pe)
    parts = dmsim.iterate_records(jax.random.key(1), detector, wanted)
    raw = np.concatenate([records_to_strax(part).raw_records for part in parts])
    np.save(args.folder / FILE, raw)
    known = {
        "sensors": detector.light.sensors.n_sensors,
        "top": detector.light.sensors.n_top,
        "adc-per-pe": float(detector.electronics.adc_per_pe),
    }
    report(n_records=len(raw), record_bytes=raw.dtype.itemsize, detector=known)


if __name__ == "__main__":
    main()
