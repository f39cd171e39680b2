"""What is looked at on each level: functionals with one value an event."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scenes import deposits

import dmsim
from dmsim import ragged
from dmsim.quanta import deposit_yields
from dmsim.records import Interaction, Signal


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
