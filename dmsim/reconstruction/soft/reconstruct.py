"""Records -> SoftPeaks and SoftEvents: the whole chain in the soft reading."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmsim import ragged, relax
from dmsim.detector import Detector
from dmsim.reconstruction import event_margins
from dmsim.reconstruction.corrections import correct, delay_offset_ns
from dmsim.reconstruction.energy import combined_energy_kev
from dmsim.reconstruction.event_building import cathode_drift_ns
from dmsim.reconstruction.settings import Settings
from dmsim.reconstruction.soft import decisions, pairing
from dmsim.reconstruction.soft.arrays import arrays_of
from dmsim.reconstruction.soft.atoms import LEAST
from dmsim.reconstruction.soft.boundaries import cuts, runs
from dmsim.reconstruction.soft.layout import Layout, Static
from dmsim.reconstruction.soft.measure import measure
from dmsim.reconstruction.soft.places import Places, fit_places
from dmsim.reconstruction.soft.structure import structure_of
from dmsim.reconstruction.soft.tables import SoftEvents, SoftPeaks
from dmsim.reconstruction.soft.temperature import Temperature, temperature_of
from dmsim.reconstruction.tables import event_and_time_ns
from dmsim.records import RawRecords

_BEST = 4  # main S1s and S2s of an event that its averages are over


class Plan(eqx.Module):
    """What the hard reading fixed: the soft one is a pure function of samples, settings and temperatures."""

    layout: Layout
    time_ns: np.ndarray = eqx.field(static=False)
    length_ns: np.ndarray
    event: np.ndarray
    first_event: int = eqx.field(static=True)
    static: Static = eqx.field(static=True)


def _concrete(tree: Any) -> Any:
    """The same with plain numbers, also under `jax.grad`."""
    return jax.tree.map(lambda x: float(ragged.concrete(jnp.asarray(x), what="the soft reading")), tree)


def plan(
    detector: Detector,
    records: RawRecords,
    *,
    settings: Settings | None = None,
    temperature: Temperature | float | None = None,
) -> Plan:
    """Read the records with real decisions, and keep what is near one.

    Args:
        detector: that took the records.
        records: of whole events; concrete numbers, also under `jax.grad`.
        settings: the defaults if None.
        temperature: as for `reconstruct_soft`.

    Gradient: none.
    """
    held_settings: Settings = _concrete((settings or Settings()).resolved(detector))
    t: Temperature = _concrete(temperature_of(temperature))
    data = np.asarray(ragged.concrete(jnp.asarray(records.data), what="the soft reading"))
    held = eqx.tree_at(lambda r: r.data, records, data)
    structure = structure_of(detector, held, held_settings, t)
    layout, static = arrays_of(detector, held, held_settings, t, structure)
    n, c = len(structure.runs), layout.candidates
    event, time_ns = event_and_time_ns(c.time_ns[:n], static.dt)
    if records.event_time_ns is not None:
        time_ns = time_ns + np.asarray(records.event_time_ns, np.int64)[event]
    return Plan(
        layout=layout._replace(candidates=c._replace(time_ns=None, length_ns=None)),
        time_ns=time_ns,
        length_ns=c.length_ns[:n],
        event=event + int(records.first_event),
        first_event=int(records.first_event),
        static=static,
    )


def _classes(measured, run):
    """After merging: what was joined is an S2."""
    s1, s2, unknown = measured.chance
    return run.unmerged * s1, run.unmerged * s2 + (1 - run.unmerged), run.unmerged * unknown


@partial(jax.jit, static_argnames="static")
def _evaluate(data, settings: Settings, t: Temperature, layout: Layout, static: Static):
    """All that does not need a place."""
    measured, _, starts, ends = measure(data, settings, t, layout, static)
    cut, chances = cuts(settings, t, layout, static, measured, starts, ends)
    run = runs(settings, layout, measured, cut, chances if static.n_levels else None)
    top = jnp.sum(measured.area_per_channel_pe[:, : static.n_top], axis=1)
    twentieth = measured.twentieth_ns
    given = relax.decide(top - settings.position.min_area_pe, t.position_pe, at_zero=True)
    s1, s2, unknown = _classes(measured, run)
    return run, {
        "probability": run.probability,
        "s1": s1,
        "s2": s2,
        "unknown": unknown,
        "area_pe": measured.area_pe,
        "area_top_pe": top,
        "area_per_channel_pe": measured.area_per_channel_pe,
        "n_hits": measured.n_hits,
        "n_sensors": jnp.sum(measured.sees, axis=1),
        "tight_coincidence": jnp.sum(measured.sees_at_once, axis=1),
        "center_time_ns": measured.center_ns,
        "decile_ns": twentieth[:, ::2],
        "width_ns": twentieth[:, 10:] - twentieth[:, 10::-1],
        "maximum_ns": measured.maximum_ns,
        "position": given,
    }


@partial(jax.jit, static_argnames="static")
def _pairs(run, peaks, settings: Settings, t: Temperature, cathode_drift_ns, layout: Layout, static: Static):
    """Main signals of every event."""
    c, table = layout.candidates, layout.events
    center = c.offset_ns + jnp.nan_to_num(peaks["center_time_ns"])

    def one(slot, backwards, n_atoms):
        there = slot >= 0
        slots = pairing.Slots(
            c.first_atom[slot],
            c.last_atom[slot],
            jnp.where(there, run.weight[slot], 0.0),
            peaks["area_pe"][slot],
        )
        drift = center[slot][:, None] - center[slot][None, :]  # [S2, S1]
        is_pair = decisions.paired(settings.events, t, drift, cathode_drift_ns)
        s1, s2 = (jnp.where(there, run.enough[slot] * peaks[k][slot], 0.0) for k in ("s1", "s2"))
        return pairing.pair(slots, backwards, n_atoms, s1, s2, is_pair, static.n_atoms), drift

    return jax.vmap(one)(table.candidate, table.backwards, table.n_atoms)


def _mean(weight, value, axis: int | tuple[int, ...] = -1):
    """Mean of values that may be undefined where their weight is 0; NaN without weight."""
    total = jnp.sum(weight, axis=axis)
    value = jnp.where(weight > 0, value, 0.0)
    safe = jnp.where(total > 0, total, 1.0)
    return jnp.where(total > 0, jnp.sum(weight * value, axis=axis) / safe, jnp.nan)


def reconstruct_soft(
    detector: Detector,
    records: RawRecords,
    *,
    settings: Settings | None = None,
    temperature: Temperature | float | None = None,
) -> tuple[SoftPeaks, SoftEvents]:
    """Peaks and events with every decision as a probability.

    Args:
        detector: that took the records; its drift field as a map, where it has one.
        records: of whole events, with their numbers.
        settings: thresholds; the defaults if None. Float fields may be traced by `jax.grad`.
        temperature: of each decision, or a factor on the default ones; 0 is the hard reading.

    Raises:
        ValueError: as the hard reading, or under `jax.jit` and `jax.vmap`: `evaluate` on a `plan` is
            what runs inside those.

    Gradient: jitter, of every decision; exact in samples inside a window. See `evaluate`.
    """
    return evaluate(
        plan(detector, records, settings=settings, temperature=temperature),
        detector,
        jnp.asarray(records.data),
        settings=settings,
        temperature=temperature,
    )


def evaluate(
    plan: Plan,
    detector: Detector,
    data: Float[Array, "record sample"],
    *,
    settings: Settings | None = None,
    temperature: Temperature | float | None = None,
    places: Places | None = None,
) -> tuple[SoftPeaks, SoftEvents]:
    """The soft reading on a fixed plan: a pure function of samples, settings and temperatures.

    Args:
        plan: of the same records.
        detector: as for the plan.
        data: samples [ADC].
        settings: the defaults if None.
        temperature: as for `reconstruct_soft`.
        places: of the possible S2s, from `places_of`; made from the areas if None, outside of `jax.jit` only.

    Gradient: jitter of every decision; exact in the samples. Held: which hits and candidates there are, the
    samples of maxima, the place of a split, which of two areas is the larger.
    """
    settings, t = (settings or Settings()).resolved(detector), temperature_of(temperature)
    layout, static, n = plan.layout, plan.static, len(plan.time_ns)
    data = jnp.asarray(data, float)
    run, columns = _evaluate(data, settings, t, layout, static)
    if places is None:
        places = _fit(detector, settings, columns)
    with jax.ensure_compile_time_eval():  # of the detector, which is not traced
        cathode, delay = float(cathode_drift_ns(detector)), delay_offset_ns(detector)
    pairs, drift = _pairs(run, columns, settings, t, cathode, layout, static)
    events = _events(detector, settings, t, columns, pairs, drift, layout, places, delay)
    x_mm, y_mm = places.at(jnp.arange(len(places.x_mm)), columns["area_per_channel_pe"])
    peaks = SoftPeaks(
        event=plan.event,
        time_ns=plan.time_ns,
        length_ns=plan.length_ns,
        x_mm=x_mm[:n],
        y_mm=y_mm[:n],
        **{name: column[:n] for name, column in columns.items()},
    )
    number = plan.first_event + np.arange(static.n_events)
    return peaks, SoftEvents(event=number, **events)


def peak_columns(
    plan: Plan, data: Float[Array, "record sample"], *, settings: Settings, temperature: Temperature
) -> dict[str, Float[Array, "peak ..."]]:
    """Columns of `SoftPeaks` but x and y, with padding; no places, no events. Gradient: as `evaluate`.

    Args:
        plan: of the same records; only its arrays and sizes are read.
        data: samples [ADC].
        settings: resolved.
        temperature: of each decision.
    """
    return _evaluate(jnp.asarray(data, float), settings, temperature, plan.layout, plan.static)[1]


def _fit(detector: Detector, settings: Settings, columns) -> Places:
    """Places of what may be an S2, on the host."""
    area, s2, exists = (
        np.asarray(ragged.concrete(columns[name], what="the fit of places"))
        for name in ("area_per_channel_pe", "s2", "probability")
    )
    return fit_places(detector, _concrete(settings.position), area, np.flatnonzero(s2 * exists >= LEAST))


def places_of(plan: Plan, detector: Detector, data, *, settings=None, temperature=None) -> Places:
    """Fitted places of all that may be an S2, for `evaluate` inside compiled code. Gradient: none."""
    settings, t = (settings or Settings()).resolved(detector), temperature_of(temperature)
    _, columns = _evaluate(jnp.asarray(data, float), settings, t, plan.layout, plan.static)
    return _fit(detector, settings, columns)


@eqx.filter_jit
def _events(
    detector, settings, t, columns, pairs, drift, layout, places: Places, delay_ns
) -> dict[str, Array]:
    """Means over the likeliest main signals."""
    slot = layout.events.candidate
    there = slot >= 0

    def of(name):
        return columns[name][slot]

    area, top, sensors = of("area_pe"), of("area_top_pe"), columns["area_per_channel_pe"]
    positive = area > 0
    fraction = jnp.where(positive, top / jnp.where(positive, area, 1.0), jnp.nan)
    # the likeliest main signals: [event, best]
    s2_at = pairs.best
    chance_s1, s1_at = jax.lax.top_k(pairs.main_s1, min(_BEST, slot.shape[1]))
    joint = jnp.take_along_axis(pairs.joint[:, :-1], s1_at[:, None, :], axis=2)  # [event, S2, S1]
    rows = jnp.take_along_axis(slot, s2_at, axis=1)
    seen = jnp.isfinite(places.x_mm[rows]) & (jnp.take_along_axis(pairs.main_s2, s2_at, axis=1) > 0)
    xy = (jnp.where(seen, place, 0.0) for place in places.at(rows, sensors[rows]))
    joint = joint * (seen & (rows >= 0))[..., None] * columns["position"][rows][..., None]
    take = jnp.take_along_axis(drift, s2_at[:, :, None], axis=1)
    drift_ns = jnp.take_along_axis(take, s1_at[:, None, :], axis=2)
    used = jnp.where(joint > 0, drift_ns, 1e3) - delay_ns
    x, y = (jnp.broadcast_to(place[..., None], joint.shape) for place in xy)
    place = correct(detector, x, y, used)
    s1_pe = jnp.take_along_axis(area, s1_at, axis=1)[:, None, :]
    s2_top, s2_pe = (jnp.take_along_axis(v, s2_at, axis=1)[..., None] for v in (top, area))
    both = (1, 2)
    exists = jnp.where(there, of("probability"), 0.0)
    over = relax.decide(event_margins.trigger_area(settings.events, area), t.trigger_pe)
    width = columns["width_ns"][..., 5][slot]
    cs1_pe = _mean(joint, s1_pe * place.s1, both)
    cs2_pe = _mean(joint, s2_top * place.s2_top + (s2_pe - s2_top) * place.s2_bottom, both)
    light_kev, charge_kev = combined_energy_kev(detector, cs1_pe, cs2_pe)
    return {
        "has_s1": jnp.sum(pairs.main_s1, axis=1),
        "has_s2": jnp.sum(pairs.main_s2, axis=1),
        "has_pair": jnp.sum(pairs.joint[:, :-1], axis=both),
        "s1_pe": _mean(pairs.main_s1, area),
        "s2_pe": _mean(pairs.main_s2, area),
        "s1_area_fraction_top": _mean(pairs.main_s1, fraction),
        "s2_area_fraction_top": _mean(pairs.main_s2, fraction),
        "s2_width_50_ns": _mean(pairs.main_s2, width),
        "cs1_pe": cs1_pe,
        "cs2_pe": cs2_pe,
        "energy_kev": light_kev + charge_kev,
        "energy_light_kev": light_kev,
        "energy_charge_kev": charge_kev,
        "drift_time_ns": _mean(joint, drift_ns, both),
        "x_mm": _mean(joint, place.x_mm, both),
        "y_mm": _mean(joint, place.y_mm, both),
        "z_mm": _mean(joint, place.z_mm, both),
        "n_peaks": jnp.sum(exists, axis=1),
        "n_s1": jnp.sum(exists * of("s1"), axis=1),
        "n_s2": jnp.sum(exists * of("s2"), axis=1),
        "n_triggers": jnp.sum(exists * of("s2") * over, axis=1),
    }
