"""Corrections undo what transport does to electrons, and the energy of simulated deposits comes back."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dmsim
from dmsim import charge
from dmsim.detector.drift_field import DriftField, straight_rings
from dmsim.detector.maps import GridMap
from dmsim.detector.supplied import supply_map
from dmsim.reconstruction import build_events, combined_energy_kev
from dmsim.reconstruction.corrections import corrections, delay_offset_ns
from dmsim.records import Deposits


def distorted(detector):
    """A field cage whose potentials are off by up to 150 V, as `experiments/drift_field` draws it."""
    length = float(detector.geometry.drift_length_mm)
    heights, potentials = straight_rings(-2.3 * length, 0.0, length, 64)
    potentials = potentials + 150 * np.exp(-(heights + length) / 150) - 40 * np.exp(heights / 150)
    leaves: dict = {
        "cathode_v": -2.3 * length, "gate_v": 0.0, "ring_z_mm": heights, "ring_v": potentials, "wall_mm": 5.0,
        "wall_charge_uc_per_m2": [0.05, 0.0],
    }  # fmt: skip
    given: dict = {name: jnp.asarray(value, jnp.float32) for name, value in leaves.items()}
    field = DriftField(
        **given, n_terms=64, n_radii=64, n_heights=96, speed_curve=1, diffusion_curve=0,
    )  # fmt: skip
    return charge.prepare(replace(detector, drift_field=field))


def deposits_at(random, detector, n=200, share=0.9):
    geometry = detector.geometry
    r = share * float(geometry.radius_mm) * np.sqrt(random.uniform(size=n))
    angle = random.uniform(0, 2 * np.pi, n)
    z = -float(geometry.drift_length_mm) * random.uniform(0.02, 0.9, n)
    x, y, z = (jnp.asarray(a, jnp.float32) for a in (r * np.cos(angle), r * np.sin(angle), z))
    zero = jnp.zeros(n, jnp.float32)
    return Deposits(
        event=jnp.arange(n), interaction=jnp.zeros(n, jnp.int32), energy_kev=zero, x_mm=x, y_mm=y, z_mm=z,
        time_ns=zero, first_event=jnp.int32(0), event_time_ns=None, n_events=n,
    )  # fmt: skip


def corrected(detector, deposits):
    way = jax.jit(lambda d: charge.drift(detector, d))(deposits)
    drift = np.asarray(way.time_ns, np.float64) + delay_offset_ns(detector)
    return way, corrections(detector, np.asarray(way.x_mm), np.asarray(way.y_mm), drift)


@pytest.mark.parametrize("field", ["straight", "distorted"])
def test_transport_is_undone(detector, random, field):
    """Place to 0.5 mm, where the map displaces by up to 40 mm; charge to 0.2 %."""
    ours = detector if field == "straight" else distorted(detector)
    deposits = deposits_at(random, ours)
    way, found = corrected(ours, deposits)
    free = np.asarray(way.clear_of_wall) > 0.999  # what the wall takes is not corrected
    assert free.sum() > 100
    if field == "distorted":
        moved = np.hypot(np.asarray(way.x_mm - deposits.x_mm), np.asarray(way.y_mm - deposits.y_mm))
        assert moved[free].max() > 5
    for name in ("x_mm", "y_mm", "z_mm"):
        difference = np.asarray(getattr(found, name)) - np.asarray(getattr(deposits, name))
        assert np.abs(difference[free]).max() < 0.5, name
    arrived = np.asarray(way.survival / ours.extraction_at(way.x_mm, way.y_mm))
    np.testing.assert_allclose((found.s2_top * arrived)[free], 1.0, rtol=2e-3)


def test_maps_of_lifetime_extraction_and_yield_are_undone(detector, random):
    length, radius = float(detector.geometry.drift_length_mm), float(detector.geometry.radius_mm)
    lifetime = GridMap(jnp.asarray(random.uniform(2e3, 2e4, (4, 5)), jnp.float32), ("r", "z"),
                       (0.0, -length), (radius, 0.0))  # fmt: skip
    flat = [jnp.asarray(random.uniform(0.7, 1.2, (6, 6)), jnp.float32) for _ in range(2)]
    of_xy = [GridMap(values, ("x", "y"), (-radius, -radius), (radius, radius)) for values in flat]
    ours = supply_map(detector, "electrons.lifetime_map", lifetime)
    ours = supply_map(supply_map(ours, "electrons.extraction_map", of_xy[0]), "light.s2_map", of_xy[1])
    deposits = deposits_at(random, ours)
    way, found = corrected(ours, deposits)
    center = jnp.zeros(())
    light = ours.light.s2_relative_yield(ours.geometry, way.x_mm, way.y_mm)
    seen = way.survival * light / ours.extraction_at(center, center)
    np.testing.assert_allclose(np.asarray(found.s2_top) * np.asarray(seen), 1.0, rtol=1e-3)
    np.testing.assert_array_equal(found.s2_top, found.s2_bottom)
    # the lifetime's map is no detail here: without it the charge is off by per cents
    _, plain = corrected(replace(ours, electrons=replace(ours.electrons, lifetime_map=None)), deposits)
    assert np.abs(plain.s2_top / found.s2_top - 1).max() > 0.03


def test_top_and_bottom_have_their_own_yields(detector, random):
    """With a pattern map of all sensors, whose share on top falls from the axis outwards."""
    n, radius = 9, float(detector.geometry.radius_mm)
    axis = np.linspace(-radius, radius, n)
    x, y = (jnp.asarray(a, jnp.float32) for a in np.meshgrid(axis, axis, indexing="ij"))
    pattern = np.array(detector.light.s2_pattern(detector.geometry, x, y))
    on_top = 0.75 - 0.2 * (np.asarray(x) ** 2 + np.asarray(y) ** 2) / radius**2
    pattern[..., :253] *= (on_top / pattern[..., :253].sum(axis=-1))[..., None]
    pattern[..., 253:] *= ((1 - on_top) / pattern[..., 253:].sum(axis=-1))[..., None]
    table = GridMap(jnp.asarray(pattern), ("x", "y"), (-radius, -radius), (radius, radius))
    ours = supply_map(detector, "light.s2_pattern_map", table)
    at = np.array([axis[4], axis[6]])  # on nodes, where the map is exact
    found = corrections(ours, at, np.array([axis[4], axis[4]]), np.full(2, 5e5))
    share = 0.75 - 0.2 * (at / radius) ** 2
    np.testing.assert_allclose(found.s2_top / found.s2_top[0], 0.75 / share, rtol=1e-4)
    np.testing.assert_allclose(found.s2_bottom / found.s2_bottom[0], 0.25 / (1 - share), rtol=1e-4)


def test_a_field_without_its_map_is_refused(detector):
    field = DriftField(
        cathode_v=jnp.float32(-3e3), gate_v=jnp.float32(0.0), ring_z_mm=jnp.zeros(0), ring_v=jnp.zeros(0),
        wall_mm=jnp.float32(5.0), wall_charge_uc_per_m2=jnp.zeros(2),
        n_terms=8, n_radii=8, n_heights=8, speed_curve=0, diffusion_curve=0,
    )  # fmt: skip
    with pytest.raises(ValueError, match="detector.drift_field has no arrival map: call"):
        corrections(replace(detector, drift_field=field), np.zeros(1), np.zeros(1), np.full(1, 5e5))


@pytest.mark.parametrize(("energy_kev", "most"), [(41.5, 0.004), (236.1, 0.002)])
def test_energy_of_simulated_areas(detector, energy_kev, most):
    """Median of 4,000 electron recoils: spread 5.2 and 2.1 %, so that `most` is 3.9 and 4.8 standard errors.

    A right energy fails in 1e-4. Twin: g1 off by 2 %, of which light's share of the energy is seen.
    """
    keys = jax.random.split(jax.random.key(5), 2)
    deposits = dmsim.sources.mono(
        keys[0], detector, n_events=4000, energy_kev=energy_kev, interaction="er_beta"
    )
    areas = dmsim.simulate_areas(keys[1], detector, deposits)
    light, electrons = combined_energy_kev(detector, areas.cs1_pe, areas.cs2_pe)
    assert float(jnp.median(light + electrons)) == pytest.approx(energy_kev, rel=most)
    assert float(jnp.median(light / 1.02 + electrons)) != pytest.approx(energy_kev, rel=most)


@pytest.mark.slow  # simulates records
def test_energy_through_records(detector):
    """41.5 keV through the whole chain: mean of 12 events, spread 6 %: within 7 %, 4 standard errors (6e-5).

    Twin: an energy that is a fifth too large.
    """
    keys = jax.random.split(jax.random.key(6), 2)
    quiet = detector.without("photoionisation", "delayed_electrons", "afterpulses")
    deposits = dmsim.sources.mono(keys[0], quiet, n_events=12, energy_kev=41.5, interaction="er_beta")
    peaks, events = dmsim.reconstruct(quiet, dmsim.simulate_records(keys[1], quiet, deposits))
    energy = events.energy_kev[np.isfinite(events.energy_kev)]
    assert energy.size >= 11
    assert energy.mean() == pytest.approx(41.5, rel=0.07)
    assert 1.2 * energy.mean() != pytest.approx(41.5, rel=0.07)
    np.testing.assert_allclose(
        events.energy_light_kev + events.energy_charge_kev, events.energy_kev, rtol=1e-6
    )
    again = build_events(quiet, peaks, n_events=12)
    assert again.cs2_pe.tobytes() == events.cs2_pe.tobytes()
