"""What is checked at each level: a detector, deposits, functionals, leaves."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import harness
import late
from functionals import areas, few_quanta, hits, quanta, records
from scenes import caged_detector, gap_detector, large_detector, noisy_detector, small_detector

from dmsim.detector import Detector
from dmsim.detector.gas_gap import GasGap
from dmsim.detector.pulses import Noise
from dmsim.records import Deposits


@dataclasses.dataclass(frozen=True)
class Plan:
    """How one level is checked."""

    detector: Callable
    functionals: Callable  # (detector, n_events) -> (detector, batch) -> functional -> one value an event
    n_events: int
    step: float
    largest_shift: float
    budget: float  # bias allowed, relative to the gradient
    leaves: tuple[str, ...]  # none: all in `parts`
    must_resolve: frozenset[str]
    parts: tuple[str, ...] = ("",)  # of the detector, by the start of their leaves' names

    def asserted(self, comparison) -> bool:
        """Whether a bias is a failure. A weight on lone pulses is not exact for sums of squared samples."""
        return not comparison.functional.startswith("power") or comparison.leaf.removeprefix(
            "detector."
        ).startswith(SAMPLES)


EVENT_LEAVES = {  # of the deposits, with the direction: a common shift, or None for the leaf's own value
    "deposits.energy_kev": None,
    "deposits.x_mm": None,
    "deposits.y_mm": None,
    "deposits.z_mm": None,
    "deposits.time_ns": 200.0,
}


class Inputs(NamedTuple):
    """What gradients are taken in, by names such as detector.light.g1_phd_per_photon, deposits.x_mm."""

    detector: Detector
    deposits: Deposits


def scene(plan: Plan):
    """The plan's functionals as functions of its inputs, and those."""
    detector = plan.detector()
    per_event = plan.functionals(detector, plan.n_events)
    return lambda inputs: per_event(inputs.detector, inputs.deposits), Inputs(detector, per_event.batch)


def leaves(plan: Plan) -> tuple[str, ...]:
    """What the plan checks of the detector: what it names, else every float leaf that can enter."""
    return plan.leaves or tuple(x for x in harness.leaf_paths(plan.detector()) if x.startswith(plan.parts))


PATHWISE = frozenset(
    f"electronics.{name}"
    for name in ("gain", "noise_adc", "pulse_rise_ns", "pulse_decay_ns", "amplification")
)
SAMPLES = (*PATHWISE, "noise.")  # act on samples
SIGNALS = frozenset(
    {
        "light.g1_phd_per_photon",
        "electrons.lifetime_us",
        "electrons.drift_speed_mm_per_us",
        "electrons.extraction_efficiency",
        "electroluminescence.se_gain_phd",
        "electronics.double_pe_probability",
    }
)
SHAPES = (
    "electrons.diffusion_longitudinal_cm2_per_s",
    "electrons.diffusion_transverse_cm2_per_s",
    "electronics.spe_width",
    "scintillation.triplet_lifetime_ns",
    "scintillation.singlet_fraction_er",
    "scintillation.singlet_fraction_nr",
)
LIGHT = (
    "scintillation.recombination_base_ns",
    "scintillation.triplet_lifetime_er_ns",
    "electroluminescence.gap_transit_ns",
    "electroluminescence.triplet_lifetime_ns",
    "light.s2_top_fraction",
    "light.s1_top_fraction_gate",
)
OF_QUANTA = "quanta.work_function.offset_ev"
AFTER_QUANTA = tuple(
    f"{part}."
    for part in (
        "geometry",
        "xenon",
        "electrons",
        "electroluminescence",
        "scintillation",
        "light",
        "electronics",
        "resolution",
    )
)
FIELD = (
    *(f"drift_field.{x}" for x in ("cathode_v", "gate_v", "ring_z_mm", "ring_v", "wall_mm")),
    "drift_field.wall_charge_uc_per_m2",
    "drift_field.radial_map.values",
    "drift_field.vertical_map.values",
)
GAP = tuple(f"gas_gap.{x.name}" for x in dataclasses.fields(GasGap))
NOISE = tuple(f"noise.{x.name}" for x in dataclasses.fields(Noise))
PLANS = {
    # as many events at both, whose kernels of quanta are then one
    "quanta": Plan(
        large_detector,
        quanta,
        24_000,
        0.01,
        0.003,
        0.01,
        (),
        frozenset({"quanta.work_function.offset_ev", "xenon.field_v_per_cm"}),
        (
            "geometry.",
            "xenon.",
            "quanta.",
        ),  # the rest is not given to the kernel (pipeline.levels.for_quanta)
    ),
    "areas": Plan(
        large_detector,
        areas,
        24_000,
        0.01,
        0.003,
        0.01,
        (),
        SIGNALS | {OF_QUANTA},
        (OF_QUANTA, *AFTER_QUANTA),
    ),
    "areas, emission model": Plan(
        large_detector, areas, 24_000, 0.01, 0.003, 0.01, (), frozenset(), ("quanta.",)
    ),
    "few quanta": Plan(
        small_detector,
        few_quanta,
        12_000,
        0.05,
        0.1,
        0.01,
        tuple(sorted(SIGNALS)),
        SIGNALS,
    ),
    "hits": Plan(
        small_detector,
        hits,
        400,
        0.05,
        0.03,
        0.01,
        (*sorted(SIGNALS), *SHAPES, *LIGHT),
        SIGNALS
        | {
            "electrons.diffusion_longitudinal_cm2_per_s",
            "electronics.spe_width",
            "scintillation.triplet_lifetime_er_ns",
            "electroluminescence.gap_transit_ns",
        },
    ),
    "records": Plan(
        small_detector,
        records,
        400,
        0.05,
        0.03,
        0.01,
        (*sorted(SIGNALS), *SHAPES, *sorted(PATHWISE)),
        frozenset({"electronics.gain", "electronics.pulse_rise_ns", "electrons.drift_speed_mm_per_us"}),
    ),
    "field and gap": Plan(
        caged_detector,
        areas,
        12_000,
        0.01,
        0.003,
        0.01,
        (*FIELD, *GAP),
        frozenset(
            {"drift_field.ring_v", "drift_field.cathode_v", "gas_gap.field_kv_per_cm", "gas_gap.gap_mm"}
        ),
    ),
    "gap hits": Plan(gap_detector, hits, 400, 0.05, 0.03, 0.01, GAP, frozenset(GAP) - {"gas_gap.sag_mm"}),
    "noisy records": Plan(
        noisy_detector,
        records,
        400,
        0.05,
        0.03,
        0.01,
        NOISE,
        frozenset({"noise.correlated_adc", "noise.band_power_adc2", "noise.wander_adc"}),
    ),
    # an attachment that turns over must be seen in more than a few events: large steps
    "late hits": Plan(
        late.late_detector, late.late_hits, 400, 0.1, 0.3, 0.01, late.LEAVES, frozenset(late.LEAVES)
    ),
}
# their kernels compile for minutes in forward mode. The default run has the leaves of the optional tables by
# themselves, against differences in double precision: tests/dmsim/charge and tests/dmsim/electronics.
SLOW = ("areas, emission model", "field and gap", "gap hits", "noisy records", "late hits")
