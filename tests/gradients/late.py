"""What is checked of delayed electrons, afterpulses and dark counts: a detector and functionals."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

import dmsim
from dmsim.detector.delayed import DelayedElectrons, Photoionisation
from dmsim.detector.pulses import Afterpulses, DarkCounts
from dmsim.records import Signal


def _leaf(*values):
    return jnp.asarray(values if len(values) > 1 else values[0], jnp.float32)


def late_detector():
    """XAMS with few photons an electron, and much that follows them."""
    bare = dmsim.load_detector("xams").without("all")
    bare = dataclasses.replace(
        bare,
        electroluminescence=dataclasses.replace(bare.electroluminescence, se_gain_phd=_leaf(4.0)),
        # so that attachment is felt in more than a few events: otherwise no difference sees it
        electrons=dataclasses.replace(bare.electrons, lifetime_us=_leaf(40.0)),
    )
    return dataclasses.replace(
        bare,
        photoionisation=Photoionisation(_leaf(0.02), _leaf(2e4), _leaf(3e4)),
        delayed_electrons=DelayedElectrons(_leaf(0.05), _leaf(-1.2), _leaf(1e4), _leaf(1e5), _leaf(15.0)),
        afterpulses=Afterpulses(
            _leaf(0.1, 0.15),
            _leaf(500.0, 2000.0),
            _leaf(100.0, 30.0),
            _leaf(200.0, 3000.0),
            _leaf(6.0, 2.0),
            _leaf(3.0, 1.0),
        ),
        dark_counts=DarkCounts(_leaf(5e5), _leaf(1e4), _leaf(1e5)),
    )


def late_hits(detector, n_events: int):
    """Functionals of what follows the light, at hits."""
    random = np.random.default_rng(3)
    batch = dmsim.sources.deposits(
        detector,
        energy_kev=random.uniform(4, 8, n_events),
        x_mm=random.uniform(-15, 15, n_events),
        y_mm=random.uniform(-15, 15, n_events),
        z_mm=random.uniform(-45, -10, n_events),
        interaction="er_beta",
    )
    place = batch
    drift = detector.electrons.drift_time_ns(batch.z_mm)
    sensors = detector.light.sensors

    def per_event(detector, batch=batch):
        hits = dmsim.simulate_hits(jax.random.key(6), detector, batch)
        late = (hits.time_ns - drift[hits.event]) * 1e-3
        charge = hits.charge_pe * hits.weight

        def total(values, signal):
            values = jnp.where(hits.valid & (hits.signal == signal.value), values, 0.0)
            return jax.ops.segment_sum(values, hits.event, num_segments=n_events)

        near = jnp.exp(
            -((sensors.x_mm[hits.sensor] - place.x_mm[hits.event]) ** 2) / 300
            - ((sensors.y_mm[hits.sensor] - place.y_mm[hits.event]) ** 2) / 300
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

    per_event.batch = batch
    return per_event


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
