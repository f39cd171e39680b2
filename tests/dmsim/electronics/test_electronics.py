"""From charges to digitised samples: pulse shape, layout, noise, saturation, zero suppression.

Statistical limits are those of one estimate at a false-positive rate of 1e-6; 5 of them.
"""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import dmsim
from dmsim import electronics, ragged, rng
from dmsim.electronics.pulse import sample_shares
from dmsim.light.photoelectrons import photoelectrons

SIGMA = stats.norm.isf(0.5e-6)
REAL = dmsim.load_detector("xams").electronics
QUIET = eqx.tree_at(lambda e: e.noise_adc, REAL, jnp.float32(0))
PER_RECORD, BEFORE = REAL.samples_per_record, REAL.zle_samples_before
WINDOW = REAL.pulse_samples + REAL.zle_samples_after
KEY = rng.words_of(jax.random.key(2))
render = eqx.filter_jit(electronics.render)


def lay_out(time_ns, event=0, sensor=0, valid=None):
    time_ns = np.atleast_1d(np.asarray(time_ns, np.float32))
    n = time_ns.size
    event, sensor = (np.broadcast_to(np.asarray(x, np.int32), n) for x in (event, sensor))
    valid = np.ones(n, bool) if valid is None else np.asarray(valid)
    return electronics.lay_out(REAL, event, sensor, time_ns, valid, n_sensors=7)


def records_of(settings, charge_pe, time_ns, event=0, sensor=0):
    """Layout, data and what zero suppression keeps, of hits as the pipeline renders them."""
    time_ns = np.atleast_1d(np.asarray(time_ns, np.float32))
    charge_pe = np.broadcast_to(np.asarray(charge_pe, np.float32), time_ns.shape)
    layout = lay_out(time_ns, event, sensor)
    n, size = layout.n_records, ragged.bucket(layout.n_records)

    def pad(x, value=0):
        return np.concatenate([x, np.full(size - n, value, x.dtype)])

    data, kept = render(
        KEY,
        settings,
        jnp.asarray(charge_pe),
        jnp.asarray(time_ns),
        layout.sample,
        layout.position,
        pad(layout.event),
        pad(layout.channel),
        pad(layout.start_sample),
        pad(layout.length),
        pad(layout.pulse, size - 1),
    )
    return layout, np.asarray(data, np.float64)[:n], np.asarray(kept)[:n]


def below_baseline(layout, data):
    used = np.arange(PER_RECORD) < layout.length[:, None]
    return np.where(used, REAL.baseline_adc - data, 0)


# pulse shape ---------------------------------------------------------------------------------------------


def test_shares_of_a_pulse_sum_to_one():
    phases = jnp.linspace(0, 9.999, 50)
    shares = sample_shares(phases, REAL, n_samples=REAL.pulse_samples)
    assert (np.asarray(shares) > -1e-6).all()
    np.testing.assert_allclose(shares.sum(1), 1, atol=2e-6)


