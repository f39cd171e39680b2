"""What is asked of the posterior from patterns."""

from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from checks import LEVELS, NAMES, central_coverage
from pattern_events import LABELS, PatternEvents, Patterns, grouped
from pattern_exact import draws_among, importance
from pattern_summary import RADIUS_COLUMN, gain_of

import inference
from dmsim.reconstruction.position import positions
from inference.estimators import Fit
from inference.events import Whitened

_CHUNK = 4096
_EDGES_MM = (0.0, 20.0, 40.0, 60.0, 80.0, 120.0, 160.0, 240.0, 401.0)
_S2_EDGES = (100.0, 1000.0, 3000.0, 1e6)


def draw_pool(key: Any, events: PatternEvents, n: int) -> dict[str, Any]:
    """Events with their summaries as numpy arrays, in chunks of one shape."""

    @eqx.filter_jit
    def chunk(events, key):
        theta, data, partner = events.draw(key, _CHUNK)
        x, sources = events.summary(data)
        return {
            "theta": theta.at[:, 4].set(events.labels(theta, x, sources)), "data": data, "x": x,
            "partner": partner, "seen": events.seen(data),
        }  # fmt: skip

    parts = [
        jax.tree.map(np.asarray, chunk(events, jax.random.fold_in(key, i))) for i in range(-(-n // _CHUNK))
    ]
    pool = jax.tree.map(lambda *each: np.concatenate(each)[:n], *parts)
    if not pool["seen"].all():
        raise ValueError("too few of the drawn events are seen: raise `oversample`")
    return pool


def taken(pool: dict[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """Some events of a pool."""
    return jax.tree.map(lambda part: part[rows], pool)


def draws_of(
    key: Any, post: Any, x: np.ndarray, labels: tuple[int, ...], n: int, chunk: int = 250
) -> np.ndarray:
    """Draws given that the label is one of these; all labels: draws of the posterior."""
    chunk = min(chunk, len(x))
    found = np.empty((len(x), n, 5), np.float32)
    for first in range(0, len(x), chunk):
        at = min(first, len(x) - chunk)
        drawn = draws_among(post, jax.random.fold_in(key, first), jnp.asarray(x[at : at + chunk]), labels, n)
        found[at : at + chunk] = drawn[0]
    return found


@eqx.filter_jit
def _log_kinds(network, x):
    return network.log_kinds(network.condition(x))


def probabilities(post: Any, x: np.ndarray) -> np.ndarray:
    """Of each label."""
    parts = [
        np.asarray(_log_kinds(post.network, jnp.asarray(x[i : i + _CHUNK]))) for i in range(0, len(x), _CHUNK)
    ]
    return np.exp(np.concatenate(parts))


def coverage(key: Any, post: Any, pool: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Central intervals of all events, of events at the wall, and of double scatters known as such."""
    every, doubles = tuple(range(len(LABELS))), tuple(range(2, len(LABELS)))
    test = np.arange(min(settings["n_test"], len(pool["x"])))
    # a choice by data: the radius that one source is found at
    found_r = pool["x"][:, RADIUS_COLUMN]
    wall = np.flatnonzero(found_r > settings["wall_radius"])[: settings["n_wall"]]
    double = np.flatnonzero(grouped(pool["theta"][:, 4])[1])[: settings["n_doubles"]]
    out = {}
    for number, (name, rows, labels) in enumerate(
        (("all", test, every), ("wall", wall, every), ("doubles", double, doubles))
    ):
        draws = draws_of(jax.random.fold_in(key, number), post, pool["x"][rows], labels, settings["n_draws"])
        inside, _ = central_coverage(jax.random.fold_in(key, 10 + number), pool["theta"][rows], draws)
        off = {
            f"{each}, {level:.0%}": 100 * (inside[each][str(level)] - level)
            for each in NAMES
            for level in LEVELS
        }
        worst = max(off, key=lambda each: abs(off[each]))
        out[name] = {"n": len(rows), "coverage": inside, "largest_percent": off[worst], "largest_of": worst}
    return out


def recognition(post: Any, pool: dict[str, Any]) -> dict[str, Any]:
    """Share of double scatters that are recognised where 1 % of the single ones are lost."""
    kinds = probabilities(post, pool["x"])
    _, double = grouped(pool["theta"][:, 4])
    score = kinds[:, 2:].sum(axis=1)
    gain = np.asarray(gain_of(pool["x"]))  # of the likelihood of two places: what a cut on it would do
    partner, theta = pool["partner"], pool["theta"]
    apart = np.hypot(partner.x_mm - theta[:, 1], partner.y_mm - theta[:, 2])
    s2 = pool["data"].s2_top_pe.sum(axis=1) + pool["data"].s2_bottom_pe
    out: dict[str, Any] = {"edges_mm": _EDGES_MM, "s2_edges_pe": _S2_EDGES}
    for name, value in (("posterior", score), ("two places' likelihood", gain)):
        passed = value > np.quantile(value[~double], 0.99)
        out[name] = {"all": float(passed[double].mean()), "bins": [], "by_s2": []}
        for low, high in zip(_EDGES_MM[:-1], _EDGES_MM[1:], strict=True):
            here = double & (apart >= low) & (apart < high)
            out[name]["bins"].append([float(passed[here].mean()), int(here.sum())])
        for low, high in zip(_S2_EDGES[:-1], _S2_EDGES[1:], strict=True):
            lit = double & (s2 >= low) & (s2 < high)
            row = [
                lit & (apart >= a) & (apart < b) for a, b in zip(_EDGES_MM[:-1], _EDGES_MM[1:], strict=True)
            ]
            out[name]["by_s2"].append([float(passed[here].mean()) if here.any() else None for here in row])
    return out


def reliability(post: Any, pool: dict[str, Any], n_bins: int = 10) -> dict[str, Any]:
    """Probabilities of being a double scatter, and of a nuclear recoil, against how often it is one."""
    kinds = probabilities(post, pool["x"])
    nuclear, double = grouped(pool["theta"][:, 4])
    out = {}
    for name, chance, true in (
        ("double", kinds[:, 2:].sum(axis=1), double), ("nr", kinds[:, 1::2].sum(axis=1), nuclear),
    ):  # fmt: skip
        bins = np.minimum((chance * n_bins).astype(int), n_bins - 1)
        rows, chi2 = [], 0.0
        for k in range(n_bins):
            here = bins == k
            if here.sum() < 20:
                continue
            said, found, n = float(chance[here].mean()), float(true[here].mean()), int(here.sum())
            error = float(np.sqrt(np.sum(chance[here] * (1 - chance[here]))) / n)
            rows.append([said, found, error, n])
            chi2 += ((found - said) / error) ** 2
        off = [abs(found - said) for said, found, _, _ in rows]
        entropy = -np.mean(
            np.where(true, np.log(np.maximum(chance, 1e-9)), np.log(np.maximum(1 - chance, 1e-9)))
        )
        out[name] = {
            "rows": rows,
            "chi2": chi2,
            "n_bins": len(rows),
            "largest": max(off),
            "log_loss": float(entropy),
        }
    return out


def place_errors(
    key: Any, events: PatternEvents, posts: list[Any], pool: dict[str, Any], n: int
) -> dict[str, Any]:
    """Rms error of one axis for single scatters: posterior means, maximum likelihood, as reconstructed."""
    single = np.flatnonzero(~grouped(pool["theta"][:, 4])[1])[:n]
    some = taken(pool, single)
    theta, data = some["theta"], some["data"]
    n_sensors = events.detector.light.sensors.n_sensors
    padded = np.zeros((len(single), n_sensors), np.float32)
    padded[:, : data.s2_top_pe.shape[1]] = data.s2_top_pe
    fit = positions(events.detector, padded)
    at = np.stack([fit.x_mm, fit.y_mm], axis=-1)
    resolution = events.detector.resolution
    s2 = data.s2_top_pe.sum(axis=1) + data.s2_bottom_pe
    stated = float(resolution.xy_mm_sqrt_pe) / np.sqrt(s2) + float(resolution.xy_floor_mm)
    means = [draws_of(key, post, some["x"], (0, 1), 64)[..., 1:3].mean(axis=1) for post in posts]
    inner = np.hypot(theta[:, 1], theta[:, 2]) < 0.95 * float(events.detector.geometry.radius_mm)
    rows = []
    for low, high in zip(_S2_EDGES[:-1], _S2_EDGES[1:], strict=True):
        for place, where in (("r < 0.95 R", inner), ("wall", ~inner)):
            here = (s2 >= low) & (s2 < high) & where & np.isfinite(at[:, 0])

            def rms(found, here=here):
                return float(np.sqrt(np.mean((found - theta[:, 1:3])[here] ** 2)))

            rows.append({
                "s2_pe": [low, high], "where": place, "n": int(here.sum()), "likelihood_mm": rms(at),
                "posterior_mm": [rms(mean) for mean in means],
                "as_reconstructed_mm": float(np.sqrt(np.mean(stated[here] ** 2))),
            })  # fmt: skip
    return {"rows": rows}


def report_of(key: Any, events: PatternEvents, fit: Fit, pool: dict[str, Any], n: int, n_draws: int) -> Any:
    """The diagnostics that travel with the file, on the pool's first events."""
    whitened = Whitened(cast(Any, events), fit.posterior)  # it asks for labels and prior alone
    x = pool["x"][:n]
    theta = np.asarray(whitened.to(pool["theta"][:n], x))
    history = {"training": np.array(fit.history.training), "validation": np.array(fit.history.validation)}

    def simulate(key: Any, n: int) -> tuple[Any, Any]:
        del key  # these events were drawn already
        return theta[:n], x[:n]

    return inference.calibrate(key, whitened, simulate, n_events=n, n_draws=n_draws, history=history)


def efficiency(
    key: Any, events: PatternEvents, post: Any, pool: dict[str, Any], settings: dict[str, int]
) -> dict[str, Any]:
    """Importance efficiency of single scatters against the exact posterior."""
    single = np.flatnonzero(~grouped(pool["theta"][:, 4])[1])[: settings["n_events"]]
    some = taken(pool, single)
    data: Patterns = some["data"]
    found = importance(key, events, post, some["x"], data, n_draws=settings["n_draws"])
    value = found["efficiency"]
    r = some["x"][: len(value), RADIUS_COLUMN]
    return {
        "n_events": len(value),
        "median": float(np.median(value)), "median_wall": float(np.median(value[r > 0.97])),
        "quantiles": np.quantile(value, [0.01, 0.05, 0.25, 0.75]).tolist(),
        "pareto_k_ok": float(np.mean(found["pareto_k"] <= 0.7)), "n_invalid": int(found["n_invalid"].sum()),
        "values": value.tolist(),
        "s2_pe": (data.s2_top_pe.sum(axis=1) + data.s2_bottom_pe)[: len(value)].tolist(),
    }  # fmt: skip
