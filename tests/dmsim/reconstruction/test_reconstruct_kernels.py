import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from synthetic_records import records_of, s1

from dmsim.reconstruction import acceptance, kernels
from dmsim.reconstruction.clustering import Windows
from dmsim.reconstruction.integrate import Layout, integrate, lay_out
from dmsim.reconstruction.pulses import BLOCK, Table, baseline_shifts, checked, table_of


def table(detector, photons):
    return table_of(checked(records_of(detector, photons), 494), slice(None))


def areas_at(table: Table, layout: Layout, n_windows: int, data):
    """Area per window as a pure function of the samples: the chain's kernels at fixed windows."""
    shift = kernels.baseline_shift(data, jnp.asarray(table.length), 16_000, 40)[table.first]
    _, area, _ = kernels.measure(
        jnp.zeros(4000), data[layout.row], shift[layout.row], layout.low, layout.high, layout.position,
        nominal=16_000,
    )  # fmt: skip
    return jax.ops.segment_sum(area, layout.window, n_windows)


def test_gradient_in_the_samples_is_the_finite_difference(detector, random, x64):
    records = table(detector, s1(random, 0, 5_000.0, 40))
    windows = Windows(np.array([0, 0]), np.array([495, 520]), np.array([520, 560]))
    layout = lay_out(records, windows)
    data = jnp.asarray(records.data, jnp.float64)
    weights = jnp.asarray([1.0, -0.3])

    def loss(x):
        return jnp.sum(weights * areas_at(records, layout, 2, x) ** 2)

    gradient = jax.grad(loss)(data)
    for _ in range(5):
        direction = jnp.asarray(random.normal(size=data.shape))
        step = 1e-3
        difference = (loss(data + step * direction) - loss(data - step * direction)) / (2 * step)
        assert float(jnp.vdot(gradient, direction)) == pytest.approx(float(difference), rel=1e-6)
    # samples outside the windows and outside the baseline have no influence
    time = records.start[:, None] + np.arange(110)
    outside = ((time < 495) | (time >= 560)) & (np.arange(110) >= 40)
    assert float(jnp.abs(jnp.where(outside, gradient, 0)).max()) == 0
    assert float(jnp.abs(gradient).max()) > 0


def test_blocks_do_not_matter(detector, random):
    """More records than one block: areas equal the plain sum."""
    photons = [(0, c, 5_000.0 + 1_500.0 * k, 1.0) for c in range(0, 494, 2) for k in range(20)]
    records = table(detector, photons)
    assert len(records.event) > BLOCK
    shift = baseline_shifts(records, 16_000, 40)
    begin, end = records.start.min() + 30, records.start.max() + 60
    result = integrate(records, shift, Windows(*(np.array([v]) for v in (0, begin, end))), 16_000, 494)
    time = records.start[:, None] + np.arange(110)
    inside = (time >= begin) & (time < end) & (np.arange(110) < records.length[:, None])
    wave = np.where(inside, 16_000 + shift[:, None].astype(float) - records.data, 0)
    expected = np.bincount(records.channel, wave.sum(axis=1), minlength=494)
    np.testing.assert_allclose(result.area[0], expected, atol=0.5)
    summed = np.bincount((time - begin)[inside], wave[inside], minlength=end - begin)
    np.testing.assert_allclose(result.waveform[0], summed, atol=0.5)


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
