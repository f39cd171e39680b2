"""Afterpulses and dark counts: as many as their rates say, on the sensors and at the times they say.

False-positive rate 1e-6 a comparison, about 20 of them. The twins: rates 5 % off are refused.
"""

import dataclasses
import os
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import dmsim
from dmsim import electronics, rng
from dmsim.detector import consistency
from dmsim.detector.pulses import Afterpulses, DarkCounts
from dmsim.electronics.afterpulses import CHUNK
from dmsim.records import Hits, Signal

pytestmark = pytest.mark.quick_compile

SIGMA = stats.norm.isf(0.5e-6)
KEY = rng.words_of(jax.random.key(5))
RELEASE = "release/xenon1t_pax_detector/pmt_afterpulses_sr1_run16347.csv"
# two species on five sensors; the last sensor has none of the second
PROBABILITY = np.array([[0.3, 0.05, 0.2, 0.1, 0.15], [0.1, 0.2, 0.05, 0.3, 0.0]], np.float32)


def table(**changes):
    numbers = {
        "probability": PROBABILITY,
        "delay_ns": np.full((2, 5), [[500.0], [2000.0]]),
        "delay_spread_ns": np.full((2, 5), [[40.0], [0.0]]),
        "delay_width_ns": np.full((2, 5), [[0.0], [3000.0]]),
        "charge_pe": np.full((2, 5), [[6.0], [1.0]]),
        "charge_spread_pe": np.full((2, 5), [[1.5], [0.0]]),
    }
    return Afterpulses(**{name: jnp.asarray(x, jnp.float32) for name, x in (numbers | changes).items()})


XAMS = dmsim.load_detector("xams").without("all")
DETECTOR = dataclasses.replace(
    XAMS,
    afterpulses=table(),
    dark_counts=DarkCounts(jnp.float32(2e4), jnp.float32(1e5), jnp.float32(3e5)),
)


@pytest.fixture(scope="module")
def parents():
    """Photons on random sensors, half of the slots empty, all at time zero but for their event's number."""
    random = np.random.default_rng(8)
    n = 3000 * CHUNK
    event = np.repeat(np.arange(3000), CHUNK)
    valid = random.uniform(size=n) < 0.5
    return Hits(
        event=jnp.asarray(event, jnp.int32),
        sensor=jnp.asarray(random.integers(0, 5, n), jnp.int32),
        time_ns=jnp.asarray(1e5 * (event % 2), jnp.float32),
        charge_pe=jnp.asarray(valid, jnp.float32),
        weight=jnp.asarray(valid, jnp.float32),
        signal=jnp.full(n, Signal.S2.value, jnp.int32),
        deposit=jnp.zeros(n, jnp.int32),
        valid=jnp.asarray(valid),
        n_overflow=jnp.int32(0),
        n_events=3000,
    )


