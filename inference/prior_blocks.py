"""Blocks of a prior: parameters that have one law together, and their way to an unbounded vector.

A value between two ends is low + (high - low) Phi(u), with Phi the normal CDF: a uniform prior becomes a
standard normal one, and a posterior that is cut at an end keeps Gaussian tails. The disc does the same in two
dimensions. A category (an interaction type) has no place in u: estimators give it a law of its own.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax.scipy.special import ndtri
from jax.scipy.stats import norm
from jaxtyping import Array, Bool, Float, PRNGKeyArray
from typing_extensions import override

# laws that a file may name; their arguments are numbers
_LAWS = (
    "Uniform",
    "Normal",
    "LogNormal",
    "LogUniform",
    "Beta",
    "Gamma",
    "Exponential",
    "HalfNormal",
    "Cauchy",
)
_TRUNCATED = ("TwoSidedTruncatedDistribution", "LeftTruncatedDistribution", "RightTruncatedDistribution")


def _log_normal(u: Float[Array, "..."]) -> Float[Array, "..."]:
    return norm.logpdf(u)


def _gaussianised(share: Float[Array, "..."]) -> Float[Array, "..."]:
    """The u of a share of a range; the ends, where u is infinite, are half a float's grain inside."""
    grain = jnp.finfo(share.dtype).eps / 2
    return ndtri(jnp.clip(share, grain, 1 - grain))


