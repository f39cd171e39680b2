"""Rows of the table: what an analyst gains over a linear energy, a cut on log10(S2/S1), and boosted trees."""

import math
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from exact import summaries
from jaxtyping import Float, PRNGKeyArray

from inference.events import SingleScatters


def monoenergetic(
    key: PRNGKeyArray, events: SingleScatters, energy_kev: float, n: int
) -> tuple[Float[np.ndarray, "event 5"], Float[np.ndarray, "event parameter"]]:
    """Observables and parameters of electron recoils of one energy, uniform over the volume."""
    theta = events.prior.sample(key, n).at[:, 0].set(energy_kev)
    if events.n_kinds:
        theta = theta.at[:, 4].set(0.0)
    return np.asarray(_observe(events, jax.random.fold_in(key, 1), theta)), np.asarray(theta)


@eqx.filter_jit
def _observe(events, key, theta):
    return events.observe(key, theta)


def corrected(events: SingleScatters, columns: Float[np.ndarray, "event 5"]) -> Float[np.ndarray, "event 2"]:
    """S1 and S2 corrected for light collection and lifetime, at the place as reconstructed."""
    detector = events.detector
    s1, s2, drift_time, x, y = jnp.asarray(columns).T
    z = jnp.minimum(detector.electrons.z_mm(drift_time), 0.0)
    cs1 = s1 / detector.light.s1_relative_yield(detector.geometry, x, y, z)
    relative = detector.light.s2_relative_yield(detector.geometry, x, y)
    return np.stack([cs1, s2 / (relative * detector.electrons.survival(drift_time))], axis=-1)


def draws_of_kind(
    key: PRNGKeyArray, post: Any, x: Float[np.ndarray, "event x"], label: int, n: int
) -> Float[np.ndarray, "event n 4"]:
    """Draws of energy and place given one kind, as for a line whose kind is known."""
    condition = post.condition(jnp.asarray(x))
    n_kinds = post.network.n_kinds
    if n_kinds:
        hot = jnp.tile(jax.nn.one_hot(label, n_kinds), (len(x), 1))
        condition = jnp.concatenate([condition, hot], axis=1)
    return _draws(post, key, condition, n)


