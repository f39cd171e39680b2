"""Input that would come out as NaN or as nothing is refused at every level, in one line."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dmsim

pytestmark = pytest.mark.quick_compile

KEY = jax.random.key(0)
DETECTOR = dmsim.load_detector("xams")
DEPOSITS = dmsim.sources.mono(KEY, DETECTOR, n_events=4, energy_kev=5.0, interaction="nr")
LEVELS = (dmsim.simulate_quanta, dmsim.simulate_areas, dmsim.simulate_hits, dmsim.simulate_records)


def with_leaf(where, value):
    return eqx.tree_at(where, DETECTOR, jnp.asarray(value))


def with_column(name, row, value):
    column = getattr(DEPOSITS, name).at[row].set(value)
    return dataclasses.replace(DEPOSITS, **{name: column})


@pytest.mark.parametrize("simulate", LEVELS)
@pytest.mark.parametrize(
    ("name", "value"),
    [("energy_kev", np.nan), ("energy_kev", -5.0), ("z_mm", 1.0), ("z_mm", -60.0), ("time_ns", np.inf)],
)
def test_a_bad_deposit_is_named(simulate, name, value):
    with pytest.raises(ValueError, match=rf"{name}.* 1 of 4 rows, first in row 2") as caught:
        simulate(KEY, DETECTOR, with_column(name, 2, value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("simulate", LEVELS)
@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        (lambda d: d.xenon.field_v_per_cm, [0.0], "field"),
        (lambda d: d.electrons.lifetime_us, -1.0, "electrons.lifetime_us is -1.0 us: must be above 0"),
        (lambda d: d.electrons.drift_speed_mm_per_us, 0.0, "drift_speed_mm_per_us .* must be above 0"),
        (lambda d: d.light.g1_phd_per_photon, 2.0, "light.g1_phd_per_photon is 2.0 .* at most 1"),
        (lambda d: d.electrons.lifetime_us, np.nan, "must be finite"),
    ],
)
def test_a_detector_that_makes_no_sense_is_refused(simulate, where, value, message):
    with pytest.raises(ValueError, match=message):
        simulate(KEY, with_leaf(where, value), DEPOSITS)


def test_arguments_of_another_kind_are_named():
    with pytest.raises(ValueError, match="detector is a str"):
        dmsim.simulate_areas(KEY, "xams", DEPOSITS)
    with pytest.raises(ValueError, match="deposits is a ndarray"):
        dmsim.simulate_areas(KEY, DETECTOR, np.zeros(3))


def test_the_second_step_of_krypton_counts_from_the_first():
    """The yield depends on the time between the steps, not on when the first one came."""
    late = dmsim.sources.kr83m(KEY, DETECTOR, n_events=50)
    late = dataclasses.replace(late, time_ns=late.time_ns + 1024.0)
    early = dmsim.sources.kr83m(KEY, DETECTOR, n_events=50)
    a, b = (dmsim.simulate_quanta(KEY, DETECTOR, deposits) for deposits in (early, late))
    np.testing.assert_allclose(a.n_photons, b.n_photons, atol=2)


def test_deposits_of_one_event_share_its_gain():
    detector = with_leaf(lambda d: d.electroluminescence.linear_noise, 0.2)
    two = dmsim.sources.kr83m(KEY, detector, n_events=2000)  # two deposits an event
    once = dmsim.simulate_areas(KEY, detector, two)
    quiet = dmsim.simulate_areas(KEY, DETECTOR, two)
    ratio = np.asarray(once.s2_pe / quiet.s2_pe)
    # 0.2 / sqrt(5000) = 0.3 %; 4.9 sigma are a false-positive rate of 1e-6. Drawn apart they spread 0.16
    assert abs(np.median(np.abs(ratio - np.median(ratio))) / 0.6745 - 0.2) < 0.03


def test_the_reverse_gradient_of_records_is_finite_in_every_leaf():
    def total(detector):
        return jnp.sum(dmsim.simulate_records(KEY, detector, DEPOSITS).data)

    gradients = eqx.filter_grad(total)(DETECTOR)
    bad = [
        jax.tree_util.keystr(path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradients)
        if not np.isfinite(leaf).all()
    ]
    assert not bad


def test_gain_on_the_axis_is_that_of_the_preset():
    """LZ and LUX state their single-electron gain on the axis; 5 sigma of 4e4 electrons, 1e-6."""
    for name in ("lz", "lux"):
        detector = dmsim.load_detector(name)
        deposits = dmsim.sources.mono(
            KEY, detector, n_events=64, energy_kev=40.0, interaction="er_beta", r_max_mm=5.0, z_min_mm=-20.0
        )
        quanta = dmsim.simulate_quanta(KEY, detector, deposits)
        areas = dmsim.simulate_areas(KEY, detector, deposits)
        electrons = detector.electrons
        arrived = quanta.n_electrons * electrons.extraction_efficiency
        arrived = arrived * electrons.survival(electrons.drift_time_ns(deposits.z_mm))
        noise = float(detector.electroluminescence.linear_noise) / 8
        gain = float(areas.s2_pe.sum() / arrived.sum() / detector.single_electron_gain_pe)
        assert abs(gain - 1) < 5 * np.hypot(noise, 0.005)


def test_the_check_stands_aside_in_compiled_code():
    areas = jax.jit(lambda key: dmsim.simulate_areas(key, DETECTOR, DEPOSITS))(KEY)
    np.testing.assert_allclose(areas.s1_pe, dmsim.simulate_areas(KEY, DETECTOR, DEPOSITS).s1_pe, rtol=1e-5)
    slope = jax.jacfwd(
        lambda v: dmsim.simulate_areas(KEY, with_leaf(lambda d: d.light.g1_phd_per_photon, v), DEPOSITS).s1_pe
    )(0.1)
    assert np.isfinite(slope).all()
