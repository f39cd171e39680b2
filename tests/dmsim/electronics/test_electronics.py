"""From charges to digitised samples: pulse shape, layout, noise, saturation, zero suppression.

Statistical limits are those of one estimate at a false-positive rate of 1e-6; 25 of them.
"""

import math
from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import dmsim
from dmsim import electronics, ragged, rng
from dmsim.detector.pulses import Noise
from dmsim.electronics.layout import _sorted
from dmsim.electronics.noise import LENGTHS, noise_rows
from dmsim.electronics.pulse import sample_shares

pytestmark = pytest.mark.quick_compile

SIGMA = stats.norm.isf(0.5e-6)
REAL = dmsim.load_detector("xams").electronics
QUIET = eqx.tree_at(lambda e: e.noise_adc, REAL, jnp.float32(0))
PER_RECORD, BEFORE = REAL.samples_per_record, REAL.zle_samples_before
WINDOW = REAL.pulse_samples + REAL.zle_samples_after
KEY = rng.words_of(jax.random.key(2))
ROW = electronics.ROW
LIKE = dict.fromkeys(("correlated_adc", "wander_adc"), 0.0) | {
    "correlation_ns": 100.0,
    "wander_period_ns": 1e5,
}


def noise_table(**values):
    values = {"band_power_adc2": [0.0]} | LIKE | values
    return Noise(**{name: jnp.asarray(value, jnp.float32) for name, value in values.items()})


def lay_out(time_ns, event=0, sensor=0, valid=None):
    time_ns = np.atleast_1d(np.asarray(time_ns, np.float32))
    n = time_ns.size
    event, sensor = (np.broadcast_to(np.asarray(x, np.int32), n) for x in (event, sensor))
    valid = np.ones(n, bool) if valid is None else np.asarray(valid)
    return electronics.lay_out(REAL, event, sensor, time_ns, valid, n_sensors=7)


@pytest.mark.parametrize("time_ns", [3e10, -3e10, np.nan, 1e20])
def test_times_beyond_32_bits_are_refused(time_ns):
    with pytest.raises(ValueError, match="from its event's start: must be under 2"):
        lay_out([100.0, time_ns])
    assert lay_out([100.0, time_ns], valid=[True, False]).sample.tolist() == [10, 0]


@eqx.filter_jit
def render(settings, noise, rows, *hits):
    bank = electronics.make_bank(KEY, settings, noise, row=ROW)
    place = electronics.noise_places(KEY, *rows, settings, noise)
    return electronics.render(settings, noise, bank, place, *hits)


cut = eqx.filter_jit(electronics.cut)


