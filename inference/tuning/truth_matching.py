"""Reconstructed peaks against what was simulated: by the light that they share.

A true signal is the S1 of a deposit, or the S2 of its electrons; S1s of one event closer than `Rules.same_ns`
are one. Each photon lies in the peak whose time it falls in (in the S1, where a chain lets one lie within an
S2), or in none. `share` of a signal in a peak is the part of the signal's charge whose photons are there.

- main peak of a signal: the one with its largest share; the signal is *found* if that is at least
  `found_share`.
- *split*: two peaks or more hold at least `piece_share` of it each. Counted for lone signals.
- *merged*: its main peak is also that of another signal of at least `other_charge` of its charge. *Wrongly*
  so if one is an S1 and one an S2, or their mean times are `apart` times their mean spread apart.
- *lone*: no signal of the event is within `alone` times the mean spread.
- what a peak is of: that of which it holds most charge; a signal, or one kind of late light, or nothing.
"""

from typing import NamedTuple

import numpy as np

from dmsim.records import Signal, Truth

Columns = dict[str, np.ndarray]
NOTHING = -1  # no peak, no signal, not classified at all
# what a peak can be of, in the order of `Table.peaks["of"]`
KINDS = (
    "S1",
    "piece of S1",
    "S2",
    "piece of S2",
    "delayed electrons",
    "afterpulses",
    "dark counts",
    "no light",
)
_LATE = (Signal.DELAYED, Signal.AFTERPULSE, Signal.DARK)


class Rules(NamedTuple):
    """Where found, split and merged begin."""

    same_ns: float = 10.0  # S1s whose mean times are closer are one
    found_share: float = 0.5
    piece_share: float = 0.05
    other_charge: float = 0.05
    apart: float = 4.0  # two equal Gaussians are bimodal from 2 standard deviations on
    alone: float = 8.0
    min_spread_ns: float = 40.0  # an S1's light, in units of which separations are counted at least


class Light(NamedTuple):
    """Photons with what they belong to, and the true signals."""

    time_ns: np.ndarray  # int64, on the detector's clock
    charge_pe: np.ndarray
    owner: np.ndarray  # row of `signals`; late light: -`Signal`
    signals: Columns
    events: Columns


class Found(NamedTuple):
    """What a chain makes of the records: peaks, and its events as rows of them."""

    start_ns: np.ndarray
    end_ns: np.ndarray
    center_ns: np.ndarray  # float64, from the start
    area_pe: np.ndarray
    signal: np.ndarray  # `Signal`
    x_mm: np.ndarray
    y_mm: np.ndarray
    event_s1: np.ndarray = np.zeros(0, np.int64)  # row, -1: none
    event_s2: np.ndarray = np.zeros(0, np.int64)
    event_z_mm: np.ndarray = np.zeros(0)


def nothing_found() -> Found:
    """No peaks and no events."""
    return Found(
        *(np.zeros(0, kind) for kind in ("i8", "i8", "f8", "f8", "i8", "f8", "f8", "i8", "i8", "f8"))
    )


