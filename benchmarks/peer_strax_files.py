"""strax's side of benchmarks/files.py: a folder of raw_records -> files of peaks, in strax's interpreter.

    python benchmarks/peer_strax_files.py FOLDER OUT --sensors 494 --top 253 --adc-per-pe 116.7

Each chunk is read and its peaks written by strax's functions, with its default compressor; between them the
steps of peer_strax.py, and no events. Counted are the chunks after the first, which compiles.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import strax
from peer_strax import peaks_of
from timing import report


def main() -> None:
    """Read, reconstruct and write every chunk."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--sensors", type=int, required=True)
    parser.add_argument("--top", type=int, required=True)
    parser.add_argument("--adc-per-pe", type=float, required=True)
    args = parser.parse_args()
    args.out.mkdir()
    metadata = json.loads(next(args.folder.glob("*-metadata.json")).read_text())
    dtype, to_pe = strax.raw_record_dtype(110), np.full(args.sensors, 1 / args.adc_per_pe)
    megabytes, cpu_s, n_peaks = 0.0, 0.0, 0
    for number, chunk in enumerate(metadata["chunks"]):
        begin = time.process_time()
        raw = strax.load_file(str(args.folder / chunk["filename"]), metadata["compressor"], dtype)
        peaks = peaks_of(raw, to_pe, args.top)
        strax.save_file(str(args.out / f"{number:06d}"), peaks, compressor="blosc")
        if number:
            cpu_s += time.process_time() - begin
            megabytes += raw["data"].nbytes / 1e6
        n_peaks += len(peaks)
    report(chunks_mb_per_cpu_s=megabytes / cpu_s, n_peaks=n_peaks, version=strax.__version__)


if __name__ == "__main__":
    main()
