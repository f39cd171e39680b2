"""Continuous detector time: pile-up is digitised once, and nothing depends on how the stream is cut."""

from dataclasses import replace

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dmsim
from dmsim.pipeline import hits as hits_level
from dmsim.pipeline import iterate_stream_with_truth, stream_windows
from dmsim.records import Hits, Signal

pytestmark = pytest.mark.quick_compile

KEY = jax.random.key(5)
DETECTOR = dmsim.load_detector("xams").without("all")
DRIFT_NS = float(DETECTOR.electrons.drift_time_ns(-DETECTOR.geometry.drift_length_mm))
SAMPLE_NS = DETECTOR.electronics.sample_ns
COLUMNS = ("channel", "start_sample", "length", "pulse_length", "record_i", "data")


def events_at(time_ns, **changes):
    """An event with one deposit at each of these times; the same ones whatever the times."""
    random, n = np.random.default_rng(2), len(time_ns)
    options = {
        "energy_kev": random.uniform(1, 10, n),
        "x_mm": random.uniform(-15, 15, n),
        "y_mm": random.uniform(-15, 15, n),
        "z_mm": random.uniform(-50, -3, n),
        "interaction": "er_beta",
        "event_time_ns": np.asarray(time_ns, np.int64),
    }
    return dmsim.sources.deposits(DETECTOR, **options | changes)


@pytest.fixture(autouse=True)
def one_plan(monkeypatch):
    """One size for every batch, so that little is compiled."""
    plan = hits_level.plan
    largest = hits_level.Sizes(181, 362, 8192)

    def fixed(*arguments):
        assert all(need <= given for need, given in zip(plan(*arguments), largest, strict=True))
        return largest

    monkeypatch.setattr(hits_level, "plan", fixed)


CROWDED = events_at(10**6 + np.sort(np.random.default_rng(1).integers(0, 40_000, 12)) * SAMPLE_NS)


def stream(deposits, detector=DETECTOR, **options):
    return list(dmsim.iterate_stream(KEY, detector, deposits, **options))


def joined(chunks):
    """All chunks as columns, windows numbered along the stream."""
    columns = {name: np.concatenate([getattr(c, name) for c in chunks]) for name in COLUMNS}
    columns["window"] = np.concatenate([c.event + c.first_event for c in chunks])
    columns["start_ns"] = np.concatenate(
        [c.event_time_ns[c.event] + c.start_sample * SAMPLE_NS for c in chunks]
    )
    return columns


def assert_equal(one, other):
    for name, column in one.items():
        np.testing.assert_array_equal(column, other[name], err_msg=name)


def test_isolated_events_are_those_of_simulate_records():
    deposits = events_at(10**6 + np.arange(6) * 10_000_000)
    records = dmsim.simulate_records(KEY, DETECTOR, deposits)
    assert_equal(joined(stream(deposits, chunk_ns=2e7, events_per_batch=4)), joined([records]))


@pytest.mark.parametrize("options", [{}, {"longest_ns": 100_000}, {"pile_up": False}])
def test_neither_chunks_nor_batches_matter(options):
    whole = joined(stream(CROWDED, **options))
    for chunk_ns, size in ((1e5, 3), (1e4, 1), (2e5, 7)):
        chunks = stream(CROWDED, chunk_ns=chunk_ns, events_per_batch=size, **options)
        assert len(chunks) > 1
        assert_equal(joined(chunks), whole)


def test_chunks_do_not_overlap_and_windows_are_complete():
    chunks = stream(CROWDED, chunk_ns=5e4)
    ends = [c.event_time_ns[c.event] + (c.start_sample + c.length) * SAMPLE_NS for c in chunks]
    begins = [c.event_time_ns[c.event] + c.start_sample * SAMPLE_NS for c in chunks]
    assert all(end.max() <= begin.min() for end, begin in zip(ends[:-1], begins[1:], strict=True))
    windows = stream_windows(DETECTOR, CROWDED)
    np.testing.assert_array_equal(
        np.concatenate([c.event_time_ns for c in chunks]), windows.start_sample * SAMPLE_NS
    )
    numbers = np.concatenate([c.first_event + np.arange(c.n_events) for c in chunks])
    np.testing.assert_array_equal(numbers, np.arange(windows.start_sample.size))


def overlapping(columns):
    """Pairs of pulses of one channel that overlap in time."""
    end_ns = columns["start_ns"] + columns["length"] * SAMPLE_NS
    order = np.lexsort((columns["start_ns"], columns["channel"]))
    channel, begin, end = (x[order] for x in (columns["channel"], columns["start_ns"], end_ns))
    return int(np.sum((channel[1:] == channel[:-1]) & (begin[1:] < end[:-1])))


@pytest.mark.parametrize("longest_ns", [5e7, 30_000])
def test_no_channel_is_digitised_twice_at_a_time(longest_ns):
    # also where windows are cut in the middle of signals
    windows = stream_windows(DETECTOR, CROWDED, longest_ns=longest_ns)
    assert (windows.n_cut > 0) == (longest_ns == 30_000)
    assert overlapping(joined(stream(CROWDED, longest_ns=longest_ns))) == 0
    assert overlapping(joined(stream(CROWDED, pile_up=False))) > 0  # the twin: without pile-up it happens


def quiet(detector=DETECTOR, **electronics):
    return replace(
        detector, electronics=replace(detector.electronics, noise_adc=jnp.zeros(()), **electronics)
    )