def test_shares_are_the_shapes_integral_over_each_sample():
    rise, decay = float(REAL.pulse_rise_ns), float(REAL.pulse_decay_ns)
    t = (np.arange(200_000) + 0.5) * 1e-3  # ns
    shape = (np.exp(-t / decay) - np.exp(-t / rise)) / (decay - rise)
    for phase in (0.0, 3.7, 9.2):
        expected = np.bincount(((t + phase) // 10).astype(int), shape)[: REAL.pulse_samples] * 1e-3
        ours = sample_shares(jnp.full(1, phase), REAL, n_samples=REAL.pulse_samples)[0]
        np.testing.assert_allclose(ours, expected, atol=2e-6)


def test_the_pulse_is_continuous_across_a_sample_border():
    late = np.asarray(sample_shares(jnp.full(1, 9.999), REAL, n_samples=21)[0])
    early = np.asarray(sample_shares(jnp.zeros(1), REAL, n_samples=21)[0])
    np.testing.assert_allclose(late[1:], early[:-1], atol=5e-5)
    assert late[0] < 1e-6
    # and so is its slope: the gradient with respect to the arrival does not jump
    slope = jax.jacfwd(lambda p: sample_shares(p[None], REAL, n_samples=21)[0])
    np.testing.assert_allclose(slope(jnp.float32(9.999))[1:], slope(jnp.float32(0))[:-1], atol=5e-5)


# layout --------------------------------------------------------------------------------------------------


def test_one_hit_one_pulse():
    layout = lay_out(1234.0)
    assert layout.n_records == 2  # 120 samples in fragments of 110
    assert layout.start_sample.tolist() == [123 - BEFORE, 123 - BEFORE + PER_RECORD]
    assert layout.length.tolist() == [110, 10]
    assert layout.pulse_length.tolist() == [BEFORE + WINDOW] * 2
    assert layout.record_i.tolist() == [0, 1]
    assert layout.position.tolist() == [BEFORE]


def test_pulses_merge_where_their_windows_touch():
    apart = BEFORE + WINDOW  # the second window starts where the first ends
    touching = lay_out([0.0, 10.0 * apart])
    assert set(touching.pulse) == {0}
    assert touching.pulse_length[0] == BEFORE + apart + WINDOW
    separate = lay_out([0.0, 10.0 * (apart + 1)])
    assert set(separate.pulse) == {0, 1}
    assert set(lay_out([0.0, 0.0], sensor=[1, 2]).pulse) == {0, 1}
    assert set(lay_out([0.0, 0.0], event=[0, 1]).pulse) == {0, 1}


def test_random_hits_are_covered_by_contiguous_fragments():
    random = np.random.default_rng(3)
    n = 600
    time, event, sensor = random.uniform(-500, 60_000, n), random.integers(0, 4, n), random.integers(0, 7, n)
    valid = random.random(n) < 0.9
    layout = lay_out(time, event, sensor, valid)
    assert (layout.position[~valid] == -1).all()
    stop = layout.start_sample + layout.length
    for pulse in range(layout.pulse.max() + 1):
        rows = np.flatnonzero(layout.pulse == pulse)
        assert (layout.start_sample[rows[1:]] == stop[rows[:-1]]).all()
        assert layout.record_i[rows].tolist() == list(range(rows.size))
        assert (layout.pulse_length[rows] == layout.length[rows].sum()).all()
        assert (layout.length[rows[:-1]] == PER_RECORD).all()
    for hit in np.flatnonzero(valid):
        row, offset = divmod(layout.position[hit], PER_RECORD)
        assert (layout.event[row], layout.channel[row]) == (event[hit], sensor[hit])
        assert layout.start_sample[row] + offset == layout.sample[hit] == np.floor(np.float32(time[hit]) / 10)
        same = layout.pulse == layout.pulse[row]
        assert layout.start_sample[same].min() <= layout.sample[hit] - BEFORE
        assert stop[same].max() >= layout.sample[hit] + WINDOW
    series = np.lexsort((layout.start_sample, layout.channel, layout.event))
    same = np.diff(layout.event[series] * 7 + layout.channel[series]) == 0
    assert (layout.start_sample[series][1:][same] >= stop[series][:-1][same]).all()  # no sample twice


def test_no_hits_no_records():
    layout = lay_out([5.0, 6.0], valid=[False, False])
    assert layout.n_records == 0
    assert layout.position.tolist() == [-1, -1]


def test_events_of_one_window_share_pulses():
    time = np.array([100.0, 100.0, 100.0], np.float32)
    event, ones = np.arange(3, dtype=np.int32), np.ones(3, bool)

    def laid(**options):
        return electronics.lay_out(REAL, event, np.zeros(3, np.int32), time, ones, n_sensors=7, **options)

    offsets = np.array([0, 30, 4_000_000_000]) - np.array(
        [0, 0, 3_999_000_000]
    )  # beyond 32 bits is no matter
    shared = laid(window=np.array([4, 4, 4]), offset_sample=offsets)
    assert shared.event.tolist() == [4] * shared.n_records
    assert shared.pulse.tolist() == [0, 0, 1, 1]
    assert shared.start_sample[0] == 10 - BEFORE
    assert shared.pulse_length[0] == BEFORE + 30 + WINDOW
    assert shared.start_sample[2] == 10 + 1_000_000 - BEFORE
    assert shared.position[1] == shared.position[0] + 30
    assert (shared.sample == 10).all()  # from the event's start: the phase is the event's own
    assert set(laid().pulse) == {0, 1, 2}  # by default each event is its own window
    with pytest.raises(ValueError, match=r"lies 3000000010 samples from the start"):
        laid(offset_sample=np.array([0, 0, 3_000_000_000]))


# samples -------------------------------------------------------------------------------------------------


def test_a_pulses_integral_is_adc_per_pe_times_its_charge():
    times = 2000.0 * np.arange(1, 41) + np.linspace(0, 10, 40)
    layout, data, kept = records_of(QUIET, 60.0, times)
    assert kept.all()
    signal = below_baseline(layout, data)
    total = np.bincount(layout.pulse, signal.sum(1))
    # rounding: 20 samples of +-1/2, of 7000
    np.testing.assert_allclose(total / (60 * float(REAL.adc_per_pe)), 1, atol=1e-3)


def test_adc_per_pe_is_the_charge_through_the_chain():
    volts = 2.0e6 * 1.602176634e-19 * 10 * 50 / 10e-9  # one sample wide
    assert float(REAL.adc_per_pe) == pytest.approx(volts * 2**14 / 2.25, rel=1e-5)


def test_a_window_that_crosses_a_record_border_is_whole():
    # the second hit lies 57 samples after the first: its pulse starts in sample 107 of 110
    times = np.array([10_000.0, 10_573.0])
    layout, data, _ = records_of(QUIET, [1e-9, 50.0], times)
    flat = below_baseline(layout, data).reshape(-1)
    assert layout.position[1] == BEFORE + 57
    shares = np.asarray(sample_shares(jnp.full(1, 3.0), REAL, n_samples=20)[0])
    expected = np.round(50 * float(REAL.adc_per_pe) * shares)
    np.testing.assert_allclose(flat[BEFORE + 57 : BEFORE + 77], expected, atol=1)
    assert flat[: BEFORE + 57].sum() == 0


def test_pulses_add_up():
    _, one, _ = records_of(QUIET, 20.0, 5000.0)
    _, two, _ = records_of(QUIET, [10.0, 10.0], [5000.0, 5000.0])
    np.testing.assert_allclose(one, two, atol=1)


def test_noise_has_its_rms_and_is_white():
    times = np.repeat(2000.0 * np.arange(1, 101), 7)
    layout, data, _ = records_of(REAL, 1e-9, times, sensor=np.tile(np.arange(7), 100))
    first = layout.record_i == 0
    noise = below_baseline(layout, data)[first]
    assert np.array_equal(noise, np.round(noise))
    variance = float(REAL.noise_adc) ** 2 + 1 / 12  # and the rounding's
    assert abs(noise.mean()) < SIGMA * np.sqrt(variance / noise.size)
    assert abs(noise.var() / variance - 1) < SIGMA * np.sqrt(2 / noise.size)
    for lag in (1, 2, 55):
        correlation = (noise[:, lag:] * noise[:, :-lag]).mean() / variance
        assert abs(correlation) < SIGMA / np.sqrt(noise[:, lag:].size)
    between = np.corrcoef(noise[:7])[np.triu_indices(7, 1)]
    assert np.abs(between).max() < SIGMA / np.sqrt(PER_RECORD)
    # the twin: a moving average of 5 % of the neighbour is seen
    mixed = noise[:, 1:] + 0.05 * noise[:, :-1]
    correlation = (mixed[:, 1:] * mixed[:, :-1]).mean() / variance
    assert abs(correlation) > SIGMA / np.sqrt(mixed[:, 1:].size)


def test_noise_belongs_to_the_sample_not_to_the_record():
    # the same time in a longer pulse: what the samples share is the same
    _, alone, _ = records_of(REAL, 1e-9, 5000.0)
    _, longer, _ = records_of(REAL, 1e-9, [4900.0, 5000.0])
    np.testing.assert_array_equal(alone.reshape(-1)[:100], longer.reshape(-1)[10:110])


def test_the_digitiser_saturates():
    layout, data, kept = records_of(QUIET, 1e5, 5000.0)
    assert kept.all()
    assert data.min() == 0
    assert (below_baseline(layout, data) == REAL.baseline_adc).sum() > 3
    _, negative, _ = records_of(QUIET, -1e4, 5000.0)  # an undershoot
    assert negative.max() == 2**REAL.n_bits - 1


def test_zero_suppression_keeps_whole_pulses_that_cross_and_drops_the_others():
    peak = float(sample_shares(jnp.full(1, 2.0), REAL, n_samples=20).max()) * float(REAL.adc_per_pe)
    at_threshold = (REAL.zle_threshold_adc - 0.5) / peak  # rounds up to it
    times = 2000.0 * np.arange(1, 5) + 2
    charge = at_threshold * np.array([0.97, 1.03, 0.5, 3.0])
    layout, _, kept = records_of(QUIET, charge, times)
    assert kept.tolist() == np.array([False, True, False, True])[layout.pulse].tolist()
    assert np.bincount(layout.pulse).tolist() == [2, 2, 2, 2]  # both fragments, or none
    # a small hit close to a large one stays with it
    _, _, kept = records_of(QUIET, [0.2, 3.0], [2002.0, 2502.0])
    assert kept.all()


def test_the_threshold_is_that_of_the_settings():
    lower = replace(QUIET, zle_threshold_adc=5)
    charge = 8 / (float(REAL.adc_per_pe) * 0.35)
    assert not records_of(QUIET, charge, 2002.0)[2].any()
    assert records_of(lower, charge, 2002.0)[2].all()


def test_single_photoelectron_spectrum_from_records():
    n = 2000
    random = np.random.default_rng(9)
    single = eqx.tree_at(lambda e: e.double_pe_probability, QUIET, jnp.float32(0))
    u, z = (jnp.asarray(x, jnp.float32) for x in (random.random(n), random.normal(size=n)))
    charge = photoelectrons(u, z, single)
    times = 2000.0 * np.arange(1, n + 1) + random.uniform(0, 10, n)
    layout, data, kept = records_of(QUIET, charge, times)
    area = np.bincount(layout.pulse, below_baseline(layout, data).sum(1)) / float(REAL.adc_per_pe)
    np.testing.assert_allclose(area, charge, atol=0.06)  # rounding: 20 samples of +-1/2, of 116
    width = float(REAL.spe_width)
    assert abs(area.mean() - 1) < SIGMA * width / np.sqrt(n) + 0.01
    assert area.std() == pytest.approx(width, rel=0.08)
    # 15 ADC are a third of a photoelectron: what is lost lies below
    lost = ~kept[layout.record_i == 0]
    assert 0.02 < lost.mean() < 0.12
    assert area[lost].max() < 0.5


def test_double_precision(x64):
    double = jax.tree.map(lambda x: x.astype(jnp.float64) if eqx.is_inexact_array(x) else x, QUIET)
    shares = sample_shares(jnp.zeros(1), double, n_samples=20)
    assert shares.dtype == jnp.float64
    assert shares.sum() == pytest.approx(1, abs=3e-7)
