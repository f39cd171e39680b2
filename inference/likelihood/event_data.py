"""Events' data for the likelihood, from hits or from records. Runs on the host."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from dmsim import charge, light
from dmsim.detector import Detector
from dmsim.pipeline.expected import Windows
from dmsim.records import Hits, RawRecords
from inference.likelihood.event import EventData, EventParameters, event_data, expected_starts

_S1_SAMPLES, _S2_SAMPLES = 64, 256
_S1_NS = 640  # holds the S1 but for 2 % of recombination light


def choose_windows(detector: Detector, guesses: EventParameters, *, pulse: bool = False) -> Windows:
    """Windows that hold all of these events.

    64 samples of S1; 256 of S2, of as many of the digitiser's samples as hold ten standard deviations of the
    longest diffusion, the gap's transit and 15 lifetimes of the gas, and an eighth before.

    Args:
        detector: that will see the events.
        guesses: about where they are, one a row.
        pulse: whether photoelectrons will be spread by their pulse, as in records.

    Raises:
        ValueError: if the guesses are not rows.

    Gradient: none (integers, host).
    """
    if jnp.ndim(guesses.energy_kev) != 1:
        raise ValueError(
            f"guesses have shape {jnp.shape(guesses.energy_kev)}: give arrays with one row an event"
        )
    gas, sensor = detector.electroluminescence, detector.electronics
    spread, transit = jax.vmap(lambda p: _spread(detector, p))(guesses)
    longest = 10 * np.hypot(float(jnp.max(spread)), float(sensor.transit_time_spread_ns))
    longest = 8 / 7 * (longest + float(jnp.max(transit)) + 15 * float(gas.triplet_lifetime_ns))
    each = math.ceil(longest / (_S2_SAMPLES * sensor.sample_ns))
    # coarse samples are narrow against the diffusion: less oversampling will do
    of_s2 = light.TimeGrid(_S2_SAMPLES, each * sensor.sample_ns, 4 if each == 1 else 2)
    return Windows(light.TimeGrid(_S1_NS // sensor.sample_ns, sensor.sample_ns), of_s2, pulse)


def _spread(detector: Detector, parameters: EventParameters):
    deposits = parameters.deposits()
    way = charge.drift(detector, deposits)
    transit = jnp.broadcast_to(detector.gap_transit_ns(way.x_mm, way.y_mm), way.x_mm.shape)
    return way.time_spread_ns[0], transit[0]


def _collect(detector, guesses, windows, event, sensor, sample, pe) -> EventData:
    """Sums of PE over sensors and samples, in the windows of each event."""
    starts = eqx.filter_jit(jax.vmap(lambda p: expected_starts(detector, p, windows)))(guesses)
    n, n_sensors = len(starts[0]), detector.light.sensors.n_sensors
    base = detector.electronics.sample_ns
    columns = {}
    for name, grid, start in zip(("s1", "s2"), (windows.s1, windows.s2), starts, strict=True):
        place = sample // (grid.sample_ns // base) - np.asarray(start)[event]
        inside = (place >= 0) & (place < grid.n_samples)
        for axis, where, size in (("sensor", sensor, n_sensors), ("sample", place, grid.n_samples)):
            flat = np.bincount(event[inside] * size + where[inside], pe[inside], minlength=n * size)
            columns[f"{name}_{axis}_pe"] = jnp.asarray(
                flat.reshape(n, size), detector.light.top_height_mm.dtype
            )

    def one(guess, starts, columns):
        return event_data(detector, guess, windows=windows, starts=starts, **columns)

    return eqx.filter_jit(jax.vmap(one))(guesses, starts, columns)


def data_from_hits(
    detector: Detector, hits: Hits, guesses: EventParameters, *, windows: Windows | None = None
) -> EventData:
    """Data of each event from photoelectrons, sorted into S1 and S2 by their time alone.

    Args:
        detector: gives the windows and the reference.
        hits: of a batch; hits in neither window are left out, those in both count twice.
        guesses: about where the events are, one a row.
        windows: of both signals; chosen if not given.

    Returns:
        One row an event.

    Raises:
        ValueError: if the windows are for pulses, or there are not as many guesses as events.

    Gradient: none (host).
    """
    windows = choose_windows(detector, guesses) if windows is None else windows
    _check(guesses, hits.n_events, windows, pulse=False)
    valid = np.asarray(hits.valid)
    event, sensor, time_ns, pe = (
        np.asarray(column)[valid] for column in (hits.event, hits.sensor, hits.time_ns, hits.charge_pe)
    )
    sample = np.floor(time_ns / detector.electronics.sample_ns).astype(np.int64)
    return _collect(detector, guesses, windows, event, sensor, sample, pe)


def data_from_records(
    detector: Detector, records: RawRecords, guesses: EventParameters, *, windows: Windows | None = None
) -> EventData:
    """Data of each event from digitised records; what zero suppression cut is missing.

    Args:
        detector: gives ADC counts a PE, the windows and the reference.
        records: of a batch.
        guesses: about where the events are, one a row.
        windows: of both signals, for pulses; chosen if not given.

    Returns:
        One row an event.

    Raises:
        ValueError: if the windows are not for pulses, or there are not as many guesses as events.

    Gradient: none (host).
    """
    windows = choose_windows(detector, guesses, pulse=True) if windows is None else windows
    _check(guesses, records.n_events, windows, pulse=True)
    data = np.asarray(records.data)
    index = np.arange(data.shape[1])
    used = (index < np.asarray(records.length)[:, None]) & np.asarray(records.valid)[:, None]
    sample = np.asarray(records.start_sample)[:, None] + index
    pe = (records.baseline_adc - data) / float(detector.electronics.adc_per_pe)
    event, sensor = (
        np.broadcast_to(np.asarray(column)[:, None], data.shape)[used]
        for column in (records.event, records.channel)
    )
    return _collect(detector, guesses, windows, event, sensor, sample[used], pe[used])


def _check(guesses: EventParameters, n_events: int, windows: Windows, *, pulse: bool) -> None:
    shape = jnp.shape(guesses.energy_kev)
    if shape != (n_events,):
        raise ValueError(f"guesses have shape {shape}: must be one for each of {n_events} events")
    if windows.pulse != pulse:
        raise ValueError(f"windows.pulse is {windows.pulse}: must be {pulse} for this kind of data")
