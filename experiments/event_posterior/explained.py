"""One single scatter of the pattern posterior, explained: the event report of `inference.event_report`."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from pattern_checks import taken
from pattern_events import LABELS, PatternEvents, Patterns, grouped

from inference.event_report import event_report, likeliest_kind, of_kind

_FEW = 4096  # events of the pool, to choose from and to average


def data_of(event: dict[str, Any]) -> dict[str, np.ndarray]:
    """One event's data by name, each at least a vector."""
    return {name: np.atleast_1d(value).astype(np.float32) for name, value in event["data"]._asdict().items()}


def summary_of(events: PatternEvents, x: dict[str, Any]) -> Any:
    """What the network sees."""
    return events.summary(Patterns(x["s2_top_pe"], *(x[name][:, 0] for name in Patterns._fields[1:])))[0]


def average(pool: dict[str, Any], x: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """An event of the same light, its S2 spread out as the mean over all events is."""
    pattern = pool["data"].s2_top_pe[:_FEW]
    mean = np.mean(pattern / pattern.sum(axis=1, keepdims=True), axis=0)
    return {**x, "s2_top_pe": (mean * x["s2_top_pe"].sum()).astype(np.float32)}


def chosen(events: PatternEvents, pool: dict[str, Any], radius: float = 0.7) -> int:
    """A single electron recoil of some thousand PE, at about this share of the radius."""
    theta, data = pool["theta"], pool["data"]
    s2 = data.s2_top_pe.sum(axis=1) + data.s2_bottom_pe
    r = np.hypot(theta[:, 1], theta[:, 2]) / float(events.detector.geometry.radius_mm)
    off = np.abs(np.log(s2 / 5000)) + 10 * np.abs(r - radius) + 1e3 * (theta[:, 4] != 0)
    return int(np.argmin(off[:_FEW]))


def explain(
    path: Path, key: Any, events: PatternEvents, post: Any, pool: dict[str, Any], row: int
) -> dict[str, Any]:
    """Numbers and figure of one event."""
    event = taken(pool, np.array(row))
    x = data_of(event)
    kind, chance = likeliest_kind(post, jnp.asarray(event["x"]))
    sensors = events.detector.light.sensors
    top = slice(0, sensors.n_top)
    places = {"s2_top_pe": (np.asarray(sensors.x_mm)[top], np.asarray(sensors.y_mm)[top])}
    sample = of_kind(post, kind, lambda x: summary_of(events, x))
    names, units = events.prior.names[:4], events.prior.units[:4]
    found = event_report(
        path, key, sample, x, average(pool, x), names=names, units=units, places_mm=places,
        shown=("x_mm", "y_mm"),
    )  # fmt: skip
    return {**found, "kind": LABELS[kind], "probability": chance, "truth": event["theta"].tolist()}


def survey(key: Any, events: PatternEvents, post: Any, pool: dict[str, Any], n: int) -> dict[str, Any]:
    """Completeness and deletion of some single scatters: how often both hold."""
    from inference.explain import deletion, integrated_gradients  # noqa: PLC0415

    rows = np.flatnonzero(~grouped(pool["theta"][:, 4])[1])[:n]
    gaps, nodes, p_values, failed = [], [], [], 0
    for number, row in enumerate(rows):
        event = taken(pool, np.array(row))
        x = data_of(event)
        baseline = average(pool, x)
        kind, _ = likeliest_kind(post, jnp.asarray(event["x"]))
        sample = of_kind(post, kind, lambda x: summary_of(events, x))
        keys = jax.random.split(jax.random.fold_in(key, number))
        try:
            found = integrated_gradients(keys[0], sample, x, baseline, n_draws=128)
        except ValueError:
            failed += 1
            continue
        gaps.append(float(found.gap.max()))
        nodes.append(found.n_nodes)
        # the axis that moved more
        moved = np.abs(np.asarray(found.moments - found.at_baseline))[1:3]
        test = deletion(keys[1], sample, x, baseline, found, 1 + int(np.argmax(moved)), n_draws=128)
        p_values.append(test.p_value)
    return {"n": len(rows), "failed": failed, "gaps": gaps, "nodes": nodes, "p_values": p_values}
