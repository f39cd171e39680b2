"""Built events against true ones: is each main signal what it is taken for, and are both of one event?"""

import numpy as np

from dmsim.records import Signal

Columns = dict[str, np.ndarray]
_NONE = -1


def match_events(
    events: Columns, signals: Columns, peaks: Columns, index: Columns
) -> tuple[Columns, Columns]:
    """Tables of true and of built events.

    A built event is *pure* if its main S1 is a true S1, its main S2 a true S2, and both are of one event. It
    is *right* if they are that event's largest S1 and S2; and a true event is if a right one was built of it.

    Args:
        events: number and energy of each true event.
        signals: true ones, with their events, kinds, charges and main peaks.
        peaks: `signal` says which true signal each is mostly of; below 0 it is of none.
        index: rows of peaks, `s1` and `s2`, -1 for none, and depth `z_mm` of each built event.
    """
    n = events["event"].size
    first = int(events["event"][0]) if n else 0
    row = signals["event"] - first
    # one more row, so that -1 points at something
    kind_of = np.append(signals["kind"], 0)
    event_of, z_of = np.append(row, _NONE), np.append(signals["z_mm"], np.nan)
    signal_of = np.append(np.where(peaks["signal"] >= 0, peaks["signal"], _NONE), _NONE)
    largest, true_of, right_one = {}, {}, {}
    for kind, name in ((Signal.S1, "s1"), (Signal.S2, "s2")):
        rows = np.flatnonzero(signals["kind"] == kind)
        rows = rows[np.argsort(signals["charge_pe"][rows], kind="stable")]
        largest[name] = np.full(n + 1, _NONE)
        largest[name][row[rows]] = rows  # of several the last, the largest, counts
        of = signal_of[index[name]]
        true_of[name] = np.where(kind_of[of] == kind, of, _NONE)
        is_main = np.zeros(signals["event"].size + 1, bool)
        is_main[true_of[name][true_of[name] >= 0]] = True
        right_one[name] = is_main[largest[name][:n]]
    s1, s2 = true_of["s1"], true_of["s2"]
    both = (index["s1"] >= 0) & (index["s2"] >= 0)
    pure = (s1 >= 0) & (s2 >= 0) & (event_of[s1] == event_of[s2])
    event = np.where(pure, event_of[s2], _NONE)
    right = pure & (largest["s1"][event] == s1) & (largest["s2"][event] == s2)
    found = np.zeros(n + 1, bool)
    found[event[right]] = True
    of_event = {
        f"{name}_{column}": np.append(signals[column], np.nan)[largest[name][:n]]
        for name, column in (("s1", "n_photons"), ("s2", "n_electrons"), ("s2", "charge_pe"))
    }
    true = {
        **events,
        **of_event,
        "right_s1": right_one["s1"],
        "right_s2": right_one["s2"],
        "right": found[:n],
    }
    z_true = np.where(pure, z_of[s2], np.nan)
    return true, {"both": both, "pure": pure, "right": right, "z_mm": index["z_mm"], "z_true_mm": z_true}
