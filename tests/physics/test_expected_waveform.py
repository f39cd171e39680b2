"""The expected waveform is the mean of what is simulated, and its gradient that of its value.

One deposit simulated many times in xams, with four times its g1, so that S1 has photons, and diffusion
strong enough to spread the S2 over the sensors. Chi-square tests have a false-positive rate of 1e-5 each;
there are 9, and 6 variances. Photons of one event are not independent: their number fluctuates with the
quanta, and an S2's come in bunches of an electron and around a centre. So the number of events is what
counts, and the variance of each bin is estimated from the scatter over events.
"""

import dataclasses
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

import dmsim
from dmsim.detector.gas_gap import GasGap
from dmsim.light import profile
from dmsim.pipeline.expected import Windows, expected_signals, expected_totals
from dmsim.records import Signal
from dmsim.sources.own import deposits as own_deposits

RATE = 1e-5
N = 3000
SIGNALS = (Signal.S1, Signal.S2)
CASES = {"er_beta": 8.0, "nr": 25.0}  # keV


def replaced(detector, **values):
    """The detector with other values of leaves, named module__leaf."""
    for name, value in values.items():
        module, leaf = name.split("__")
        part = getattr(detector, module)
        part = dataclasses.replace(part, **{leaf: jnp.asarray(value, getattr(part, leaf).dtype)})
        detector = dataclasses.replace(detector, **{module: part})
    return detector


DETECTOR = replaced(
    dmsim.load_detector("xams"),
    light__g1_phd_per_photon=0.4,
    electroluminescence__se_gain_phd=6.0,
    electroluminescence__linear_noise=0.05,
    electrons__diffusion_transverse_cm2_per_s=3000.0,
    electrons__lifetime_us=60.0,
)


def deposit(kind, n, detector=DETECTOR):
    """The same deposit in n events."""
    return own_deposits(
        detector,
        energy_kev=np.full(n, CASES[kind]),
        x_mm=9.0,
        y_mm=-6.0,
        z_mm=-40.0,
        time_ns=33.0,
        interaction=kind,
    )


@functools.cache
def simulated(kind):
    """Event, sensor, time, charge and signal of each hit of N events."""
    hits = dmsim.simulate_hits(jax.random.key(17), DETECTOR, deposit(kind, N))
    kept = np.asarray(hits.valid)
    columns = (hits.event, hits.sensor, hits.time_ns, hits.charge_pe, hits.signal)
    return tuple(np.asarray(column)[kept] for column in columns)


def histograms(event, column, charge, n_columns):
    """Summed charge of each event in each column."""
    flat = np.bincount(event * n_columns + column, charge, minlength=N * n_columns)
    return flat.reshape(N, n_columns)


def p_value(rows, mean):
    """Hotelling's test that independent rows have this mean: large rows, few columns."""
    n, k = rows.shape
    off = rows.mean(0) - mean
    t2 = n * off @ np.linalg.solve(np.cov(rows, rowvar=False), off)
    return stats.f.sf(t2 * (n - k) / (k * (n - 1)), k, n - k)


def binned(expected, signal, edges_sample):
    """Expected PE between borders that are whole samples from the event's start, all sensors together."""
    ours = expected.signal(signal)
    start, area = int(ours.start_sample[0]), np.asarray(ours.sensor_pe, np.float64)[0].sum()
    cumulative = np.concatenate([[0.0], np.cumsum(np.asarray(ours.share, np.float64)[0])])
    places = np.clip(np.asarray(edges_sample) - start, 0, cumulative.size - 1)
    return area * np.diff(cumulative[places])


def time_borders(expected, signal):
    """Borders in samples between which about the same light is expected, inside the window."""
    ours = expected.signal(signal)
    cumulative = np.cumsum(np.asarray(ours.share, np.float64)[0])
    inner = np.searchsorted(cumulative, np.linspace(0.004, 0.99, 17)) + 1
    return np.unique(np.concatenate([[0], inner, [cumulative.size]])) + int(ours.start_sample[0])


