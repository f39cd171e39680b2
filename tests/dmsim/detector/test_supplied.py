"""Efficiencies and photoelectron spectra of sensors, from tables."""

import csv

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dmsim.detector import load_detector
from dmsim.detector.consistency import check_values
from dmsim.detector.sensors import SPE_SCORES, SensorArray, score_moments
from dmsim.detector.supplied import (
    read_efficiencies,
    read_spe_spectra,
    supply_spe_spectra,
    switch_off,
)

CHARGE = np.arange(-99.5, 400.0)


def write_spectra(path, spectra, charge=CHARGE):
    rows = [["charge", *range(len(spectra))], *np.column_stack([charge, *spectra]).tolist()]
    path.write_text("\n".join(",".join(map(str, row)) for row in rows))
    return path


def test_scores_hold_the_moments_of_smooth_laws():
    weights, product = score_moments()
    assert weights.sum() == pytest.approx(1, rel=1e-12)
    assert product.sum() == pytest.approx(1, rel=1e-12)
    for law in (stats.norm(1, 0.4), stats.gamma(4, scale=0.25), stats.uniform(0, 2)):
        q = law.ppf(stats.norm.cdf(SPE_SCORES))
        assert q @ weights == pytest.approx(law.mean(), rel=1e-3)
        assert q @ product @ q - (q @ weights) ** 2 == pytest.approx(law.var(), rel=5e-3)


def test_a_spectrum_is_scaled_cut_at_zero_and_filled_in(tmp_path):
    wide = stats.norm.pdf(CHARGE, 150, 60)
    low = wide / wide.sum() + 0.1 * stats.norm.pdf(CHARGE, 0, 5)  # a part of low charges is kept
    quantiles = read_spe_spectra(write_spectra(tmp_path / "s.csv", [wide, 0 * wide, low]), 3)
    assert quantiles.shape == (3, SPE_SCORES.size)
    np.testing.assert_allclose(quantiles @ score_moments()[0], 1, rtol=1e-12)
    assert quantiles.min() == 0
    assert (np.diff(quantiles, axis=1) >= 0).all()
    np.testing.assert_allclose(quantiles[1], quantiles[[0, 2]].mean(axis=0), rtol=1e-12)
    middle = np.abs(SPE_SCORES) < 2
    np.testing.assert_allclose(quantiles[0][middle], 1 + 0.4 * SPE_SCORES[middle], atol=0.01)
    assert np.interp(stats.norm.ppf(0.08), SPE_SCORES, quantiles[2]) < 0.1


def test_xenon1t_spectra_keep_their_resolution(release_data):
    path = release_data / "xenon1t_pax_detector/XENON1T_spe_distributions.csv"
    detector = supply_spe_spectra(load_detector("xenon1t"), path)
    quantiles = np.asarray(detector.light.sensors.spe_quantiles, np.float64)
    weights, product = score_moments()
    width = np.sqrt(((quantiles @ product) * quantiles).sum(axis=1) - (quantiles @ weights) ** 2)
    with open(path) as file:
        table = np.array(list(csv.reader(file))[1:], float)
    charge, spectra = np.maximum(table[:, 0], 0), table[:, 1:]
    seen = spectra.sum(axis=0) > 0
    share = spectra[:, seen] / spectra[:, seen].sum(axis=0)
    expected = np.sqrt(charge**2 @ share - (charge @ share) ** 2) / (charge @ share)
    np.testing.assert_allclose(width[seen], expected, rtol=2e-3)
    assert np.median(width) == pytest.approx(0.41, rel=0.01)
    assert expected.std() > 0.02  # the sensors differ by more than the tolerance


def test_moments_weigh_the_sensors_by_efficiency():
    q = jnp.asarray(np.stack([1 + 0.2 * SPE_SCORES, 1 + 0.4 * SPE_SCORES]))
    sensors = SensorArray(jnp.zeros(2), jnp.zeros(2), jnp.asarray([3.0, 1.0]), 1, q)
    mean, variance = map(float, sensors.spe_moments())
    assert mean == pytest.approx(1, rel=1e-5)
    assert variance == pytest.approx((3 * 0.04 + 0.16) / 4, rel=1e-3)


