"""Electronic recoils below the nuclear recoils' median in LUX.

Published (arXiv:2004.06304): (7.3 +- 0.6)e-4 at 240 to 290 V/cm, S1 of 1 to 80 phd. LUX's field is not
uniform there; we take the middle of that bin, 265 V/cm. NEST itself, as LUX's constants stand in its header
(nestpy 2.1.3, LUX_Run03, 400,000 electronic and 100,000 nuclear recoils through the same cuts, uniform in
energy), gives 4.42e-3 +- 0.15e-3, and so do we: the difference from the publication is that of the emission
model and its constants, a third of it the S2 noise of 9 % in the header. It is stated, not tuned away.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dmsim

PUBLISHED = 7.3e-4
NEST = 4.42e-3
FIELD = 265.0
RADIUS_MM, DEPTHS_MM = 180.0, (100.0, 430.0)  # LUX's fiducial volume, as in the run of NEST
PER_BATCH = 100_000


def simulate(detector, kind, top_kev, n_batches, seed):
    """cS1 and log10(cS2 / cS1) [phd] of recoils that are uniform in energy and in the fiducial volume."""
    rng, found = np.random.default_rng(seed), []
    per_phd = 1 + float(detector.electronics.double_pe_probability)
    for batch in range(n_batches):
        radius, angle = RADIUS_MM * np.sqrt(rng.random(PER_BATCH)), 2 * np.pi * rng.random(PER_BATCH)
        deposits = dmsim.sources.deposits(
            detector,
            energy_kev=rng.uniform(0.2, top_kev, PER_BATCH),
            x_mm=radius * np.cos(angle),
            y_mm=radius * np.sin(angle),
            z_mm=-rng.uniform(*DEPTHS_MM, PER_BATCH),
            interaction=kind,
        )
        areas = dmsim.simulate_areas(jax.random.key(seed + batch), detector, deposits)
        s1, s2 = np.asarray(areas.cs1_pe) / per_phd, np.asarray(areas.cs2_pe) / per_phd
        seen = (s1 > 1) & (s1 <= 80) & (s2 > 100)
        found.append((s1[seen], np.log10(s2[seen] / s1[seen])))
    return [np.concatenate(column) for column in zip(*found, strict=True)]


@functools.cache
def leakage(noise_factor):
    """Share of electronic recoils below the nuclear recoils' median in bins of 1 phd."""
    detector = dmsim.load_detector("lux")
    noise = detector.electroluminescence.linear_noise * noise_factor
    detector = eqx.tree_at(
        lambda d: (d.xenon.field_v_per_cm, d.electroluminescence.linear_noise),
        detector,
        (jnp.array([FIELD], jnp.float32), noise),
    )
    nr_s1, nr_ratio = simulate(detector, "nr", 110.0, 2, 51)
    er_s1, er_ratio = simulate(detector, "er_beta", 22.0, 4, 61)
    low = 0
    for start in range(1, 80):
        median = np.median(nr_ratio[(nr_s1 > start) & (nr_s1 <= start + 1)])
        low += np.sum(er_ratio[(er_s1 > start) & (er_s1 <= start + 1)] < median)
    return low / er_s1.size


def test_leakage_is_nest_s():
    # ours has 1,000 events below, 3 %, as NEST's: 20 % are 4.5 sigma, 7e-6, with 1 % of the medians
    assert leakage(1.0) == pytest.approx(NEST, rel=0.2)


def test_leakage_sees_another_noise():
    assert leakage(0.0) < 0.65 * NEST


@pytest.mark.xfail(
    reason="NEST's model with LUX's constants gives six times the published leakage", strict=True
)
def test_leakage_is_the_published_one_within_a_factor_of_two():
    assert 0.5 < leakage(1.0) / PUBLISHED < 2
