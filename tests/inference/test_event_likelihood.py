"""The likelihood of one event: its score, its information, its gradients.

One deposit simulated N times in xams, and the score of each event at the parameters that made it.
"""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import dmsim
from dmsim.records import Interaction, RawRecords
from dmsim.sources.own import deposits as own_deposits
from inference.likelihood.event import (
    PARAMETERS,
    EventParameters,
    cramer_rao,
    event_data,
    fisher_information,
    log_likelihood,
)
from inference.likelihood.event_data import choose_windows, data_from_hits, data_from_records

N = 3000
RATE = 1e-6  # of false positives, of each of the statistical tests: 2 of the mean, 5 of variances
DETECTOR = dmsim.load_detector("xams").without("all")
TRUE = np.array([20.0, 9.0, -6.0, -30.0, 33.0])  # keV, mm, mm, mm, ns


compiled = eqx.filter_jit(log_likelihood)


def parameters(vector=TRUE, dtype=jnp.float32):
    empty = EventParameters(*jnp.zeros(5, dtype), interaction=Interaction.ER_BETA)
    return empty.at(jnp.asarray(vector, dtype))


@functools.cache
def simulated():
    """Data of N events like TRUE, with TRUE as guess."""
    deposits = own_deposits(
        DETECTOR, **{name: np.full(N, value) for name, value in zip(PARAMETERS, TRUE, strict=True)},
        interaction="er_beta",
    )  # fmt: skip
    hits = dmsim.simulate_hits(jax.random.key(31), DETECTOR, deposits)
    return data_from_hits(DETECTOR, hits, parameters(np.tile(TRUE, (N, 1))))


def first(data):
    return jax.tree.map(lambda x: x[0], data)


@functools.cache
def compiled_score():
    def score(vector, data):
        return jax.grad(lambda v: log_likelihood(DETECTOR, parameters().at(v), data))(vector)

    return eqx.filter_jit(jax.vmap(score, in_axes=(None, 0)))


def scores(vector=TRUE):
    return np.asarray(compiled_score()(jnp.asarray(vector, jnp.float32), simulated()), float)


@functools.cache
def information():
    windows = simulated().windows  # outside of what is compiled
    function = eqx.filter_jit(lambda p: fisher_information(DETECTOR, p, windows=windows))
    return np.asarray(function(parameters()), float)


def p_of_zero_mean(rows):
    """Hotelling's test that independent rows have mean zero."""
    n, k = rows.shape
    t2 = n * rows.mean(0) @ np.linalg.solve(np.cov(rows, rowvar=False), rows.mean(0))
    return stats.f.sf(t2 * (n - k) / (k * (n - 1)), k, n - k)


def test_score_has_mean_zero():
    assert p_of_zero_mean(scores()) > RATE


@pytest.mark.parametrize("index", range(5), ids=PARAMETERS)
def test_score_of_a_wrong_parameter_has_not(index):
    """A fifth of the smallest standard deviation of one event is eleven of the mean of 3,000."""
    wrong = TRUE.copy()
    wrong[index] += 0.2 * float(cramer_rao(information())[index])
    assert p_of_zero_mean(scores(wrong)) < RATE


def variance_ratio():
    """Variance of the score over the information, along each parameter."""
    return scores().var(0) / np.diag(information())


# what the model approximates; energy: the areas' law is not quite normal, and its tails count in a variance
TOLERANCE = np.array([0.15, 0.05, 0.05, 0.05, 0.05])


def test_variance_of_the_score_is_the_information():
    chance = stats.norm.isf(RATE / 2) * np.sqrt(2 / N)
    assert np.all(np.abs(variance_ratio() - 1) < TOLERANCE + chance)


def test_independent_photons_of_one_pe_are_rejected():
    """Without the spread of charges in x, y and t, without electrons in z."""
    there = first(simulated().reference)
    by_charge = variance_ratio()[[1, 2, 4]] * float(there.dispersion)
    chance = stats.norm.isf(RATE / 2) * np.sqrt(2 / N)
    assert np.all(np.abs(by_charge - 1) > 0.05 + chance)
    assert variance_ratio()[3] * float(there.dispersion_s2_sample / there.dispersion) > 3


def test_correlations_of_the_score_are_those_of_the_information():
    ours, theirs = np.corrcoef(scores(), rowvar=False), information()
    theirs = theirs / np.sqrt(np.outer(np.diag(theirs), np.diag(theirs)))
    # 10 correlations at 5.3 sigma of 3,000: 1e-6 in all
    assert np.all(np.abs(ours - theirs) < 5.3 / np.sqrt(N) + 0.03)


