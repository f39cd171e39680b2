"""What zero suppression takes from lone photons, against brute force."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from dmsim.reconstruction import acceptance


def test_acceptance_against_a_simulated_lone_photon(detector):
    """Trigger probability and lost charge, by brute force; 1e-5 two-sided at 4.42 sigma."""
    random = np.random.default_rng(3)
    e = detector.electronics
    n = 200_000
    count = 1 + (random.uniform(size=n) < float(e.double_pe_probability))
    charge = np.maximum(count + float(e.spe_width) * np.sqrt(count) * random.normal(size=n), 0)
    phase = random.uniform(0, 10, n)
    edges = np.arange(9) * 10.0
    cdf = acceptance.pulse_integral(edges - phase[:, None], float(e.pulse_rise_ns), float(e.pulse_decay_ns))
    wave = charge[:, None] * float(e.adc_per_pe) * np.diff(cdf, axis=1)
    adc = np.round(wave + float(e.noise_adc) * random.normal(size=wave.shape))
    seen = adc.max(axis=1) >= e.zle_threshold_adc
    p, q = acceptance.lone_photon(e)
    # noise may lift a neighbour of the largest sample instead: allow 0.002 on top
    assert p == pytest.approx(seen.mean(), abs=4.42 * np.sqrt(p * (1 - p) / n) + 0.002)
    assert q == pytest.approx(
        charge[~seen].mean(), abs=4.42 * charge[~seen].std() / np.sqrt((~seen).sum()) + 0.01
    )
    # must fail: a threshold three counts higher
    worse = (adc.max(axis=1) >= e.zle_threshold_adc + 3).mean()
    assert abs(p - worse) > 4.42 * np.sqrt(p * (1 - p) / n) + 0.002


def test_each_sensor_loses_by_its_own_gain(detector):
    gain = float(detector.electronics.gain)
    gains = jnp.asarray([gain, 0.6 * gain, gain])
    own = eqx.tree_at(lambda e: e.gain, detector.electronics, gains)
    lost = acceptance.lost_charge_of_sensors(own, 3)
    one = acceptance.lost_charge_per_lone_hit(detector.electronics)
    assert lost[0] == lost[2] == one
    assert lost[1] > 1.2 * one
    assert acceptance.lost_charge_of_sensors(detector.electronics, 3).tolist() == [one] * 3
    with pytest.raises(ValueError, match=r"electronics.gain has 2 values: must be one for all sensors"):
        acceptance.lost_charge_per_lone_hit(own)


def test_lost_charge_stays_bounded_at_low_gain(detector):
    def at(gain):
        return eqx.tree_at(lambda e: e.gain, detector.electronics, jnp.asarray(gain))

    gains = np.geomspace(1e4, 4e6, 25)
    chance = np.array([acceptance.lone_photon(at(gain))[0] for gain in gains])
    lost = np.array([acceptance.lost_charge_per_lone_hit(at(gain)) for gain in gains])
    assert np.all(np.diff(chance) > 0)
    assert chance[0] < 0.01
    assert chance[-1] > 0.98
    assert np.all(lost[chance < 0.5] == 0)
    assert np.all((lost[chance >= 0.5] > 0) & (lost[chance >= 0.5] < 1))
    # a lone photon that does not trigger has at most its mean charge, even if hardly any does
    mean = 1 + float(detector.electronics.double_pe_probability)
    assert acceptance.lone_photon(at(1e4))[1] == pytest.approx(mean, rel=0.02)
