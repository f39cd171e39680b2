"""Wrong splits, wrong merges and wrong classes against truth: counted, and expected of the soft reading.

All follow `truth_matching`. Of the true signals that count (S1s of `Scope.s1_photons` detected photons or
more, S2s of `Scope.s2_electrons` extracted electrons or more) and of the peaks,

- split: a lone signal with a `piece_share` of its light in more than one peak;
- merged: a signal found in one peak with another, wrongly;
- misclassified: a signal not found, or found in a peak of another class;
- false: a peak taken for an S1 that is mostly of something else, or for an S2 that is mostly of neither an
  S2 nor delayed electrons.

The loss is their number over that of the signals, and `Scope.area_weight` times the area bias |b|, added for
S1s and S2s. b is the mean of area / light - 1 over lone signals of `Scope.area_light_pe` or more in a peak
of their own class. "Light" is all that came while the signal's own did, afterpulses too: against its own
light alone every window is too long. It is the size of a mean: a mean of sizes over all pulses counts
mostly the noise of small ones, and drove gaps to 20 ns.

The soft reading's possible peaks hold the light they hold, whatever is decided. So each of the four is a sum
over possible peaks of their probability, those of their classes, and whole numbers of the truth that `label`
counts once for a plan. That a split leaves one piece first and then another makes its probability such a
sum, too: possible peaks with a piece of the signal, none before and some after. At temperature 0 the sums
are the counts, but where light before or after a piece, of a `piece_share` or more, lies in smaller pieces,
though a possible peak could hold it.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmsim.records import Signal
from inference.tuning.truth_matching import KINDS, Columns, Found, Light, Rules, match_peaks

_LATE = (Signal.DELAYED, Signal.AFTERPULSE, Signal.DARK)
_SMOOTH = 1e-3  # bias under which |b| is rounded off


class Scope(NamedTuple):
    """Which signals count, what an error is, and what an area bias counts."""

    rules: Rules = Rules()
    s1_photons: float = 3.0
    s2_electrons: float = 1.0
    area_light_pe: float = 20.0
    area_weight: float = 1.0  # errors a signal that a bias of 100 % is worth


SCOPE = Scope()


class Errors(NamedTuple):
    """Numbers of errors, or what is expected of them; of any number of samples, added."""

    n_signals: Any
    split: Any
    merged: Any
    misclassified: Any
    false: Any
    area_sum: Any  # [kind]: of area / light - 1
    area_number: Any  # [kind]: of signals in that sum

    @property
    def per_signal(self) -> Any:
        """Wrong splits, merges and classes over the number of signals, without the area bias."""
        return (self.split + self.merged + self.misclassified + self.false) / self.n_signals

    @property
    def area_bias(self) -> Any:
        """Mean of area / light - 1, of S1s and of S2s."""
        return self.area_sum / (self.area_number + 1e-6)

    def loss(self, scope: Scope = SCOPE) -> Any:
        """What is minimised."""
        size = (self.area_bias**2 + _SMOOTH**2) ** 0.5 - _SMOOTH
        return self.per_signal + scope.area_weight * size.sum()


class Truth(NamedTuple):
    """Photons in time order and what counts of the signals: the same for all settings."""

    light: Light  # by time
    counts: np.ndarray  # [signal] bool: in scope
    span_pe: np.ndarray  # [signal] all light from its first to its last photon
    mine: list[np.ndarray]  # rows of each signal's photons


class Labels(NamedTuple):
    """What each possible peak holds, as whole numbers of signals that count; padded with zeros."""

    split: Float[np.ndarray, "peak"]  # lone ones of which it is the first piece, with more to come
    merged: Float[np.ndarray, "peak"]  # found in it, with another, wrongly
    found: Float[np.ndarray, "peak 2"]  # S1s and S2s found in it
    false: Float[np.ndarray, "peak 2"]  # whether it is no S1, no S2
    area_number: Float[np.ndarray, "peak 2"]  # lone ones whose area it is
    area_inverse: Float[np.ndarray, "peak 2"]  # sum of 1 / light of those
    n_signals: float


def truth_of(light: Light, scope: Scope = SCOPE) -> Truth:
    """Sort photons, and find what counts."""
    order = np.argsort(light.time_ns, kind="stable")
    light = light._replace(
        time_ns=light.time_ns[order], charge_pe=light.charge_pe[order], owner=light.owner[order]
    )
    s = light.signals
    is_s1 = s["kind"] == Signal.S1
    counts = np.where(is_s1, s["n_photons"] >= scope.s1_photons, s["n_electrons"] >= scope.s2_electrons)
    by_owner = np.argsort(light.owner, kind="stable")
    ends = np.searchsorted(light.owner[by_owner], np.arange(len(counts) + 1))
    mine = [by_owner[a:b] for a, b in zip(ends[:-1], ends[1:], strict=True)]
    running = np.append(0, np.cumsum(light.charge_pe))
    # photons are in time order, so are the rows of each signal
    span = np.array([running[m[-1] + 1] - running[m[0]] if m.size else 0.0 for m in mine])
    return Truth(light, counts.astype(bool), span, mine)


class _Wrong(NamedTuple):
    """What is wrong with each signal, and with each peak."""

    signals: Columns
    split: np.ndarray
    merged: np.ndarray
    misclassified: np.ndarray
    false: np.ndarray  # [peak]


def _wrong(truth: Truth, found: Found, scope: Scope) -> _Wrong:
    signals, peaks = match_peaks(truth.light, found, scope.rules)
    right = signals["found"] & (signals["class"] == signals["kind"])
    of = np.array(KINDS)[peaks["of"]]
    false_s1 = (peaks["class"] == Signal.S1) & ~np.isin(of, ("S1", "piece of S1"))
    false_s2 = (peaks["class"] == Signal.S2) & ~np.isin(of, ("S2", "piece of S2", "delayed electrons"))
    return _Wrong(
        signals,
        split=truth.counts & signals["split"] & signals["lone"],
        merged=truth.counts & signals["wrongly_merged"],
        misclassified=truth.counts & ~right,
        false=false_s1 | false_s2,
    )


def count(truth: Truth, found: Found, scope: Scope = SCOPE) -> Errors:
    """Errors of the hard reading."""
    return _added(truth, _wrong(truth, found, scope), scope)


def _added(truth: Truth, wrong: _Wrong, scope: Scope) -> Errors:
    signals, kind = wrong.signals, wrong.signals["kind"]
    measured = _measured(truth, scope) & ~wrong.misclassified & (signals["light_pe"] < 2 * truth.span_pe)
    deviation = signals["area_pe"] / np.maximum(truth.span_pe, 1e-9) - 1
    each = [measured & (kind == k) for k in (Signal.S1, Signal.S2)]
    return Errors(
        n_signals=float(truth.counts.sum()),
        split=float(wrong.split.sum()),
        merged=float(wrong.merged.sum()),
        misclassified=float(wrong.misclassified.sum()),
        false=float(wrong.false.sum()),
        area_sum=np.array([deviation[rows].sum() for rows in each]),
        area_number=np.array([float(rows.sum()) for rows in each]),
    )


class Counted(NamedTuple):
    """Errors of the hard reading, together and event by event."""

    errors: Errors
    signals: Float[np.ndarray, "event"]  # that count
    wrong: Float[np.ndarray, "event"]  # errors; a false peak is the last event's that began


def count_by_event(truth: Truth, found: Found, scope: Scope = SCOPE) -> Counted:
    """Errors of each event, too: to draw events anew."""
    wrong = _wrong(truth, found, scope)
    numbers, n = truth.light.events["event"], len(truth.light.events["event"])
    event = np.searchsorted(numbers, wrong.signals["event"])
    errors = sum(x.astype(float) for x in (wrong.split, wrong.merged, wrong.misclassified))
    order = np.argsort(wrong.signals["start_ns"], kind="stable")
    begin = wrong.signals["start_ns"][order]
    at = np.searchsorted(begin, found.start_ns[wrong.false], side="right") - 1
    per_event = np.bincount(event, errors, n) + np.bincount(event[order][np.maximum(at, 0)], minlength=n)
    return Counted(_added(truth, wrong, scope), np.bincount(event, truth.counts, n), per_event)


def _measured(truth: Truth, scope: Scope) -> np.ndarray:
    return truth.counts & truth.light.signals["lone"] & (truth.span_pe >= scope.area_light_pe)


def label(
    truth: Truth, start_ns: np.ndarray, end_ns: np.ndarray, *, size: int, scope: Scope = SCOPE
) -> Labels:
    """What the possible peaks of a plan hold.

    Args:
        truth: of the same records.
        start_ns: of each possible peak, on the photons' clock.
        end_ns: of each, exclusive.
        size: rows with padding.
        scope: what counts.
    """
    light, signals, n, rules = truth.light, truth.light.signals, len(start_ns), scope.rules
    kind, at_ns = signals["kind"], signals["start_ns"] + signals["mean_ns"]
    spread = np.maximum(signals["spread_ns"], rules.min_spread_ns)
    split, merged, found, false, number, inverse = (
        np.zeros((size, *s)) for s in ((), (), (2,), (2,), (2,), (2,))
    )
    low, high = (np.searchsorted(light.time_ns, t) for t in (start_ns, end_ns))
    running = np.append(0, np.cumsum(light.charge_pe))
    total = running[high] - running[low]
    inside = _covered(light.time_ns, low, high)
    most, of_most = np.zeros(n), np.full(n, -len(Signal))
    for late in _LATE:
        partial = np.append(0, np.cumsum(np.where(light.owner == -late, light.charge_pe, 0.0)))
        _larger(most, of_most, np.arange(n), partial[high] - partial[low], -int(late))
    together: list[tuple[np.ndarray, np.ndarray]] = []
    measured = _measured(truth, scope)
    for s, rows in enumerate(truth.mine):
        if not rows.size:
            continue
        peaks = np.flatnonzero((high > rows[0]) & (low <= rows[-1]))
        seen = np.append(0, np.cumsum(light.charge_pe[rows] * inside[rows]))
        a, b = np.searchsorted(rows, low[peaks]), np.searchsorted(rows, high[peaks])
        charge = seen[b] - seen[a]
        _larger(most, of_most, peaks, charge, s)
        share = charge / signals["charge_pe"][s]
        has = peaks[share >= rules.found_share]
        together.append((has, np.full(has.size, s)))
        if not truth.counts[s]:
            continue
        of = int(kind[s]) - 1
        found[has, of] += 1
        if signals["lone"][s]:
            before, after = seen[a] / signals["charge_pe"][s], (seen[-1] - seen[b]) / signals["charge_pe"][s]
            piece = share >= rules.piece_share
            # light before or after is a piece only if a possible peak can hold so much of it
            earliest = np.min(high[peaks[piece]], initial=np.iinfo(np.int64).max)
            latest = np.max(low[peaks[piece]], initial=-1)
            none_before = (before < rules.piece_share) | (earliest > low[peaks])
            first = piece & none_before & (after >= rules.piece_share) & (latest >= high[peaks])
            split[peaks[first]] += 1
        if measured[s]:
            own = has[total[has] < 2 * truth.span_pe[s]]
            number[own, of] += 1
            inverse[own, of] += 1 / truth.span_pe[s]
    _merges(merged, truth, together, kind, at_ns, spread, rules)
    is_signal = of_most >= 0
    kind_of = np.where(is_signal, kind[np.maximum(of_most, 0)] if kind.size else 0, 0)
    false[:n, 0] = kind_of != Signal.S1
    false[:n, 1] = (kind_of != Signal.S2) & (of_most != -int(Signal.DELAYED))
    return Labels(split, merged, found, false, number, inverse, float(truth.counts.sum()))


def _larger(most: np.ndarray, of: np.ndarray, peaks: np.ndarray, charge: np.ndarray, name: int) -> None:
    """Note whose light is most, in place."""
    more = charge > most[peaks]
    most[peaks[more]], of[peaks[more]] = charge[more], name


def _covered(time_ns: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Whether each photon lies in any possible peak."""
    change = np.zeros(time_ns.size + 1)
    np.add.at(change, low, 1)
    np.add.at(change, high, -1)
    return np.cumsum(change)[:-1] > 0


