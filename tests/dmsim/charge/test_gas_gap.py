"""The gas gap against what NEST prints, and its own laws.

Statistical limits are those of one estimate at a false-positive rate of 1e-6 (4.9 sigma); four of them.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy import stats

import dmsim
from dmsim import charge, light, ragged, rng
from dmsim.detector import consistency, gas_gap
from dmsim.detector.gas_gap import GasGap
from dmsim.detector.presets_io import preset_path
from dmsim.detector.quantities import specs
from dmsim.records import ElectronClouds

pytestmark = pytest.mark.quick_compile

SIGMA = stats.norm.isf(0.5e-6)
PRINTED = {
    # printed by nestpy 2.1.3: extraction_parameters of the detector, with its field, g1_gas, T and p
    "LZ 2024": ((8.301178, 8.0, 0.076404, 175.9, 1.86), (613.190384, 0.72619534, 46.8501981, 34.0223956)),
    "LZ 2022": ((8.42417, 8.0, 0.092103545, 174.1, 1.79), (635.008772, 0.80475728, 58.4865590, 47.0674840)),
    "LUX": ((6.25, 4.25, 0.1, 173.0, 1.57), (229.149321, 0.54308501, 22.9149321, 12.4447562)),
}
# arXiv numbers as the NEST headers quote them: g2, extraction, single electron
QUOTED = {"LZ 2024": (34.02, 0.726, 46.9), "LZ 2022": (47.07, 0.805, 58.5)}
# nestpy 2.1.3, mm/us at 0.0172 g/cm3 over the field in V/cm
GAS_SPEED = {3500: 2.327915, 5000: 3.472018, 8300: 5.899010, 12000: 8.620184}


def gap(field=8.3, gap_mm=8.0, g1=0.0764, *, sag=0.0, delay=0.0, wire=0.0, wire_mm=0.5, dtype=jnp.float32):
    values = (field, gap_mm, 5.0, sag, g1, delay, wire, wire_mm)
    return GasGap(*(jnp.asarray(value, dtype) for value in values))


@pytest.mark.parametrize("name", PRINTED)
def test_gain_and_extraction_are_those_of_nest(name):
    (field, gap_mm, g1, temperature, pressure), (light, extraction, single, g2) = PRINTED[name]
    table, center = gap(field, gap_mm, g1), jnp.zeros(())
    state = jnp.float32(temperature), jnp.float32(pressure)
    assert table.photons_per_electron(center, *state) == pytest.approx(light, rel=1e-5)
    assert table.extraction_efficiency(center, state[0]) == pytest.approx(extraction, rel=1e-5)
    assert table.gain_phd(center, *state) == pytest.approx(single, rel=1e-5)
    if name in QUOTED:
        found = (float(table.gain_phd(center, *state)) * extraction, extraction, single)
        np.testing.assert_allclose(found, QUOTED[name], rtol=3e-2)
        assert found[0] == pytest.approx(g2, rel=1e-5)


def test_the_lz_preset_states_what_its_gap_makes():
    (field, gap_mm, g1, _, _), _ = PRINTED["LZ 2024"]
    detector = dmsim.load_detector("lz")
    made = dataclasses.replace(detector, gas_gap=gap(field, gap_mm, g1))
    consistency.check(made)
    assert made.g2_pe_per_electron == pytest.approx(float(detector.g2_pe_per_electron), rel=1e-3)
    other = dataclasses.replace(detector, gas_gap=gap(1.1 * field, gap_mm, g1))
    with pytest.raises(ValueError, match="se_gain_phd is 46.85, but gas_gap makes"):
        consistency.check(other)


def test_a_preset_file_may_have_the_table(tmp_path):
    values, units = (8.301178, 8.0, 5.0, 0.0, 0.076404, 140.0, 0.1, 0.5), specs(GasGap)
    rows = [
        f'{name} = {{ value = {value}, unit = "{spec.unit}", source = "a test" }}'
        for value, (name, spec) in zip(values, units, strict=True)
    ]
    path = tmp_path / "lz_gap.toml"
    path.write_text("\n".join([preset_path("lz").read_text(), "[gas_gap]", *rows]))
    detector = dmsim.load_detector(path)
    assert float(detector.gas_gap.emission_delay_ns) == 140
    assert detector.without("gas_gap").gas_gap is None
    path.write_text(path.read_text().replace("0.076404", "0.09"))
    with pytest.raises(ValueError, match="must agree within 5%"):
        dmsim.load_detector(path)


def test_electrons_in_gas_have_the_speed_of_magboltz():
    atoms = jnp.float32(0.0172 * 6.0221409e23 / 131.293)
    fields = jnp.array(list(GAS_SPEED), jnp.float32) * 1e-3
    found = gas_gap.gas_speed_mm_per_us(fields, atoms)
    np.testing.assert_allclose(found, list(GAS_SPEED.values()), rtol=2.5e-2)


def test_a_wider_gap_has_the_same_voltage():
    table = gap(sag=2.0)
    r2 = jnp.array([0.0, 0.5, 1.0])
    in_liquid = 5.0 * table.field_at(r2) / (1.85 / 1.00126)
    voltage = table.field_at(r2) * table.gap_at(r2) + in_liquid
    np.testing.assert_allclose(voltage, voltage[0], rtol=1e-6)
    np.testing.assert_allclose(table.gap_at(r2), [8.0, 9.0, 10.0])


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_light_is_emitted_uniformly_but_for_the_wires(share):
    table, transit = gap(wire=share, wire_mm=2.0), jnp.float32(1000)
    u = (jnp.arange(100_000) + 0.5) / 100_000
    times = np.asarray(table.emission_ns(u, transit), np.float64)
    assert (np.diff(times) > -1e-3).all()
    assert times.max() <= 1000.0
    # 2 of 8 mm: the last quarter holds the excess and a quarter of the rest
    assert np.mean(times > 750) == pytest.approx(share + (1 - share) / 4, abs=1e-4)
    assert times.mean() == pytest.approx(float(table.mean_emission_ns(transit)), rel=1e-4)


def test_gradients_are_those_of_differences(x64):
    del x64
    table = gap(sag=1.0, delay=100.0, wire=0.3, dtype=jnp.float64)
    state = jnp.array([175.9, 1.86])

    def value(table, state):
        r2 = jnp.array([0.1, 0.8])
        gain = table.gain_phd(r2, *state) * table.extraction_efficiency(r2, state[0])
        transit = table.transit_ns(r2, *state)
        times = table.emission_ns(jnp.array([0.3, 0.9]), transit) + table.mean_emission_ns(transit)
        return jnp.sum(gain) + 0.01 * jnp.sum(times)

    flat, rebuild = ravel_pytree((table, state))
    of = jax.jit(lambda x: value(*rebuild(x)))
    gradient = jax.grad(of)(flat)
    for i, x in enumerate(flat):
        step = 1e-6 * max(abs(float(x)), 1.0)
        difference = (of(flat.at[i].add(step)) - of(flat.at[i].add(-step))) / (2 * step)
        assert gradient[i] == pytest.approx(float(difference), rel=1e-5, abs=1e-7), i


def test_electrons_wait_at_the_surface():
    n, detector = 64_000, dmsim.load_detector("lz")
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
    pages = ragged.paginate(jnp.full(1, n), page_size=64, n_pages=n // 64)
    keys = rng.fold(rng.words_of(jax.random.key(4)), jnp.arange(1))
    detector = dataclasses.replace(detector, gas_gap=gap(delay=140.0))
    electrons = eqx.filter_jit(charge.sample_electrons)(keys, detector, cloud, pages)
    times = np.asarray(electrons.time_ns, np.float64)
    variance = 250**2 + 140**2
    fourth = 6 * 140**4 / variance**2  # excess of the exponential part
    assert abs(times.mean() - 5140) < SIGMA * np.sqrt(variance / n)
    assert abs(times.var() / variance - 1) < SIGMA * np.sqrt((2 + fourth) / n)
    assert abs(times.mean() - 5150) > SIGMA * np.sqrt(variance / n)  # the twin: 10 ns longer


def test_expected_s2_is_the_mean_of_hits_with_a_gap():
    """Area and mean time of the light of 400 clouds of 100 electrons, on the smallest preset."""
    n, each, detector = 400, 100, dmsim.load_detector("xams")
    table = gap(field=7.0, gap_mm=2.5, g1=0.1, sag=0.3, delay=140.0, wire=0.3)
    detector = dataclasses.replace(detector, gas_gap=table)
    one = jnp.ones(n, jnp.float32)
    x_mm = jnp.linspace(-20, 20, n, dtype=jnp.float32)
    clouds = ElectronClouds(
        event=jnp.arange(n),
        n_electrons=each * one,
        weight=one,
        time_ns=3e4 * one,
        time_spread_ns=250 * one,
        x_mm=x_mm,
        y_mm=0 * one,
        spread_mm=one,
        photons_per_electron=detector.electron_gain_phd(x_mm, 0 * one),
    )
    keys = rng.fold(rng.words_of(jax.random.key(5)), jnp.arange(n))

    @eqx.filter_jit
    def draw(detector):
        pages = ragged.paginate(jnp.full(n, each), page_size=4, n_pages=n * each // 4)
        electrons = charge.sample_electrons(keys, detector, clouds, pages)
        counts = electrons.n_photons.astype(jnp.int32)
        pages = ragged.paginate(counts, page_size=16, n_pages=n * each * 2)
        hits = light.sample_s2_hits(keys, detector, clouds, electrons, pages, n_events=n, n_deposits=n)
        grid = light.TimeGrid(512, detector.electronics.sample_ns)
        return hits, light.expected_s2(detector, clouds, grid, 1.0)

    hits, mean = draw(detector)
    assert int(hits.n_overflow) == 0
    valid = np.asarray(hits.valid)
    events, charges = np.asarray(hits.event)[valid], np.asarray(hits.charge_pe, np.float64)[valid]
    times = np.asarray(hits.time_ns, np.float64)[valid]
    area = np.bincount(events, charges, minlength=n)
    expected = np.asarray(mean.sensor_pe, np.float64).sum(1)
    pull = area / expected - 1
    assert abs(pull.mean()) < SIGMA * pull.std() / np.sqrt(n)
    share = np.asarray(mean.share, np.float64)
    centers = (np.asarray(mean.start_sample)[:, None] + np.arange(512) + 0.5) * detector.electronics.sample_ns
    delay = np.bincount(events, charges * times, minlength=n) / area - (share * centers).sum(1) / share.sum(1)
    limit = SIGMA * delay.std() / np.sqrt(n) + 0.5  # half a ns for the shape within a sample
    assert abs(delay.mean()) < limit
    assert abs(delay.mean() - 20) > limit  # the twin: 20 ns late