def in_double(tree):
    return jax.tree.map(lambda x: x.astype(jnp.float64) if eqx.is_inexact_array(x) else x, tree)


# leaves of the detector that an ER event's light does not depend on: other interactions, what comes after the
# photoelectron's charge, bounds; in xams the field is uniform and there is one bottom sensor
ABSENT = (
    ".quanta.nr",
    ".quanta.alpha",
    ".quanta.er_gamma",
    ".quanta.er_weighted",
    ".quanta.kr83m",
    ".quanta.skewness",
    ".quanta.work_function.min_kev_per_quantum",
    ".quanta.work_function.recoil_scale",
    # the amplitude above 295 V/cm
    *(f".quanta.er_fluctuations.recombination.{name}" for name in ("far", "scale", "power", "sharpness")),
    ".resolution.",
    ".electronics.gain",
    ".electronics.amplification",
    ".electronics.impedance_ohm",
    ".electronics.voltage_range_v",
    ".electronics.noise_adc",
    ".electronics.pulse_",
    ".scintillation.triplet_lifetime_ns",
    ".scintillation.singlet_fraction_nr",
    ".scintillation.singlet_fraction_alpha",
    ".scintillation.recombination_nr_ns",
    ".xenon.temperature_k",
    ".xenon.pressure_bar",
    ".geometry.gate_height_mm",
    ".light.bottom_depth_mm",
)


@pytest.mark.quick_compile
def test_gradient_is_that_of_the_value():
    """In the event and in every leaf of the detector, against central differences in double precision.

    Single precision keeps the value to 0.01 at three standard deviations from the reference.
    """
    away = TRUE + 3 * np.asarray(cramer_rao(information()))
    single = float(compiled(DETECTOR, parameters(away), first(simulated())))
    assert abs(single) > 3
    jax.config.update("jax_enable_x64", True)
    try:
        data, detector = in_double(first(simulated())), DETECTOR.as_dtype(jnp.float64)
        double = compiled(detector, parameters(away, jnp.float64), data)
        assert double.dtype == jnp.float64
        assert abs(single - float(double)) < 0.01 + 1e-3 * abs(single)
        # the spread of the gain counts squared: at zero, as here, it has no slope
        noisy = eqx.tree_at(lambda d: d.electroluminescence.linear_noise, detector, jnp.asarray(0.05))
        compare_gradient(noisy, parameters((TRUE + away) / 2, jnp.float64), data)
    finally:
        jax.config.update("jax_enable_x64", False)


def compare_gradient(detector, event, data):
    slopes = eqx.filter_jit(eqx.filter_grad(lambda both: log_likelihood(*both, data)))((detector, event))
    slopes = jax.tree_util.tree_leaves_with_path(slopes)
    leaves, static = eqx.partition((detector, event), eqx.is_inexact_array)
    flat, structure = jax.tree.flatten(leaves)

    def at(flat):
        return compiled(*eqx.combine(jax.tree.unflatten(structure, flat), static), data)

    for index, (path, slope) in enumerate(slopes):
        name, leaf = jax.tree_util.keystr(path), np.asarray(flat[index])
        size = np.maximum(np.abs(leaf), 1e-3 * np.max(np.abs(leaf)) or 1.0)
        direction = np.random.default_rng(index).uniform(0.5, 1.0, leaf.shape) * size
        step = 1e-6
        above, below = (
            at([*flat[:index], jnp.asarray(leaf + s * direction), *flat[index + 1 :]]) for s in (step, -step)
        )
        exact = float(np.sum(np.asarray(slope) * direction))
        assert exact == pytest.approx(float(above - below) / (2 * step), rel=2e-4, abs=1e-3), name
        assert (abs(exact) > 1e-9) != name.removeprefix("[0]").startswith(ABSENT), name


def test_vmap_and_a_loop_agree():
    data = jax.tree.map(lambda x: x[:3], simulated())
    event = parameters(TRUE + 0.3 * np.asarray(cramer_rao(information())))
    together = eqx.filter_jit(jax.vmap(lambda d: log_likelihood(DETECTOR, event, d)))(data)
    looped = [compiled(DETECTOR, event, jax.tree.map(lambda x, k=k: x[k], data)) for k in range(3)]
    np.testing.assert_allclose(together, looped, rtol=1e-3, atol=2e-3)


