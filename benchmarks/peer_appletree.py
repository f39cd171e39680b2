"""appletree's compiled simulation of 10 keV electron recoils, cS1 and cS2; in appletree's interpreter.

APPLETREE_USE_HYBRID=1 in the environment selects its faster, approximate binomial sampler.
"""

import contextlib
import os
import sys

import appletree
import appletree.components
import jax
from timing import measure, report

N = 100_000


def main() -> None:
    """Its public NEST v2 component with the maps that the package holds."""
    instructions = appletree.utils.load_json("rn220_ar37.json")
    appletree.share.set_global_config({**instructions["configs"], "mono_energy": 10.0})
    with contextlib.redirect_stdout(sys.stderr):
        component = appletree.components.ERPeakNestV2(name="er", llh_name="benchmark")
        component.set_binning(bins_type="meshgrid", bins_on=["cs1", "cs2"], bins=[10, 10])
        component.deduce(data_names=["cs1", "cs2"])
        component.compile()
        parameters = appletree.Parameter(appletree.utils.load_json("er_nestv2.json"))
        parameters.sample_init()
    values = dict.fromkeys(component.needed_parameters, 0.0) | parameters.get_all_parameter()
    key = appletree.randgen.get_key(1)
    figures = measure(lambda: jax.block_until_ready(component.simulate(key, N, values)))
    sampler = "hybrid" if os.environ.get("APPLETREE_USE_HYBRID") == "1" else "exact"
    report(**figures, n_events=N, events_per_cpu_s=N / figures["cpu_s"], sampler=sampler)


if __name__ == "__main__":
    main()
