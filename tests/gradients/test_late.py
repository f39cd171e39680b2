"""Gradients in delayed electrons, afterpulses and dark counts, at hits.

False positives: 4.9 standard errors are 1e-6 a comparison, about 150 of them; seeds are fixed.
"""

import dataclasses

import harness
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dmsim
from dmsim.detector.delayed import DelayedElectrons, Photoionisation
from dmsim.detector.pulses import Afterpulses, DarkCounts
from dmsim.records import Signal

N_EVENTS = 400
BUDGET = 0.01
STEPS = {"step": 0.1, "largest_shift": 0.3}
pytestmark = pytest.mark.slow  # the kernels' forward mode compiles for a minute


def leaf(*values):
    return jnp.asarray(values if len(values) > 1 else values[0], jnp.float32)


@pytest.fixture(scope="module")
def detector():
    """XAMS with few photons an electron, and much that follows them."""
    bare = dmsim.load_detector("xams").without("all")
    bare = dataclasses.replace(
        bare,
        electroluminescence=dataclasses.replace(bare.electroluminescence, se_gain_phd=leaf(4.0)),
        # so that attachment is felt in more than a few events: otherwise no difference sees it
        electrons=dataclasses.replace(bare.electrons, lifetime_us=leaf(40.0)),
    )
    return dataclasses.replace(
        bare,
        photoionisation=Photoionisation(leaf(0.02), leaf(2e4), leaf(3e4)),
        delayed_electrons=DelayedElectrons(leaf(0.05), leaf(-1.2), leaf(1e4), leaf(1e5), leaf(15.0)),
        afterpulses=Afterpulses(
            leaf(0.1, 0.15),
            leaf(500.0, 2000.0),
            leaf(100.0, 30.0),
            leaf(200.0, 3000.0),
            leaf(6.0, 2.0),
            leaf(3.0, 1.0),
        ),
        dark_counts=DarkCounts(leaf(5e5), leaf(1e4), leaf(1e5)),
    )


@pytest.fixture(scope="module")
def per_event(detector):
    random = np.random.default_rng(3)
    batch = dmsim.sources.deposits(
        detector,
        energy_kev=random.uniform(4, 8, N_EVENTS),
        x_mm=random.uniform(-15, 15, N_EVENTS),
        y_mm=random.uniform(-15, 15, N_EVENTS),
        z_mm=random.uniform(-45, -10, N_EVENTS),
        interaction="er_beta",
    )
    drift = detector.electrons.drift_time_ns(batch.z_mm)
    sensors = detector.light.sensors

    def functionals(detector):
        hits = dmsim.simulate_hits(jax.random.key(6), detector, batch)
        late = (hits.time_ns - drift[hits.event]) * 1e-3
        charge = hits.charge_pe * hits.weight

        def total(values, signal):
            values = jnp.where(hits.valid & (hits.signal == signal.value), values, 0.0)
            return jax.ops.segment_sum(values, hits.event, num_segments=N_EVENTS)

        near = jnp.exp(
            -((sensors.x_mm[hits.sensor] - batch.x_mm[hits.event]) ** 2) / 300
            - ((sensors.y_mm[hits.sensor] - batch.y_mm[hits.event]) ** 2) / 300
        )
        return {
            "delayed": total(charge, Signal.DELAYED) / 100,
            "delayed early": total(charge * jnp.exp(-jnp.abs(late) / 10), Signal.DELAYED) / 30,
            "delayed late": total(charge * late, Signal.DELAYED) / 3000,
            "delayed near": total(charge * near, Signal.DELAYED) / 30,
            "afterpulses": total(hits.weight, Signal.AFTERPULSE) / 200,
            "afterpulse charge": total(charge, Signal.AFTERPULSE) / 800,
            "afterpulse charge^2": total(hits.charge_pe * charge, Signal.AFTERPULSE) / 5000,
            "afterpulses early": total(hits.weight * jnp.exp(-jnp.abs(late) / 0.5), Signal.AFTERPULSE) / 100,
            "afterpulse delay^2": total(hits.weight * (late - 0.5) ** 2, Signal.AFTERPULSE) / 500,
            "dark": total(charge, Signal.DARK) / 200,
            "dark time": total(charge * hits.time_ns, Signal.DARK) / 1e7,
        }

    return functionals


TABLES = {
    "photoionisation": ("probability", "time_constant_ns", "cutoff_ns"),
    "delayed_electrons": ("probability", "power", "first_ns", "last_ns", "spread_mm"),
    "afterpulses": (
        "probability",
        "delay_ns",
        "delay_spread_ns",
        "delay_width_ns",
        "charge_pe",
        "charge_spread_pe",
    ),
    "dark_counts": ("rate_hz", "before_ns", "after_ns"),
}
OTHERS = (
    "electrons.lifetime_us",
    "electronics.double_pe_probability",
    "electroluminescence.se_gain_phd",
    "light.g1_phd_per_photon",
)
LEAVES = (*(f"{table}.{name}" for table, names in TABLES.items() for name in names), *OTHERS)


@pytest.mark.parametrize("name", LEAVES)
def test_the_gradient_agrees_with_common_random_numbers(per_event, detector, name):
    found = harness.compare(per_event, detector, name, **STEPS)
    assert [c for c in found if not c.within(BUDGET)] == []
    assert any(c.resolved for c in found)


@pytest.mark.parametrize("name", ["delayed_electrons.power", "afterpulses.charge_pe", "dark_counts.after_ns"])
def test_a_gradient_ten_per_cent_off_is_refused(per_event, detector, name):
    found = harness.compare(harness.scaled(per_event, 1.1), detector, name, **STEPS)
    assert any(not c.within(BUDGET) for c in found)
