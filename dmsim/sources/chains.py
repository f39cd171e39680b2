"""Decay chains in time: the decays of Rn-222 or Rn-220 and of all their short-lived daughters.

A run starts in equilibrium: every isotope has the activity that feeds it. The atoms that are there at the
start are Poisson in number, each with its own exponential time to decay; the parent decays as a Poisson
process. An atom of a later decay follows from its parent's, at the place to which the liquid has carried it.
"""

from collections.abc import Iterable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PRNGKeyArray

from dmsim import ragged, rng
from dmsim.detector import Detector
from dmsim.records import Deposits, Interaction
from dmsim.sources import beta
from dmsim.sources.clock import LEAD_NS, numbers_between, poisson_times_ns
from dmsim.sources.convection import Convection, carry
from dmsim.sources.host_random import HostWords, fold, host_words, uniforms
from dmsim.sources.radon import ISOTOPES, photon_path_mm

CHAINS = {
    "Rn-222": ("Rn-222", "Po-218", "Pb-214", "Bi-214", "Po-214"),
    "Rn-220": ("Rn-220", "Po-216", "Pb-212", "Bi-212", "Tl-208", "Po-212"),
}
MAX_ATOMS = 20_000_000  # at the start of a run: about 4 GB
_LEAST_ATOMS = 4096
_CHAINS = -3  # branch of the user's key
_COUNTS, _LIVES, _MODES, _ENERGIES, _PLACES, _PATHS, _PHOTONS, _IONS, _PARENTS = range(9)


class Origin(NamedTuple):
    """What made each event."""

    source: np.ndarray  # name
    chain: Int[np.ndarray, "event"]  # number of the chain that the decay is in; -1 if it is in none
    isotope: np.ndarray  # name of what decayed; empty if it is in no chain


class Timeline(NamedTuple):
    """Events in time order, and what made them."""

    deposits: Deposits
    truth: Origin


class _Atoms(NamedTuple):
    """Atoms of one isotope."""

    chain: np.ndarray
    born_s: np.ndarray
    places_mm: np.ndarray  # [atom, 3]
    charged: np.ndarray


class _Decays(NamedTuple):
    """Decays of one isotope."""

    chain: np.ndarray
    time_s: np.ndarray
    places_mm: np.ndarray
    is_beta: np.ndarray
    rows: dict[str, np.ndarray]  # deposits, with the decay that each belongs to


def rn222_chain(
    key: PRNGKeyArray,
    detector: Detector,
    *,
    duration_s: float,
    start_s: float = 0.0,
    activity_bq: float = 1.0,
    convection: Convection | None = None,
) -> Timeline:
    """Decays of Rn-222, Po-218, Pb-214, Bi-214 and Po-214 in a span of a run.

    The decays of a span do not depend on how the run is cut into spans.

    Args:
        key: of the run.
        detector: whose volume is filled, and in whose field ions drift.
        duration_s: length of the span, > 0.
        start_s: its start from that of the run, >= 0. All of the run before it is made, too.
        activity_bq: of each isotope in the active volume, >= 0.
        convection: how atoms move between decays; XENON1T's speed, without ion drift, if not given.

    Returns:
        One event a decay, in time order: an alpha, or a beta and the photon of the level it goes to; and the
        chain and the isotope of each.

    Raises:
        ValueError: if a value is outside its range.

    Gradient: none (made on the host); replace leaves of the deposits to differentiate in them.
    Source: `dmsim.sources.radon` (decays), `dmsim.sources.convection` (motion).
    """
    return chain(key, detector, "Rn-222", duration_s=duration_s, start_s=start_s, activity_bq=activity_bq,
                 convection=convection)  # fmt: skip


def rn220_chain(
    key: PRNGKeyArray,
    detector: Detector,
    *,
    duration_s: float,
    start_s: float = 0.0,
    activity_bq: float = 1.0,
    convection: Convection | None = None,
) -> Timeline:
    """Decays of Rn-220, Po-216, Pb-212, Bi-212, Po-212 (64 %) and Tl-208 (36 %). As `rn222_chain`."""
    return chain(key, detector, "Rn-220", duration_s=duration_s, start_s=start_s, activity_bq=activity_bq,
                 convection=convection)  # fmt: skip