def compare_sensors(kind, signal, detector):
    event, sensor, _, charge, which = simulated(kind)
    expected = dmsim.expected_waveform(detector, deposit(kind, 1))
    rows = which == signal.value
    mean = np.asarray(expected.sensor_pe(signal), np.float64)[0]
    return p_value(histograms(event[rows], sensor[rows], charge[rows], mean.size), mean)


def compare_times(kind, signal, detector):
    event, _, time_ns, charge, which = simulated(kind)
    borders = time_borders(dmsim.expected_waveform(DETECTOR, deposit(kind, 1), pulse=False), signal)
    expected = dmsim.expected_waveform(detector, deposit(kind, 1), pulse=False)
    column = np.searchsorted(borders, np.floor(time_ns / 10), side="right") - 1
    rows = (which == signal.value) & (column >= 0) & (column < borders.size - 1)
    observed = histograms(event[rows], column[rows], charge[rows], borders.size - 1)
    return p_value(observed, binned(expected, signal, borders))


def wrong(**factors):
    """The detector with these leaves multiplied."""
    leaves = {name: getattr(getattr(DETECTOR, name.split("__")[0]), name.split("__")[1]) for name in factors}
    return replaced(DETECTOR, **{name: leaves[name] * factor for name, factor in factors.items()})


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("signal", SIGNALS)
def test_sensors_see_the_mean_of_many_events(kind, signal):
    assert compare_sensors(kind, signal, DETECTOR) > RATE


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize("signal", SIGNALS)
def test_arrival_times_are_those_of_many_events(kind, signal):
    assert compare_times(kind, signal, DETECTOR) > RATE


@pytest.mark.parametrize("kind", CASES)
@pytest.mark.parametrize(
    ("signal", "factors"),
    [
        (Signal.S1, {"electronics__double_pe_probability": 1.1}),
        (Signal.S1, {"light__s1_top_fraction_cathode": 1.1}),
        (Signal.S2, {"light__s2_diffuse": 1.2}),
        (Signal.S2, {"electrons__diffusion_transverse_cm2_per_s": 1.6}),
        (Signal.S2, {"electrons__lifetime_us": 1.1}),
    ],
)
def test_the_comparison_of_sensors_sees_an_error(kind, signal, factors):
    assert compare_sensors(kind, signal, wrong(**factors)) < RATE


@pytest.mark.parametrize(
    ("kind", "signal", "factors"),
    [
        ("er_beta", Signal.S1, {"scintillation__propagation_ns": 2.0}),
        ("er_beta", Signal.S1, {"scintillation__triplet_lifetime_er_ns": 1.05}),
        (
            "er_beta",
            Signal.S1,
            {"scintillation__recombination_base_ns": 1.1, "scintillation__recombination_slope_ns": 1.1},
        ),
        ("nr", Signal.S1, {"scintillation__propagation_ns": 2.0}),
        ("nr", Signal.S1, {"scintillation__triplet_lifetime_ns": 1.05}),
        ("nr", Signal.S1, {"scintillation__recombination_nr_ns": 2.0}),
        ("er_beta", Signal.S2, {"electrons__diffusion_longitudinal_cm2_per_s": 1.1}),
        ("nr", Signal.S2, {"electrons__diffusion_longitudinal_cm2_per_s": 1.1}),
        ("er_beta", Signal.S2, {"electroluminescence__gap_transit_ns": 1.05}),
        ("er_beta", Signal.S2, {"electroluminescence__triplet_lifetime_ns": 1.1}),
        ("er_beta", Signal.S2, {"electrons__drift_speed_mm_per_us": 1.001}),
    ],
)
def test_the_comparison_of_times_sees_an_error(kind, signal, factors):
    assert compare_times(kind, signal, wrong(**factors)) < RATE