def samples_of(settings, charge_pe, time_ns, event=0, sensor=0, noise=None):
    """Layout and the flat buffer of hits, as the pipeline renders them."""
    time_ns = np.atleast_1d(np.asarray(time_ns, np.float32))
    charge_pe = np.broadcast_to(np.asarray(charge_pe, np.float32), time_ns.shape)
    layout = lay_out(time_ns, event, sensor)
    n, size = layout.total_rows, ragged.bucket(layout.total_rows + -(-PER_RECORD // ROW))
    rows = (layout.event[layout.stretch], layout.channel[layout.stretch], layout.row_start_sample)
    rows = tuple(np.concatenate([x, np.full(size - n, 0, x.dtype)]) for x in rows)
    hits = (jnp.asarray(charge_pe), jnp.asarray(time_ns), layout.sample, layout.position)
    return layout, render(settings, noise, rows, *hits)


def records_of(settings, charge_pe, time_ns, event=0, sensor=0, noise=None):
    """Headers and data of the records of hits."""
    layout, samples = samples_of(settings, charge_pe, time_ns, event, sensor, noise)
    records = electronics.zero_suppress(settings, layout, np.asarray(samples.adc))
    n, size = records.n_records, ragged.bucket(records.n_records)
    cuts = (np.concatenate([x, np.zeros(size - n, x.dtype)]) for x in (records.position, records.length))
    pulse = np.concatenate([records.pulse, np.full(size - n, size - 1, np.int32)])
    data = cut(settings, noise, samples, *cuts, pulse)
    return records, np.asarray(data, np.float64)[:n]


def below_baseline(records, data):
    used = np.arange(PER_RECORD) < records.length[:, None]
    return np.where(used, REAL.baseline_adc - data, 0)


def noise_of(settings, noise=None, n_sensors=7, n_times=100):
    """Stretches of samples with nothing but noise in them, ADC counts below the baseline."""
    times = np.repeat(2000.0 * np.arange(1, n_times + 1), n_sensors)
    sensor = np.tile(np.arange(n_sensors), n_times)
    layout, samples = samples_of(settings, 1e-9, times, sensor=sensor, noise=noise)
    adc = REAL.baseline_adc - np.asarray(samples.adc, np.float64)[: layout.total_rows]
    return layout, adc.reshape(n_sensors * n_times, -1)


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


def test_one_hit_one_stretch():
    layout = lay_out(1234.0)
    assert layout.total_rows == 2  # 120 samples in rows of 64
    assert layout.start_sample.tolist() == [123 - BEFORE]
    assert layout.row_start_sample.tolist() == [123 - BEFORE, 123 - BEFORE + ROW]
    assert layout.position.tolist() == [BEFORE]


def test_stretches_that_could_overlap_are_one():
    apart = BEFORE + WINDOW + ROW  # where the second starts, the first's last row may still go on
    near = lay_out([0.0, 10.0 * apart])
    assert near.event.size == 1
    assert near.total_rows * ROW >= BEFORE + apart + WINDOW
    assert lay_out([0.0, 10.0 * (apart + 1)]).event.size == 2
    assert lay_out([0.0, 0.0], sensor=[1, 2]).channel.tolist() == [1, 2]
    assert lay_out([0.0, 0.0], event=[0, 1]).event.tolist() == [0, 1]


def random_hits(n=600):
    random = np.random.default_rng(3)
    time = random.uniform(-500, 60_000, n).astype(np.float32)
    return time, random.integers(0, 4, n), random.integers(0, 7, n), random.random(n) < 0.9


def test_random_hits_are_covered_by_stretches():
    time, event, sensor, valid = random_hits()
    layout = lay_out(time, event, sensor, valid)
    assert (layout.position[~valid] == -1).all()
    assert layout.stretch.tolist() == np.repeat(np.arange(layout.n_rows.size), layout.n_rows).tolist()
    for hit in np.flatnonzero(valid):
        row, offset = divmod(layout.position[hit], ROW)
        stretch = layout.stretch[row]
        assert (layout.event[stretch], layout.channel[stretch]) == (event[hit], sensor[hit])
        assert layout.row_start_sample[row] + offset == layout.sample[hit] == np.floor(time[hit] / 10)
        assert layout.start_sample[stretch] <= layout.sample[hit] - BEFORE
        assert layout.start_sample[stretch] + layout.n_rows[stretch] * ROW >= layout.sample[hit] + WINDOW
    stop = layout.start_sample + layout.n_rows * ROW
    series = np.lexsort((layout.start_sample, layout.channel, layout.event))
    same = np.diff(layout.event[series] * 7 + layout.channel[series]) == 0
    assert (layout.start_sample[series][1:][same] >= stop[series][:-1][same]).all()  # no sample twice


def test_no_hits_no_records():
    layout = lay_out([5.0, 6.0], valid=[False, False])
    assert layout.total_rows == 0
    assert layout.position.tolist() == [-1, -1]
    assert electronics.zero_suppress(REAL, layout, np.zeros((0, ROW), np.float32)).n_records == 0


def test_keys_that_do_not_fit_one_word_are_sorted_all_the_same():
    random = np.random.default_rng(1)
    key, value = random.integers(0, 2**50, 1000), random.permutation(1000)
    for k in (key, key << 12):
        ours = _sorted(k, value)
        order = np.argsort(k)
        np.testing.assert_array_equal(ours[0], k[order])
        np.testing.assert_array_equal(ours[1], value[order])


def test_events_of_one_window_share_pulses():
    time = np.array([100.0, 100.0, 100.0], np.float32)
    event, ones = np.arange(3, dtype=np.int32), np.ones(3, bool)

    def laid(**options):
        return electronics.lay_out(REAL, event, np.zeros(3, np.int32), time, ones, n_sensors=7, **options)

    offsets = np.array([0, 30, 4_000_000_000]) - np.array(
        [0, 0, 3_999_000_000]
    )  # beyond 32 bits is no matter
    shared = laid(window=np.array([4, 4, 4]), offset_sample=offsets)
    assert shared.event.tolist() == [4, 4]
    assert shared.start_sample.tolist() == [10 - BEFORE, 10 + 1_000_000 - BEFORE]
    assert shared.position[1] == shared.position[0] + 30
    assert (shared.sample == 10).all()  # from the event's start: the phase is the event's own
    assert laid().event.tolist() == [0, 1, 2]  # by default each event is its own window
    with pytest.raises(ValueError, match=r"lies 3000000010 samples from the start"):
        laid(offset_sample=np.array([0, 0, 3_000_000_000]))


# zero suppression ----------------------------------------------------------------------------------------


def expected_pulses(layout, adc):
    """First sample and length of each pulse, sample by sample."""
    found = []
    crossed = adc <= REAL.baseline_adc - REAL.zle_threshold_adc
    for stretch in range(layout.n_rows.size):
        rows = layout.stretch == stretch
        keep = np.zeros(rows.sum() * ROW, bool)
        for sample in np.flatnonzero(crossed[rows].reshape(-1)):
            keep[max(sample - REAL.zle_samples_before, 0) : sample + REAL.zle_samples_after + 1] = True
        edges = np.flatnonzero(np.diff(np.concatenate([[0], keep, [0]])))
        for begin, end in edges.reshape(-1, 2):
            start = layout.start_sample[stretch] + begin
            found.append((layout.event[stretch], start, layout.channel[stretch], end - begin))
    return sorted(found)


def test_pulses_are_kept_around_the_crossings():
    time, event, sensor, _ = random_hits()
    charge = np.random.default_rng(4).exponential(1.0, time.size)  # about a third cross
    layout, samples = samples_of(REAL, charge, time, event, sensor)
    adc = np.asarray(samples.adc)[: layout.total_rows]
    records = electronics.zero_suppress(REAL, layout, np.asarray(samples.adc))
    first = records.record_i == 0
    pulses = np.stack([records.event, records.start_sample, records.channel, records.pulse_length], axis=1)
    assert pulses[first].tolist() == [list(map(int, row)) for row in expected_pulses(layout, adc)]
    order = np.lexsort((records.channel, records.start_sample, records.event))
    assert (np.diff(order) == 1).all()
    for pulse in np.unique(records.pulse):
        rows = np.flatnonzero(records.pulse == pulse)
        assert records.record_i[rows].tolist() == list(range(rows.size))
        assert (records.length[rows[:-1]] == PER_RECORD).all()
        assert records.length[rows].sum() == records.pulse_length[rows[0]]
        stop = records.start_sample[rows] + records.length[rows]
        assert (records.start_sample[rows[1:]] == stop[:-1]).all()
        assert (np.diff(records.position[rows]) == PER_RECORD).all()


def overlaps(records):
    """Records that begin before the one before them in their channel has ended."""
    order = np.lexsort((records.start_sample, records.channel, records.event))
    event, channel, start, length = (
        column[order].astype(np.int64)
        for column in (records.event, records.channel, records.start_sample, records.length)
    )
    same = (np.diff(event) == 0) & (np.diff(channel) == 0)
    return int(np.sum(same & (start[1:] < start[:-1] + length[:-1])))


@pytest.mark.parametrize("longest_ns", [3e3, 1e6, 2e9])
def test_records_of_a_channel_never_overlap(longest_ns):
    """For hits packed as in the largest events, and hits seconds later, whose times float32 rounds."""
    random, n = np.random.default_rng(6), 100_000
    time = np.where(random.random(n) < 0.9, random.normal(2e5, 2e3, n), random.uniform(-1e4, longest_ns, n))
    layout = lay_out(time, random.integers(0, 3, n), random.integers(0, 7, n))
    depth = np.where(random.random((layout.total_rows, ROW)) < 0.02, REAL.zle_threshold_adc, 0)
    records = electronics.zero_suppress(REAL, layout, (REAL.baseline_adc - depth).astype(np.float32))
    assert records.n_records > 500
    assert overlaps(records) == 0
    # must fail: one record that begins where the one before it in its channel does
    rows = np.flatnonzero((records.event == 0) & (records.channel == 0))[:2]
    start = records.start_sample.copy()
    start[rows[1]] = start[rows[0]]
    assert overlaps(records._replace(start_sample=start)) > 0


def test_records_hold_the_samples_of_the_buffer():
    time, event, sensor, _ = random_hits()
    records, data = records_of(REAL, 2.0, time, event, sensor)
    _, samples = samples_of(REAL, 2.0, time, event, sensor)
    flat = np.asarray(samples.adc).reshape(-1)
    for row in range(0, records.n_records, 7):
        position, length = records.position[row], records.length[row]
        np.testing.assert_array_equal(data[row, :length], flat[position : position + length])
        assert not data[row, length:].any()


def test_what_does_not_cross_is_dropped_and_gaps_split_a_pulse():
    peak = float(sample_shares(jnp.full(1, 2.0), REAL, n_samples=20).max()) * float(REAL.adc_per_pe)
    at_threshold = (REAL.zle_threshold_adc - 0.5) / peak  # rounds up to it
    times = 3000.0 * np.arange(1, 5) + 2
    records, _ = records_of(QUIET, at_threshold * np.array([0.97, 1.03, 0.5, 3.0]), times)
    crossing = [
        601,
        1201,
    ]  # the pulse's maximum is in its second sample; of the larger, the first crosses as well
    assert records.start_sample[0] == crossing[0] - BEFORE
    assert np.abs(records.start_sample[1] - (crossing[1] - BEFORE)) <= 1
    assert records.length[0] == BEFORE + 1 + REAL.zle_samples_after
    # a small hit close to a large one stays with it
    records, data = records_of(QUIET, [0.2, 3.0], [2002.0, 2202.0])
    assert records.n_records == 1
    assert below_baseline(records, data)[0, :40].max() > 5
    # two crossings a gap apart are two pulses, though one stretch of samples holds both
    records, _ = records_of(QUIET, [3.0, 3.0], [2002.0, 2002.0 + 10 * 130])
    assert records.record_i.tolist() == [0, 0]
    records, _ = records_of(QUIET, [3.0, 3.0], [2002.0, 2002.0 + 10 * 90])
    assert records.record_i.tolist() == [0, 1]


# samples -------------------------------------------------------------------------------------------------


def test_a_pulses_integral_is_adc_per_pe_times_its_charge():
    times = 2000.0 * np.arange(1, 41) + np.linspace(0, 10, 40)
    records, data = records_of(QUIET, 60.0, times)
    total = np.bincount(records.pulse, below_baseline(records, data).sum(1))
    assert total.size == 40
    # rounding: 20 samples of +-1/2, of 7000
    np.testing.assert_allclose(total / (60 * float(REAL.adc_per_pe)), 1, atol=1e-3)


def test_adc_per_pe_is_the_charge_through_the_chain():
    volts = 2.0e6 * 1.602176634e-19 * 10 * 50 / 10e-9  # one sample wide
    assert float(REAL.adc_per_pe) == pytest.approx(volts * 2**14 / 2.25, rel=1e-5)


def test_a_window_that_crosses_a_row_border_is_whole():
    times = np.array([10_000.0, 10_073.0])  # the second pulse starts in sample 57 of a row of 64
    layout, samples = samples_of(QUIET, [1e-9, 50.0], times)
    flat = REAL.baseline_adc - np.asarray(samples.adc)[: layout.total_rows].reshape(-1)
    assert layout.position[1] == BEFORE + 7
    shares = np.asarray(sample_shares(jnp.full(1, 3.0), REAL, n_samples=20)[0])
    expected = np.round(50 * float(REAL.adc_per_pe) * shares)
    np.testing.assert_allclose(flat[BEFORE + 7 : BEFORE + 27], expected, atol=1)
    assert flat[: BEFORE + 7].sum() == 0


def test_pulses_add_up():
    _, one = records_of(QUIET, 20.0, 5000.0)
    _, two = records_of(QUIET, [10.0, 10.0], [5000.0, 5000.0])
    np.testing.assert_allclose(one, two, atol=1)


def test_the_digitiser_saturates():
    records, data = records_of(QUIET, 1e5, 5000.0)
    assert data[0, : records.length[0]].min() == 0
    assert (below_baseline(records, data) == REAL.baseline_adc).sum() > 3
    layout, negative = samples_of(QUIET, -1e4, 5000.0)  # an undershoot
    assert np.asarray(negative.adc)[: layout.total_rows].max() == 2**REAL.n_bits - 1


def test_the_threshold_is_that_of_the_settings():
    lower = replace(QUIET, zle_threshold_adc=5)
    charge = 8 / (float(REAL.adc_per_pe) * 0.35)
    assert records_of(QUIET, charge, 2002.0)[0].n_records == 0
    assert records_of(lower, charge, 2002.0)[0].n_records == 1


def test_single_photoelectron_spectrum_from_records():
    n = 2000
    random = np.random.default_rng(9)
    width = float(REAL.spe_width)
    charge = np.maximum(1 + width * random.normal(size=n), 0)
    times = 2000.0 * np.arange(1, n + 1) + random.uniform(0, 10, n)
    records, data = records_of(QUIET, charge, times)
    hit = (records.start_sample + BEFORE + 5) // 200 - 1  # of the pulse's sample
    area = np.bincount(hit, below_baseline(records, data).sum(1), minlength=n) / float(REAL.adc_per_pe)
    kept = np.bincount(hit, minlength=n) > 0
    np.testing.assert_allclose(area[kept], charge[kept], atol=0.06)  # rounding: 20 samples of +-1/2, of 116
    # 15 ADC are a third of a photoelectron: what is lost lies below
    assert 0.02 < (~kept).mean() < 0.12
    assert charge[~kept].max() < 0.5


# noise ---------------------------------------------------------------------------------------------------


def test_noise_has_its_rms_and_is_white():
    layout, noise = noise_of(REAL)
    assert np.array_equal(noise, np.round(noise))
    variance = float(REAL.noise_adc) ** 2 + 1 / 12  # and the rounding's
    assert abs(noise.mean()) < SIGMA * np.sqrt(variance / noise.size)
    assert abs(noise.var() / variance - 1) < SIGMA * np.sqrt(2 / noise.size)
    assert abs(stats.kurtosis(noise.reshape(-1))) < SIGMA * np.sqrt(24 / noise.size)
    for lag in (1, 2, 55):
        correlation = (noise[:, lag:] * noise[:, :-lag]).mean() / variance
        assert abs(correlation) < SIGMA / np.sqrt(noise[:, lag:].size)
    between = np.corrcoef(noise[:50])[np.triu_indices(50, 1)]
    assert np.abs(between).max() < stats.norm.isf(0.5e-6 / between.size) / np.sqrt(noise.shape[1])
    # the twin: a moving average of 5 % of the neighbour is seen
    mixed = noise[:, 1:] + 0.05 * noise[:, :-1]
    correlation = (mixed[:, 1:] * mixed[:, :-1]).mean() / variance
    assert abs(correlation) > SIGMA / np.sqrt(mixed[:, 1:].size)


def test_noise_belongs_to_the_sample_not_to_the_stretch():
    # the same time in a longer stretch: what the samples share is the same
    _, alone = samples_of(REAL, 1e-9, 5000.0)
    _, longer = samples_of(REAL, 1e-9, [4900.0, 5000.0])
    flat = np.asarray(longer.adc).reshape(-1)
    np.testing.assert_array_equal(np.asarray(alone.adc).reshape(-1)[:100], flat[10:110])


def repeats(rows, length=16):
    """Stretches of samples of that length that occur more than once anywhere."""
    windows = np.lib.stride_tricks.sliding_window_view(rows, length, axis=1).reshape(-1, length)
    return windows.shape[0] - np.unique(windows, axis=0).shape[0]


def test_noise_does_not_repeat():
    # 16 samples of 2.5 counts rms, 4 bits each, are the same by chance once in 2^64 pairs; here are 4e9
    fine = eqx.tree_at(lambda e: e.noise_adc, REAL, jnp.float32(100))
    _, noise = noise_of(fine, n_times=100)
    assert repeats(noise) == 0
    # the twin: one pulse that a second one repeats, a few samples later
    noise[5, 20:60] = noise[300, 7:47]
    assert repeats(noise) == 40 - 16 + 1


def test_noise_does_not_repeat_with_the_banks_periods():
    """Each bank alone comes back after its period; their sum must not."""
    first, second = LENGTHS
    rows = (np.zeros(4, np.int32), np.zeros(4, np.int32), np.array([0, first, second, first * 7], np.int32))
    bank = electronics.make_bank(KEY, REAL, None, row=ROW)
    place = electronics.noise_places(KEY, *map(jnp.asarray, rows), REAL, None)
    noise = np.asarray(noise_rows(bank, place, REAL, None, row=ROW), np.float64)
    correlation = np.corrcoef(noise)[np.triu_indices(4, 1)]
    # two that share a bank are correlated to a half, by 64 samples known to 0.1; none is the other
    assert np.abs(correlation).max() < 0.5 + SIGMA * 0.125
    assert math.gcd(first, second) == 1


def autocovariance(noise, lags):
    return np.array([(noise[:, lag:] * noise[:, : noise.shape[1] - lag]).mean() for lag in lags])


def bank_of(noise, settings=QUIET):
    """Both banks as rows of one length, scaled to the noise they add up to."""
    bank = electronics.make_bank(KEY, settings, noise, row=ROW)
    return np.stack([np.asarray(samples, np.float64)[: LENGTHS[0]] for samples in bank]) * 2**0.5


def test_low_pass_noise_has_its_correlation_time():
    noise = bank_of(noise_table(correlated_adc=3.0, correlation_ns=200.0))
    lags = np.array([0, 5, 20, 60])  # of 10 ns
    # a variance estimated from n samples that are correlated over tau samples has the error sqrt(2 tau / n)
    error = SIGMA * 9 * np.sqrt(2 * 20 / noise.size)
    expected = 9 * np.exp(-lags / 20.0)
    assert (np.abs(autocovariance(noise, lags) - expected) < error).all()
    # the twin: a correlation time 20 % longer is seen
    assert (np.abs(autocovariance(noise, lags) - 9 * np.exp(-lags / 24.0)) > error).any()


def test_low_pass_noise_runs_on_across_records():
    table = noise_table(correlated_adc=20.0, correlation_ns=1000.0)
    times = 100_000.0 * np.arange(1, 101)
    layout, samples = samples_of(QUIET, 1e-9, times, noise=table)
    rows = REAL.baseline_adc - np.asarray(samples.adc, np.float64)[: layout.total_rows]
    before, after = rows[0::2, -1], rows[1::2, 0]  # neighbours in two rows of one stretch
    # neighbours differ by sqrt(2 (1 - exp(-1/100))) of the rms and the rounding's 0.4; sets by random, by 1.4
    assert np.std(before - after) < 5
    assert np.std(np.roll(before, 1) - after) > 20


def test_noise_of_bands_has_its_spectrum():
    power = [4.0, 0.0, 1.0, 0.0, 0.0, 0.0, 9.0, 0.0]
    noise = bank_of(noise_table(band_power_adc2=power))
    density = np.abs(np.fft.rfft(noise, axis=1)) ** 2 / noise.shape[1]
    assert abs(noise[0].var() - 14) < 0.3  # the second bank is cut here
    per_band = density[0][: 8 * (density.shape[1] // 8)].reshape(8, -1).sum(1) * 2 / noise.shape[1]
    # 8,192 exponential densities a band, mean 1 each: 1.1 % at one sigma
    np.testing.assert_allclose(per_band, power, rtol=SIGMA / np.sqrt(8192), atol=0.01)


def test_the_wander_is_a_sine_of_its_amplitude_and_period():
    table = noise_table(wander_adc=30.0, wander_period_ns=40_000.0)
    times = 2000.0 + 400.0 * np.arange(500)  # one long stretch
    layout, samples = samples_of(QUIET, 1e-9, times, noise=table)
    wave = REAL.baseline_adc - np.asarray(samples.adc, np.float64)[: layout.total_rows].reshape(-1)
    turn = 2 * np.pi * np.arange(wave.size) / 4000
    basis = np.stack([np.sin(turn), np.cos(turn)])
    amplitude, *_ = np.linalg.lstsq(basis.T, wave, rcond=None)
    assert np.hypot(*amplitude) == pytest.approx(30, rel=1e-3)
    assert np.std(wave - amplitude @ basis) < 0.4  # the rounding's 0.29
    layout, other = samples_of(QUIET, 1e-9, times, sensor=1, noise=table)
    shifted = REAL.baseline_adc - np.asarray(other.adc, np.float64)[: layout.total_rows].reshape(-1)
    assert np.abs(shifted - wave).max() > 3  # each sensor has its own phase


def test_gradients_of_the_noise_are_those_of_differences(x64):
    settings = jax.tree.map(lambda x: x.astype(jnp.float64) if eqx.is_inexact_array(x) else x, REAL)
    rows = tuple(jnp.asarray(x) for x in ([0, 0, 1], [3, 4, 3], [17, -4000, 90]))

    def total(x):
        table = Noise(x[1], x[2], x[3:5], x[5], x[6])
        own = eqx.tree_at(lambda e: e.noise_adc, settings, x[0])
        bank = electronics.make_bank(KEY, own, table, row=ROW)
        place = electronics.noise_places(KEY, *rows, own, table)
        samples = noise_rows(bank, place, own, table, row=ROW)
        return jnp.sum(samples * jnp.cos(jnp.arange(samples.size).reshape(samples.shape) * 0.3))

    total = jax.jit(total)
    x = jnp.array([2.5, 1.5, 300.0, 0.7, 2.0, 4.0, 9000.0])
    gradient = jax.grad(total)(x)
    for entry in range(x.size):
        step = jnp.zeros_like(x).at[entry].set(1e-5 * x[entry])
        slope = (total(x + step) - total(x - step)) / (2e-5 * x[entry])
        assert gradient[entry] == pytest.approx(float(slope), rel=1e-5)
        assert abs(slope) > 1e-6


def test_double_precision(x64):
    double = jax.tree.map(lambda x: x.astype(jnp.float64) if eqx.is_inexact_array(x) else x, QUIET)
    shares = sample_shares(jnp.zeros(1), double, n_samples=20)
    assert shares.dtype == jnp.float64
    assert shares.sum() == pytest.approx(1, abs=3e-7)