def test_reference_has_likelihood_zero():
    assert float(compiled(DETECTOR, parameters(), first(simulated()))) == pytest.approx(0, abs=1e-3)


def test_bounds_of_a_known_matrix():
    random = np.random.default_rng(1).normal(size=(5, 5))
    units = np.array([1.0, 10.0, 10.0, 100.0, 1e3])
    matrix = (random @ random.T + np.eye(5)) * np.outer(units, units)
    expected = np.sqrt(np.diag(np.linalg.inv(matrix)))
    np.testing.assert_allclose(cramer_rao(jnp.asarray(matrix, jnp.float32)), expected, rtol=1e-3)


def records_of(samples_pe, channel, start):
    """One record a row: PE in its samples."""
    n, length = samples_pe.shape
    adc = float(DETECTOR.electronics.adc_per_pe)
    baseline = DETECTOR.electronics.baseline_adc
    return RawRecords(
        event=np.zeros(n, np.int32),
        channel=channel,
        start_sample=start,
        length=np.full(n, length),
        pulse_length=np.full(n, length),
        record_i=np.zeros(n, np.int32),
        data=(baseline - samples_pe * adc).astype(np.float32),
        valid=np.ones(n, bool),
        n_overflow=np.int32(0),
        first_event=np.int32(0),
        event_time_ns=None,
        n_events=1,
        sample_ns=DETECTOR.electronics.sample_ns,
        baseline_adc=baseline,
    )


def test_records_are_summed_in_their_windows():
    guess = parameters(TRUE[None])
    windows = choose_windows(DETECTOR, guess, pulse=True)
    blank = records_of(np.zeros((1, 4)), np.array([0]), np.array([0]))
    starts = data_from_records(DETECTOR, blank, guess, windows=windows)
    s1, s2 = int(starts.s1_start[0]), int(starts.s2_start[0])
    wide = windows.s2.sample_ns // DETECTOR.electronics.sample_ns
    assert wide == 2
    # one in S1, one across the end of S1's window, one in S2
    first_sample = np.array([s1 + 3, s1 + windows.s1.n_samples - 2, (s2 + 5) * wide])
    pe = np.array([[1.0, 2.0, 3.0, 4.0]] * 3)
    data = data_from_records(
        DETECTOR, records_of(pe, np.array([0, 1, 2]), first_sample), guess, windows=windows
    )
    np.testing.assert_allclose(data.s1_sensor_pe[0], [10, 3, 0, 0, 0], atol=1e-3)
    np.testing.assert_allclose(data.s1_sample_pe[0, 3:7], [1, 2, 3, 4], atol=1e-3)
    np.testing.assert_allclose(data.s2_sensor_pe[0], [0, 0, 10, 0, 0], atol=1e-3)
    np.testing.assert_allclose(data.s2_sample_pe[0, 5:8], [3, 7, 0], atol=1e-3)


def test_bad_input_is_refused():
    hits = dataclasses.make_dataclass("Hits", ["n_events"])(2)
    guess = parameters(TRUE[None])
    with pytest.raises(ValueError, match=r"guesses have shape \(1,\): must be one for each of 2 events"):
        data_from_hits(DETECTOR, hits, guess)
    hits = dataclasses.replace(hits, n_events=1)
    with pytest.raises(ValueError, match=r"windows.pulse is True: must be False"):
        data_from_hits(DETECTOR, hits, guess, windows=choose_windows(DETECTOR, guess, pulse=True))


def test_a_window_that_misses_everything_has_a_finite_likelihood():
    guess, windows = parameters(), simulated().windows
    n = DETECTOR.light.sensors.n_sensors
    dark = eqx.filter_jit(event_data)(
        DETECTOR,
        guess,
        windows=windows,
        starts=(jnp.int32(-4000), jnp.int32(-4000)),
        s1_sensor_pe=jnp.zeros(n),
        s1_sample_pe=jnp.zeros(windows.s1.n_samples),
        s2_sensor_pe=jnp.zeros(n),
        s2_sample_pe=jnp.zeros(windows.s2.n_samples),
    )
    assert np.isfinite(compiled(DETECTOR, guess, dark))
    # in the place of one event, so that nothing is compiled for it
    among = jax.tree.map(lambda many, one: many.at[0].set(one), simulated(), dark)
    slopes = compiled_score()(jnp.asarray(TRUE, jnp.float32), among)
    assert np.isfinite(slopes[0]).all()
