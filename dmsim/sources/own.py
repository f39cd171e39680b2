"""Deposits from arrays that the user brings, checked before anything is simulated."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from dmsim.detector import Detector
from dmsim.records import Deposits, Interaction
from dmsim.sources.placement import MAX_EVENTS, check_kr83m_energy


def deposits(
    detector: Detector,
    *,
    energy_kev: Any,
    x_mm: Any,
    y_mm: Any,
    z_mm: Any,
    interaction: Any,
    event: Any = None,
    time_ns: Any = 0.0,
    n_events: int | None = None,
    first_event: int = 0,
    event_time_ns: Any = None,
) -> Deposits:
    """Deposits from arrays. An array may be a single number, which then holds for all deposits.

    Args:
        detector: whose active volume the deposits must lie in.
        energy_kev: 0 to 1e5.
        x_mm: from the axis.
        y_mm: from the axis.
        z_mm: 0 at the gate, minus the drift length at the cathode.
        interaction: name or number of an `Interaction`, one for all or one a deposit.
        event: which event of the batch each deposit belongs to, from 0, in any order; one each if not given.
        time_ns: from the event's start, -1e6 to 1e6.
        n_events: events in the batch, so that the last may be empty; as many as `event` names if not given.
        first_event: number of the batch's first event in its run, >= 0.
        event_time_ns: start of each event on the detector's clock; 10 ms apart, from 10 ms on, if not given.

    Returns:
        The deposits, sorted by event and in the given order within it.

    Raises:
        ValueError: with the name, how many values are bad, the first of them and the range.

    Gradient: none (the arrays are read on the host); replace leaves of the result to differentiate in them.
    """
    given = {"energy_kev": energy_kev, "x_mm": x_mm, "y_mm": y_mm, "z_mm": z_mm, "time_ns": time_ns}
    arrays = {name: _numbers(name, values) for name, values in given.items()}
    kinds = _interactions(interaction)
    index = None if event is None else _whole("event", event)
    n_deposits = _common_length(
        {**arrays, "interaction": kinds} | ({} if index is None else {"event": index})
    )
    arrays = {name: np.broadcast_to(values, (n_deposits,)) for name, values in arrays.items()}
    kinds = np.broadcast_to(kinds, (n_deposits,))
    index = np.arange(n_deposits) if index is None else np.broadcast_to(index, (n_deposits,))

    _check_range("energy_kev", arrays["energy_kev"], 0.0, 1e5, "keV")
    check_kr83m_energy(arrays["energy_kev"][kinds == Interaction.KR83M.value])
    _check_range("time_ns", arrays["time_ns"], -1e6, 1e6, "ns")
    _check_inside(detector, arrays)
    n_events, first_event = _check_events(index, n_events, first_event)
    if event_time_ns is None:
        times = (first_event + 1 + np.arange(n_events, dtype=np.int64)) * 10_000_000  # as the other sources
    else:
        times = _whole("event_time_ns", event_time_ns)
        if times.shape != (n_events,):
            raise ValueError(f"event_time_ns has shape {times.shape}: must have shape ({n_events},)")

    order = np.argsort(index, kind="stable")
    dtype = detector.geometry.radius_mm.dtype
    return Deposits(
        event=jnp.asarray(index[order], jnp.int32),
        interaction=jnp.asarray(kinds[order], jnp.int32),
        **{name: jnp.asarray(values[order], dtype) for name, values in arrays.items()},
        first_event=jnp.asarray(first_event, jnp.int32),
        event_time_ns=times,
        n_events=n_events,
    )


def _numbers(name: str, values: Any) -> np.ndarray:
    try:
        array = np.atleast_1d(np.asarray(values, np.float64))
    except (TypeError, ValueError):
        raise ValueError(f"{name} is not an array of numbers: {values!r:.60}") from None
    if array.ndim != 1:
        raise ValueError(f"{name} has shape {array.shape}: must have one dimension")
    return array


def _whole(name: str, values: Any) -> np.ndarray:
    array = np.atleast_1d(np.asarray(values))
    if array.size == 0:
        array = array.astype(np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(
            f"{name} has type {array.dtype}, shape {array.shape}: must be a list of whole numbers"
        )
    return array.astype(np.int64)


def _interactions(interaction: Any) -> np.ndarray:
    if isinstance(interaction, str):
        return np.array([Interaction.named(interaction).value])
    array = np.atleast_1d(np.asarray(interaction))
    if array.dtype.kind == "U" or array.dtype == object:
        return np.array([Interaction.named(str(entry)).value for entry in array], np.int64)
    codes = _whole("interaction", array)
    unknown = ~np.isin(codes, [member.value for member in Interaction])
    if unknown.any():
        last = max(Interaction).value
        raise ValueError(f"interaction {codes[unknown][0]} is not known: numbers go from 0 to {last}")
    return codes


def _common_length(arrays: dict[str, np.ndarray]) -> int:
    """The one length that arrays of more than one entry have; 0 as soon as one is empty."""
    lengths = {name: array.size for name, array in arrays.items() if array.size != 1}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"arrays differ in length ({listed}): must be the same, or 1")
    return next(iter(lengths.values()), 1)


def _check_range(name: str, values: np.ndarray, low: float, high: float, unit: str) -> None:
    bad = ~((values >= low) & (values <= high))  # NaN is bad
    if bad.any():
        first = int(np.argmax(bad))
        raise ValueError(
            f"{name}[{first}] is {values[first]} {unit} ({bad.sum()} of {bad.size} values are bad): "
            f"must be from {low:g} to {high:g} {unit}"
        )


def _check_inside(detector: Detector, arrays: dict[str, np.ndarray]) -> None:
    radius, length = float(detector.geometry.radius_mm), float(detector.geometry.drift_length_mm)
    x, y, z = arrays["x_mm"], arrays["y_mm"], arrays["z_mm"]
    margin = 1 + 1e-6  # what float32 does to a place on the wall
    bad = ~((np.hypot(x, y) <= radius * margin) & (z >= -length * margin) & (z <= length * 1e-6))
    if bad.any():
        first = int(np.argmax(bad))
        raise ValueError(
            f"{bad.sum()} of {bad.size} deposits are outside the active volume, the first is number {first} "
            f"at x_mm {x[first]}, y_mm {y[first]}, z_mm {z[first]}: must have r from 0 to {radius:g} mm and "
            f"z from {-length:g} to 0 mm"
        )


def _check_events(index: np.ndarray, n_events: int | None, first_event: int) -> tuple[int, int]:
    needed = int(index.max()) + 1 if index.size else 0
    total = needed if n_events is None else int(n_events)
    if index.size and index.min() < 0:
        raise ValueError(f"event has a value of {index.min()}: must be 0 or more")
    if total < needed:
        raise ValueError(f"n_events is {total}: must be at least {needed}, as event goes to {needed - 1}")
    if total < 1:
        raise ValueError(
            f"n_events is {total}: must be at least 1; say how many events without deposits there are"
        )
    if not 0 <= first_event <= MAX_EVENTS - total:
        raise ValueError(f"first_event is {first_event}: must be from 0 to {MAX_EVENTS - total}")
    return total, int(first_event)
