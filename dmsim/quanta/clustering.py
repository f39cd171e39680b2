"""Deposits -> Deposits: steps of one interaction that recombine together become one deposit.

A particle code cuts a track into steps of micrometres; the emission model was fitted to whole interactions.
The rule is that of XENON's epix and fuse: first along time, then, among what is close in time, in space.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from dmsim import ragged
from dmsim.records import Deposits, Interaction

# interactions whose deposits are merged with their like only
_APART = (Interaction.KR83M, Interaction.PHOTONS, Interaction.ELECTRONS)
DISTANCE_MM, TIME_NS = 0.005, 10.0  # MicroSeparation and MicroSeparationTime of epix 0.3.3 and fuse


class Clustered(NamedTuple):
    """Merged deposits, and where each of the given ones went."""

    deposits: Deposits
    row: Int[np.ndarray, "deposit"]  # of `deposits`, for each given deposit
    n_merged: int  # given deposits that are no row of their own any more


def cluster(deposits: Deposits, *, distance_mm: float = DISTANCE_MM, time_ns: float = TIME_NS) -> Clustered:
    """Merge deposits of one event that are close in time and place.

    Deposits that follow each other by `time_ns` or less stand together in time; among those, whatever hangs
    together by steps of `distance_mm` or less becomes one deposit. That is done again until nothing
    changes, so that a second call merges nothing. A merged deposit has the summed energy, the
    energy-weighted place and time, and the interaction of its most energetic part (the first of equals).
    Kr-83m is merged with Kr-83m only, as its model stands at the energies of its steps; so are light
    alone and charge alone, whose energy is a number of quanta.

    Args:
        deposits: a batch; its order within an event does not matter for what is merged.
        distance_mm: >= 0.
        time_ns: >= 0.

    Returns:
        Deposits sorted by event and, in it, by their first part. An event's result does not depend on the
        other events of the batch.

    Raises:
        ValueError: if a setting is negative or not finite, or under `jax.jit`, `jax.grad` of compiled code.

    Gradient: none (host arrays come out); replace leaves of the result to differentiate in them.
    Source: epix 0.3.3 (defaults) and fuse's FindCluster and MergeCluster plugins.
    """
    for name, value, unit in (("distance_mm", distance_mm, "mm"), ("time_ns", time_ns, "ns")):
        if not 0 <= value < np.inf:
            raise ValueError(f"{name} is {value} {unit}: must be finite and 0 {unit} or more")
    names = ("event", "interaction", "energy_kev", "x_mm", "y_mm", "z_mm", "time_ns")
    columns = {name: ragged.concrete(getattr(deposits, name), what="cluster") for name in names}
    now = {name: np.asarray(x, np.float64 if x.dtype.kind == "f" else x.dtype) for name, x in columns.items()}
    row = np.arange(len(deposits))
    while True:
        label = _labels(now, distance_mm, time_ns)
        if label.size == 0 or label.max() + 1 == label.size:
            break
        now, row = _merged(now, label), label[row]
    given = {name: jnp.asarray(now[name].astype(columns[name].dtype)) for name in names}
    merged = Deposits(
        **given,
        first_event=deposits.first_event,
        event_time_ns=deposits.event_time_ns,
        n_events=deposits.n_events,
    )
    return Clustered(merged, row, len(deposits) - len(merged))


def _labels(deposits: dict[str, np.ndarray], distance_mm: float, time_ns: float) -> np.ndarray:
    """Number of each deposit's cluster; clusters are numbered by their first deposit."""
    from scipy.sparse import coo_array  # used by this stage alone, and slow to import  # noqa: PLC0415
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415
    from scipy.spatial import KDTree  # noqa: PLC0415

    n = deposits["event"].size
    kind = np.where(np.isin(deposits["interaction"], _APART), deposits["interaction"], -1)
    order = np.lexsort((deposits["time_ns"], kind, deposits["event"]))
    begins = np.ones(n, bool)
    for key, gap in ((deposits["event"], 0), (kind, 0), (deposits["time_ns"], time_ns)):
        begins[1:] &= ~(np.diff(key[order]) > gap)
    begins[1:] = ~begins[1:]
    group = np.empty(n, np.int64)
    group[order] = np.cumsum(begins) - 1
    rows = np.flatnonzero(np.bincount(group, minlength=1)[group] > 1)
    # the group as a fourth coordinate, too far apart to be linked
    apart = group[rows] * (2 * distance_mm + 1)
    places = np.stack([deposits["x_mm"][rows], deposits["y_mm"][rows], deposits["z_mm"][rows], apart], axis=1)
    pairs = rows[KDTree(places).query_pairs(distance_mm, output_type="ndarray")].reshape(-1, 2)
    links = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    label = connected_components(links, directed=False)[1] if n else np.zeros(0, np.int64)
    _, first, label = np.unique(label, return_index=True, return_inverse=True)
    rank = np.empty(first.size, np.int64)
    rank[np.argsort(first)] = np.arange(first.size)
    return rank[label]


def _merged(deposits: dict[str, np.ndarray], label: np.ndarray) -> dict[str, np.ndarray]:
    """One deposit a label: sums of energy, energy-weighted means of place and time."""
    energy = deposits["energy_kev"]
    total = np.bincount(label, energy)
    # without energy every part counts the same
    weight = np.where(total[label] > 0, energy, 1.0)
    weight = weight / np.bincount(label, weight)[label]
    strongest = np.lexsort((np.arange(label.size), -energy, label))
    leader = strongest[np.unique(label[strongest], return_index=True)[1]]
    out = {name: deposits[name][leader] for name in ("event", "interaction")}
    out["energy_kev"] = total
    for name in ("x_mm", "y_mm", "z_mm", "time_ns"):
        values = deposits[name]
        # about the leader, so that parts in one place come out in that place
        away = values - values[leader][label]
        out[name] = values[leader] + np.bincount(label, weight * away)
    return out