def chain(
    key: PRNGKeyArray,
    detector: Detector,
    parent: str,
    *,
    duration_s: float,
    start_s: float = 0.0,
    activity_bq: float = 1.0,
    convection: Convection | None = None,
) -> Timeline:
    """The chain of Rn-222 or Rn-220. Arguments, errors and gradient as in `rn222_chain`."""
    if not (np.isfinite(duration_s) and duration_s > 0):
        raise ValueError(f"duration_s is {duration_s} s: must be finite and above 0 s")
    if not (np.isfinite(start_s) and start_s >= 0):
        raise ValueError(f"start_s is {start_s} s: must be finite and 0 s or more")
    if not 0 <= activity_bq <= 1e6:
        raise ValueError(f"activity_bq is {activity_bq} Bq: must be from 0 to 1e6 Bq")
    convection = Convection() if convection is None else convection
    convection.check()
    words = fold(host_words(key), _CHAINS, _number(parent))
    end_s = start_s + duration_s
    decays = _decays(words, detector, CHAINS[parent], activity_bq, end_s, convection)
    return _timeline(detector, parent, decays, start_s)


def _number(isotope: str) -> int:
    return list(ISOTOPES).index(isotope)


def _decays(
    words: HostWords,
    detector: Detector,
    members: tuple[str, ...],
    activity_bq: float,
    end_s: float,
    convection: Convection,
) -> dict[str, _Decays]:
    """Decays of each isotope up to the end."""
    # activity of each isotope for one of the parent's, and the atoms at the start of the run
    relative = {members[0]: 1.0}
    for name in members:
        entry = ISOTOPES[name]
        for daughter, share in (
            (entry.alpha_daughter, 1 - entry.beta_share),
            (entry.beta_daughter, entry.beta_share),
        ):
            if daughter is not None:
                relative[daughter] = relative.get(daughter, 0.0) + relative[name] * share
    means = [activity_bq * relative[name] * ISOTOPES[name].half_life_s / np.log(2) for name in members[1:]]
    if sum(means) > MAX_ATOMS:
        raise ValueError(
            f"activity_bq is {activity_bq} Bq: {sum(means):.3g} atoms of the chain at the start, must be at "
            f"most {MAX_ATOMS:.3g}"
        )
    counts = _poisson(uniforms(words, _COUNTS, np.arange(len(means))), np.asarray(means))
    firsts = np.concatenate(
        [[0], np.cumsum(counts)]
    )  # chains are numbered from what is there at the start on

    waiting: dict[str, list[_Atoms]] = {name: [] for name in members}
    for name, first, last in zip(members[1:], firsts[:-1], firsts[1:], strict=True):
        numbers = np.arange(first, last)
        waiting[name].append(
            _Atoms(
                numbers,
                np.zeros(len(numbers)),
                _uniform_places(words, detector, numbers),
                np.zeros(len(numbers)),
            )
        )

    clock = fold(words, _PARENTS)
    n_parents = len(numbers_between(clock, activity_bq, 0.0, end_s))
    done: dict[str, _Decays] = {}
    for name in members:
        if name == members[0]:
            # its decays are the process; the atoms are where they decay
            numbers = firsts[-1] + np.arange(n_parents)
            times = np.zeros(0)
            if n_parents:
                times = (poisson_times_ns(clock, activity_bq, 0, n_parents) - LEAD_NS) * 1e-9
            places = _uniform_places(words, detector, numbers)
        else:
            atoms = _Atoms(*(np.concatenate(columns) for columns in zip(*waiting[name], strict=True)))
            numbers, times, places = _live(words, detector, name, atoms, end_s, convection)
        done[name] = _decay(words, detector, name, numbers, times, places)
        _hand_on(words, name, done[name], waiting, convection)
    return done


def _poisson(uniform: np.ndarray, mean: np.ndarray) -> np.ndarray:
    from scipy.stats import poisson  # noqa: PLC0415 - used by few

    return poisson.ppf(uniform, mean).astype(np.int64)