@eqx.filter_jit
def _draws(post, key, condition, n):
    # in pairs of opposite noise, whose mean has no error to first order
    half = jax.random.normal(key, (condition.shape[0], n // 2, post.network.flow.size), condition.dtype)
    noise = jnp.concatenate([half, -half], axis=1)
    return post.prior.to_physical(post.network.u_scaling.undo(post.network.flow.push(noise, condition)))


def _mean_energy(key, post, x, n_draws, chunk=500):
    found, chunk = np.empty(len(x)), min(chunk, len(x))
    for first in range(0, len(x), chunk):
        begin = min(first, len(x) - chunk)
        draws = draws_of_kind(jax.random.fold_in(key, first), post, x[begin : begin + chunk], 0, n_draws)
        found[begin : begin + chunk] = np.asarray(draws[..., 0]).mean(axis=1)
    return found


def _resolution(random, low, middle, high, step, n_boot=200):
    """Standard deviation over the slope of the estimate with energy, in keV, with its error.

    The slope makes estimators comparable: one that shrinks to a constant has no resolution.
    """

    def of(rows):
        slope = (high[rows].mean() - low[rows].mean()) / (2 * step)
        return middle[rows].std(ddof=1) / slope

    n = len(middle)
    error = np.std([of(random.integers(0, n, n)) for _ in range(n_boot)])
    return float(of(np.arange(n))), float(error)


def energy_resolution(
    key: PRNGKeyArray, events: SingleScatters, post: Any, energy_kev: float, *, n_events: int, n_draws: int
) -> dict[str, Any]:
    """Resolution of the posterior's mean, of linear combinations of corrected areas, and the bound.

    Three samples at E and E +- 3 %. `combined` is W (cS1/g1 + cS2/g2) with the detector's true gains;
    `linear` has the weights that are best at this energy, from events of their own.
    """
    keys = jax.random.split(key, 8)
    random = np.random.default_rng(int(energy_kev))
    step = 0.03 * energy_kev
    samples = [
        monoenergetic(k, events, e, n_events)[0]
        for k, e in zip(keys[:3], (energy_kev - step, energy_kev, energy_kev + step), strict=True)
    ]
    own = [
        corrected(events, monoenergetic(k, events, e, n_events)[0])
        for k, e in zip(keys[3:6], (energy_kev - step, energy_kev, energy_kev + step), strict=True)
    ]
    areas = [corrected(events, columns) for columns in samples]
    slope = (own[2].mean(axis=0) - own[0].mean(axis=0)) / (2 * step)
    weights = np.linalg.solve(np.cov(own[1].T), slope)
    gains = _gains(events)
    estimates = {
        "posterior": [
            _mean_energy(jax.random.fold_in(keys[6], i), post, summaries(events, c), n_draws)
            for i, c in enumerate(samples)
        ],
        "linear": [a @ weights for a in areas],
        "combined": [a @ (1 / gains) for a in areas],
    }
    out: dict[str, Any] = {"energy_kev": energy_kev, "n_events": n_events}
    for name, (low, middle, high) in estimates.items():
        value, error = _resolution(random, low, middle, high, step)
        out[name] = {"percent": 100 * value / energy_kev, "error": 100 * error / energy_kev}
    out["posterior"]["bias_percent"] = 100 * (estimates["posterior"][1].mean() / energy_kev - 1)
    out["posterior"]["draw_noise"] = f"{n_draws} draws an event"
    out["bound_percent"] = 100 * _bound_kev(keys[7], events, energy_kev, n_events) / energy_kev
    return out


def _gains(events: SingleScatters) -> np.ndarray:
    """PE a photon and an electron: g1 and g2."""
    detector = events.detector
    double = 1 + float(detector.electronics.double_pe_probability)
    g1 = float(detector.light.g1_phd_per_photon) * double
    g2 = (
        float(detector.electroluminescence.se_gain_phd)
        * double
        * float(detector.electrons.extraction_efficiency)
    )
    return np.array([g1, g2])


@eqx.filter_jit
def _scores(events, theta, columns):
    """Slope of the exact log-likelihood in the energy."""

    def total(energy):
        return jnp.sum(events.log_density(theta.at[:, 0].set(energy), events.data(columns)))

    # the prior's slope is no information
    return jax.grad(total)(theta[:, 0]) + 1 / theta[:, 0]


def _bound_kev(key, events: SingleScatters, energy_kev: float, n: int) -> float:
    """Cramer-Rao bound of the energy, place known: the exact likelihood's score, squared, over events."""
    columns, theta = monoenergetic(key, events, energy_kev, n)

    found = np.asarray(_scores(events, jnp.asarray(theta), jnp.asarray(columns)), float)
    return 1 / math.sqrt(np.mean(found**2))


@eqx.filter_jit
def _log_odds(network, x):
    logs = network.log_kinds(network.condition(x))
    return logs[:, 1] - logs[:, 0]


def log_odds(post: Any, x: Float[np.ndarray, "event x"], *, chunk: int = 8192) -> Float[np.ndarray, "event"]:
    """Log of P(nr) over P(er)."""
    found = np.empty(len(x))
    chunk = min(chunk, len(x))
    for first in range(0, len(x), chunk):
        begin = min(first, len(x) - chunk)
        found[begin : begin + chunk] = _log_odds(post.network, jnp.asarray(x[begin : begin + chunk]))
    return found


def _leakage(score, is_nr, place, n_bins: int) -> tuple[float, np.ndarray]:
    """Share of electron recoils above the nuclear ones' median in their own bin; higher is more nuclear."""
    leaked = np.zeros(len(score), bool)
    for k in range(n_bins):
        mine = place == k
        leaked[mine] = score[mine] > np.median(score[mine & is_nr])
    each = np.array([leaked[(place == k) & ~is_nr].mean() for k in range(n_bins)])
    return float(leaked[~is_nr].mean()), each


def trees(
    seed: int, features: np.ndarray, is_nr: np.ndarray, test: np.ndarray, options: dict[str, Any]
) -> tuple[np.ndarray, float]:
    """Log-odds of boosted trees, and the CPU seconds of their training."""
    from sklearn.ensemble import HistGradientBoostingClassifier  # noqa: PLC0415  needed here alone

    begin = time.process_time()
    model = HistGradientBoostingClassifier(random_state=seed, **options).fit(features, is_nr)
    return model.decision_function(test), time.process_time() - begin


def discrimination(
    key: PRNGKeyArray,
    events: SingleScatters,
    posteriors: list[Any],
    draw: Any,
    *,
    n_train: int,
    n_test: int,
    cs1_pe: tuple[float, float],
    n_bins: int,
    tree_options: dict[str, Any],
) -> dict[str, Any]:
    """Leakage of electron recoils at 50 % acceptance of nuclear ones in each bin of cS1.

    Trees see cS1, cS2, their logarithms and ratio, raw areas, drift time and place; they train on events of
    the same range of cS1. One set of trees and test events for each posterior's seed.
    """
    edges = np.geomspace(*cs1_pe, n_bins + 1)

    def sample(key, n):
        theta, columns = draw(key, n)
        areas = corrected(events, columns)
        inside = (areas[:, 0] >= cs1_pe[0]) & (areas[:, 0] < cs1_pe[1])
        band = np.log10(areas[:, 1] / areas[:, 0])
        radius = np.hypot(columns[:, 3], columns[:, 4])
        features = np.column_stack([areas, np.log10(areas), band, columns, radius])
        place = np.searchsorted(edges, areas[:, 0], side="right") - 1
        return columns[inside], theta[inside, 4] > 0.5, features[inside], place[inside], band[inside]

    out: dict[str, Any] = {"edges_pe": edges.tolist(), "seeds": []}
    for seed, post in enumerate(posteriors):
        keys = jax.random.split(jax.random.fold_in(key, seed), 2)
        columns, is_nr, features, place, band = sample(keys[0], n_test)
        _, train_nr, train_features, _, _ = sample(keys[1], n_train)
        of_trees, cpu_s = trees(seed, train_features, train_nr, features, tree_options)
        scores = {
            "posterior": log_odds(post, summaries(events, columns)),
            "cut": -band,
            "trees": of_trees,
        }
        row: dict[str, Any] = {
            "n_er": int(np.sum(~is_nr)),
            "n_nr": int(np.sum(is_nr)),
            "n_train": len(train_nr),
            "tree_cpu_s": cpu_s,
        }
        for name, score in scores.items():
            leak, each = _leakage(score, is_nr, place, n_bins)
            whole = _leakage(score, is_nr, np.zeros(len(score), int), 1)[0]
            error = math.sqrt(leak * (1 - leak) / row["n_er"])
            row[name] = {"leakage": leak, "error": error, "one_threshold": whole, "bins": each.tolist()}
        out["seeds"].append(row)
    return out