def test_table_of_efficiencies(tmp_path):
    path = tmp_path / "e.csv"
    path.write_text("# mine\non,channel\n1,2\n0,1\n1,0\n")
    np.testing.assert_array_equal(read_efficiencies(path, 3), [1, 0, 1])
    path.write_text("channel,efficiency,on\n2,0.5,1\n1,0.8,0\n0,1.2,1\n")
    np.testing.assert_array_equal(read_efficiencies(path, 3), [1.2, 0, 0.5])


def test_sensors_switched_off():
    detector = load_detector("xenonnt")
    off = switch_off(detector, [0, 300])
    assert int((off.light.sensors.efficiency == 0).sum()) == 2
    assert float(off.g1_pe_per_photon) == float(detector.g1_pe_per_photon)
    check_values(off)
    for given, needle in (
        ([494], "channel 494 does not exist: there are 0 to 493"),
        ([3, 5, 3], "channel 3 is given twice"),
        (range(253), "top array"),
    ):
        with pytest.raises(ValueError, match=needle):
            switch_off(detector, given)


@pytest.mark.parametrize(
    ("reader", "content", "needle"),
    [
        (read_efficiencies, "channel,gain\n0,1\n", "columns are 'channel, gain': use channel, with"),
        (read_efficiencies, "channel\n0\n", "use channel, with"),
        (read_efficiencies, "channel,on\n0,1\n1,1\n", "has 2 channels: must have each of 3 once"),
        (read_efficiencies, "channel,on\n0,1\n1,1\n1,1\n", "channel 1 is given twice"),
        (read_efficiencies, "channel,on\n0,1\n1,1\n3,1\n", "channel 3 does not exist"),
        (read_efficiencies, "channel,on\n0,1\n1,1\n0.5,1\n", "channel 0.5 does not exist"),
        (read_efficiencies, "channel,on\n0,1\n1,1\n2,2\n", "column on must hold 0 or 1"),
        (read_efficiencies, "channel,on\n0,1\n1\n2,2\n", "row 2 has 1 cells, the header has 2"),
        (read_efficiencies, "channel,on\n0,1\n1,yes\n2,1\n", "no number"),
        (read_efficiencies, "channel,on\n0,1\n1,nan\n2,1\n", "not finite"),
        (read_efficiencies, "channel,channel\n0,1\n", "two columns of one name"),
        (read_efficiencies, "", "has no rows"),
        (read_spe_spectra, "charge,0,1\n1,1,1\n", "must have the columns charge and 0 to 2"),
        (read_spe_spectra, "charge,0,1,2\n1,1,1,1\n3,1,1,1\n4,1,1,1\n", "equally spaced"),
        (read_spe_spectra, "charge,0,1,2\n1,1,1,1\n2,1,-1,1\n", "content below 0"),
        (read_spe_spectra, "charge,0,1,2\n1,0,0,0\n2,0,0,0\n", "no spectrum with a mean charge above 0"),
        (read_spe_spectra, "charge,0,1,2\n-3,1,0,0\n-2,1,0,0\n", "no spectrum with a mean charge above 0"),
    ],
)
def test_a_malformed_table_is_one_clear_line(tmp_path, reader, content, needle):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(ValueError, match="^t.csv: ") as caught:
        reader(tmp_path / "t.csv", 3)
    assert needle in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_table_that_is_none(tmp_path):
    with pytest.raises(ValueError, match="t.csv: does not exist"):
        read_efficiencies(tmp_path / "t.csv", 3)
    (tmp_path / "t.csv").write_bytes(b"\x89PNG\xff")
    with pytest.raises(ValueError, match="UTF-8"):
        read_efficiencies(tmp_path / "t.csv", 3)