@functools.cache
def recorded(kind, n):
    """Mean PE in each sample of S1 and S2, all sensors together, over records of n events."""
    start, n_samples = np.array([-10, 2000]), np.array([200, 2000])
    total = [np.zeros(size) for size in n_samples]
    for part in dmsim.iterate_records(jax.random.key(19), DETECTOR, deposit(kind, n), events_per_batch=100):
        used = np.arange(part.data.shape[1]) < part.length[:, None]
        pulse = np.where(used, float(DETECTOR.electronics.baseline_adc) - part.data, 0.0)
        sample = part.start_sample[:, None] + np.arange(part.data.shape[1])
        for sums, first in zip(total, start, strict=True):
            inside = used & (sample >= first) & (sample < first + sums.size)
            np.add.at(sums, sample[inside] - first, pulse[inside])
    return [
        (first, sums / n / float(DETECTOR.electronics.adc_per_pe))
        for first, sums in zip(start, total, strict=True)
    ]


def compare_records(detector, signal):
    """Largest difference of the cumulative mean waveforms, and the ratio of their areas."""
    first, seen = recorded("nr", 300)[signal.value - 1]
    expected = dmsim.expected_waveform(detector, deposit("nr", 1))
    ours = np.asarray(expected.dense(signal, start_sample=int(first), n_samples=seen.size))[0].sum(0)
    difference = np.cumsum(seen) / seen.sum() - np.cumsum(ours) / ours.sum()
    return np.abs(difference).max(), seen.sum() / ours.sum()


@pytest.mark.parametrize("signal", SIGNALS)
def test_mean_record_is_the_expected_waveform(signal):
    distance, ratio = compare_records(DETECTOR, signal)
    # zero suppression loses under 1 %; the mean of 300 areas scatters by 0.6 % (6 sigma), its shape by less
    assert distance < 0.01
    assert abs(ratio - 1) < 0.035


def test_the_comparison_of_records_sees_a_missing_pulse():
    short = wrong(electronics__pulse_rise_ns=0.7, electronics__pulse_decay_ns=0.7)
    assert compare_records(short, Signal.S1)[0] > 0.02


@pytest.mark.parametrize("scale_ns", [0.5, 12.0, 80.0])
def test_recombination_law_against_its_transform_and_its_tail(scale_ns):
    s = profile.TimeGrid(256, 10).arguments(np.float32)
    z = np.asarray(s, np.complex128) * scale_ns
    exact = 1 - z * np.exp(z) * special.exp1(z)
    np.testing.assert_allclose(profile.reciprocal(jnp.float32(scale_ns), s), exact, atol=1e-5)
    # the tail, where fixed Gauss-Laguerre nodes have nothing: at 100 scales 1 % of the light is to come
    rates, times = np.exp(profile._DELAY_LOG_RATES), np.geomspace(1e-2, 1e3, 50)
    weights = rates * np.exp(-rates)
    tail = np.exp(-np.outer(times, rates)) @ (weights / weights.sum())
    np.testing.assert_allclose(tail, 1 / (1 + times), atol=1e-5)


@pytest.mark.parametrize("pulse", [True, False])
def test_window_holds_the_light(pulse):
    expected = dmsim.expected_waveform(DETECTOR, deposit("er_beta", 1), pulse=pulse)
    # recombination beyond 2.56 us: 3.9 ns / 2.56 us of the delayed light, less the quarter cut at 10 us
    assert float(expected.s1.share.sum()) == pytest.approx(0.999, abs=5e-4)
    assert float(expected.s2.share.sum()) == pytest.approx(1.0, abs=2e-6)
    longer = dmsim.expected_waveform(DETECTOR, deposit("er_beta", 1), pulse=pulse, n_samples=(1000, 4096))
    assert float(longer.s1.share.sum()) == pytest.approx(1.0, abs=3e-5)
    for short, long in ((expected.s1, longer.s1), (expected.s2, longer.s2)):
        n = short.share.shape[1]
        np.testing.assert_allclose(short.share, long.share[:, :n], atol=3e-7)  # nothing wraps around