def _uniform_places(words: HostWords, detector: Detector, chains: np.ndarray) -> np.ndarray:
    """Well mixed: uniform in the active volume."""
    radius, length = float(detector.geometry.radius_mm), float(detector.geometry.drift_length_mm)
    area, turn = (uniforms(words, _PLACES, chains, second=second) for second in (False, True))
    depth = uniforms(words, _PLACES, chains, 1)
    r, angle = radius * np.sqrt(area), 2 * np.pi * turn
    return np.stack([r * np.cos(angle), r * np.sin(angle), -length * depth], axis=1)


def _live(
    words: HostWords, detector: Detector, name: str, atoms: _Atoms, end_s: float, convection: Convection
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chains, times and places of the atoms that decay before the end."""
    number = _number(name)
    life = -np.log(uniforms(words, _LIVES, number, atoms.chain)) * ISOTOPES[name].half_life_s / np.log(2)
    # an atom that stands at the start of the run lives on from there
    time = atoms.born_s + life
    now = time < end_s
    chains, time, life = atoms.chain[now], time[now], life[now]
    n = len(chains)
    if n == 0:
        return chains, time, atoms.places_mm[now]
    extra = max(ragged.bucket(n), _LEAST_ATOMS) - n  # few shapes, so that little is compiled
    dtype = detector.geometry.radius_mm.dtype

    def padded(values: np.ndarray, kind=dtype):
        return jnp.asarray(np.pad(values, [(0, extra)] + [(0, 0)] * (values.ndim - 1)), kind)

    keys = rng.Words(*(padded(word, jnp.uint32) for word in fold(words, _PATHS, number, chains)))
    charged = atoms.charged[now] if convection.ions_drift else np.zeros(n)
    moved = carry(keys, detector, convection, padded(atoms.places_mm[now]), padded(life), padded(charged))
    return chains, time, np.asarray(moved, np.float64)[:n]


def _decay(
    words: HostWords, detector: Detector, name: str, chains: np.ndarray, times: np.ndarray, places: np.ndarray
) -> _Decays:
    """What each decay deposits: an alpha or a beta, and the photon of the level that it leaves."""
    entry, number = ISOTOPES[name], _number(name)
    modes = [*entry.alphas, *entry.betas]
    shares = np.cumsum([mode.share for mode in modes])
    which = np.searchsorted(shares[:-1] / shares[-1], uniforms(words, _MODES, number, chains), side="right")
    is_beta = which >= len(entry.alphas)
    energy = np.zeros(len(chains))
    if entry.alphas:
        lines = np.array([line.energy_kev for line in entry.alphas])
        energy = np.where(is_beta, 0.0, lines[np.minimum(which, len(lines) - 1)])
    if entry.betas:
        drawn = jnp.asarray(uniforms(words, _ENERGIES, number, chains))
        chosen = jnp.asarray(np.maximum(which - len(entry.alphas), 0))
        energy = np.where(is_beta, np.asarray(beta.energy_kev(drawn, entry.betas, chosen), float), energy)
    level = np.array([mode.level_kev for mode in modes])[which]
    absorbed = (
        places
        + _flights(words, number, chains)
        * np.asarray(photon_path_mm(level, float(detector.xenon.density_g_per_cm3)), float)[:, None]
    )
    radius, length = float(detector.geometry.radius_mm), float(detector.geometry.drift_length_mm)
    inside = np.hypot(absorbed[:, 0], absorbed[:, 1]) <= radius
    seen = (level > 0) & inside & (absorbed[:, 2] <= 0) & (absorbed[:, 2] >= -length)
    own = np.arange(len(chains))
    rows = {
        "decay": np.concatenate([own, own[seen]]),
        "interaction": np.concatenate(
            [
                np.where(is_beta, Interaction.ER_BETA.value, Interaction.ALPHA.value),
                np.full(seen.sum(), Interaction.ER_GAMMA.value),
            ]
        ),
        "energy_kev": np.concatenate([energy, level[seen]]),
        "places_mm": np.concatenate([places, absorbed[seen]]),
    }
    return _Decays(chains, times, places, is_beta, rows)


def _flights(words: HostWords, number: int, chains: np.ndarray) -> Float[np.ndarray, "decay 3"]:
    """Isotropic directions times exponential lengths of mean 1."""
    length = -np.log(uniforms(words, _PHOTONS, number, chains))
    cosine = 2 * uniforms(words, _PHOTONS, number, chains, second=True) - 1
    angle = 2 * np.pi * uniforms(words, _PHOTONS, number, chains, 1)
    sine = np.sqrt(1 - cosine**2)
    return length[:, None] * np.stack([sine * np.cos(angle), sine * np.sin(angle), cosine], axis=1)


def _hand_on(
    words: HostWords, name: str, decays: _Decays, waiting: dict[str, list[_Atoms]], convection: Convection
) -> None:
    """The daughters of decays, where they are born."""
    entry = ISOTOPES[name]
    for daughter, ours, fraction in (
        (entry.alpha_daughter, ~decays.is_beta, convection.ion_fraction_alpha),
        (entry.beta_daughter, decays.is_beta, convection.ion_fraction_beta),
    ):
        if daughter is None:
            continue
        numbers = decays.chain[ours]
        charged = (uniforms(words, _IONS, _number(daughter), numbers) < fraction).astype(float)
        waiting[daughter].append(_Atoms(numbers, decays.time_s[ours], decays.places_mm[ours], charged))


def _timeline(detector: Detector, parent: str, decays: dict[str, _Decays], start_s: float) -> Timeline:
    """Decays from the start on, in time order, one an event."""
    names = np.concatenate([np.full(len(d.chain), name) for name, d in decays.items()])
    chains = np.concatenate([d.chain for d in decays.values()])
    times = LEAD_NS + np.rint(np.concatenate([d.time_s for d in decays.values()]) * 1e9).astype(np.int64)
    offsets = np.cumsum([0, *(len(d.chain) for d in decays.values())])[:-1]
    columns = _joined([d.rows for d in decays.values()])
    owner = np.concatenate([d.rows["decay"] + o for d, o in zip(decays.values(), offsets, strict=True)])
    order = np.lexsort((chains, times))
    first = int(np.searchsorted(times[order], LEAD_NS + round(start_s * 1e9)))
    return in_time_order(
        detector,
        order[first:],
        first_event=first,
        event_time_ns=times,
        truth=Origin(np.full(len(chains), f"{parent.lower().replace('-', '')}_chain"), chains, names),
        owner=owner,
        columns=columns,
    )


def _joined(parts: Iterable[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    parts = list(parts)
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    places = joined.pop("places_mm")
    joined |= {f"{axis}_mm": places[:, i] for i, axis in enumerate("xyz")}
    return joined | {"time_ns": np.zeros(len(places))}


def in_time_order(
    detector: Detector,
    order: Int[np.ndarray, "event"],
    *,
    first_event: int,
    event_time_ns: Int[np.ndarray, "all"],
    truth: Origin,
    owner: Int[np.ndarray, "deposit"],
    columns: dict[str, np.ndarray],
) -> Timeline:
    """Deposits of chosen events, renumbered in a given order.

    Args:
        detector: whose leaves give the precision.
        order: which of all events to keep, in time order.
        first_event: number of the first of them in its run.
        event_time_ns: of all events.
        truth: of all events.
        owner: event of each deposit.
        columns: interaction, energy_kev, x_mm, y_mm, z_mm and time_ns of each deposit.
    """
    number = np.full(len(event_time_ns), -1, np.int64)
    number[order] = np.arange(len(order))
    event = number[owner]
    rows = np.flatnonzero(event >= 0)
    rows = rows[np.argsort(event[rows], kind="stable")]
    dtype = detector.geometry.radius_mm.dtype
    deposits = Deposits(
        event=jnp.asarray(event[rows], jnp.int32),
        interaction=jnp.asarray(columns["interaction"][rows], jnp.int32),
        **{
            name: jnp.asarray(columns[name][rows], dtype)
            for name in ("energy_kev", "x_mm", "y_mm", "z_mm", "time_ns")
        },
        first_event=jnp.asarray(first_event, jnp.int32),
        event_time_ns=event_time_ns[order],
        n_events=len(order),
    )
    return Timeline(deposits, Origin(*(column[order] for column in truth)))