def drawn(detector, parents):
    """Afterpulses, valid ones only."""
    keys = rng.fold(KEY, jnp.arange(parents.valid.size // CHUNK))
    counts = electronics.count_afterpulses(keys, detector, parents)
    hits = electronics.sample_afterpulses(keys, detector, parents, counts, n_rows=int(counts.sum()) + 7)
    keep = np.asarray(hits.valid)
    assert keep.sum() == int(counts.sum())
    assert int(hits.n_overflow) == 0
    found = {f.name: np.asarray(getattr(hits, f.name)) for f in dataclasses.fields(hits)}
    return {name: x[keep] for name, x in found.items() if x.ndim}


@pytest.fixture(scope="module")
def afterpulses(parents):
    return drawn(DETECTOR, parents)


def test_each_sensor_and_species_has_its_probability(parents, afterpulses):
    photons = np.bincount(np.asarray(parents.sensor)[np.asarray(parents.valid)], minlength=5)
    per_photon = 1 + float(XAMS.electronics.double_pe_probability)
    late = afterpulses["time_ns"] % 1e5
    first = np.abs(late - 500) < 200  # the other species is there in 400 of its 3000 ns
    expected = PROBABILITY * photons * per_photon
    for sensor in range(5):
        here = afterpulses["sensor"] == sensor
        in_first = expected[0, sensor] + expected[1, sensor] * 400 / 3000
        for found, mean in ((here.sum(), expected[:, sensor].sum()), ((here & first).sum(), in_first)):
            assert abs(found - mean) < SIGMA * np.sqrt(mean)
    total = expected.sum()
    assert abs(len(late) - 1.05 * total) > SIGMA * np.sqrt(total)  # the twin


def test_counts_of_a_chunk_are_poisson(parents, afterpulses):
    rate = PROBABILITY.sum(0) * (1 + float(XAMS.electronics.double_pe_probability))
    chunk_mean = (rate[np.asarray(parents.sensor)] * np.asarray(parents.valid)).reshape(-1, CHUNK).sum(1)
    found = np.bincount(afterpulses["event"], minlength=3000)
    pulls = (found - chunk_mean) / np.sqrt(chunk_mean)
    # of a Poisson count of mean 2 to 4 the pull's square has variance 2 + 1/mean
    assert abs(np.mean(pulls**2) - 1) < SIGMA * np.sqrt(2.5 / 3000)


def test_delay_and_charge_follow_their_laws(afterpulses):
    late, charge = afterpulses["time_ns"] % 1e5, afterpulses["charge_pe"]
    normal = charge > 4  # a single photoelectron of width 0.4 does not reach that
    assert stats.kstest(late[normal], stats.norm(500, 40).cdf).pvalue > 1e-6
    assert stats.kstest(late[normal], stats.norm(505, 40).cdf).pvalue < 1e-6
    uniform = np.abs(late - 500) > 300
    law = stats.uniform(500, 3000)
    share = (np.clip(late[uniform], 500, None) - 500) / 3000
    assert stats.kstest(late[late > 800], stats.uniform(800, 2700).cdf).pvalue > 1e-6
    assert law.cdf(late[uniform].max()) <= 1
    assert share.max() > 0.99
    width = float(XAMS.electronics.spe_width)
    assert stats.kstest(charge[late > 800], stats.norm(1, width).cdf).pvalue > 1e-6
    spread = np.sqrt(1.5**2 + 6 * width**2)
    whole = charge[np.abs(late - 500) < 150]  # 7 % are of the other species
    assert abs(np.median(whole[whole > 3]) - 6) < 0.15
    assert abs(np.std(whole[whole > 3]) - spread) < 0.25


def test_no_afterpulse_of_an_empty_slot(parents):
    nothing = dataclasses.replace(parents, valid=jnp.zeros_like(parents.valid))
    assert drawn(DETECTOR, nothing)["time_ns"].size == 0


def test_one_row_of_species_serves_all_sensors(parents):
    alike = table(**{name: getattr(table(), name)[:, 0] for name in vars(table())})
    detector = dataclasses.replace(DETECTOR, afterpulses=alike)
    photons = int(np.asarray(parents.valid).sum())
    mean = photons * 0.4 * (1 + float(XAMS.electronics.double_pe_probability))
    assert abs(len(drawn(detector, parents)["time_ns"]) - mean) < SIGMA * np.sqrt(mean)


def test_dark_counts_fill_their_window():
    n = 400
    energy = np.where(np.arange(n) % 4 == 0, 0.0, 5.0)
    batch = dmsim.sources.deposits(
        DETECTOR, energy_kev=energy, x_mm=0.0, y_mm=0.0, z_mm=-20.0, time_ns=2e5, interaction="er_beta"
    )
    keys = rng.fold(KEY, jnp.arange(n))
    dead = eqx.tree_at(
        lambda d: d.light.sensors.efficiency, DETECTOR, jnp.asarray([1.0, 1.0, 0.0, 1.0, 1.0], jnp.float32)
    )
    counts = electronics.count_dark_counts(keys, dead, batch)
    hits = electronics.sample_dark_counts(keys, dead, batch, counts, n_rows=int(counts.sum()) + 3)
    keep = np.asarray(hits.valid)
    event, sensor = np.asarray(hits.event)[keep], np.asarray(hits.sensor)[keep]
    time, charge = np.asarray(hits.time_ns)[keep], np.asarray(hits.charge_pe)[keep]
    # 4 sensors live for 100 + 200 + 300 us at 20 kHz, in the events in which energy was deposited
    mean = 300 * 4 * 2e4 * 6e-4
    assert abs(keep.sum() - mean) < SIGMA * np.sqrt(mean)
    assert abs(keep.sum() - 1.05 * mean) > SIGMA * np.sqrt(mean)  # the twin
    assert not np.isin(event, np.flatnonzero(energy == 0)).any()
    assert stats.kstest(time, stats.uniform(-1e5, 6e5).cdf).pvalue > 1e-6
    assert stats.chisquare(np.bincount(sensor, minlength=5)[[0, 1, 3, 4]]).pvalue > 1e-6
    assert not (sensor == 2).any()
    assert abs(charge.mean() - 1) < 0.01


CSV = """pmt,type,p,dist,t_mean_ns,t_scale_ns,low_ns,high_ns,amp_mean_pe,amp_rms_pe
0,He,0.002,normal,500,40,,,10,4
2,flat,0.004,uniform,150,,100,300,1,
9,He,0.5,normal,500,40,,,10,4
"""


def test_a_table_is_read(tmp_path):
    path = tmp_path / "afterpulses.csv"
    path.write_text(CSV)
    found = electronics.read_afterpulses(path, n_sensors=4)
    np.testing.assert_allclose(found.probability, [[0.002, 0, 0, 0], [0, 0, 0.004, 0]])
    np.testing.assert_allclose(found.delay_ns[:, 0], [500, 0])
    np.testing.assert_allclose(found.delay_ns[:, 2], [0, 200])
    np.testing.assert_allclose(found.delay_width_ns[1], [0, 0, 200, 0])
    np.testing.assert_allclose(found.charge_spread_pe[0], [4, 0, 0, 0])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("pmt,type,p,", "pmt,kind,p,", "has no column type"),
        ("normal", "poisson", "line 2: dist is 'poisson': must be normal or uniform"),
        ("0,He,0.002", "-1,He,0.002", "line 2: pmt is -1: must be 0 or more"),
        ("500,40,,,10,4\n2", "-500,40,,,10,4\n2", "line 2: has .* must be finite and 0 or more"),
    ],
)
def test_a_bad_table_is_one_clear_line(tmp_path, old, new, message):
    path = tmp_path / "afterpulses.csv"
    path.write_text(CSV.replace(old, new, 1))
    with pytest.raises(ValueError, match=message) as error:
        electronics.read_afterpulses(path, n_sensors=4)
    assert "\n" not in str(error.value)


