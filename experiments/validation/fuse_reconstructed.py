"""dmsim reconstructs the strax folder that fuse writes, and is held against the photons that fuse made.

    python fuse_reconstructed.py --fuse ~/fuse/bin/python

fuse stores raw_records and its photons as strax folders; ours reads both without strax, reconstructs the
records in modes "fast" and "compat" and prints the ratio of the area found to that of fuse's photons.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import fuse_inputs
import numpy as np
from fuse_compare import deposits_of

import dmsim
from dmsim.detector import Detector
from dmsim.io import iterate, open_records
from dmsim.io.strax_folders import FolderReader, find_folder

N_EVENTS = 40
S1, S2 = 1, 2  # fuse's photon_type


def true_areas(folder: Path, detector: Detector, n_events: int) -> dict[str, np.ndarray]:
    """Charge of fuse's photons, by event [PE]."""
    found = find_folder(folder, "photon_summary")
    if found is None:
        raise FileNotFoundError(f"{folder} holds no photon_summary of fuse")
    photons = np.concatenate(list(FolderReader(found)))
    event = (photons["time"] + fuse_inputs.SPACING_NS // 2) // fuse_inputs.SPACING_NS - 1
    charge = photons["photon_gain"] / float(detector.electronics.gain)
    kind = photons["photon_type"]
    return {
        name: np.bincount(event[kind == one], charge[kind == one], n_events)
        for name, one in (("S1", S1), ("S2", S2))
    }


def found_areas(folder: Path, detector: Detector, *, mode: str) -> dict[str, np.ndarray]:
    """Main S1 and S2 of each event, as they come from the folder [PE]."""
    source = open_records(folder)
    parts = [
        dmsim.reconstruct(detector, records, mode=mode)[1]
        for records in iterate(source, gap_ns=fuse_inputs.SPACING_NS // 2)
    ]
    return {
        "S1": np.concatenate([part.s1_pe for part in parts]),
        "S2": np.concatenate([part.s2_pe for part in parts]),
    }


def run_fuse(python: str, folder: Path, detector: Detector, *, n_events: int, case: str = "deep") -> Path:
    """Folder of what fuse stored."""
    deposits = deposits_of(case, detector, n_events)
    fuse_inputs.write(folder, detector, deposits, seed=11, spacing_ns=fuse_inputs.SPACING_NS)
    script = Path(__file__).with_name("fuse_chain.py")
    kept = folder / "strax"
    command = [python, str(script), str(folder), "--keep", str(kept)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder)
    if done.returncode:
        raise RuntimeError(f"fuse failed: {done.stderr.strip()[-500:]}")
    return kept


def main() -> None:
    """Run fuse, reconstruct, print the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--fuse", required=True, metavar="PYTHON", help="interpreter that has fuse")
    parser.add_argument("--events", type=int, default=N_EVENTS)
    args = parser.parse_args()
    detector = fuse_inputs.shared_detector()
    with tempfile.TemporaryDirectory() as folder:
        kept = run_fuse(args.fuse, Path(folder), detector, n_events=args.events)
        true = true_areas(kept, detector, args.events)
        for mode in ("fast", "compat"):
            found = found_areas(kept, detector, mode=mode)
            for name in ("S1", "S2"):
                if found[name].size != args.events:
                    raise RuntimeError(f"mode {mode}: {found[name].size} events of {args.events} found")
                ratio = found[name] / true[name]
                ratio = ratio[np.isfinite(ratio)]
                error = ratio.std(ddof=1) / np.sqrt(ratio.size)
                sys.stdout.write(
                    f"{mode:7s} {name}: found / fuse's photons {ratio.mean():.4f} +- {error:.4f} "
                    f"({ratio.size} of {args.events} events, {np.median(true[name]):.0f} PE)\n"
                )


if __name__ == "__main__":
    main()
