"""`dmsim infer`: a whole run on simulated areas, and one line for bad input."""

import dataclasses
import json

import jax
import numpy as np
import numpyro.distributions as dist
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import dmsim
from dmsim import sources
from dmsim.cli.main import main
from dmsim.io import tables
from dmsim.io.parquet import TableWriter
from dmsim.io.provenance import Provenance, tree_sha256, write_provenance
from inference.commands.infer import detector_of
from inference.commands.infer_summary import signal_lines
from inference.likelihood.population_data import read_events, read_table
from inference.population.config import checked_config, wimp_events

CONFIG = """
exposure_t_y = 1.0
events = 512

[window]
cs1_pe = [3, 90]
cs2_pe = [200, 8000]
bins = [6, 8]
r_max_mm = 600

[[component]]
name = "er"
source = "er_flat"
options = { energy_max_kev = 20 }
rate = 150
rate_max = 1000

[[component]]
name = "wimp"
source = "wimp"
options = { mass_gev = 50 }
signal = true
rate = 10
rate_max = 500

[[parameter]]
name = "g1"
relative_width = 0.02
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An output folder of `dmsim simulate --level areas`, written here to save the command."""
    detector = dmsim.load_detector("xenonnt")
    where = {"n_events": 400, "r_max_mm": 600.0}
    deposits = sources.er_flat(jax.random.key(1), detector, energy_max_kev=20.0, **where)
    areas = dmsim.simulate_areas(jax.random.key(2), detector, deposits)
    out = tmp_path_factory.mktemp("areas")
    provenance = Provenance(
        command="simulate", settings={}, detector="xenonnt", detector_sha256=tree_sha256(detector), seed=1,
        chunks={"n_events": 400},
    )  # fmt: skip
    write_provenance(out, provenance)
    writer = TableWriter(out, "areas", provenance, n_chunks=1)
    writer.write(0, tables.pack_areas(areas, first_event=0))
    return out


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "population.toml"
    path.write_text(CONFIG)
    return path


@pytest.mark.slow  # 40 CPU-s to compile; its parts are in the default tests
@pytest.mark.parametrize("likelihood", ["binned", "unbinned"])
def test_a_whole_run(folder, config, tmp_path, capsys, likelihood):
    out = tmp_path / "out"
    command = ["infer", str(folder), "--config", str(config), "--out", str(out), "--samples", "200"]
    status = main([*command, "--likelihood", likelihood])
    assert status == 0, capsys.readouterr().err
    result = json.loads((out / "result.json").read_text())
    assert result["provenance"]["settings"]["likelihood"] == likelihood
    assert set(result["parameters"]) == {"g1", "wimp", "er"}
    n = result["events"]["in_window"]
    assert 100 < n < 400
    er = result["parameters"]["er"]
    # the rate counts events in the window; 5 standard deviations
    assert abs(er["mode"] - n) < 5 * np.sqrt(n)
    signal = result["signal"]
    assert signal["unit"] == "1e-47 cm2"
    low, high = signal["asymptotic_interval"]
    assert low <= signal["best"] <= high
    assert {"events.png", "posterior.png", "signal.png"} <= {p.name for p in out.iterdir()}
    said = capsys.readouterr()
    assert "Warning" not in said.err
    assert "one-sided 90% upper limit" in said.out
    assert "flat 0 to 1000" in said.out