def test_rows_that_repeat_and_files_that_are_not_there_are_refused(tmp_path):
    path = tmp_path / "afterpulses.csv"
    with pytest.raises(ValueError, match=r"^afterpulses.csv: does not exist$"):
        electronics.read_afterpulses(path, n_sensors=4)
    path.write_text(CSV.rstrip() + "\n" + CSV.splitlines()[1] + "\n")
    with pytest.raises(ValueError, match="of pmt 0 is in line 2 already"):
        electronics.read_afterpulses(path, n_sensors=4)


def test_tables_that_do_not_fit_are_refused():
    for wrong, message in (
        ({"delay_ns": np.full(2, 500.0)}, r"delay_ns has shape \(2,\): must be that of probability"),
        ({"delay_width_ns": np.full((2, 5), 1100.0)}, "no afterpulse precedes its photoelectron"),
    ):
        with pytest.raises(ValueError, match=message):
            consistency.check(dataclasses.replace(DETECTOR, afterpulses=table(**wrong)))


def test_a_measured_table_of_xenon1t():
    if "DMSIM_DATA" not in os.environ:
        pytest.skip("needs public data releases: set DMSIM_DATA to the folder that holds release/")
    found = electronics.read_afterpulses(Path(os.environ["DMSIM_DATA"]) / RELEASE, n_sensors=248)
    assert found.probability.shape == (16, 248)
    total = np.asarray(found.probability).sum(0)
    assert np.median(total) == pytest.approx(0.0219, rel=0.05)
    preset = dmsim.load_detector("xenon1t").afterpulses
    measured = np.asarray(found.probability)
    for probability in np.asarray(preset.probability):
        medians = np.array([np.median(row[row > 0]) for row in measured])
        assert np.min(np.abs(medians / probability - 1)) < 0.01


def test_xenon1t_has_the_published_afterpulses_a_photoelectron():
    # 2.2 % a photoelectron (pax, median of 216 PMTs) within 10 %; 200,000 photoelectrons give 1.5 %, and the
    # sum of the species' medians is 2.9 % below the median of the sums
    detector = dmsim.load_detector("xenon1t").without("photoionisation", "delayed_electrons", "dark_counts")
    deposits = dmsim.sources.mono(
        jax.random.key(1), detector, n_events=40, energy_kev=10.0, interaction="er_beta"
    )
    hits = dmsim.simulate_hits(jax.random.key(2), detector, deposits)
    late = np.asarray(hits.signal) == Signal.AFTERPULSE.value
    n_pe = np.asarray(hits.charge_pe)[~late].sum()
    assert n_pe > 1.5e5
    assert (late & np.asarray(hits.valid)).sum() / n_pe == pytest.approx(0.022, rel=0.10)