def _merges(merged, truth: Truth, together, kind, at_ns, spread, rules: Rules) -> None:
    """Signals that share a possible peak with another one, wrongly."""
    if not together:
        return
    peaks, of = (np.concatenate(x) for x in zip(*together, strict=True))
    order = np.argsort(peaks, kind="stable")
    peaks, of = peaks[order], of[order]
    charge = truth.light.signals["charge_pe"]
    for rows in np.split(np.arange(peaks.size), np.flatnonzero(np.diff(peaks)) + 1):
        if rows.size < 2:
            continue
        s = of[rows]
        one, other = s[:, None], s[None, :]
        apart = np.abs(at_ns[one] - at_ns[other]) / np.sqrt((spread[one] ** 2 + spread[other] ** 2) / 2)
        wrong = (apart > rules.apart) | (kind[one] != kind[other])
        wrong &= (charge[other] >= rules.other_charge * charge[one]) & (one != other)
        merged[peaks[rows[0]]] += (wrong.any(axis=1) & truth.counts[s]).sum()


def expect(labels: Labels, peaks: dict[str, Array]) -> Errors:
    """Errors that are expected of the soft reading.

    Args:
        labels: of the plan.
        peaks: `soft.peak_columns` of it.

    Gradient: that of the soft reading.
    """
    exists = peaks["probability"]
    classes = jnp.stack([peaks["s1"], peaks["s2"]], axis=1) * exists[:, None]
    right = jnp.sum(classes * labels.found)
    area = peaks["area_pe"][:, None] * labels.area_inverse - labels.area_number
    return Errors(
        n_signals=jnp.asarray(labels.n_signals),
        split=jnp.sum(exists * labels.split),
        merged=jnp.sum(exists * labels.merged),
        misclassified=labels.n_signals - right,
        false=jnp.sum(classes * labels.false),
        area_sum=jnp.sum(classes * area, axis=0),
        area_number=jnp.sum(classes * labels.area_number, axis=0),
    )