@pytest.mark.parametrize("kind", CASES)
def test_variances_of_areas_are_those_of_many_events(kind):
    """Of each area and between them, at 4.5 sigma of the simulated ones (1e-5 each); 30 % off is refused."""
    event, _, _, charge, which = simulated(kind)
    areas = [np.bincount(event, charge * (which == s.value), minlength=N) for s in SIGNALS]
    one = deposit(kind, 1)
    grids = profile.TimeGrid(64, 10), profile.TimeGrid(256, 10)
    signals = expected_signals(DETECTOR, one, Windows(*grids))
    totals = expected_totals(DETECTOR, one, signals)
    away = [area - area.mean() for area in areas]
    refused = []
    for a, b, ours in ((0, 0, totals.var_s1), (1, 1, totals.var_s2), (0, 1, totals.covariance)):
        products = away[a] * away[b]
        error = products.std() / np.sqrt(N)
        assert abs(products.mean() - float(ours[0])) < 4.5 * error
        refused.append(abs(products.mean() - 1.3 * float(ours[0])) > 4.5 * error)
    assert any(refused)


GAP = GasGap(
    field_kv_per_cm=jnp.float32(8.0),
    gap_mm=jnp.float32(5.0),
    liquid_mm=jnp.float32(5.0),
    sag_mm=jnp.float32(1.0),
    g1_gas_phd_per_photon=jnp.float32(0.02),
    emission_delay_ns=jnp.float32(200.0),
    wire_share=jnp.float32(0.4),
    wire_mm=jnp.float32(1.0),
)


def test_times_with_a_gas_gap_are_those_of_many_events():
    """One test of the mean; a surface delay 20 % longer and half the light at the wires are refused."""
    detector, n = dataclasses.replace(DETECTOR, gas_gap=GAP), 1000
    hits = dmsim.simulate_hits(jax.random.key(23), detector, deposit("nr", n, detector))
    rows = np.asarray(hits.valid) & (np.asarray(hits.signal) == Signal.S2)
    event, time_ns, charge = (np.asarray(x)[rows] for x in (hits.event, hits.time_ns, hits.charge_pe))
    borders = time_borders(dmsim.expected_waveform(detector, deposit("nr", 1), pulse=False), Signal.S2)
    column = np.searchsorted(borders, np.floor(time_ns / 10), side="right") - 1
    kept = (column >= 0) & (column < borders.size - 1)
    flat = np.bincount(event[kept] * (borders.size - 1) + column[kept], charge[kept], n * (borders.size - 1))
    observed = flat.reshape(n, -1)

    def compare(**factors):
        gap = dataclasses.replace(GAP, **{name: getattr(GAP, name) * f for name, f in factors.items()})
        model = dataclasses.replace(DETECTOR, gas_gap=gap)
        expected = dmsim.expected_waveform(model, deposit("nr", 1), pulse=False)
        return p_value(observed, binned(expected, Signal.S2, borders))

    assert compare() > RATE
    assert compare(emission_delay_ns=1.2) < RATE
    assert compare(wire_share=0.5) < RATE


def mixed(dtype=jnp.float32):
    """One deposit of each kind, two of them in one event."""
    batch = own_deposits(
        DETECTOR,
        energy_kev=np.array([8.0, 30.0, 12.0, 25.0, 9.4, 41.5, 5490.0]),
        x_mm=np.linspace(-20, 15, 7),
        y_mm=np.linspace(9, -11, 7),
        z_mm=np.linspace(-47, -5.3, 7),
        time_ns=np.array([0.0, 13.0, 5.5, 3.0, 300.0, 0.0, 7.0]),
        interaction=["er_beta", "er_gamma", "er_weighted", "nr", "kr83m", "kr83m", "alpha"],
        event=np.array([0, 1, 2, 3, 4, 5, 5]),
    )
    return jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, batch)


WINDOWS = {Signal.S1: (-10, 300), Signal.S2: (250, 4000)}


def projections(detector, deposits):
    """Two numbers of each signal, smooth in the absolute time and different for every sensor."""
    expected = dmsim.expected_waveform(detector, deposits, n_samples=(128, 256))
    sensors = np.random.default_rng(4).uniform(0.5, 1.5, DETECTOR.light.sensors.n_sensors)
    numbers = []
    for signal, (first, n) in WINDOWS.items():
        sample = first + np.arange(n)
        slow, fast = np.exp(-sample / n), np.cos(sample / 7.0)
        mean = expected.dense(signal, start_sample=first, n_samples=n)
        scale = np.array([1.0, 1.3, 0.8, 0.7, 0.9, 1e-2])[:, None, None]
        numbers += [jnp.sum(mean * sensors[:, None] * scale * shape) for shape in (slow, fast)]
    return jnp.stack(numbers)


