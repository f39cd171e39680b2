"""When events happen: evenly spaced, or as a Poisson process that does not depend on batches.

Poisson times are sums of exponential gaps, and a batch must not have to draw all gaps before it. So events
come in blocks of 4096 that each take a Gamma(4096) time, drawn by the block's number; inside of a block the
4096 gaps, drawn by the event's number, are scaled to add up to it. Gaps divided by their sum are independent
of that sum (Lukacs, Ann. Math. Stat. 26 (1955) 319): this is the Poisson process, exactly.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Int, PRNGKeyArray

from dmsim import rng

_CLOCK = -2  # branch of the user's key that is no event number
_BLOCKS, _GAPS = 0, 1
BLOCK = 4096
LEAD_NS = (
    1_000_000  # assumed: a run's clock reads 1 ms at its start, so that samples before an event are above 0
)
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
    return LEAD_NS + _poisson_ns(key, 1e9 / rate_hz, first_event, n_events)


def _poisson_ns(key: PRNGKeyArray, interval_ns: float, first_event: int, n_events: int) -> np.ndarray:
    from scipy.special import gammaincinv  # noqa: PLC0415 - used by few

    first_block, last_block = first_event // BLOCK, (first_event + n_events - 1) // BLOCK
    words = branch(key, _CLOCK)
    lengths = interval_ns * gammaincinv(BLOCK, uniforms(words, _BLOCKS, np.arange(last_block + 1)))
    ends = np.cumsum(np.rint(lengths).astype(np.int64))
    events = np.arange(first_block * BLOCK, (last_block + 1) * BLOCK)
    gaps = -np.log(uniforms(words, _GAPS, events)).reshape(-1, BLOCK)
    within = np.cumsum(gaps, axis=1)
    blocks = slice(first_block, last_block + 1)
    # the last event of a block is at its end
    times = (ends - np.diff(ends, prepend=0))[blocks, None] + np.rint(
        within / within[:, -1:] * np.diff(ends, prepend=0)[blocks, None]
    ).astype(np.int64)
    start = first_event - first_block * BLOCK
    return times.ravel()[start : start + n_events]


def numbers_between(key: PRNGKeyArray, *, rate_hz: float, start_s: float, duration_s: float) -> range:
    """Numbers of the events of a Poisson process that lie in a span of time.

    Args:
        key: of the run.
        rate_hz: mean rate, >= 0 to 1e9.
        start_s: start of the span from the start of the run, >= 0.
        duration_s: its length, > 0.

    Gradient: none.
    """
    if rate_hz == 0:
        return range(0)
    low, high = LEAD_NS + round(start_s * 1e9), LEAD_NS + round((start_s + duration_s) * 1e9)
    # events are counted block by block until the span is passed
    n = BLOCK
    while True:
        times = event_times_ns(key, rate_hz=rate_hz, timing="poisson", first_event=0, n_events=n)
        if times[-1] >= high:
            return range(*(int(i) for i in np.searchsorted(times, [low, high])))
        n *= 2


def branch(key: PRNGKeyArray, *indices: int) -> rng.Words:
    """One Threefry key for a use of the user's key, with a value even inside of a trace.

    Raises:
        ValueError: if the key itself is being traced.
    """
    if isinstance(key, Tracer):
        raise ValueError("key is being traced by jax.jit or jax.vmap: events on a clock need its value")
    with jax.ensure_compile_time_eval():
        return rng.fold(rng.words_of(key), *indices)


def uniforms(words: rng.Words, *indices: Int[np.ndarray, "..."] | int, second: bool = False) -> np.ndarray:
    """A uniform in (0, 1) with 52 bits for each broadcast element of the indices; the pair's other on demand.

    Host numbers in double precision: a delay of 100 ns after hours needs more than 23 bits.
    """
    with jax.ensure_compile_time_eval():
        folded = rng.fold(words, *(jnp.asarray(index) for index in indices))
        drawn = rng.threefry2x32(folded, jnp.uint32(int(second)), jnp.uint32(0))
    high, low = (np.asarray(word, np.uint64) for word in drawn)
    return (((high << np.uint64(20)) | (low >> np.uint64(12))).astype(np.float64) + 0.5) * 2.0**-52
