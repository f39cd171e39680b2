"""Areas, hits and records are one physics: their S1 and S2 agree in distribution.

Two-sample Kolmogorov-Smirnov tests on events with independent keys (the levels share their random numbers
for one key). False-positive rate 1e-5 each, 6 of them. The power twin: a gain 5 % off is refused.

The detector is xams with four times its g1 and a third of its gain: an S1 of 10 keV then spreads by 11 %
and a shift of 5 % shows, and an S2, whose spread of 12 % is that of recombination, costs less. Areas are
those of the hits to 0.1 % (a hit's charge is cut at zero), and records lose what stays under the
zero-suppression threshold.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import dmsim
from dmsim.records import Signal
from dmsim.sources.own import deposits as own_deposits

RATE = 1e-5
N = 1400
DETECTOR = eqx.tree_at(
    lambda d: (d.light.g1_phd_per_photon, d.electroluminescence.se_gain_phd),
    dmsim.load_detector("xams"),
    (jnp.float32(0.4), jnp.float32(4)),
)
DEPOSITS = own_deposits(
    DETECTOR, energy_kev=np.full(N, 10.0), x_mm=5.0, y_mm=-8.0, z_mm=-30.0, interaction="er_beta"
)


def by_event(event, values):
    return np.bincount(np.asarray(event), np.asarray(values, np.float64), minlength=N)


@pytest.fixture(scope="module")
def levels():
    """S1 and S2 [PE] of each event at each level."""
    areas = dmsim.simulate_areas(jax.random.key(101), DETECTOR, DEPOSITS)
    found = {("areas", Signal.S1): np.asarray(areas.s1_pe), ("areas", Signal.S2): np.asarray(areas.s2_pe)}

    hits = dmsim.simulate_hits(jax.random.key(202), DETECTOR, DEPOSITS)
    for signal in (Signal.S1, Signal.S2):
        chosen = np.asarray(hits.valid) & (np.asarray(hits.signal) == signal.value)
        found["hits", signal] = by_event(hits.event[chosen], hits.charge_pe[chosen])

    electronics = DETECTOR.electronics
    border = 0.5 * float(DETECTOR.electrons.drift_time_ns(jnp.float32(-30.0))) / electronics.sample_ns
    found["records", Signal.S1], found["records", Signal.S2] = np.zeros(N), np.zeros(N)
    for part in dmsim.iterate_records(jax.random.key(303), DETECTOR, DEPOSITS, events_per_batch=350):
        used = np.arange(part.data.shape[1]) < part.length[:, None]
        area = np.where(used, electronics.baseline_adc - part.data, 0).sum(1) / float(electronics.adc_per_pe)
        event = part.event + int(part.first_event)
        for signal, chosen in (
            (Signal.S1, part.start_sample < border),
            (Signal.S2, part.start_sample >= border),
        ):
            found["records", signal] += by_event(event[chosen], area[chosen])
    return found


PAIRS = [("areas", "hits"), ("hits", "records"), ("areas", "records")]


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("signal", [Signal.S1, Signal.S2])
def test_two_levels_agree(levels, signal, pair):
    one, other = (levels[level, signal] for level in pair)
    assert stats.ks_2samp(one, other).pvalue > RATE


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@pytest.mark.parametrize("signal", [Signal.S1, Signal.S2])
def test_a_gain_5_percent_off_is_refused(levels, signal, pair):
    one, other = (levels[level, signal] for level in pair)
    for factor in (0.95, 1.05):
        assert stats.ks_2samp(one * factor, other).pvalue < RATE


@pytest.mark.parametrize("signal", [Signal.S1, Signal.S2])
def test_means_agree_within_2_percent(levels, signal):
    # the standard error of a mean is 0.3 %, of the ratio of two 0.45 %: false positive 3e-5
    means = [levels[level, signal].mean() for level in ("areas", "hits", "records")]
    assert max(means) / min(means) < 1.02