def directions(tree):
    """Each float leaf's name with a direction in it, of the size of its entries."""
    params, _ = eqx.partition(tree, eqx.is_inexact_array)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        random = np.random.default_rng(leaf.size).uniform(0.5, 1.0, leaf.shape)
        size = np.abs(leaf) if np.any(leaf != 0) else 1.0
        yield jax.tree_util.keystr(path), random * np.maximum(size, 1e-3 * np.max(size))


# Leaves that do not enter: what only spreads, what only makes ADC counts of PE, what acts in a state of the
# xenon that is not this one, bounds not reached here; in xams the field is uniform and there is one bottom
# sensor.
ABSENT = (
    ".quanta.er_fluctuations.",
    ".quanta.nr_fluctuations.",
    ".quanta.skewness.",
    ".resolution.",
    ".electroluminescence.linear_noise",
    ".electronics.gain",
    ".electronics.amplification",
    ".electronics.impedance_ohm",
    ".electronics.voltage_range_v",
    ".electronics.noise_adc",
    ".xenon.temperature_k",
    ".xenon.pressure_bar",
    ".quanta.alpha.exciton_gas",
    ".quanta.alpha.low_energy_",
    ".quanta.alpha.quenching_limit",
    ".quanta.kr83m.light_limit",
    ".quanta.work_function.min_kev_per_quantum",
    ".geometry.gate_height_mm",
    ".light.bottom_depth_mm",
)


def derivatives(what, tree):
    """Of the projections along each leaf's direction: exact, and by central difference."""
    params, static = eqx.partition(tree, eqx.is_inexact_array)
    value = jax.jit(lambda p: what(eqx.combine(p, static)))
    jacobian = jax.jit(jax.jacrev(lambda p: what(eqx.combine(p, static))))(params)
    slopes = dict(
        (jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(jacobian)
    )
    for name, direction in directions(tree):

        def shifted(step, name=name, direction=direction):
            return jax.tree_util.tree_map_with_path(
                lambda path, p: p + step * direction if jax.tree_util.keystr(path) == name else p, params
            )

        step = 1e-6
        reference = (value(shifted(step)) - value(shifted(-step))) / (2 * step)
        exact = np.asarray(slopes[name]).reshape(4, -1) @ np.ravel(direction)
        yield name, exact, np.asarray(reference)


@pytest.mark.quick_compile
@pytest.mark.usefixtures("x64")
def test_gradient_in_all_leaves_together_is_that_of_the_value():
    """The next one in small, forwards: one direction in all leaves at once; 0.1 % off is refused."""
    params, static = eqx.partition((DETECTOR.as_dtype(jnp.float64), mixed(jnp.float64)), eqx.is_inexact_array)
    value = jax.jit(lambda p: projections(*eqx.combine(p, static)))
    along = dict(directions(params))
    direction = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.asarray(along[jax.tree_util.keystr(path)], leaf.dtype), params
    )
    exact = np.asarray(jax.jit(lambda p: jax.jvp(value, (p,), (direction,))[1])(params))
    above, below = (
        value(jax.tree.map(lambda p, d, s=s: p + s * d, params, direction)) for s in (1e-6, -1e-6)
    )
    reference = np.asarray(above - below) / 2e-6
    np.testing.assert_allclose(exact, reference, rtol=1e-4)
    assert np.all(np.abs(1.001 * exact - reference) > 1e-4 * np.abs(reference))


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_gradient_in_every_leaf_and_in_deposits_is_that_of_the_value():
    both = DETECTOR.as_dtype(jnp.float64), mixed(jnp.float64)
    for name, exact, reference in derivatives(lambda tree: projections(*tree), both):
        np.testing.assert_allclose(exact, reference, rtol=1e-4, atol=2e-5, err_msg=name)
        leaf = name.removeprefix("[0]")
        if leaf != name:
            assert np.any(np.abs(exact) > 1e-9) == (not leaf.startswith(ABSENT)), name
        else:
            assert np.any(reference), name


