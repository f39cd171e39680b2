"""Random data records for round trips: any values that the types allow, not physics."""

import jax.numpy as jnp
import numpy as np

from dmsim.io.columns import TABLES
from dmsim.records import Areas, Deposits, Detected, Events, Hits, Peaks, Quanta, RawRecords

EPOCH_NS = 1_700_000_000_000_000_000


def event_clock(random, n_events):
    # events 5 ms or more apart, on a clock whose values float64 cannot hold
    return EPOCH_NS + np.cumsum(random.integers(5_000_000, 9_000_000, n_events))


def random_deposits(random, n=13, n_events=5, *, dtype=np.float32, clock=True):
    def draw(scale):
        return jnp.asarray(random.normal(0, scale, n).astype(dtype))

    deposits = Deposits(
        event=jnp.asarray(np.sort(random.integers(0, n_events, n)), jnp.int32),
        interaction=jnp.asarray(random.integers(0, 6, n), jnp.int32),
        energy_kev=draw(10),
        x_mm=draw(300),
        y_mm=draw(300),
        z_mm=draw(300),
        time_ns=draw(1e4),
        first_event=jnp.int32(random.integers(0, 10**6)),
        event_time_ns=event_clock(random, n_events) if clock else None,
        n_events=n_events,
    )
    return deposits, Quanta(*(draw(100) for _ in range(3))), Detected(*(draw(100) for _ in range(5)))


def random_areas(random, n=7):
    return Areas(*(jnp.asarray(random.normal(0, 100, n).astype(np.float32)) for _ in range(9)))


def random_hits(random, n=31, n_events=5):
    return Hits(
        event=jnp.asarray(random.integers(0, n_events, n), jnp.int32),
        sensor=jnp.asarray(random.integers(0, 494, n), jnp.int32),
        time_ns=jnp.asarray(random.normal(0, 1e4, n).astype(np.float32)),
        charge_pe=jnp.asarray(random.normal(1, 0.3, n).astype(np.float32)),
        weight=jnp.ones(n, jnp.float32),
        signal=jnp.asarray(random.integers(0, 3, n), jnp.int32),
        deposit=jnp.asarray(random.integers(-1, 4, n), jnp.int32),
        valid=jnp.asarray(random.random(n) < 0.7),
        n_overflow=jnp.int32(3),
        n_events=n_events,
    )


def random_records(random, n=23, n_events=6, *, clock=True, all_valid=False):
    event = np.sort(random.integers(0, n_events, n))
    start = random.integers(-200, 300_000, n)
    channel = random.integers(0, 494, n)
    order = np.lexsort((channel, start, event))
    return RawRecords(
        event=jnp.asarray(event[order], jnp.int32),
        channel=jnp.asarray(channel[order], jnp.int32),
        start_sample=jnp.asarray(start[order], jnp.int32),
        length=jnp.asarray(random.integers(1, 111, n), jnp.int32),
        pulse_length=jnp.asarray(random.integers(1, 100_000, n), jnp.int32),
        record_i=jnp.asarray(random.integers(0, 900, n), jnp.int32),
        data=jnp.asarray(random.integers(0, 16384, (n, 110)).astype(np.float32)),
        valid=jnp.asarray(np.ones(n, bool) if all_valid else random.random(n) < 0.8),
        n_overflow=jnp.int32(2),
        first_event=jnp.int32(random.integers(0, 10**6)),
        event_time_ns=event_clock(random, n_events) if clock else None,
        n_events=n_events,
        sample_ns=10,
        baseline_adc=16000,
    )


def random_peaks(random, n=17, n_sensors=12):
    def real(*shape):
        return random.normal(0, 100, (n, *shape)).astype(np.float32)

    def whole(high):
        return random.integers(0, high, n).astype(np.int32)

    signal = whole(3)
    return Peaks(
        event=whole(1000),
        time_ns=np.sort(EPOCH_NS + random.integers(0, 10**10, n)),
        length_ns=random.integers(1, 3000, n) * 10,
        area_pe=real(),
        area_top_pe=real(),
        area_per_channel_pe=real(n_sensors),
        n_hits=whole(500),
        n_sensors=whole(n_sensors),
        tight_coincidence=whole(n_sensors),
        center_time_ns=real(),
        decile_ns=real(11),
        width_ns=real(11),
        goodness_of_split=np.where(whole(3) > 0, real(), np.float32(np.nan)),
        n_saturated=whole(5),
        signal=signal,
        x_mm=np.where(signal == 2, real(), np.float32(np.nan)),
        y_mm=np.where(signal == 2, real(), np.float32(np.nan)),
        x_error_mm=real(),
        y_error_mm=real(),
        xy_correlation=real(),
        xy_misfit=real(),
    )


def random_events(random, n=9):
    def real():
        return np.where(random.random(n) < 0.2, np.nan, random.normal(0, 100, n)).astype(np.float32)

    def whole():
        return random.integers(-1, 30, n).astype(np.int32)

    columns = {column.name: real() if column.kind == "float" else whole() for column in TABLES["events"]} | {
        "event": np.arange(n)
    }
    columns |= {name: EPOCH_NS + np.arange(n) for name in ("time_ns", "start_ns", "end_ns")}
    return Events(**columns)


def assert_same(found, expected, *, except_for=()):
    assert type(found) is type(expected)
    for name in type(expected).__dataclass_fields__:
        if name in except_for:
            continue
        one, other = getattr(found, name), getattr(expected, name)
        if other is None:
            assert one is None, name
        else:
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other), err_msg=name)


def only_valid(records):
    """The records that files hold: the valid rows, all marked valid."""
    import equinox as eqx

    keep = np.asarray(records.valid)
    rows = [
        n
        for n in (
            "event",
            "channel",
            "start_sample",
            "length",
            "pulse_length",
            "record_i",
            "data",
            "valid",
            "sensor",
            "time_ns",
            "charge_pe",
            "weight",
            "signal",
            "deposit",
        )
        if hasattr(records, n)
    ]

    def where(r):
        return [getattr(r, name) for name in rows]

    return eqx.tree_at(where, records, [getattr(records, name)[keep] for name in rows])
