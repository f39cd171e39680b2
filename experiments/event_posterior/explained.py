"""Events of the pattern posterior explained: which PMTs moved it away from the centre.

A straight path from some average light to the pattern leads through light of two places, from one of which to
the other the fit of a place jumps: shares cannot add up on it. Here the sources that are fitted to the event
move from the array's centre to their places, each pattern on the way one that could be; then the light goes
from what is expected of them to what was seen.

Of light that one source explains, where a second one would be is noise, and so is its slope in each PMT. What
the fit of two sources found is therefore an input of its own, beside the PMTs, with a share of its own.
"""

from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from pattern_checks import taken
from pattern_events import LABELS, PatternEvents, Patterns, grouped

from dmsim.reconstruction.light_table import top_shares
from inference import position
from inference.event_report import event_report, likeliest_kind, of_kind
from inference.explain import deletion, integrated_gradients
from inference.position.pair import Pair, fit_pair

_FEW = 4096  # events of the pool, to choose from
_DRAWS = 128
_ASKED = (1, 2)  # means of x and y


_PAIR = "second_source"  # entry of the data: the fit of two sources


def packed(pair: Pair) -> Float[Array, "event 17"]:
    """A fit as numbers each of which may change alone: covariances as log widths and correlation."""
    n = pair.gain.shape[0]
    width = jnp.sqrt(jnp.einsum("bsii->bsi", pair.covariance_mm2))
    correlation = pair.covariance_mm2[..., 0, 1] / (width[..., 0] * width[..., 1])
    parts = [pair.place_mm, pair.free_mm, jnp.log(width), correlation]
    rest = [pair.logit, jnp.log(pair.logit_width), pair.gain]
    return jnp.concatenate([part.reshape(n, -1) for part in parts] + [part[:, None] for part in rest], axis=1)


def unpacked(rows: Float[Array, "event 17"]) -> Pair:
    """The way back."""
    place, free, log_width = (rows[:, first : first + 4].reshape(-1, 2, 2) for first in (0, 4, 8))
    width, mixed = jnp.exp(log_width), rows[:, 12:14]
    off = mixed * width[..., 0] * width[..., 1]
    covariance = jnp.stack([width[..., 0] ** 2, off, off, width[..., 1] ** 2], axis=-1).reshape(-1, 2, 2, 2)
    return Pair(place, free, covariance, rows[:, 14], jnp.exp(rows[:, 15]), rows[:, 16])


class SourcePath(eqx.Module):
    """From the expected light of sources about the array's centre, to theirs at their places, to the data."""

    one: position.PositionSummary
    prior: Any  # of the place
    place_mm: Float[Array, "source 2"]
    light: Float[Array, "source"]  # share of each, sum 1
    top_pe: Float[Array, ""]

    def expected(self, away: Any) -> Float[Array, "top"]:
        """Light of the sources, their centre this share of its way from the array's centre."""
        centre = self.light @ self.place_mm
        at = self.place_mm + (away - 1) * centre
        return self.top_pe * (self.light @ top_shares(self.one.light, self.one.geometry, at))

    def baseline(self, x: dict[str, Any]) -> dict[str, Any]:
        """The event, its sources about the array's centre."""
        light = self.expected(0.0)
        return {**x, "s2_top_pe": np.asarray(light), _PAIR: np.asarray(_fit(self.one, self.prior, light))}

    def __call__(self, share: Any, baseline: dict[str, Any], x: dict[str, Any]) -> dict[str, Any]:
        """Data on the way: first the place, then the light."""
        away, seen = jnp.minimum(2 * share, 1.0), jnp.maximum(2 * share - 1, 0.0)
        expected = self.expected(away)
        pair = baseline[_PAIR] + away * (x[_PAIR] - baseline[_PAIR])
        return {**x, "s2_top_pe": expected + seen * (x["s2_top_pe"] - expected), _PAIR: pair}


@eqx.filter_jit
def _fit(one: position.PositionSummary, prior: Any, light: Float[Array, "top"]) -> Float[Array, "17"]:
    """Two places fitted to a pattern."""
    place = prior.to_physical(one(light[None])[:, :2])
    return packed(fit_pair(one, one.counts(light[None]), place))[0]


def data_of(events: PatternEvents, event: dict[str, Any]) -> dict[str, np.ndarray]:
    """One event's data by name, each at least a vector, and the fit of two sources."""
    data = {name: np.atleast_1d(value).astype(np.float32) for name, value in event["data"]._asdict().items()}
    light = jnp.asarray(data["s2_top_pe"])
    return {**data, _PAIR: np.asarray(_fit(events.one, events.prior.blocks[1], light))}