@pytest.mark.quick_compile
def test_jit_vmap_and_a_loop_agree():
    deposits = mixed()
    together = dmsim.expected_waveform(DETECTOR, deposits, n_samples=(128, 512))
    jitted = eqx.filter_jit(dmsim.expected_waveform)(
        DETECTOR, dataclasses.replace(deposits, event_time_ns=None), n_samples=(128, 512)
    )
    assert eqx.tree_equal(jitted, together, rtol=1e-4, atol=1e-5)

    def one(energy):
        batch = dataclasses.replace(deposits, energy_kev=deposits.energy_kev * energy)
        return dmsim.expected_waveform(DETECTOR, batch, n_samples=(128, 512)).s2.sensor_pe

    factors = jnp.array([0.99, 1.0, 1.005])
    looped = jnp.stack([one(factor) for factor in factors])
    np.testing.assert_allclose(jax.vmap(one)(factors), looped, rtol=1e-4)


def test_deposits_of_an_event_add_up():
    expected = dmsim.expected_waveform(DETECTOR, mixed())
    start = np.asarray(expected.s2.start_sample)
    dense = np.asarray(expected.dense(Signal.S2, start_sample=int(start.min()), n_samples=4096))
    assert dense.shape == (6, 5, 4096)
    np.testing.assert_allclose(dense.sum(2), expected.sensor_pe(Signal.S2), rtol=1e-5)
    by_hand = sum(
        np.multiply.outer(expected.s2.sensor_pe[k], expected.s2.share[k]).sum(0)[start[6] - start[k] + 20]
        for k in (5, 6)
        if 0 <= start[6] - start[k] + 20 < expected.s2.share.shape[1]
    )
    assert dense[5].sum(0)[start[6] - start.min() + 20] == pytest.approx(by_hand, rel=1e-5)


def test_window_is_chosen_under_a_gradient():
    batch = deposit("nr", 1)

    def late(detector):
        share = dmsim.expected_waveform(detector, batch).s2.share
        return jnp.sum(share * jnp.arange(share.shape[1]))

    slope = eqx.filter_grad(late)(DETECTOR).electrons.drift_speed_mm_per_us
    speed = float(DETECTOR.electrons.drift_speed_mm_per_us)
    assert float(slope) == pytest.approx(-40.0 / speed**2 * 1e3 / 10, rel=1e-3)


@pytest.mark.quick_compile
def test_no_energy_gives_no_light_and_finite_gradients():
    batch = dataclasses.replace(deposit("nr", 1), energy_kev=jnp.zeros(1), z_mm=jnp.zeros(1))

    def total(detector, batch):
        expected = dmsim.expected_waveform(detector, batch, n_samples=(64, 128))
        return sum(jnp.sum(expected.dense(s, start_sample=0, n_samples=64)) for s in SIGNALS)

    value, slopes = eqx.filter_value_and_grad(lambda both: total(*both))((DETECTOR, batch))
    assert value == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


def test_bad_input_is_refused():
    batch = deposit("nr", 1)
    with pytest.raises(ValueError, match="S1 window is 20000 ns"):
        dmsim.expected_waveform(DETECTOR, batch, n_samples=(2000, 512))
    with pytest.raises(ValueError, match="n_samples is 0"):
        dmsim.expected_waveform(DETECTOR, batch, n_samples=(128, 0))
    with pytest.raises(ValueError, match="signal is"):
        dmsim.expected_waveform(DETECTOR, batch).sensor_pe(Signal.UNKNOWN)
    with pytest.raises(ValueError, match="expected_window needs concrete numbers"):
        jax.vmap(lambda z: dmsim.expected_waveform(DETECTOR, dataclasses.replace(batch, z_mm=z)))(
            jnp.full((2, 1), -10.0)
        )
