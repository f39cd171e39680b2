"""Electrons on their way to the gas, and the light of each.

Statistical limits are those of one estimate at a false-positive rate of 1e-6 (4.9 sigma); about 12 of them.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import dmsim
from dmsim import charge, ragged, rng
from dmsim.records import Deposits, ElectronClouds, Quanta

pytestmark = pytest.mark.quick_compile

SIGMA = stats.norm.isf(0.5e-6)
N = 20_000
Z_MM = -40.0
N_ELECTRONS = 200.0
DETECTOR = eqx.tree_at(lambda d: d.electrons.lifetime_us, dmsim.load_detector("xams"), jnp.float32(60))
ELECTRONS = DETECTOR.electrons
LIQUID_NS = -Z_MM / float(ELECTRONS.drift_speed_mm_per_us) * 1e3
KEYS = rng.fold(rng.words_of(jax.random.key(4)), jnp.arange(N))

transport = eqx.filter_jit(charge.transport)


def clouds_of(detector=DETECTOR, n_electrons=N_ELECTRONS, z_mm=Z_MM):
    same = jnp.ones(N, jnp.float32)
    deposits = Deposits(
        event=jnp.arange(N),
        interaction=jnp.zeros(N, jnp.int32),
        energy_kev=5 * same,
        x_mm=3 * same,
        y_mm=-7 * same,
        z_mm=z_mm * same,
        time_ns=100 * same,
        first_event=jnp.int32(0),
        event_time_ns=None,
        n_events=N,
    )
    quanta = Quanta(n_photons=same, n_electrons=n_electrons * same, n_excitons=0 * same)
    clouds = transport(KEYS, detector, deposits, quanta)
    return jax.tree.map(lambda x: np.asarray(x, np.float64), clouds)


@pytest.fixture(scope="module")
def clouds():
    return clouds_of()


def pulls_of_survivors(n, lifetime_us):
    """Mean and variance of counts against Binomial(n, exp(-t/lifetime) extraction), in standard errors."""
    p = np.exp(-LIQUID_NS * 1e-3 / lifetime_us) * float(ELECTRONS.extraction_efficiency)
    law = stats.binom(int(N_ELECTRONS), p)
    error_of_variance = law.var() * np.sqrt((law.stats("k") + 2) / N)
    return (n.mean() - law.mean()) / np.sqrt(law.var() / N), (n.var() - law.var()) / error_of_variance


def test_survivors_are_binomial_in_lifetime_and_extraction(clouds):
    assert np.abs(pulls_of_survivors(clouds.n_electrons, 60.0)).max() < SIGMA


def test_the_survivors_test_sees_a_lifetime_5_percent_off(clouds):
    assert abs(pulls_of_survivors(clouds.n_electrons, 63.0)[0]) > SIGMA


def test_no_electron_no_cloud():
    clouds = clouds_of(n_electrons=0.0)
    assert not clouds.n_electrons.any()
    assert all(np.isfinite(values).all() for values in jax.tree.leaves(clouds))


def test_clouds_arrive_after_drift_and_surface_delay(clouds):
    expected = 100 + LIQUID_NS + float(ELECTRONS.surface_delay_ns)
    np.testing.assert_allclose(clouds.time_ns, expected, rtol=1e-6)


def test_diffusion_is_sqrt_2dt(clouds):
    speed = float(ELECTRONS.drift_speed_mm_per_us) * 1e-3
    d_l = float(ELECTRONS.diffusion_longitudinal_cm2_per_s) * 1e-7  # cm2/s -> mm2/ns
    d_t = float(ELECTRONS.diffusion_transverse_cm2_per_s) * 1e-7
    np.testing.assert_allclose(clouds.time_spread_ns, np.sqrt(2 * d_l * LIQUID_NS) / speed, rtol=1e-5)
    spread = np.sqrt(2 * d_t * LIQUID_NS) * np.sqrt(1 - 1 / clouds.n_electrons)
    np.testing.assert_allclose(clouds.spread_mm, spread, rtol=1e-4)


def test_the_clouds_centre_scatters_as_sigma_over_sqrt_n(clouds):
    sigma = np.sqrt(2 * float(ELECTRONS.diffusion_transverse_cm2_per_s) * 1e-7 * LIQUID_NS)
    for offset in (clouds.x_mm - 3, clouds.y_mm + 7):
        pull = offset * np.sqrt(clouds.n_electrons) / sigma
        assert abs(pull.mean()) < SIGMA / np.sqrt(N)
        assert abs(pull.var() - 1) < SIGMA * np.sqrt(2 / N)
        assert abs((1.05 * pull).var() - 1) > SIGMA * np.sqrt(2 / N)  # the twin: 5 % wider


def test_a_deposit_at_the_gate_has_no_diffusion():
    clouds = clouds_of(z_mm=0.0)
    assert not clouds.time_spread_ns.any()
    assert not clouds.spread_mm.any()


def test_electrons_have_the_gain_its_fano_factor_and_the_clouds_spread():
    n = 64_000
    one = jnp.ones(1, jnp.float32)
    cloud = ElectronClouds(
        event=jnp.zeros(1, jnp.int32),
        n_electrons=n * one,
        weight=one,
        time_ns=5e3 * one,
        time_spread_ns=250 * one,
        x_mm=0 * one,
        y_mm=0 * one,
        spread_mm=one,
        photons_per_electron=12 * one,
    )
    pages = ragged.paginate(jnp.full(1, n), page_size=64, n_pages=n // 64 + 3)
    electrons = eqx.filter_jit(charge.sample_electrons)(rng.fold(KEYS, 9), DETECTOR, cloud, pages)
    assert int(electrons.n_overflow) == 0
    assert not np.asarray(electrons.n_photons)[n:].any()  # empty slots
    photons = np.asarray(electrons.n_photons, np.float64)[:n]
    times = np.asarray(electrons.time_ns, np.float64)[:n]
    fano = float(DETECTOR.electroluminescence.se_fano)
    assert abs(photons.mean() - 12) < SIGMA * np.sqrt(fano * 12 / n)
    # cut at zero: 12 photons are 2.9 sigma from it, and the variance loses 0.3 % there
    assert photons.var() == pytest.approx(fano * 12, rel=SIGMA * np.sqrt(2 / n) + 3e-3)
    assert abs(times.mean() - 5e3) < SIGMA * 250 / np.sqrt(n)
    assert abs((times.std() / 250) - 1) < SIGMA * np.sqrt(0.5 / n)
    assert abs(1.02 * photons.mean() - 12) > SIGMA * np.sqrt(fano * 12 / n)  # the twin: gain 2 % off


def test_the_sum_of_the_photons_has_the_same_law(clouds):
    few = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), clouds)
    totals = np.asarray(eqx.filter_jit(charge.count_s2_photons)(KEYS, DETECTOR, few), np.float64)
    mean = clouds.n_electrons * clouds.photons_per_electron
    pull = (totals - mean) / np.sqrt(float(DETECTOR.electroluminescence.se_fano) * mean)
    assert abs(pull.mean()) < SIGMA / np.sqrt(N)
    assert abs(pull.var() - 1) < SIGMA * np.sqrt(2 / N)