class AbstractBlock(eqx.Module):
    """Parameters that have one prior law together. `size` columns of theta, `n_unbounded` entries of u.

    A new block states its names, units and bounds, draws and weighs values, and maps u to values and back;
    it gets a line in `block_from_json`.
    """

    names: eqx.AbstractVar[tuple[str, ...]]
    units: eqx.AbstractVar[tuple[str, ...]]

    @property
    def size(self) -> int:
        """Columns of theta."""
        return len(self.names)

    @property
    def n_unbounded(self) -> int:
        """Entries of the unbounded vector."""
        return self.size

    @property
    @abstractmethod
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """The ends of each parameter's range, in its unit."""

    @abstractmethod
    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "n size"]:
        """Draws from the prior."""

    @abstractmethod
    def log_prob(self, values: Float[Array, "... size"]) -> Float[Array, "..."]:
        """Log prior density, -inf outside the support."""

    @abstractmethod
    def inside(self, values: Float[Array, "... size"]) -> Bool[Array, "..."]:
        """Whether the values lie in the support."""

    @abstractmethod
    def to_physical(self, u: Float[Array, "... size"]) -> Float[Array, "... size"]:
        """Values of an unbounded vector."""

    @abstractmethod
    def to_unbounded(self, values: Float[Array, "... size"]) -> Float[Array, "... size"]:
        """The unbounded vector of values."""

    @abstractmethod
    def log_jacobian(self, u: Float[Array, "... size"]) -> Float[Array, "..."]:
        """Log |d values / d u|."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """What a file holds of it."""


class Scalar(AbstractBlock):
    """One parameter with a numpyro law.

    Args:
        name: with its unit as the last word, as everywhere: "energy_kev".
        unit: "keV", "mm", "" for a pure number.
        law: a scalar numpyro distribution: `Uniform`, `Normal`, `TruncatedNormal`, `LogUniform` ...
    """

    names: tuple[str, ...] = eqx.field(static=True)
    units: tuple[str, ...] = eqx.field(static=True)
    law: dist.Distribution
    low: float = eqx.field(static=True)
    high: float = eqx.field(static=True)

    def __init__(self, name: str, unit: str, law: dist.Distribution):
        if law.batch_shape or law.event_shape:
            raise ValueError(f"prior of {name}: a scalar law is needed, this one has shape {law.shape()}")
        support: Any = law.support
        self.names, self.units, self.law = (name,), (unit,), law
        self.low = float(getattr(support, "lower_bound", -np.inf))
        self.high = float(getattr(support, "upper_bound", np.inf))
        if type(support).__name__ in ("_Positive", "_Nonnegative"):
            self.low = 0.0
        if not self.low < self.high:
            raise ValueError(f"prior of {name}: its range is {self.low:g} to {self.high:g} {unit}")

    @property
    @override
    def bounds(self) -> tuple[tuple[float, float], ...]:
        return ((self.low, self.high),)

    @override
    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "n 1"]:
        return jnp.asarray(self.law.sample(key, (n,)))[:, None]

    @override
    def log_prob(self, values: Float[Array, "... 1"]) -> Float[Array, "..."]:
        value = values[..., 0]
        inside = self.inside(values)
        # a value inside stands in where the law is not defined, so that no NaN enters a gradient
        lawful = jnp.where(inside, value, self.to_physical(jnp.zeros_like(values))[..., 0])
        return jnp.where(inside, self.law.log_prob(lawful), -jnp.inf)

    @override
    def inside(self, values: Float[Array, "... 1"]) -> Bool[Array, "..."]:
        return ((values >= self.low) & (values <= self.high))[..., 0]

    @override
    def to_physical(self, u: Float[Array, "... 1"]) -> Float[Array, "... 1"]:
        if np.isfinite(self.low) and np.isfinite(self.high):
            return jnp.clip(self.low + (self.high - self.low) * norm.cdf(u), self.low, self.high)
        if np.isfinite(self.low):
            return self.low + jnp.exp(u)
        return self.high - jnp.exp(-u) if np.isfinite(self.high) else u

    @override
    def to_unbounded(self, values: Float[Array, "... 1"]) -> Float[Array, "... 1"]:
        if np.isfinite(self.low) and np.isfinite(self.high):
            return _gaussianised((values - self.low) / (self.high - self.low))
        tiny = jnp.finfo(values.dtype).tiny
        if np.isfinite(self.low):
            return jnp.log(jnp.maximum(values - self.low, tiny))
        return -jnp.log(jnp.maximum(self.high - values, tiny)) if np.isfinite(self.high) else values

    @override
    def log_jacobian(self, u: Float[Array, "... 1"]) -> Float[Array, "..."]:
        u = u[..., 0]
        if np.isfinite(self.low) and np.isfinite(self.high):
            return _log_normal(u) + float(np.log(self.high - self.low))
        if np.isfinite(self.low):
            return u
        return -u if np.isfinite(self.high) else jnp.zeros_like(u)

    @override
    def to_json(self) -> dict[str, Any]:
        return {
            "block": "scalar",
            "name": self.names[0],
            "unit": self.units[0],
            "law": _law_to_json(self.law),
        }


class Disc(AbstractBlock):
    """Two coordinates, uniform inside a circle around the origin, as x and y of events in a cylinder.

    Args:
        names: of the two coordinates.
        unit: of both.
        radius: of the circle, in the unit, > 0.
    """

    names: tuple[str, ...] = eqx.field(static=True)
    units: tuple[str, ...] = eqx.field(static=True)
    radius: float = eqx.field(static=True)

    def __init__(self, names: tuple[str, str], unit: str, *, radius: float):
        if not radius > 0:
            raise ValueError(
                f"radius of the disc of {', '.join(names)} is {radius} {unit}: it must be positive"
            )
        self.names, self.units, self.radius = tuple(names), (unit, unit), float(radius)

    @property
    @override
    def bounds(self) -> tuple[tuple[float, float], ...]:
        return ((-self.radius, self.radius),) * 2

    @override
    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "n 2"]:
        return self.to_physical(jax.random.normal(key, (n, 2)))

    @override
    def log_prob(self, values: Float[Array, "... 2"]) -> Float[Array, "..."]:
        return jnp.where(self.inside(values), -float(np.log(np.pi * self.radius**2)), -jnp.inf)

    @override
    def inside(self, values: Float[Array, "... 2"]) -> Bool[Array, "..."]:
        # the rim itself is inside, also after rounding
        return jnp.sum(values**2, axis=-1) <= self.radius**2 * (1 + 4 * jnp.finfo(values.dtype).eps)

    @override
    def to_physical(self, u: Float[Array, "... 2"]) -> Float[Array, "... 2"]:
        # s = u^2 of two normals has CDF 1 - exp(-s/2): the share of the disc's area inside r
        s = jnp.sum(u**2, axis=-1, keepdims=True)
        near = s < 1e-4  # below this the ratio is its expansion to a float's precision
        safe = jnp.where(near, 1.0, s)
        ratio = jnp.where(near, 0.5 - s / 8, -jnp.expm1(-safe / 2) / safe)
        return self.radius * u * jnp.sqrt(ratio)

    @override
    def to_unbounded(self, values: Float[Array, "... 2"]) -> Float[Array, "... 2"]:
        share = jnp.sum((values / self.radius) ** 2, axis=-1, keepdims=True)
        share = jnp.minimum(share, 1 - jnp.finfo(values.dtype).eps)
        near = share < 1e-4
        safe = jnp.where(near, 0.5, share)
        ratio = jnp.where(near, 2 + share, -2 * jnp.log1p(-safe) / safe)
        return values / self.radius * jnp.sqrt(ratio)

    @override
    def log_jacobian(self, u: Float[Array, "... 2"]) -> Float[Array, "..."]:
        # the map turns the standard normal into the uniform law on the disc
        return jnp.sum(_log_normal(u), axis=-1) + float(np.log(np.pi * self.radius**2))

    @override
    def to_json(self) -> dict[str, Any]:
        return {"block": "disc", "names": list(self.names), "unit": self.units[0], "radius": self.radius}


class Category(AbstractBlock):
    """A label 0, 1, ... such as the interaction type, kept as a float column; the last block of a prior.

    Args:
        name: of the label.
        labels: what 0, 1, ... mean.
        weights: prior probability of each; equal if not given.
    """

    names: tuple[str, ...] = eqx.field(static=True)
    units: tuple[str, ...] = eqx.field(static=True)
    labels: tuple[str, ...] = eqx.field(static=True)
    weights: tuple[float, ...] = eqx.field(static=True)

    def __init__(self, name: str, labels: Sequence[str], weights: Sequence[float] | None = None):
        given = np.ones(len(labels)) if weights is None else np.asarray(weights, float)
        if len(labels) < 2 or given.shape != (len(labels),) or not (given > 0).all():
            raise ValueError(
                f"category {name}: {len(labels)} labels and weights {weights}: two or more labels are "
                "needed, each with a positive weight"
            )
        self.names, self.units, self.labels = (name,), ("",), tuple(labels)
        self.weights = tuple(float(w) for w in given / given.sum())

    @property
    @override
    def n_unbounded(self) -> int:
        return 0

    @property
    @override
    def bounds(self) -> tuple[tuple[float, float], ...]:
        return ((0.0, len(self.labels) - 1.0),)

    @override
    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "n 1"]:
        label = jax.random.choice(key, len(self.labels), (n, 1), p=jnp.asarray(self.weights))
        return label.astype(jnp.result_type(float))

    @override
    def log_prob(self, values: Float[Array, "... 1"]) -> Float[Array, "..."]:
        label = jnp.clip(values[..., 0], 0, len(self.labels) - 1).astype(jnp.int32)
        return jnp.where(self.inside(values), jnp.log(jnp.asarray(self.weights))[label], -jnp.inf)

    @override
    def inside(self, values: Float[Array, "... 1"]) -> Bool[Array, "..."]:
        value = values[..., 0]
        return (value == jnp.round(value)) & (value >= 0) & (value < len(self.labels))

    @override
    def to_physical(self, u: Float[Array, "... 0"]) -> Float[Array, "... 1"]:
        raise TypeError(f"category {self.names[0]} has no unbounded coordinate")

    @override
    def to_unbounded(self, values: Float[Array, "... 1"]) -> Float[Array, "... 0"]:
        return values[..., :0]

    @override
    def log_jacobian(self, u: Float[Array, "... 0"]) -> Float[Array, "..."]:
        return jnp.zeros(u.shape[:-1], u.dtype)

    @override
    def to_json(self) -> dict[str, Any]:
        shown = {"name": self.names[0], "labels": list(self.labels), "weights": list(self.weights)}
        return {"block": "category", **shown}


def block_from_json(stated: dict[str, Any]) -> AbstractBlock:
    """The block that a file holds; ValueError for one that this version does not know."""
    kind = stated.get("block")
    if kind == "scalar":
        return Scalar(stated["name"], stated["unit"], _law_from_json(stated["law"]))
    if kind == "disc":
        return Disc(tuple(stated["names"]), stated["unit"], radius=stated["radius"])
    if kind == "category":
        return Category(stated["name"], stated["labels"], stated["weights"])
    raise ValueError(f"prior block {kind!r} is none of scalar, disc, category")


def _law_to_json(law: dist.Distribution) -> dict[str, Any]:
    name = type(law).__name__
    if name in _TRUNCATED:
        ends = {end: float(getattr(law, end)) for end in ("low", "high") if end in law.arg_constraints}
        return {"name": "Truncated", "base": _law_to_json(law.base_dist), **ends}  # pyright: ignore
    if name not in _LAWS:
        raise ValueError(f"a prior of law {name} cannot be kept in a file; use one of {', '.join(_LAWS)}")
    return {"name": name, **{k: float(getattr(law, k)) for k in law.arg_constraints}}


def _law_from_json(stated: dict[str, Any]) -> dist.Distribution:
    stated = dict(stated)
    name = stated.pop("name")
    if name == "Truncated":
        base: Any = _law_from_json(stated.pop("base"))
        return dist.TruncatedDistribution(base, low=stated.get("low"), high=stated.get("high"))
    if name not in _LAWS:
        raise ValueError(f"prior law {name!r} is none of {', '.join(_LAWS)}")
    return getattr(dist, name)(**stated)
