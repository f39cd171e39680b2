"""Each kernel of the hard chain's core against a slow plain one, on random records; and its corner cases."""

import core_reference as slow
import numpy as np
import pytest
from core_reference import DT, NOMINAL, SAMPLES

from dmsim.reconstruction.clustering import cluster
from dmsim.reconstruction.hits import find_hits
from dmsim.reconstruction.integrate import integrate
from dmsim.reconstruction.pulses import measure_pulses
from dmsim.reconstruction.settings import Clustering, Hits
from dmsim.reconstruction.tables import Gains, Windows, record_table_from_columns

N_CHANNELS, N_TOP = 6, 2
UNITS = np.array([1000, 1300, 0, 900, 1100, 700])  # channel 2 is dead


def table_of(time_ns, channel, length, record_i, data, n_sensors=N_CHANNELS):
    return record_table_from_columns(
        np.asarray(time_ns), np.asarray(channel), np.asarray(length), np.asarray(record_i),
        np.asarray(data, np.int16).reshape(-1, SAMPLES), dt=DT, baseline_adc=NOMINAL, n_sensors=n_sensors,
    )  # fmt: skip


def record(*samples):
    """Data of one record: depths below the nominal baseline."""
    return [NOMINAL - d for d in samples] + [0] * (SAMPLES - len(samples))


def chain(table, *, n_first=8, threshold_rms=0.0, min_sensors=2, gap_ns=100.0, max_duration_ns=1e7):
    settings = Hits(threshold_adc=15.0, baseline_clip_adc=7.5, threshold_rms=threshold_rms)
    gains = Gains(UNITS, N_TOP)
    pulses = measure_pulses(settings, table, n_first=n_first)
    hits = find_hits(table, pulses, gains)
    clustering = Clustering(
        gap_ns=gap_ns, left_extension_ns=30.0, right_extension_ns=50.0, min_sensors=min_sensors,
        max_duration_ns=max_duration_ns,
    )  # fmt: skip
    windows = cluster(clustering, hits, dt=DT, n_sensors=N_CHANNELS)
    return pulses, hits, windows, integrate(table, pulses, gains, windows)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("threshold_rms", [0.0, 6.0])
def test_kernels_equal_the_plain_ones(seed, threshold_rms):
    random = np.random.default_rng(seed)
    table = table_of(*slow.random_columns(random))
    longest = 1e7 if seed % 2 else 400.0
    pulses, hits, windows, waves = chain(table, threshold_rms=threshold_rms, max_duration_ns=longest)
    groups = slow.links(table)
    for row, group in enumerate(groups):
        assert sorted(group) == np.flatnonzero(table.pulse == table.pulse[row]).tolist()
        assert table.first[row] == next((r for r in group if table.record_i[r] == 0), -1)
        expected = slow.baseline(table, row, n_first=8, clip=7.5, threshold=15.0, threshold_rms=threshold_rms)
        assert (pulses.baseline[table.pulse[row]], pulses.limit[table.pulse[row]]) == expected
    expected = slow.hits(table, pulses.baseline, pulses.limit, UNITS > 0)
    assert len(expected) > 10
    assert list(zip(*(c.tolist() for c in hits), strict=True)) == expected
    rows = list(zip(hits.time_ns, hits.end_ns, hits.channel, strict=True))
    expected = slow.windows(rows, gap=100, left=30, right=50, min_sensors=2, longest=longest)
    assert len(expected) > 1
    assert list(zip(windows.start_ns, windows.end_ns, strict=True)) == expected
    for i, (start, end) in enumerate(expected):
        total, top, area, saturated = slow.waveforms(table, pulses.baseline, UNITS, N_TOP, start, end)
        mine = slice(waves.offset[i], waves.offset[i + 1])
        assert waves.total[mine].tolist() == total
        assert waves.top[mine].tolist() == top
        assert waves.area_per_channel[i].tolist() == area
        assert waves.n_saturated[i] == saturated


def test_the_order_of_the_records_does_not_matter(random):
    columns = slow.random_columns(random, n_pulses=200)
    rows = random.permutation(len(columns[0]))
    a, b = chain(table_of(*columns)), chain(table_of(*(c[rows] for c in columns)))
    for one, other in zip(a, b, strict=True):
        for x, y in zip(one, other, strict=True):
            np.testing.assert_array_equal(x, y)


def test_no_records():
    table = table_of([], [], [], [], np.zeros((0, SAMPLES)))
    _, hits, windows, waves = chain(table)
    assert len(hits.time_ns) == len(windows.start_ns) == len(waves.total) == 0
    assert waves.area_per_channel.shape == (0, N_CHANNELS)


def test_one_record_and_a_hit_that_fills_it():
    table = table_of([0], [0], [SAMPLES], [0], record(*[0] * 8, *[100] * 8))
    _, hits, windows, waves = chain(table, min_sensors=1)
    assert (hits.time_ns[0], hits.end_ns[0], hits.max_time_ns[0]) == (80, 160, 80)
    assert hits.height[0] == 100 * 64
    assert hits.alone.all()
    assert (windows.start_ns[0], windows.end_ns[0]) == (50, 210)
    assert waves.area_per_channel[0, 0] == 8 * 100 * 64 * 1000


