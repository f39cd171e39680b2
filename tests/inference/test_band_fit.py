"""Fits to bands: back to a known detector, and to the LUX tritium data."""

import json

import equinox as eqx
import jax
import numpy as np
import pytest

import dmsim
from dmsim.cli.main import main
from inference.band_fit import SurrogateCheck, default_free, fit_band, predict_band
from inference.likelihood.band import SETTINGS
from inference.likelihood.band_data import Band, read_band
from inference.likelihood.band_likelihood import BandLikelihood, residuals

LUX = "nest_bands/LUXRun03_CH3TBand_SpikeFull.txt"


@pytest.fixture(scope="module")
def detector():
    return dmsim.load_detector("lux")


@pytest.fixture(scope="module")
def lux_band(release_data):
    return read_band(release_data / LUX).between(2, 50)


def unfitted(detector, band):
    predicted = predict_band(
        jax.random.key(1), detector, band, settings=SETTINGS["lux"], n_events=8192, n_replicas=2
    )
    return predicted, residuals(BandLikelihood(None, band), predicted)


def test_closure_through_the_command(detector, tmp_path, capsys):
    """A band made with known parameters, written to a file, gives them back."""
    free = default_free(detector, ["g1", "se_gain"])
    truth = free.unpack(np.array([1.2, -0.8]), detector)
    s1 = np.arange(5.0, 31.0)
    template = Band(s1, s1 * 0 + 2, s1 * 0 + 0.005, s1 * 0 + 0.1, s1 * 0 + 0.003)
    made = predict_band(
        jax.random.key(9), truth, template, calibration=detector, settings=SETTINGS["lux"], n_events=4096
    )
    columns = (s1, s1, made.mean, template.mean_error, made.width, template.width_error)
    np.savetxt(tmp_path / "band.txt", np.column_stack(columns))
    out = tmp_path / "out"
    options = ["--free", "g1,se_gain", "--s1-range", "5", "30", "--events", "4096", "--seed", "4"]
    assert main(["fit", "-d", "lux", "--data", str(tmp_path / "band.txt"), "--out", str(out), *options]) == 0
    result = json.loads((out / "result.json").read_text())
    expected = dict(zip(free.names, free.values(free.pack(truth)), strict=True))
    for name, row in result["parameters"].items():
        # 4.9 standard deviations: false-positive rate 1e-6 each
        assert abs(row["mean"] - expected[name]) < 4.9 * row["standard_deviation"], name
        assert row["r_hat"] < 1.02
    # the data say more than the prior: it could not have passed by staying where it was
    gain = result["parameters"]["se_gain"]
    assert gain["standard_deviation"] < 0.5 * gain["prior_standard_deviation"]
    assert result["residuals_dex"]["after"]["rms"] < 0.5 * result["residuals_dex"]["before"]["rms"]
    assert not any("stand-in" in trouble for trouble in result["sampler"]["trouble"])
    assert result["sampler"]["surrogate_check"]["log_density_spread"] < 0.5
    assert result["provenance"]["seed"] == 4
    assert (out / "band.png").stat().st_size > 10_000
    assert "se_gain" in capsys.readouterr().out


@pytest.mark.parametrize(("spread", "trusted"), [(0.0, True), (0.49, True), (0.51, False), (np.nan, False)])
def test_a_stand_in_that_is_off_is_trouble(spread, trusted):
    check = SurrogateCheck(8, 1e-4, 1e-4, log_density_spread=spread, log_density_model_spread=1.0)
    assert (check.trouble() == []) == trusted
    assert all(f"off by {spread:.2f}" in trouble for trouble in check.trouble())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--free", "g3"], "did you mean g1"),
        (["--free", ","], "no parameter is free"),
        (["--s1-range", "60", "70"], "holds 0 of the band's bins"),
        (["--source", "kr83m"], "makes no band"),
        (["--detector", "luxx"], "luxx"),
        (["--events", "3"], "--events 3"),
        (["--data", "missing.txt"], "missing.txt"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, capsys, options, message):
    data = tmp_path / "band.txt"
    data.write_text("2 2 2.6 0.005 0.12 0.003\n3 3 2.5 0.005 0.11 0.003\n4 4 2.4 0.005 0.11 0.003\n")
    out = tmp_path / "out"
    arguments = ["fit", "--detector", "lux", "--data", str(data), "--out", str(out), *options]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


def test_unfitted_lux_band(detector, lux_band, release_data):
    predicted, found = unfitted(detector, lux_band)
    assert found.rms <= 0.035
    nest = np.genfromtxt(release_data / "nest_bands/nestpy213_vs_lux_ch3t.csv", delimiter=",", names=True)
    nest = nest[(nest["s1"] >= 2) & (nest["s1"] <= 50)]
    # the same model in other hands: its own statistics are 0.0015 dex a bin
    assert np.sqrt(np.mean((np.asarray(predicted.mean) - nest["nest_mean"]) ** 2)) < 0.008
    assert np.sqrt(np.mean((np.asarray(predicted.width) - nest["nest_sd"]) ** 2)) < 0.006


def test_unfitted_lux_band_can_fail(detector, lux_band):
    """A single-electron gain 10 % lower moves the band by 0.046 dex more."""
    gain = detector.electroluminescence.se_gain_phd * 0.9
    _, found = unfitted(eqx.tree_at(lambda d: d.electroluminescence.se_gain_phd, detector, gain), lux_band)
    assert found.rms > 0.035


@pytest.mark.slow  # the same fit in small is the closure above
def test_fitted_lux_band(detector, lux_band):
    result = fit_band(
        jax.random.key(2), detector, lux_band, default_free(detector), n_events=8192, n_samples=400, n_check=4
    )
    assert result.residuals_before.rms <= 0.035
    assert result.residuals_after.rms <= 0.02
    assert result.residuals_after.width_rms <= 0.01
    assert result.fit.values["g1"] == pytest.approx(0.117, abs=0.012)  # 4 published standard deviations
    assert result.check.mean_rms_dex < 1e-3
    assert result.chains.r_hat.max() < 1.02