class SummaryOf(eqx.Module):
    """What the network sees; its arrays are no constants of what is compiled."""

    events: PatternEvents

    def __call__(self, x: dict[str, Any]) -> Float[Array, "event x"]:
        """Of data by name."""
        data = Patterns(x["s2_top_pe"], *(x[n][:, 0] for n in Patterns._fields[1:]))
        return self.events.summary(data, unpacked(x[_PAIR]))[0]


def way_of(events: PatternEvents, x: dict[str, Any], label: int) -> SourcePath:
    """The path to these data: of one source or of two, as the label has it."""
    light, pair, prior = jnp.asarray(x["s2_top_pe"]), unpacked(x[_PAIR][None]), events.prior.blocks[1]
    if label < 2:  # single scatters come first
        place, light_of = prior.to_physical(events.one(light[None])[:, :2]), jnp.ones(1)
    else:
        share = jax.nn.sigmoid(pair.logit[0])
        place, light_of = pair.place_mm[0], jnp.stack([share, 1 - share])
    return SourcePath(events.one, prior, place, light_of, jnp.sum(light))


def samplers(events: PatternEvents, post: Any) -> list[Any]:
    """Draws given each label; what is compiled serves all."""
    return [of_kind(post, label, SummaryOf(events)) for label in range(len(LABELS))]


def chosen(events: PatternEvents, pool: dict[str, Any], radius: float = 0.7) -> int:
    """A single electron recoil of some thousand PE, at about this share of the radius."""
    theta, data = pool["theta"], pool["data"]
    s2 = data.s2_top_pe.sum(axis=1) + data.s2_bottom_pe
    r = np.hypot(theta[:, 1], theta[:, 2]) / float(events.detector.geometry.radius_mm)
    off = np.abs(np.log(s2 / 5000)) + 10 * np.abs(r - radius) + 1e3 * (theta[:, 4] != 0)
    return int(np.argmin(off[:_FEW]))


def explain(
    path: Path, key: Any, events: PatternEvents, post: Any, of_label: list[Any], pool: dict[str, Any]
) -> dict[str, Any]:
    """Numbers and figure of one event; what failed, if the shares do not add up."""
    event = taken(pool, np.array(chosen(events, pool)))
    x = data_of(events, event)
    kind, chance = likeliest_kind(post, jnp.asarray(event["x"]))
    sensors = events.detector.light.sensors
    top = slice(0, sensors.n_top)
    places = {"s2_top_pe": (np.asarray(sensors.x_mm)[top], np.asarray(sensors.y_mm)[top])}
    way = way_of(events, x, kind)
    names, units = events.prior.names[:4], events.prior.units[:4]
    try:
        found = event_report(
            path, key, of_label[kind], x, way.baseline(x), names=names, units=units,
            places_mm=places, shown=("x_mm", "y_mm"), summed=(_PAIR,), way=way, asked=_ASKED, n_draws=_DRAWS,
        )  # fmt: skip
    except ValueError as error:  # the other numbers stand without it
        return {"failed": str(error)}
    return {**found, "kind": LABELS[kind], "probability": chance, "truth": event["theta"].tolist()}


def survey(
    key: Any, events: PatternEvents, post: Any, of_label: list[Any], pool: dict[str, Any], n: int
) -> dict[str, Any]:
    """Completeness and deletion of as many single as double scatters: how often both hold."""
    double = grouped(pool["theta"][:, 4])[1]
    rows = np.concatenate([np.flatnonzero(~double)[: n - n // 2], np.flatnonzero(double)[: n // 2]])
    out = []
    for number, row in enumerate(rows):
        event = taken(pool, np.array(row))
        x = data_of(events, event)
        kind, _ = likeliest_kind(post, jnp.asarray(event["x"]))
        way = way_of(events, x, kind)
        baseline = way.baseline(x)
        keys = jax.random.split(jax.random.fold_in(key, number))
        told: dict[str, Any] = {"row": int(row), "truth": int(event["theta"][4]), "label": kind}
        try:
            found = integrated_gradients(
                keys[0], of_label[kind], x, baseline, way=way, asked=_ASKED, n_draws=_DRAWS
            )
        except ValueError as error:
            out.append({**told, "failed": str(error)})
            print(f"explained: {told}, {error}", flush=True)
            continue
        # the axis that moved more
        moved = np.abs(np.asarray(found.moments - found.at_baseline))[1:3]
        axis = 1 + int(np.argmax(moved))
        test = deletion(keys[1], of_label[kind], x, baseline, found, axis, n_draws=_DRAWS)
        gaps = [float(gap) for gap in found.gap]
        told |= {
            "gap": max(gaps[i] for i in _ASKED),
            "gaps": gaps,
            "nodes": found.n_nodes,
            "p_value": test.p_value,
        }
        out.append(told)
    return {"n": len(rows), "complete": sum("gap" in told for told in out), "events": out}
