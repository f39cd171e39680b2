"""Several sources at once over a span of detector time; and chains by the number of their events."""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray

from dmsim import ragged
from dmsim.detector import Detector
from dmsim.records import Deposits
from dmsim.sources.chains import Origin, Timeline, chain, in_time_order, rn220_chain, rn222_chain
from dmsim.sources.clock import clock_of, numbers_between
from dmsim.sources.convection import Convection

_CHAINS = {"rn222_chain": rn222_chain, "rn220_chain": rn220_chain}
_LEAST_EVENTS = 1024
_COLUMNS = ("interaction", "energy_kev", "x_mm", "y_mm", "z_mm", "time_ns")


def mixture(
    key: PRNGKeyArray,
    detector: Detector,
    rates_hz: Mapping[str, float],
    duration_s: float,
    *,
    start_s: float = 0.0,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> Timeline:
    """Sources that happen at once, each a Poisson process, in time order.

    What a source contributes depends neither on the other sources nor on how the run is cut into spans.

    Args:
        key: of the run.
        detector: whose volume is filled.
        rates_hz: rate of each source by its name, >= 0; for rn222_chain and rn220_chain the activity.
        duration_s: length of the span, > 0.
        start_s: its start from that of the run, >= 0.
        options: further options of sources, by their names, such as {"mono": {"energy_kev": 5.0, ...}}.

    Returns:
        Deposits, with events numbered in time order, and the source of each event.

    Raises:
        ValueError: for an unknown source or option, or a value outside its range.

    Gradient: none (merged on the host); replace leaves of the deposits to differentiate in them.
    """
    from dmsim.sources import named  # noqa: PLC0415 - the registry holds what this module makes

    if not (np.isfinite(duration_s) and duration_s > 0):
        raise ValueError(f"duration_s is {duration_s} s: must be finite and above 0 s")
    if not (np.isfinite(start_s) and start_s >= 0):
        raise ValueError(f"start_s is {start_s} s: must be finite and 0 s or more")
    given = {} if options is None else options
    if unused := set(given) - set(rates_hz):
        raise ValueError(f"options are given for {', '.join(sorted(unused))}: no such source in rates_hz")
    parts: list[tuple[str, Timeline]] = []
    first_event = 0
    for name, rate_hz in rates_hz.items():
        source = named(name)
        if not 0 <= rate_hz <= 1e9:
            raise ValueError(f"rates_hz of {name} is {rate_hz} Hz: must be from 0 to 1e9 Hz")
        ours = jax.random.fold_in(key, zlib.crc32(name.encode()))
        extra = _checked(name, source, given.get(name, {}))
        if name in _CHAINS:
            span = {"duration_s": duration_s, "start_s": start_s, "activity_bq": rate_hz}
            timeline = _CHAINS[name](ours, detector, **span, **extra)
            first_event += int(timeline.deposits.first_event)
        else:
            numbers = numbers_between(clock_of(ours), rate_hz, start_s, start_s + duration_s)
            first_event += numbers.start
            if not numbers:
                continue
            # of few sizes, so that little is compiled; what is too many is cut off again
            n, many = len(numbers), max(ragged.bucket(len(numbers)), _LEAST_EVENTS)
            made = source(
                ours,
                detector,
                n_events=many,
                first_event=numbers.start,
                rate_hz=rate_hz,
                timing="poisson",
                **extra,
            )
            deposits = _part(made, 0, n)
            timeline = Timeline(deposits, Origin(np.full(n, name), np.full(n, -1), np.full(n, "")))
        parts.append((name, timeline))
    return _merged(detector, [timeline for _, timeline in parts], first_event)


def _checked(name: str, source: Callable[..., Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    from dmsim.sources import options as options_of  # noqa: PLC0415 - as above

    ruled = {"n_events", "first_event", "rate_hz", "timing", "activity_bq"}
    known = {"convection"} if name in _CHAINS else set(options_of(source)) - ruled
    if unknown := set(extra) - known:
        raise ValueError(
            f"source {name} takes no option {', '.join(sorted(unknown))}: it takes {', '.join(sorted(known))}"
        )
    needed = {n for n, p in options_of(source).items() if p.default is p.empty} - ruled
    if missing := needed - set(extra):
        raise ValueError(f"source {name} needs {', '.join(sorted(missing))}: give them in its options")
    return dict(extra)


def _merged(detector: Detector, parts: list[Timeline], first_event: int) -> Timeline:
    """Events of all parts in time order; of those at one time, in the order of the parts."""
    sizes = [part.deposits.n_events for part in parts]
    offsets = np.cumsum([0, *sizes])[:-1]
    times = _joined([_times(part.deposits) for part in parts], np.int64)
    owner = [np.asarray(part.deposits.event) + offset for part, offset in zip(parts, offsets, strict=True)]
    columns = {
        name: _joined([np.asarray(getattr(part.deposits, name)) for part in parts], np.float64)
        for name in _COLUMNS
    }
    truth = [_joined([part.truth[i] for part in parts], kind) for i, kind in enumerate((str, np.int64, str))]
    return in_time_order(
        detector,
        np.argsort(times, kind="stable"),
        first_event=first_event,
        event_time_ns=times,
        truth=Origin(*truth),
        owner=_joined(owner, np.int64),
        columns=columns,
    )


def _joined(arrays: list[np.ndarray], kind: Any) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros(0, kind)


def _times(deposits: Deposits) -> np.ndarray:
    assert deposits.event_time_ns is not None
    return deposits.event_time_ns


def rn222_events(
    key: PRNGKeyArray,
    detector: Detector,
    *,
    n_events: int,
    first_event: int = 0,
    activity_bq: float = 1.0,
    v_rms_mm_per_s: float = Convection().v_rms_mm_per_s,
    diffusion_mm2_per_s: float = Convection().diffusion_mm2_per_s,
    ions_drift: bool = False,
) -> Deposits:
    """Consecutive decays of the Rn-222 chain by their number in the run; `rn222_chain` takes a span instead.

    Args:
        key: of the run.
        detector: whose volume is filled.
        n_events: decays, >= 1.
        first_event: number of the first, >= 0. All of the run before it is made, too.
        activity_bq: of each isotope in the active volume, > 0.
        v_rms_mm_per_s: as in `Convection`.
        diffusion_mm2_per_s: as in `Convection`.
        ions_drift: as in `Convection`.

    Raises:
        ValueError: if a value is outside its range.

    Gradient: none.
    """
    convection = Convection(v_rms_mm_per_s, diffusion_mm2_per_s, ions_drift)
    return _numbered(key, detector, "Rn-222", n_events, first_event, activity_bq, convection)


def rn220_events(
    key: PRNGKeyArray,
    detector: Detector,
    *,
    n_events: int,
    first_event: int = 0,
    activity_bq: float = 1.0,
    v_rms_mm_per_s: float = Convection().v_rms_mm_per_s,
    diffusion_mm2_per_s: float = Convection().diffusion_mm2_per_s,
    ions_drift: bool = False,
) -> Deposits:
    """Consecutive decays of the Rn-220 chain by their number in the run. As `rn222_events`."""
    convection = Convection(v_rms_mm_per_s, diffusion_mm2_per_s, ions_drift)
    return _numbered(key, detector, "Rn-220", n_events, first_event, activity_bq, convection)


def _numbered(
    key: PRNGKeyArray,
    detector: Detector,
    parent: str,
    n_events: int,
    first_event: int,
    activity_bq: float,
    convection: Convection,
) -> Deposits:
    for name, value, least in (("n_events", n_events, 1), ("first_event", first_event, 0)):
        if value < least:
            raise ValueError(f"{name} is {value}: must be a whole number, {least} or more")
    if not activity_bq > 0:
        raise ValueError(f"activity_bq is {activity_bq} Bq: must be above 0 Bq")
    last = first_event + n_events
    # five decays for each of the parent's, in equilibrium; and more, in case they are late
    duration_s = (last + 5 * np.sqrt(last) + 10) / (5 * activity_bq)
    while True:
        deposits = chain(
            key, detector, parent, duration_s=duration_s, activity_bq=activity_bq, convection=convection
        ).deposits
        if deposits.n_events >= last:
            break
        duration_s *= 1.5
    return _part(deposits, first_event, last)


def _part(deposits: Deposits, first: int, last: int) -> Deposits:
    """Events first .. last - 1 of a batch."""
    event = np.asarray(deposits.event)
    rows = slice(*np.searchsorted(event, [first, last]))
    # cut on the host: a slice of a device array would be compiled for its size
    columns = {name: jnp.asarray(np.asarray(getattr(deposits, name))[rows]) for name in _COLUMNS}
    return Deposits(
        event=jnp.asarray(event[rows] - first, jnp.int32),
        **columns,
        first_event=jnp.asarray(int(deposits.first_event) + first, jnp.int32),
        event_time_ns=_times(deposits)[first:last],
        n_events=last - first,
    )
