"""The exact posterior of single scatters seen as patterns, and how near the trained one is."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array, Float, PRNGKeyArray
from pattern_events import PatternEvents, Patterns

from dmsim import charge
from dmsim.reconstruction.charge_model import ChargeModel, charge_model
from dmsim.reconstruction.position import position_log_likelihood
from inference.events import deposits_of
from inference.likelihood.areas import area_data, log_areas
from inference.sampling.importance import weigh

_LEAST_NS = 0.01  # of a drift time's spread, as in `inference.likelihood.areas`
# degree-5 cubature of the 2-D standard normal: centre and hexagon (Stroud 1971, E2r2 5-1)
_AROUND = [(0.0, 0.0, 0.5)] + [
    (2 * math.cos(k * math.pi / 3), 2 * math.sin(k * math.pi / 3), 1 / 12) for k in range(6)
]


def log_density(
    events: PatternEvents,
    charges: ChargeModel,
    theta: Float[Array, "draw 5"],
    data: Patterns,
) -> Float[Array, "draw"]:
    """Log likelihood times prior of one event's single-scatter hypotheses, up to a constant of the event.

    Areas: quanta, detection, gain as `inference.likelihood.areas`. Pattern: each sensor's area by the law of
    its photons, Poisson about its share of the light that all have seen; the cloud's centre scatters about
    the place. Not counted is how the S1 divides between the arrays: it speaks of the depth alone, which the
    drift time tells a thousand times better.

    Args:
        events: with the detector.
        charges: of it.
        theta: energy, x, y, z, and 0 er or 1 nr.
        data: of one event, without leading axis.
    """
    areas, prior = events.areas, events.areas.prior
    detector, n = areas.detector, theta.shape[0]
    inside = prior.inside(theta)
    middle = prior.to_physical(jnp.zeros((1, prior.n_unbounded), theta.dtype))
    safe = jnp.where(inside[:, None], theta, jnp.concatenate([middle, jnp.zeros((1, 1))], axis=1))
    deposits = deposits_of(safe, areas.kinds)
    way = charge.drift(detector, deposits)
    s1, s2 = data.s1_top_pe + data.s1_bottom_pe, jnp.sum(data.s2_top_pe) + data.s2_bottom_pe
    of_one = area_data(
        detector, *(jnp.reshape(v, (1,)) for v in (s1, s2, data.drift_time_ns, 0.0 * s1, 0.0 * s1))
    )
    rows = jax.tree.map(lambda part: jnp.repeat(part, n, axis=0), of_one)
    value = log_areas(detector, deposits, rows, interactions=areas.kinds, n_skew=areas.n_skew)
    gain = detector.electron_gain_phd(way.x_mm, way.y_mm) * (1 + detector.electronics.double_pe_probability)
    gain = gain * detector.light.s2_relative_yield(detector.geometry, way.x_mm, way.y_mm)
    n_electrons = jnp.maximum(s2 / gain, 1.0)
    variance = way.time_spread_ns**2 / n_electrons + _LEAST_NS**2
    value = value - 0.5 * ((data.drift_time_ns - way.time_ns) ** 2 / variance + jnp.log(variance))
    around = jnp.asarray(_AROUND, theta.dtype)
    scatter = (way.spread_mm / jnp.sqrt(n_electrons))[:, None, None] * around[None, :, :2]
    at = jnp.stack([way.x_mm, way.y_mm], axis=-1)[:, None] + scatter
    pattern = jax.vmap(
        jax.vmap(lambda xy: position_log_likelihood(detector, data.s2_top_pe, xy, charge=charges))
    )(at)
    value = value + logsumexp(pattern, axis=1, b=around[:, 2])
    return jnp.where(inside, value + prior.log_prob(safe), -jnp.inf)


@eqx.filter_jit
def draws_among(
    post: Any, key: PRNGKeyArray, x: Float[Array, "event x"], labels: tuple[int, ...], n: int
) -> tuple[Float[Array, "event n 5"], Float[Array, "event n"]]:
    """Draws given that the event's label is one of these, with their log density."""
    network, prior = post.network, post.prior
    condition = network.condition(x)
    log_kinds = network.log_kinds(condition)[:, jnp.asarray(labels)]
    log_kinds = log_kinds - logsumexp(log_kinds, axis=1, keepdims=True)
    keys = jax.random.split(key)
    chosen = jax.random.categorical(keys[0], log_kinds[:, None], shape=(len(x), n))
    kind = jnp.asarray(labels)[chosen].reshape(-1)
    each = jnp.concatenate([jnp.repeat(condition, n, axis=0), jax.nn.one_hot(kind, network.n_kinds)], axis=1)
    noise = jax.random.normal(keys[1], (len(x) * n, 1, network.flow.size))
    u = network.flow.push(noise, each)[:, 0]
    log_q = network.flow.log_prob(u, each) - network.u_scaling.log_volume
    u = network.u_scaling.undo(u)
    theta = jnp.concatenate([prior.to_physical(u), kind[:, None].astype(u.dtype)], axis=1)
    log_q = log_q - prior.log_jacobian(u) + jnp.take_along_axis(log_kinds, chosen, axis=1).reshape(-1)
    return theta.reshape(len(x), n, -1), log_q.reshape(len(x), n)


@eqx.filter_jit
def _densities(events, charges, draws, data):
    return jax.lax.map(lambda each: log_density(events, charges, *each), (draws, data))


_weigh_all = eqx.filter_jit(jax.vmap(weigh))


def importance(
    key: PRNGKeyArray,
    events: PatternEvents,
    post: Any,
    x: np.ndarray,
    data: Patterns,
    *,
    n_draws: int,
    chunk: int = 50,
) -> dict[str, np.ndarray]:
    """Efficiency of all four continuous parameters and the interaction together, of single scatters."""
    charges, chunk = charge_model(events.detector), min(chunk, len(x))
    found: list[tuple[np.ndarray, ...]] = []
    for first in range(0, len(x) - chunk + 1, chunk):
        here = jax.tree.map(lambda part, first=first: jnp.asarray(part[first : first + chunk]), data)
        draws, log_q = draws_among(
            post, jax.random.fold_in(key, first), jnp.asarray(x[first : first + chunk]), (0, 1), n_draws
        )
        result = _weigh_all(draws, log_q, _densities(events, charges, draws, here))
        found.append(tuple(np.asarray(v) for v in (result.efficiency, result.pareto_k, result.n_invalid)))
    efficiency, pareto_k, n_invalid = (np.concatenate(part) for part in zip(*found, strict=True))
    return {"efficiency": efficiency, "pareto_k": pareto_k, "n_invalid": n_invalid}
