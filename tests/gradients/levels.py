"""What is checked at each level: a detector, deposits, and functionals with one value an event."""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import harness
import jax
import jax.numpy as jnp
import late
import numpy as np

import dmsim
from dmsim import ragged
from dmsim.detector import Detector
from dmsim.detector.drift_field import DriftField, straight_rings
from dmsim.detector.gas_gap import GasGap
from dmsim.detector.maps import GridMap
from dmsim.detector.pulses import Noise
from dmsim.quanta import deposit_yields
from dmsim.records import Deposits, Interaction, Signal


def _changed(detector, **replace):
    """The detector with these leaves, named module__leaf, set to other values."""
    for name, value in replace.items():
        node, field = name.split("__")
        part = getattr(detector, node)
        part = dataclasses.replace(part, **{field: jnp.asarray(value, getattr(part, field).dtype)})
        detector = dataclasses.replace(detector, **{node: part})
    return detector


def large_detector():
    """XENONnT, with a field at which all of the emission model counts, and no leaf at zero."""
    return _changed(
        dmsim.load_detector("xenonnt").without("all"),
        xenon__field_v_per_cm=[295.0, 0.01],
        electrons__lifetime_us=3000.0,
        electroluminescence__linear_noise=0.05,
        light__s2_slope_r2=-0.1,
    )


def small_detector():
    """XAMS: its five sensors make many photons cheap. A lifetime and a diffusion that are felt."""
    return _changed(
        dmsim.load_detector("xams"),
        electrons__lifetime_us=40.0,
        electrons__diffusion_transverse_cm2_per_s=15000.0,
        electrons__diffusion_longitudinal_cm2_per_s=200.0,
        electroluminescence__linear_noise=0.05,
        light__s1_curve_z=0.02,
    )


def caged_detector():
    """The large detector with a field cage that bends lines, maps on top of it, and a gas gap that sags."""
    detector = large_detector()
    length, radius = float(detector.geometry.drift_length_mm), float(detector.geometry.radius_mm)
    heights, potentials = straight_rings(-2.3 * length, 0.0, length, 6)
    potentials = potentials + 90 * np.exp(-(heights + length) / 200)
    low, high = (0.0, -length), (radius, 0.0)
    of_place = np.random.default_rng(5).uniform(-0.2, 0.2, (2, 3, 3))
    radial, vertical = (GridMap(jnp.asarray(x, jnp.float32), ("r", "z"), low, high) for x in of_place)
    numbers = (-2.3 * length, 0.0, heights, potentials, 5.0, [0.1, 0.05, 0.01, -0.05])
    field = DriftField(
        *(jnp.asarray(x, jnp.float32) for x in numbers),
        n_terms=16,
        n_radii=24,
        n_heights=48,
        speed_curve=1,
        diffusion_curve=1,
        radial_map=radial,
        vertical_map=vertical,
    )
    return dataclasses.replace(detector, drift_field=field, gas_gap=_gap(gain=0.06))


def _gap(gain: float) -> GasGap:
    # field, gap, liquid, sag, light detected, wait at the surface, light near the wires and its length
    values = (8.3, 8.0, 5.0, 0.5, gain, 140.0, 0.2, 0.5)
    return GasGap(*(jnp.float32(x) for x in values))


def gap_detector():
    """The small detector with light from a gas gap."""
    return dataclasses.replace(small_detector(), gas_gap=_gap(gain=0.03))


def noisy_detector():
    """The small detector with all kinds of noise."""
    values = (3.0, 60.0, [2.0, 1.0, 0.5], 4.0, 3e4)
    return dataclasses.replace(small_detector(), noise=Noise(*(jnp.asarray(x, jnp.float32) for x in values)))


def deposits(detector, n_events: int, *, kinds=tuple(Interaction), low_kev=10.0, high_kev=60.0) -> Deposits:
    """One deposit an event, all kinds in turn, spread over the volume. Kr-83m: its three energies."""
    random = np.random.default_rng(7)
    kind = np.resize([k.value for k in kinds], n_events)
    energy = random.uniform(low_kev, high_kev, n_events)
    energy = np.where(kind == Interaction.ALPHA, 5490.0, energy)
    energy = np.where(kind == Interaction.KR83M, random.choice([9.4, 32.1, 41.5], n_events), energy)
    time = np.where((kind == Interaction.KR83M) & (energy == 9.4), random.uniform(100, 600, n_events), 0.0)
    length, radius = (float(detector.geometry.drift_length_mm), float(detector.geometry.radius_mm))
    r, angle = 0.9 * radius * np.sqrt(random.uniform(size=n_events)), random.uniform(0, 2 * np.pi, n_events)

    def column(values):
        return jnp.asarray(values, jnp.float32)

    return Deposits(
        event=jnp.arange(n_events, dtype=jnp.int32),
        interaction=jnp.asarray(kind, jnp.int32),
        energy_kev=column(energy),
        x_mm=column(r * np.cos(angle)),
        y_mm=column(r * np.sin(angle)),
        z_mm=column(-length * random.uniform(0.3, 0.95, n_events)),
        time_ns=column(time),
        first_event=jnp.int32(0),
        event_time_ns=None,
        n_events=n_events,
    )