def light_of(truth: Truth, rules: Rules, *, sample_ns: int) -> Light:
    """Photons and true signals of a batch at depth "photons"."""
    photons, deposits = truth.photons, truth.deposits
    if photons is None or deposits.event_time_ns is None:
        raise ValueError("the truth has no photons or no times: simulate it at depth 'photons'")
    start = np.asarray(deposits.event_time_ns, np.int64) // sample_ns * sample_ns
    kind, time = photons.signal.astype(np.int64), np.asarray(photons.time_ns, np.float64)
    own = (photons.deposit >= 0) & ((kind == Signal.S1) | (kind == Signal.S2))
    first_row = np.searchsorted(deposits.event, np.arange(deposits.n_events))
    n_rows = len(deposits)
    group = (kind - 1) * n_rows + first_row[photons.event] + photons.deposit  # S1 is 1, S2 is 2
    keys, owner_own = np.unique(group[own], return_inverse=True)
    charge = np.asarray(photons.charge_pe, np.float64)
    row, event = keys % n_rows, np.asarray(deposits.event)[keys % n_rows]
    signals = _signals(owner_own, time[own], charge[own], keys.size)
    number = int(deposits.first_event) + event
    signals |= {"kind": keys // n_rows + 1, "row": row, "event": number}
    owner_own, signals = _same(owner_own, signals, time[own], charge[own], rules)
    of = signals["row"]
    detected = truth.detected
    is_s2 = signals["kind"] == Signal.S2
    event = signals["event"] - int(deposits.first_event)
    signals |= {
        "n_electrons": np.where(is_s2, np.asarray(detected.n_extracted, np.float64)[of], np.nan),
        "x_gas_mm": np.asarray(detected.x_gas_mm, np.float64)[of],
        "y_gas_mm": np.asarray(detected.y_gas_mm, np.float64)[of],
        "z_mm": np.asarray(deposits.z_mm, np.float64)[of],
        "start_ns": start[event],
        **neighbours(signals, rules),
    }
    owner = np.where(np.isin(kind, _LATE), -kind, -int(Signal.DELAYED))
    owner[own] = owner_own
    energy = np.bincount(deposits.event, np.asarray(deposits.energy_kev, np.float64), deposits.n_events)
    events = {"event": int(deposits.first_event) + np.arange(deposits.n_events), "energy_kev": energy}
    at_ns = start[photons.event] + np.floor(time).astype(np.int64)
    return Light(at_ns, charge, owner, signals, events)


def _signals(owner: np.ndarray, time: np.ndarray, charge: np.ndarray, n: int) -> Columns:
    count = np.bincount(owner, minlength=n)
    mean = np.bincount(owner, time, n) / np.maximum(count, 1)
    variance = np.bincount(owner, (time - mean[owner]) ** 2, n) / np.maximum(count, 1)
    return {
        "n_photons": count,
        "charge_pe": np.bincount(owner, charge, n),
        "mean_ns": mean,
        "spread_ns": np.sqrt(variance),
    }


def _same(
    owner: np.ndarray, signals: Columns, time: np.ndarray, charge: np.ndarray, rules: Rules
) -> tuple[np.ndarray, Columns]:
    """S1s of one event at one time are one; it takes the place of its largest part."""
    order = np.lexsort((signals["mean_ns"], signals["kind"], signals["event"]))
    column = {name: values[order] for name, values in signals.items()}
    new = np.ones(order.size, bool)
    near = np.diff(column["mean_ns"]) < rules.same_ns
    alike = (np.diff(column["event"]) == 0) & (np.diff(column["kind"]) == 0)
    new[1:] = ~(near & alike & (column["kind"][1:] == Signal.S1))
    group = np.cumsum(new) - 1
    of_old = np.empty_like(group)
    of_old[order] = group
    largest = np.lexsort((-column["charge_pe"], group))
    first = largest[np.flatnonzero(np.diff(group[largest], prepend=-1))]
    owner = of_old[owner]
    joined = _signals(owner, time, charge, first.size)
    return owner, joined | {name: column[name][first] for name in ("kind", "row", "event")}


def neighbours(signals: Columns, rules: Rules) -> Columns:
    """To the nearest signal of the event, of the same kind and of any: in mean spreads and in ns."""
    n = signals["event"].size
    near = {name: np.full(n, np.inf) for name in ("gap_ns", "gap", "gap_any")}
    order = np.argsort(signals["event"], kind="stable")
    event, kind = signals["event"][order], signals["kind"][order]
    mean = signals["mean_ns"][order]
    spread = np.maximum(signals["spread_ns"][order], rules.min_spread_ns)
    for step in range(1, int(np.bincount(event - event.min()).max()) if n else 0):
        a, b = np.arange(n - step), np.arange(step, n)
        apart_ns = np.where(event[a] == event[b], np.abs(mean[a] - mean[b]), np.inf)
        apart = apart_ns / np.sqrt((spread[a] ** 2 + spread[b] ** 2) / 2)
        alike = kind[a] == kind[b]
        for rows in (order[a], order[b]):
            near["gap_any"][rows] = np.minimum(near["gap_any"][rows], apart)
            closer = alike & (apart < near["gap"][rows])
            near["gap"][rows] = np.where(closer, apart, near["gap"][rows])
            near["gap_ns"][rows] = np.where(closer, apart_ns, near["gap_ns"][rows])
    return near | {"lone": near["gap_any"] > rules.alone}


def peak_of(found: Found, time_ns: np.ndarray) -> np.ndarray:
    """Row of the peak in which each time lies, -1 for none; of the S1 where S1 and S2 overlap."""
    row = np.full(time_ns.size, NOTHING)
    for s1 in (False, True):
        rows = np.flatnonzero((found.signal == Signal.S1) == s1)
        rows = rows[np.argsort(found.start_ns[rows], kind="stable")]
        if not rows.size:
            continue
        last = np.searchsorted(found.start_ns[rows], time_ns, "right") - 1
        inside = (last >= 0) & (time_ns < found.end_ns[rows[last]])
        row[inside] = rows[last[inside]]
    return row


def match_peaks(light: Light, found: Found, rules: Rules) -> tuple[Columns, Columns]:
    """Tables of true signals and of peaks."""
    signals = light.signals
    n_signals, n_peaks = signals["event"].size, found.start_ns.size
    peak = peak_of(found, light.time_ns)
    seen = peak >= 0
    code = light.owner[seen] + len(Signal)  # late light: 1 .. len(Signal) - 1
    width = n_signals + len(Signal)
    pairs, inverse = np.unique(peak[seen] * width + code, return_inverse=True)
    charge = np.bincount(inverse, light.charge_pe[seen], pairs.size)
    of_peak, owner = np.divmod(pairs, width)
    owner = owner - len(Signal)
    of_signals = _shares(signals, rules, of_peak, owner, charge)
    total = np.bincount(of_peak, charge, n_peaks)
    peaks = _peaks(found, of_signals, signals["kind"], of_peak, owner, charge, total)
    main = of_signals["main"]
    has = main >= 0

    def of_main(column, empty=np.nan):
        return np.where(has, column[main], empty) if n_peaks else np.full(n_signals, empty)

    late_ns = found.start_ns[main] - signals["start_ns"] if n_peaks else np.zeros(n_signals)
    out = {
        **signals,
        **of_signals,
        "class": of_main(found.signal, NOTHING).astype(int),
        "area_pe": of_main(found.area_pe),
        "light_pe": of_main(total),
        "center_ns": np.where(has, late_ns + of_main(found.center_ns), np.nan),
        "x_mm": of_main(found.x_mm),
        "y_mm": of_main(found.y_mm),
    }
    return out, peaks


def _shares(
    signals: Columns, rules: Rules, of_peak: np.ndarray, owner: np.ndarray, charge: np.ndarray
) -> Columns:
    """Where each signal's light went."""
    n = signals["event"].size
    mine = owner >= 0
    of_peak, owner = of_peak[mine], owner[mine]
    share = charge[mine] / np.maximum(signals["charge_pe"][owner], 1e-9)
    order = np.lexsort((of_peak, -share, owner))
    first = order[np.flatnonzero(np.diff(owner[order], prepend=-1))]
    main, main_share = np.full(n, NOTHING), np.zeros(n)
    main[owner[first]], main_share[owner[first]] = of_peak[first], share[first]
    is_found = main_share >= rules.found_share
    merged, wrongly = _merged(signals, rules, main, is_found)
    pieces = np.bincount(owner[share >= rules.piece_share], minlength=n)
    return {
        "main": main,
        "main_share": main_share,
        "seen": np.bincount(owner, share, n),
        "found": is_found,
        "split": pieces > 1,
        "merged": merged,
        "wrongly_merged": wrongly,
    }


def _merged(
    signals: Columns, rules: Rules, main: np.ndarray, is_found: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Whether a signal shares its main peak with another that counts; and with one well apart."""
    merged, wrongly = np.zeros((2, main.size), bool)
    rows = np.flatnonzero(is_found)
    rows = rows[np.argsort(main[rows], kind="stable")]
    spread = np.maximum(signals["spread_ns"], rules.min_spread_ns)
    at_ns = signals["start_ns"] + signals["mean_ns"]
    for step in range(1, int(np.unique(main[rows], return_counts=True)[1].max(initial=1))):
        a, b = rows[:-step], rows[step:]
        both = main[a] == main[b]
        a, b = a[both], b[both]
        apart = np.abs(at_ns[a] - at_ns[b]) / np.sqrt((spread[a] ** 2 + spread[b] ** 2) / 2)
        wrong = (apart > rules.apart) | (signals["kind"][a] != signals["kind"][b])
        for one, other in ((a, b), (b, a)):
            counts = signals["charge_pe"][other] >= rules.other_charge * signals["charge_pe"][one]
            merged[one[counts]] = True
            wrongly[one[counts & wrong]] = True
    return merged, wrongly


def _peaks(found: Found, of_signals: Columns, kind: np.ndarray, of_peak, owner, charge, total) -> Columns:
    """What each peak is of."""
    n = found.start_ns.size
    order = np.lexsort((owner, -charge, of_peak))
    first = order[np.flatnonzero(np.diff(of_peak[order], prepend=-1))]
    most, purity = np.full(n, NOTHING * len(Signal)), np.zeros(n)
    most[of_peak[first]] = owner[first]
    purity[of_peak[first]] = charge[first] / np.maximum(total[of_peak[first]], 1e-9)
    own = most >= 0
    is_main = np.zeros(n, bool)
    is_main[own] = of_signals["main"][most[own]] == np.flatnonzero(own)
    of = np.full(n, len(KINDS) - 1)
    of[own] = 2 * (kind[most[own]] - 1) + ~is_main[own]
    for number, late in enumerate(_LATE):
        of[most == -int(late)] = 4 + number
    return {"of": of, "signal": most, "class": found.signal, "area_pe": found.area_pe, "purity": purity}