def test_a_hit_over_a_border_is_one_and_over_a_gap_is_two():
    first, second = record(*[0] * 14, 50, 60), record(70, 40, *[0] * 6)
    data = [first, second]
    whole = table_of([0, 160], [0, 0], [16, 8], [0, 1], data)
    _, hits, _, _ = chain(whole)
    assert (hits.time_ns.tolist(), hits.end_ns.tolist(), hits.max_time_ns.tolist()) == ([140], [180], [160])
    # of another pulse: the same samples are two hits, and the second takes its own baseline
    other = table_of([0, 160], [0, 0], [16, 8], [0, 0], data)
    _, hits, _, _ = chain(other)
    assert hits.time_ns.tolist() == [140, 160]


def test_a_missing_first_fragment_leaves_the_nominal_baseline():
    table = table_of([160], [0], [16], [1], record(*[30] * 16))
    pulses, hits, _, _ = chain(table)
    assert table.first.tolist() == [-1]
    assert pulses.baseline.tolist() == [NOMINAL * 64]
    assert (hits.time_ns[0], hits.end_ns[0]) == (160, 320)


def test_a_pulse_of_zeros_makes_no_hit():
    table = table_of([0], [0], [16], [0], np.zeros(SAMPLES))
    pulses, hits, _, _ = chain(table)
    assert pulses.baseline.tolist() == [0]
    assert not len(hits.time_ns)


def test_the_rise_of_a_pulse_stays_out_of_the_baseline():
    # seven quiet samples, then light inside the window of eight: a plain mean would lie 25 ADC low
    table = table_of([0], [0], [16], [0], record(*[0] * 7, 200, *[200] * 4, *[0] * 4))
    pulses, _, _, _ = chain(table)
    assert pulses.baseline.tolist() == [NOMINAL * 64]


def test_a_dead_channel_is_ignored():
    data = [record(*[0] * 8, *[100] * 4, *[0] * 4)] * 3
    table = table_of([0] * 3, [1, 2, 3], [16] * 3, [0] * 3, data)
    _, hits, _, waves = chain(table)
    assert hits.channel.tolist() == [1, 3]
    assert waves.area_per_channel[0].tolist() == [0, 400 * 64 * 1300, 0, 400 * 64 * 900, 0, 0]


def test_windows_meet_where_a_long_peak_is_cut():
    data = [record(*[0] * 8, *[100] * 8)] + [record(*[100] * 16)] * 9
    rows = [(160 * k, 0, 16, k, data[k]) for k in range(10)] + [
        (160 * k, 1, 16, 0, data[0]) for k in range(10)
    ]
    columns = [np.array(c) for c in zip(*rows, strict=True)]
    _, _, windows, _ = chain(table_of(*columns), min_sensors=1, max_duration_ns=500.0)
    assert len(windows.start_ns) > 2
    assert (windows.start_ns[1:] >= windows.end_ns[:-1]).all()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (0, 5, "records.time_ns is 165 ns in row 1, 0 ns in row 0: all must lie on one grid of 10 ns"),
        (1, 6, "records.channel is 6 in valid row 1: allowed are 0 to 5"),
        (2, 0, "records.length is 0 in valid row 1: allowed are 1 to 16"),
        (3, -1, "records.record_i is -1"),
        (0, -10, "records overlap: one of channel 0 begins at 150 ns"),
    ],
)
def test_bad_columns_are_named(column, value, message):
    columns = [np.array([0, 160]), np.array([0, 0]), np.array([16, 16]), np.array([0, 1])]
    columns[column][1] = columns[column][1] + value if column == 0 else value
    with pytest.raises(ValueError, match=message):
        table_of(*columns, [record(*[0] * 16)] * 2)


def test_samples_must_be_16_bits_in_rows():
    with pytest.raises(ValueError, match="records.data is float32 of shape \\(1, 16\\): must be int16"):
        record_table_from_columns(
            *(np.zeros(1, int) for _ in range(4)), np.zeros((1, 16), np.float32), dt=DT, baseline_adc=NOMINAL,
            n_sensors=1,
        )  # fmt: skip


def test_a_window_between_the_samples_of_two_records():
    """One row in two windows, one in none, windows that cut records."""
    depths = [3, 5, 100, 7]
    data = [record(*[d] * 16) for d in depths]
    table = table_of([0, 100, 160, 300], [0, 1, 3, 4], [8, 16, 3, 8], [1] * 4, data)
    windows = Windows(np.array([0, 220]), np.array([140, 400]))
    pulses = measure_pulses(Hits(threshold_adc=15.0, baseline_clip_adc=7.5), table, n_first=8)
    waves = integrate(table, pulses, Gains(np.ones(6, np.int64), N_TOP), windows)
    assert (waves.area_per_channel / 64).tolist() == [[24, 20, 0, 0, 0, 0], [0, 20, 0, 0, 56, 0]]


def test_compiled_code_is_not_kept_in_the_installed_package():
    """Files unknown to the installer outlive the package, and hide the one installed in its place."""
    from pathlib import Path

    import dmsim
    from dmsim.reconstruction.host import hits, jit

    kernels = [value for value in vars(hits).values() if hasattr(value, "stats")]
    assert kernels
    for kernel in kernels:
        kept = Path(kernel.stats.cache_path)
        assert kept.is_relative_to(jit.cache_folder())
        assert not kept.is_relative_to(Path(dmsim.__file__).parent)
