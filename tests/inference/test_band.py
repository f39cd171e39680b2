"""The band model: its value against drawn events, its gradient against finite differences."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

import dmsim
from inference.likelihood.band import SETTINGS, BandModel, BandSettings
from inference.likelihood.band_data import Band
from inference.likelihood.band_events import fiducial_volume, make_band_model
from inference.parameters import FreeParameters

N_EVENTS = 8192
NAMES = ["g1", "se_gain", "extraction", "recombination"]


def bins(low, high):
    s1 = np.arange(low, high + 1.0)
    return Band(s1, s1 * 0 + 2, s1 * 0 + 0.005, s1 * 0 + 0.1, s1 * 0 + 0.003)


@pytest.fixture(scope="module")
def detector():
    return dmsim.load_detector("lux")


@pytest.fixture(scope="module")
def spikes(detector):
    return make_band_model(
        jax.random.key(5), detector, bins(2, 50), settings=SETTINGS["lux"], n_events=N_EVENTS
    )


@pytest.fixture(scope="module")
def predict():
    return eqx.filter_jit(lambda model, detector: model(detector))


def chi2_against_draws(model, detector, band):
    """Chi-squared of band means against events whose S1 was drawn, not summed over."""
    random = np.random.default_rng(8)
    n_photons, log_s2 = (np.asarray(a, float) for a in model._log_s2(model.calibration))
    d, light = model.deposits, model.calibration.light
    relative = np.asarray(light.s1_relative_yield(model.calibration.geometry, d.x_mm, d.y_mm, d.z_mm), float)
    chance = float(detector.light.g1_phd_per_photon) * relative * float(model._counted(detector))
    counts = random.binomial(n_photons.astype(int), chance)
    s1 = (counts + float(model._spread()) * np.sqrt(counts) * random.normal(size=counts.size)) / relative
    which = np.digitize(s1, model.edges) - 1
    total = 0.0
    for i in range(len(band.mean)):
        y = (log_s2 - np.log10(np.maximum(s1, 1e-3)))[(which == i) & (counts >= 2) & np.isfinite(log_s2)]
        total += (y.mean() - float(band.mean[i])) ** 2 / (y.var() / y.size)
    return total


def test_sum_over_counts_is_the_mean_of_draws(spikes, detector, predict):
    # 49 bins; 103 is the 1e-5 quantile of chi-squared with 49 degrees of freedom, and the shared quanta make
    # the difference scatter less than that
    band = predict(spikes, detector)
    assert chi2_against_draws(spikes, detector, band) < 103
    off = eqx.tree_at(lambda d: d.light.g1_phd_per_photon, detector, detector.light.g1_phd_per_photon * 1.1)
    assert chi2_against_draws(spikes, off, band) > 103  # must fail: draws with g1 a tenth too high


def test_agrees_with_simulated_areas(detector, predict):
    """In units of area the band is the one that an analyst of `simulate_areas` would draw."""
    band = bins(5, 40)
    model = make_band_model(jax.random.key(6), detector, band, settings=BandSettings(), n_events=N_EVENTS)
    predicted = predict(model, detector)
    areas = dmsim.simulate_areas(jax.random.key(7), detector, model.deposits)
    gain = 1 + float(detector.electronics.double_pe_probability)
    s1, s2 = np.asarray(areas.cs1_pe, float) / gain, np.asarray(areas.cs2_pe, float) / gain
    which = np.digitize(s1, model.edges) - 1
    chi2 = 0.0
    for i in range(len(band)):
        y = np.log10(s2[which == i] / s1[which == i])
        chi2 += (y.mean() - float(predicted.mean[i])) ** 2 / (y.var() / y.size * 2)
    # 36 bins, errors of two samples of equal size; 84 is the 1e-5 quantile. Their widths are looked at too
    assert chi2 < 84
    assert abs(np.log10(np.median(s2[s2 > 0])) - 3) < 0.5
    widths = [np.std(np.log10(s2[which == i] / s1[which == i])) for i in range(len(band))]
    assert np.mean(widths / np.asarray(predicted.width)) == pytest.approx(1, abs=0.03)


class Losing(eqx.Module):
    """The band model with a share of g1's gradient lost and its value kept; compiled once for all shares."""

    model: BandModel
    share: Float[Array, ""]

    def __call__(self, detector):
        g1 = detector.light.g1_phd_per_photon
        g1 = (1 - self.share) * g1 + self.share * jax.lax.stop_gradient(g1)
        return self.model(eqx.tree_at(lambda d: d.light.g1_phd_per_photon, detector, g1))


@eqx.filter_jit
def derivative(model, free, detector, vector, direction):
    """Curves and their derivative along a direction."""
    return jax.jvp(lambda v: model(free.unpack(v, detector)).curves(), (vector,), (direction,))


def slopes(model, detector, name, *, step=0.5, lost=0.0):
    """Least-squares slope of the model's gradient against central differences, for means and widths."""
    model = Losing(model, jnp.float32(lost))
    free = FreeParameters.of(detector, NAMES)
    direction = jnp.eye(len(NAMES))[NAMES.index(name)]
    tangents = derivative(model, free, detector, 0 * direction, direction)[1]
    above, below = (derivative(model, free, detector, s * step * direction, direction)[0] for s in (1, -1))
    result = []
    for tangent, high, low in zip(tangents, above, below, strict=True):
        x, y = np.asarray(tangent, float), np.asarray(high - low, float) / (2 * step)
        result.append((x @ y) / (y @ y))
    return result


@pytest.mark.parametrize(
    ("name", "mean_within", "width_within"),
    [("g1", 0.02, 0.05), ("se_gain", 0.02, None), ("extraction", 0.02, 0.05), ("recombination", None, 0.05)],
)
def test_gradient(spikes, detector, name, mean_within, width_within):
    """Against differences with the same random numbers; None where the parameter hardly moves the curve."""
    mean, width = slopes(spikes, detector, name)
    if mean_within is not None:
        assert mean == pytest.approx(1, abs=mean_within)
    if width_within is not None:
        assert width == pytest.approx(1, abs=width_within)


def test_gradient_check_can_fail(spikes, detector):
    mean, _ = slopes(spikes, detector, "g1", lost=0.1)
    assert abs(mean - 1) > 0.02


def test_bad_settings(detector):
    with pytest.raises(ValueError, match="choose area or spikes"):
        BandSettings("photons")
    with pytest.raises(ValueError, match="fiducial volume is empty"):
        fiducial_volume(detector, BandSettings(drift_time_us=(400.0, 500.0)))
    with pytest.raises(ValueError, match="makes no band"):
        make_band_model(jax.random.key(0), detector, bins(2, 9), settings=BandSettings(), source="kr83m")
    with pytest.raises(ValueError, match="n_events is 0"):
        make_band_model(jax.random.key(0), detector, bins(2, 9), settings=BandSettings(), n_events=0)