def summed(columns, span):
    """ADC counts below baseline of each channel and sample, all pulses added."""
    low, n = span
    place = (columns["start_ns"][:, None] // SAMPLE_NS) - low + np.arange(columns["data"].shape[1])
    used = np.arange(columns["data"].shape[1]) < columns["length"][:, None]
    depth = np.where(used, DETECTOR.electronics.baseline_adc - columns["data"], 0)
    flat = columns["channel"][:, None] * n + np.where(used, place, 0)
    total = np.bincount(flat.ravel(), depth.ravel(), minlength=DETECTOR.light.sensors.n_sensors * n)
    return total.reshape(-1, n)


def test_pile_up_adds_before_rounding():
    detector = quiet(zle_threshold_adc=0)  # keeps every sample
    deposits = events_at(10**6 + np.array([0, 40, 400]) * SAMPLE_NS)
    together, alone = (joined(stream(deposits, detector, pile_up=p)) for p in (True, False))
    span = (10**6 // SAMPLE_NS - 1000, 20_000)
    # three roundings against one, of a count each
    np.testing.assert_allclose(summed(together, span), summed(alone, span), atol=2.01)
    assert np.abs(summed(together, span)).max() > 100


def test_pile_up_saturates_once():
    detector = quiet()
    time = 10**6 + np.array([0, 0]) * SAMPLE_NS
    bright = {"energy_kev": np.full(2, 100.0), "x_mm": 0.0, "y_mm": 0.0, "z_mm": -10.0}
    deposits = events_at(time, **bright)
    alone, together = (joined(stream(deposits, detector, pile_up=p)) for p in (False, True))
    assert together["data"].min() == 0.0
    floor = [np.sum(c["data"][:, :][np.arange(110) < c["length"][:, None]] == 0) for c in (alone, together)]
    assert floor[1] > floor[0] / 2  # more than either alone
    assert overlapping(together) == 0


def test_an_event_cut_by_a_window_keeps_all_its_light():
    # the second window begins between S1 and S2 of the first event: the S2 is in it
    deposits = events_at(10**6 + np.array([0, 1000]) * SAMPLE_NS, z_mm=np.array([-50.0, -50.0]))
    cut = stream(deposits, quiet(), longest_ns=1.0)
    assert stream_windows(DETECTOR, deposits, longest_ns=1.0).n_cut == 1
    whole = stream(deposits, quiet())
    assert cut[0].n_events == 2
    np.testing.assert_array_equal(np.sort(joined(cut)["start_ns"]), np.sort(joined(whole)["start_ns"]))


def test_dark_counts_are_not_doubled_where_events_overlap(monkeypatch):
    # every event draws its own over its own window: of those of the union each moment is used once
    from dmsim.pipeline import stream as stream_module

    n_dark, length_ns = 4000, 20_000.0

    def draw(words, detector, deposits, quanta):
        event = jnp.repeat(jnp.arange(deposits.n_events), n_dark)
        number = jnp.tile(jnp.arange(n_dark), deposits.n_events)
        return Hits(
            event=event,
            sensor=jnp.zeros_like(event),
            time_ns=(number + 0.5) * (length_ns / n_dark),
            charge_pe=jnp.ones(event.shape),
            weight=jnp.ones(event.shape),
            signal=jnp.full(event.shape, Signal.DARK.value),
            deposit=jnp.full(event.shape, -1),
            valid=event < 2,
            n_overflow=jnp.int32(0),
            n_events=deposits.n_events,
        )

    seen = []
    read_out = stream_module.read_out

    def counting(words, detector, hits, **options):
        seen.append(int(np.sum(np.asarray(hits.valid))))
        return read_out(words, detector, hits, **options)

    class Dark(eqx.Module):
        before_ns: float = 0.0
        after_ns: float = length_ns

    monkeypatch.setattr(hits_level, "draw_hits", draw)
    monkeypatch.setattr(stream_module, "read_out", counting)
    deposits = events_at(10**6 + np.array([0, 1000]) * SAMPLE_NS)  # the second starts in the middle
    stream(deposits, replace(DETECTOR, dark_counts=Dark()))
    assert seen == [n_dark + n_dark // 2]


def test_truth_comes_with_the_chunk_in_which_the_event_starts():
    whole = dmsim.truth_of(KEY, DETECTOR, CROWDED)
    first = 0
    for records, truth in iterate_stream_with_truth(KEY, DETECTOR, CROWDED, chunk_ns=5e4, events_per_batch=5):
        times = truth.deposits.event_time_ns
        assert int(truth.deposits.first_event) == first
        assert times[0] == records.event_time_ns[0]
        of_chunk = (whole.peaks.event >= first) & (whole.peaks.event < first + truth.deposits.n_events)
        np.testing.assert_array_equal(truth.peaks.n_photons, whole.peaks.n_photons[of_chunk])
        np.testing.assert_array_equal(truth.peaks.event + first, whole.peaks.event[of_chunk])
        first += truth.deposits.n_events
    assert first == CROWDED.n_events


@pytest.mark.parametrize(
    ("deposits", "options", "message"),
    [
        (replace(CROWDED, event_time_ns=None), {}, "event_time_ns is None: a stream needs"),
        (events_at([3_000_000, 1_000_000]), {}, "goes back at event 1"),
        (CROWDED, {"chunk_ns": 0}, "chunk_ns is 0 ns: must be from 1 to 1e18"),
        (CROWDED, {"longest_ns": 2e9}, "longest_ns is 2000000000.0 ns: must be above 0 and at most 1e9"),
    ],
)
def test_bad_input_is_refused(deposits, options, message):
    with pytest.raises(ValueError, match=message):
        stream(deposits, **options)