def _with_squares(values: dict, reference: dict) -> dict:
    """The values, and squared distances from another draw of each event, which feel the spreads."""
    squares = {f"spread of {name}": (value - reference[name]) ** 2 for name, value in values.items()}
    return values | squares


def quanta(detector, n_events: int):
    """Functionals of simulate_quanta."""
    batch = deposits(detector, n_events)

    def logs(detector, seed, batch=batch):
        result = dmsim.simulate_quanta(jax.random.key(seed), detector, batch)
        return {
            "log photons": jnp.log(20 + result.n_photons),
            "log electrons": jnp.log(20 + result.n_electrons),
            "log excitons": jnp.log(20 + result.n_excitons),
        }

    other = logs(detector, 1)
    middle = jnp.log(20 + deposit_yields(detector, batch).n_electrons)

    def per_event(detector, batch=batch):
        values = logs(detector, 2, batch)
        cube = 100 * (values["log electrons"] - middle) ** 3  # feels the skewness
        return _with_squares(values, other) | {"cube of log electrons": cube}

    per_event.batch = batch
    return per_event


@jax.jit
def _held(detector, moved):
    """The first, traced as the second is: a program compiled for a gradient in both serves here as well."""
    return jax.tree.map(lambda a, b: a + 0 * b, detector, moved)


def areas(detector, n_events: int):
    """Functionals of simulate_areas; corrections are the analyst's and held."""
    batch = deposits(detector, n_events)
    held, static = eqx.partition(dataclasses.replace(detector, quanta=None), eqx.is_inexact_array)

    def values(detector, seed, batch=batch):
        moved = eqx.filter(dataclasses.replace(detector, quanta=None), eqx.is_inexact_array)
        calibration = eqx.combine(_held(held, moved), static)
        result = dmsim.simulate_areas(jax.random.key(seed), detector, batch, calibration=calibration)
        return {
            "log S1": jnp.log(20 + result.s1_pe),
            "log S2": jnp.log(500 + result.s2_pe),
            "drift time": result.drift_time_ns * 1e-6,
            "x": result.x_mm * 1e-2,
        }

    other = values(detector, 1)

    def per_event(detector, batch=batch):
        # corrections that follow the leaf
        corrected = dmsim.simulate_areas(jax.random.key(2), detector, batch, calibration=detector)
        own = {"log cS1": jnp.log(20 + corrected.cs1_pe), "log cS2": jnp.log(500 + corrected.cs2_pe)}
        return _with_squares(values(detector, 2, batch), other) | own | {"z": corrected.z_mm * 1e-3}

    per_event.batch = batch
    return per_event


def few_quanta(detector, n_events: int):
    """Mean areas of a few photons and electrons, often none, at areas and at hits."""
    batch = deposits(detector, n_events, kinds=(Interaction.NR,), low_kev=0.7, high_kev=2.0)

    def per_event(detector, batch=batch):
        areas = dmsim.simulate_areas(jax.random.key(5), detector, batch)
        hits = dmsim.simulate_hits(jax.random.key(5), detector, batch)
        charge = hits.charge_pe * hits.weight

        def total(signal):
            weights = jnp.where(hits.signal == signal, charge, 0.0)
            return jax.ops.segment_sum(weights, hits.event, num_segments=n_events)

        return {
            "S1 of areas": areas.s1_pe,
            "S2 of areas": areas.s2_pe / 30,
            "S1 of hits": total(Signal.S1),
            "S2 of hits": total(Signal.S2) / 30,
        }

    per_event.batch = batch
    return per_event


