"""When events happen: evenly spaced, or as a Poisson process that does not depend on batches.

Poisson times are sums of exponential gaps, and a batch must not have to draw all gaps before it. So events
come in blocks of 4096 that each take a Gamma(4096) time, drawn by the block's number; inside of a block the
4096 gaps, drawn by the event's number, are scaled to add up to it. Gaps divided by their sum are independent
of that sum (Lukacs, Ann. Math. Stat. 26 (1955) 319): this is the Poisson process, exactly.
"""

import numpy as np
from jaxtyping import Int, PRNGKeyArray

from dmsim.sources.host_random import HostWords, fold, host_words, uniforms

_CLOCK = -2  # branch of the user's key that is no event number
_LENGTHS, _GAPS = 0, 1
BLOCK = 4096
LEAD_NS = 1_000_000  # assumed: the clock at a run's start, so that samples before an event are above 0
TIMINGS = ("even", "poisson")
_LARGEST_NS = 2**63


def event_times_ns(
    key: PRNGKeyArray, *, rate_hz: float, timing: str, first_event: int, n_events: int
) -> Int[np.ndarray, "event"]:
    """Start of each event on the detector's clock, ascending.

    Args:
        key: of the run.
        rate_hz: mean rate, > 0 to 1e9.
        timing: "even", one interval apart from one interval on; or "poisson", from 1 ms on.
        first_event: number of the first event in the run, >= 0.
        n_events: >= 1.

    Raises:
        ValueError: for a rate outside its range, an unknown timing, times over 2^63 ns, or a Poisson process
            of a key that is being traced.

    Gradient: none (integers on the host).
    """
    if timing not in TIMINGS:
        raise ValueError(f"timing is {timing!r}: must be one of {', '.join(TIMINGS)}")
    if not 0 < rate_hz <= 1e9:
        raise ValueError(f"rate_hz is {rate_hz} Hz: must be above 0 and at most 1e9 Hz")
    last = first_event + n_events
    # a Poisson process of n events takes n intervals, within a few percent of itself and of a block
    if (last if timing == "even" else 1.1 * last + 2 * BLOCK) * (1e9 / rate_hz) >= _LARGEST_NS:
        raise ValueError(f"rate_hz is {rate_hz} Hz: {last} events overflow the clock of 2^63 ns")
    if timing == "even":
        return (first_event + 1 + np.arange(n_events, dtype=np.int64)) * round(1e9 / rate_hz)
    return poisson_times_ns(clock_of(key), rate_hz, first_event, n_events)


def clock_of(key: PRNGKeyArray) -> HostWords:
    """The key that a source's Poisson times are drawn with.

    Raises:
        ValueError: if the key is being traced.
    """
    return fold(host_words(key), _CLOCK)


def poisson_times_ns(
    clock: HostWords, rate_hz: float, first_event: int, n_events: int
) -> Int[np.ndarray, "event"]:
    """Times of consecutive events of a Poisson process. Gradient: none."""
    from scipy.special import gammaincinv  # noqa: PLC0415 - used by few

    first_block, last_block = first_event // BLOCK, (first_event + n_events - 1) // BLOCK
    of_blocks = uniforms(clock, _LENGTHS, np.arange(last_block + 1))
    lengths = np.rint(1e9 / rate_hz * gammaincinv(BLOCK, of_blocks)).astype(np.int64)
    starts, lengths = (np.cumsum(lengths) - lengths)[first_block:, None], lengths[first_block:, None]
    gaps = -np.log(uniforms(clock, _GAPS, np.arange(first_block * BLOCK, (last_block + 1) * BLOCK)))
    within = np.cumsum(gaps.reshape(-1, BLOCK), axis=1)
    times = LEAD_NS + starts + np.rint(within / within[:, -1:] * lengths).astype(np.int64)
    start = first_event - first_block * BLOCK
    return times.ravel()[start : start + n_events]


def numbers_between(clock: HostWords, rate_hz: float, start_s: float, end_s: float) -> range:
    """Numbers of the events of a Poisson process in a span, seconds from the start.

    Raises:
        ValueError: if the blocks of events that hold the span overflow the clock.

    Gradient: none.
    """
    if rate_hz == 0:
        return range(0)
    if (2 * end_s + 3 * BLOCK / rate_hz) * 1e9 >= _LARGEST_NS:  # events are doubled until they hold the span
        raise ValueError(
            f"rate is {rate_hz:g} Hz up to {end_s:g} s: must be 0 or above 2e-6 Hz, and end before 4e9 s, as "
            f"the clock holds 2^63 ns and {BLOCK} events are drawn at once"
        )
    limits = [LEAD_NS + round(t * 1e9) for t in (start_s, end_s)]
    n = BLOCK
    while True:
        times = poisson_times_ns(clock, rate_hz, 0, n)
        if times[-1] >= limits[1]:
            return range(*(int(i) for i in np.searchsorted(times, limits)))
        n *= 2
