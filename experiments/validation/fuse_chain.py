"""fuse's chain on a folder that `fuse_inputs.py` wrote; runs in the interpreter that fuse is installed in.

    python fuse_chain.py FOLDER --records records.npz
    python fuse_chain.py FOLDER --repeat 3
    python fuse_chain.py FOLDER --keep strax_folders

fuse is called as its package offers it: public configuration, no file of the experiment. Prints one line of
JSON with the CPU-seconds of each repetition; the first compiles.
"""

import argparse
import json
import logging
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np


def context(folder: Path, output: str):
    """Public context of fuse with our configuration, and clusters with given quanta as its input."""
    import fuse  # noqa: PLC0415 (slow, and --help needs none)

    class Luminescence(fuse.plugins.S2PhotonPropagationSimple):
        """Of version 1.6.3, whose times are integers that it then adds decimals to: an error in numpy 2."""

        __version__ = "0.1.1"
        child_plugin = True

        def luminescence_timings_simple(self, xy, n_photons):
            return super().luminescence_timings_simple(xy, n_photons).astype(float)

    chain = fuse.context.public_config_context(
        output_folder=output,
        simulation_config_file=str(folder / "config.json"),
        extra_plugins=[
            Luminescence,
            fuse.detector_physics.ChunkCsvInput,
        ],
    )
    chain.set_config(
        {
            "gain_model_mc": f"simple_load://resource://{folder}/to_pe.npy?&fmt=npy",
            "fdc_map_fuse": f"itp_map://resource://{folder}/no_distortion.json?&fmt=json",
            "input_file": str(folder / "deposits.csv"),
            "source_rate": 0,
            "n_tpc_pmts": 494,
            "n_top_pmts": 253,
        }
    )
    return chain


def main() -> None:
    """Run, time, and keep the records if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--records", type=Path, help="npz to write")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for what fuse stores, raw_records and photons")
    args = parser.parse_args()
    logging.disable(logging.WARNING)

    cpu, wall = [], []
    for repetition in range(args.repeat):
        output = str(args.keep.resolve()) if args.keep else tempfile.mkdtemp()
        chain = context(args.folder.resolve(), output)
        start, start_wall = time.process_time(), time.perf_counter()
        records = chain.get_array(f"{repetition:06d}", "raw_records", progress_bar=False)
        cpu.append(time.process_time() - start)
        wall.append(time.perf_counter() - start_wall)
        if repetition + 1 == args.repeat:
            n_photons = len(chain.get_array(f"{repetition:06d}", "photon_summary", progress_bar=False))
        if not args.keep:
            shutil.rmtree(output)
    if args.records:
        names = ("time", "channel", "length", "pulse_length", "record_i", "data")
        np.savez_compressed(args.records, **{name: records[name] for name in names})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {
        "cpu_s": cpu,
        "wall_s": wall,
        "n_photons": n_photons,
        "n_records": len(records),
        "mb": records.nbytes / 1e6,
    }
    print(json.dumps({**figures, "peak_memory_mb": peak}))


if __name__ == "__main__":
    main()