def hits(detector, n_events: int):
    """Functionals of simulate_hits, all of sums over hits weighted with charge."""
    batch = deposits(
        detector, n_events, kinds=(Interaction.ER_BETA, Interaction.NR), low_kev=10.0, high_kev=20.0
    )
    drift = detector.electrons.drift_time_ns(batch.z_mm)
    n_top = detector.light.sensors.n_top
    sensors, place = detector.light.sensors, batch

    def per_event(detector, batch=batch):
        result = dmsim.simulate_hits(jax.random.key(3), detector, batch)

        def total(weights, signal):
            weights = jnp.where(result.valid & (result.signal == signal), weights, 0.0)
            return jax.ops.segment_sum(weights, result.event, num_segments=n_events)

        charge = result.charge_pe * result.weight
        late = (result.time_ns - drift[result.event]) * 1e-3
        s1, s2 = total(charge, Signal.S1), total(charge, Signal.S2)
        dx = sensors.x_mm[result.sensor] - place.x_mm[result.event]
        dy = sensors.y_mm[result.sensor] - place.y_mm[result.event]
        near = jnp.exp(-(dx**2 + dy**2) / 20.0**2) * (result.sensor < n_top)
        prompt = jnp.exp(-result.time_ns / 15.0)
        return {
            "log S1": jnp.log(50 + s1),
            "log S2": jnp.log(s2),
            "prompt fraction S1": total(charge * prompt, Signal.S1) / s1,
            "mean time S2": total(charge * late, Signal.S2) / s2 * 1e-3,
            "time spread S2": total(charge * late**2, Signal.S2) / s2 * 0.3,
            "top fraction S2": total(charge * (result.sensor < n_top), Signal.S2) / s2,
            "top fraction S1": total(charge * (result.sensor < n_top), Signal.S1) / s1,
            "near light S2": total(charge * near, Signal.S2) / s2,
            "charge^2": total(result.charge_pe**2 * result.weight, Signal.S2) / s2,
        }

    per_event.batch = batch
    return per_event


def records(detector, n_events: int):
    """Functionals of simulate_records, of sums over digitised samples."""
    batch = deposits(
        detector, n_events, kinds=(Interaction.ER_BETA, Interaction.NR), low_kev=10.0, high_kev=20.0
    )
    drift = detector.electrons.drift_time_ns(batch.z_mm)
    sensors, place = detector.light.sensors, batch
    adc_per_pe = float(detector.electronics.adc_per_pe)
    sample_ns, baseline = float(detector.electronics.sample_ns), detector.electronics.baseline_adc

    @jax.jit
    def values(data, event, channel, start_sample, length):
        time = (start_sample[:, None] + jnp.arange(data.shape[1])) * sample_ns
        used = jnp.arange(data.shape[1]) < length[:, None]
        pulse = jnp.where(used, baseline - data, 0.0)
        is_s1 = (time < 5_000)[:, :1]
        dx, dy = sensors.x_mm[channel] - place.x_mm[event], sensors.y_mm[channel] - place.y_mm[event]
        near = (jnp.exp(-(dx**2 + dy**2) / 20.0**2) * (channel < sensors.n_top))[:, None]
        late = (time - drift[event][:, None]) * 1e-3

        def total(weights, rows):
            of_record = jnp.sum(jnp.where(rows, weights, 0.0), axis=1)
            return jax.ops.segment_sum(of_record, event, num_segments=n_events)

        s1, s2 = total(pulse, is_s1), total(pulse, ~is_s1)
        prompt = jnp.exp(-jnp.maximum(time - 20.0, 0.0) / 15.0)
        steps = jnp.pad(pulse[:, 1:] - pulse[:, :-1], ((0, 0), (0, 1)))
        return {
            "log S1": jnp.log(50 + s1 / adc_per_pe),
            "log S2": jnp.log(s2),
            "prompt fraction S1": total(pulse * prompt, is_s1) / s1,
            "mean time S2": total(pulse * late, ~is_s1) / s2 * 1e-3,
            "time spread S2": total(pulse * late**2, ~is_s1) / s2 * 0.3,
            "near light S2": total(pulse * near, ~is_s1) / s2,
            "power S1": total(pulse**2, is_s1) / s1 * 1e-2,
            "power S2": total(pulse**2, ~is_s1) / s2 * 1e-2,
            "power of steps S2": total(jnp.where(used, steps, 0.0) ** 2, ~is_s1) / s2 * 1e-2,
        }

    def per_event(detector, batch=batch):
        # one batch, and rows to the next bucket: few shapes to compile
        (result,) = dmsim.iterate_records(jax.random.key(3), detector, batch, events_per_batch=n_events)
        spare = ragged.bucket(len(result.event)) - len(result.event)
        data = jnp.pad(result.data, ((0, spare), (0, 0)))
        columns = (result.event, result.channel, result.start_sample, result.length)
        return values(data, *(np.pad(x, (0, spare)) for x in columns))

    per_event.batch = batch
    return per_event


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
