"""nestpy's vectorised simulation of 10 keV electron recoils, areas of S1 and S2; in nestpy's interpreter."""

import nestpy
import numpy as np
from timing import measure, report

N = 100_000


def main() -> None:
    """XENON10's example detector in a uniform field, from nestpy's own class."""
    detector = nestpy.detectors.DetectorExample_XENON10()
    positions = np.tile([[0.0, 0.0, 75.0]], (N, 1))
    energy = np.full(N, 10.0)
    run = nestpy.array.runNESTvec
    figures = measure(lambda: run(detector, nestpy.interactions.beta, energy, positions))
    report(**figures, n_events=N, events_per_cpu_s=N / figures["cpu_s"], version="nestpy 2.1")


if __name__ == "__main__":
    main()