def test_a_limit_of_few_events_is_said_to_be_no_limit():
    """Without background and with none seen the asymptotic 90 % limit is 0.8 events; the exact one is 2.3."""
    stated = {
        "name": "wimp", "unit": "1e-47 cm2", "confidence": 0.9, "best": 0.0, "significance": 0.0,
        "asymptotic_interval": [0.0, float("nan")], "asymptotic_upper_limit": 0.4, "toy_interval": None,
        "events_per_unit": 3.0, "events_in_window_per_unit": 2.0, "asymptotic_is_valid": False,
    }  # fmt: skip
    text = "\n".join(signal_lines(stated))
    assert "two-sided 90% interval 0 to beyond the scan 1e-47 cm2" in text
    assert "the asymptotic limit is 0.8 events in the window" in text
    assert "--toys 1000" in text
    assert "warning" not in "\n".join(signal_lines(stated | {"asymptotic_is_valid": True}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("rate = 150", "rte = 150"), "rte"),
        (('source = "er_flat"', 'source = "er_flt"'), "source 'er_flt' is not known"),
        (("energy_max_kev = 20", "energy_max_ev = 20"), "takes no energy_max_ev"),
        (("rate_max = 500", "rate_max = 5"), "below rate_max"),
        (('name = "g1"', 'name = "g17"'), "g17"),
        (("cs1_pe = [3, 90]", "cs1_pe = [90, 3]"), "is empty"),
        (("cs1_pe = [3, 90]", "cs1_pe = [5000, 5001]"), "sees none of its events"),
        (("exposure_t_y = 1.0", ""), "needs exposure_t_y"),
        (("[window]", "[windw"), "cannot be read"),
    ],
)
def test_a_bad_configuration_is_one_line(folder, config, tmp_path, capsys, change, message):
    config.write_text(CONFIG.replace(*change))
    out = tmp_path / "out"
    assert main(["infer", str(folder), "--config", str(config), "--out", str(out)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "give one of --config"),
        (["--seed", "-1", "--config", "CONFIG"], "--seed -1 is not in the range"),
        (["--confidence", "1.5", "--config", "CONFIG"], "--confidence 1.5"),
        (["--config", "/no/such/file"], "cannot be read"),
    ],
)
def test_bad_options_are_one_line(folder, config, capsys, options, message):
    assert main(["infer", str(folder), *(str(config) if o == "CONFIG" else o for o in options)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_folder_without_events(config, tmp_path, capsys):
    assert main(["infer", str(tmp_path), "--config", str(config), "--detector", "xenonnt"]) == 1
    assert "is not a table folder of dmsim" in capsys.readouterr().err


def test_events_of_a_selection_are_those_of_the_run_that_passed(folder, tmp_path):
    cuts = tmp_path / "cuts.toml"
    cuts.write_text('version = 1\n[[cut]]\nkind = "radius"\nname = "volume"\nhigh = 500.0\n')
    out = tmp_path / "selected"
    assert main(["select", str(folder), "--cuts", str(cuts), "--out", str(out)]) == 0
    assert detector_of(out) == detector_of(out / "selected.parquet") == "xenonnt"
    whole, table = read_table(folder), read_table(out)
    radius = np.hypot(whole.columns["x_mm"], whole.columns["y_mm"])
    selected, events = read_events(out), read_events(folder)
    assert len(table.columns["row"]) == np.sum(radius <= 500.0) < 400
    # S1s that miss the coincidence are the same ones before and after the selection
    assert set(selected.cs1_pe) == set(events.cs1_pe) & set(table.columns["cs1_pe"].astype(float))
    np.testing.assert_array_equal(read_events(out / "selected.parquet").cs2_pe, selected.cs2_pe)


def test_a_table_without_areas(tmp_path, config, capsys):
    pq.write_table(pa.table({"cs1_pe": [1.0]}), tmp_path / "events.parquet")
    arguments = [str(tmp_path / "events.parquet"), "--config", str(config), "--detector", "xenonnt"]
    assert main(["infer", *arguments]) == 1
    assert "has no cs2_pe: its columns are cs1_pe" in capsys.readouterr().err


def test_wimp_events_of_an_exposure():
    # XENON1T's published spectrum (50 GeV, 1e-45 cm2) adds up to 369.5 events / (t y); its orbital speed is
    # 220 km/s where ours is 238
    assert wimp_events(50.0, 1.0) == pytest.approx(1e-2 * 369.5, rel=0.05)
    assert wimp_events(50.0, 2.0) == pytest.approx(2 * wimp_events(50.0, 1.0))


def test_one_signal():
    content = {
        "window": {"cs1_pe": [0, 1], "cs2_pe": [1, 2]},
        "component": [
            {"name": n, "source": "b8", "rate": 1, "rate_error": 1, "signal": True} for n in ("a", "b")
        ],
    }
    with pytest.raises(ValueError, match="more than one component is marked as signal"):
        checked_config(content)


@pytest.fixture(scope="module")
def save_posterior(tmp_path_factory):
    """Writes an untrained posterior of an energy from two columns, with given diagnostics."""
    from inference import estimators, priors
    from inference.estimators.base import Fit
    from inference.estimators.data import Layout
    from inference.estimators.files import save_posterior as save
    from inference.estimators.training import Budget, History

    estimator = estimators.NPE(priors.Prior(priors.Scalar("energy_kev", "keV", dist.Uniform(0.0, 20.0))))

    def write(diagnostics, *, columns=("cs1_pe", "cs2_pe")):
        layout = Layout(tuple((name, ()) for name in columns))
        network = estimator.untrained(jax.random.key(0), layout)
        empty = History(*([] for _ in dataclasses.fields(History)))
        fit = Fit(estimator, estimator.posterior(network, layout), empty, Budget(n_simulations=1000))
        path = tmp_path_factory.mktemp("posterior") / "trained.npz"
        save(path, fit, detector=dmsim.load_detector("xenonnt"), diagnostics=diagnostics)
        return path

    return write


def infer_posterior(folder, path, out, *more):
    return main(["infer", str(folder), "--posterior", str(path), "--out", str(out), *more])


def test_a_posterior_with_failed_diagnostics_is_refused_or_used_with_a_warning(
    folder, save_posterior, tmp_path, capsys
):
    path = save_posterior({"passed": False, "checks": [{"name": "ranks", "passed": False}]})
    assert infer_posterior(folder, path, tmp_path / "out") == 1
    assert "failed its diagnostics (ranks)" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert infer_posterior(folder, path, tmp_path / "out", "--accept-failed") == 0
    assert "warning" in capsys.readouterr().out
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert "failed its diagnostics" in result["trouble"][0]
    table = pq.read_table(tmp_path / "out" / "posterior.parquet")
    assert len(table) + result["events"]["without_data"] == 400
    mean = np.asarray(table["energy_kev_mean"])
    assert np.all((mean > 0) & (mean < 20))


def test_a_posterior_for_other_columns_or_another_detector(folder, save_posterior, tmp_path, capsys):
    path = save_posterior({"passed": True}, columns=("cs1_pe", "s1_area_fraction_top"))
    assert infer_posterior(folder, path, tmp_path / "out") == 1
    assert "has no s1_area_fraction_top" in capsys.readouterr().err
    path = save_posterior({"passed": True})
    assert infer_posterior(folder, path, tmp_path / "out", "--detector", "lux") == 1
    assert "was trained for detector xenonnt" in capsys.readouterr().err
    assert infer_posterior(folder, folder / "provenance.json", tmp_path / "out") == 1
    assert "is not an archive" in capsys.readouterr().err
