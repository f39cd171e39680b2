"""Clusters of hits whose gaps split with a probability each, and what is expected of them.

A gap g between neighbouring hits splits with probability p = sigmoid((g - T) / tau), independently of the
others. That is the hard rule g > T under logistic jitter of scale tau of every gap, so each expectation here
is the mean of the hard quantity over that jitter, exactly and not to some order.

What a cluster holds is a sum over runs of hits without a split. Sums over all runs obey linear recurrences
along the hits, L_j = (1 - p_j) (L_{j-1} + a_{j-1}), which an associative scan solves in O(n) work.

Source: mean of a product of independent factors; the generating function of `number_above` is that of a
Poisson count (e.g. Feller, "An Introduction to Probability Theory" vol. 1, ch. XI).
"""

import math
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float, Int

from dmsim import relax

_CERTAIN = 30.0  # minus the log of a probability to stay together, 1e-13, under which it is zero


def gap_temperature_ns(gap_ns: Float[Array, ""] | float, n_hits: int) -> Float[Array, ""] | float:
    """Default scale of the jitter, T / (ln n + 3): of n hits at one time e^-3 = 5 % of the runs split.

    Held, so that it is no part of the gradient in T.
    """
    return relax.stop(jnp.asarray(gap_ns)) / (math.log(max(n_hits, 1)) + 3)


def gaps_ns(time_ns: Float[Array, "hit"], end_ns: Float[Array, "hit"] | None = None) -> Float[Array, "gap"]:
    """Time from the latest end so far to the next hit; hits sorted by time, and points in time without ends.

    Gradient: exact.
    """
    reach = time_ns if end_ns is None else jax.lax.cummax(end_ns)
    return time_ns[1:] - reach[:-1]


class SoftClusters(eqx.Module):
    """Clusters of hits in time order, as probabilities. Every method is differentiable in all it takes."""

    split: Float[Array, "gap"]  # probability that the gap ends a cluster
    log_joined: Float[Array, "gap"]  # log(1 - split), accurate where split is near 0

    def number(self) -> Float[Array, ""]:
        """Expected number of clusters. Gradient: exact."""
        return 1 + jnp.sum(self.split)

    def together(self, i: Int[Array, "..."], j: Int[Array, "..."]) -> Float[Array, "..."]:
        """Probability that hits i and j are in one cluster. Gradient: exact."""
        # sums from the last certain split on: differences of a sum over all hits would lose digits
        certain = self.log_joined < -_CERTAIN
        keep = jnp.where(certain, 0.0, 1.0)
        local = _recurrence(keep, jnp.where(certain, 0.0, self.log_joined))
        local = jnp.concatenate([jnp.zeros_like(local[:1]), local])
        block = jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(certain, dtype=jnp.int32)])
        low, high = jnp.minimum(i, j), jnp.maximum(i, j)
        same = block[low] == block[high]
        return jnp.where(same, jnp.exp(jnp.where(same, local[high] - local[low], 0.0)), 0.0)

    def value_of_cluster(self, value: Float[Array, "hit *feature"]) -> Float[Array, "hit *feature"]:
        """Expected sum of `value` over the cluster that each hit belongs to. Gradient: exact."""
        return self._before(value) + value + self._after(value)

    def sum_of_products(
        self, a: Float[Array, "hit *feature"], b: Float[Array, "hit *feature"]
    ) -> Float[Array, "*feature"]:
        """Expected sum over clusters of (sum of a) x (sum of b). Gradient: exact."""
        return jnp.sum(a * self.value_of_cluster(b), axis=0)

    def sum_of_squares(self, value: Float[Array, "hit *feature"]) -> Float[Array, "*feature"]:
        """Expected sum over clusters of (sum of value)^2. Gradient: exact."""
        return jnp.sum(value * (value + 2 * self._before(value)), axis=0)

    def sum_of_exponentials(
        self, value: Float[Array, "hit"], rate: Float[Array, "rate"] | Complex[Array, "rate"]
    ) -> Float[Array, "rate"] | Complex[Array, "rate"]:
        """Expected sum over clusters of exp(-rate x sum of value), real part of rate >= 0.

        Any function of a cluster's sum that is a mixture of exponentials follows. Gradient: exact.
        """
        factor = jnp.exp(-value[:, None] * rate)
        first, split = jnp.ones(1, value.dtype), self.split
        joined = jnp.concatenate([jnp.zeros(1, value.dtype), jnp.exp(self.log_joined)])
        starts = jnp.concatenate([first, split])
        ends = jnp.concatenate([split, first])
        # over all runs that end with hit j: M_j = e^(-rate a_j) ((1 - p_j) M_{j-1} + p_j)
        of_run = _recurrence(joined[:, None] * factor, starts[:, None] * factor)
        return jnp.sum(ends[:, None] * of_run, axis=0)

    def number_above(
        self, value: Float[Array, "hit"], threshold: Float[Array, ""] | float, *, phases: int = 16
    ) -> Float[Array, ""]:
        """Expected number of clusters whose sum exceeds a threshold.

        The threshold is jittered, too: by a Gamma law with this mean and a relative width of
        1 / sqrt(phases), for which the expectation is exact in the gaps, the values and the threshold.

        Args:
            value: of each hit, >= 0.
            threshold: > 0, same unit.
            phases: shape of the Gamma law; 0 for a threshold without jitter, in which (and in the values)
                there is then no gradient.

        Gradient: exact.
        """
        if phases == 0:
            return self._number_above_exactly(value, threshold)
        # sum > Gamma(k, T / k)  <=>  Poisson(k sum / T) >= k; its generating function at z is
        # E exp(-k sum (1 - z) / T), and the coefficients below k come from points on a circle of radius r.
        # Aliasing is r^n, rounding grain / r^k with n = 4 k: both near 1e-6 in float32.
        n = 4 * phases
        radius = (1e-6 if value.dtype == jnp.float32 else 1e-12) ** (1 / n)
        angle = 2 * np.pi * np.arange(n // 2 + 1) / n
        z = radius * np.exp(1j * angle)
        low = np.sum(z[:, None] ** -np.arange(phases), axis=1)
        share = np.where((np.arange(n // 2 + 1) % (n // 2)) == 0, 1.0, 2.0) / n  # conjugate pairs
        kind = jnp.complex64 if value.dtype == jnp.float32 else jnp.complex128
        rate = jnp.asarray(1 - z, kind) * (phases / threshold)
        below = jnp.sum(jnp.real(self.sum_of_exponentials(value, rate) * jnp.asarray(share * low, kind)))
        return self.number() - below

    def _number_above_exactly(self, value, threshold) -> Float[Array, ""]:
        """A run that starts with hit i is above from the first hit on at which its sum is."""
        total = jnp.concatenate([jnp.zeros(1, value.dtype), jnp.cumsum(value)])
        n = value.shape[0]
        reached = jnp.searchsorted(total[1:], total[:-1] + threshold, side="right")
        starts = jnp.concatenate([jnp.ones(1, value.dtype), self.split])
        survives = self.together(jnp.arange(n), jnp.minimum(reached, n - 1))
        return jnp.sum(jnp.where(reached < n, starts * survives, 0.0))

    def _before(self, value):
        """Expected sum over the hits before each in its cluster."""
        joined = _like(jnp.exp(self.log_joined), value)
        start = jnp.zeros_like(value[:1])
        return jnp.concatenate([start, _recurrence(joined, joined * value[:-1])])

    def _after(self, value):
        joined = _like(jnp.exp(self.log_joined), value)
        return jnp.concatenate(
            [_recurrence(joined, joined * value[1:], reverse=True), jnp.zeros_like(value[:1])]
        )


class ClusterExpectations(NamedTuple):
    """What is expected of the clusters of some hits."""

    number: Float[Array, ""]
    area_of_cluster: Float[Array, "hit"]  # of the one that each hit belongs to
    sum_of_squared_areas: Float[Array, ""]
    split: Float[Array, "gap"]
    clusters: SoftClusters  # for any other expectation


def soft_clusters(
    gap_ns: Float[Array, "gap"], threshold_ns: Float[Array, ""] | float, temperature_ns
) -> SoftClusters:
    """Clusters of hits with these gaps.

    Args:
        gap_ns: between neighbours in time.
        threshold_ns: a longer gap ends a cluster (`clustering.gap_ns`).
        temperature_ns: scale of the jitter, >= 0; 0 for the hard rule.

    Gradient: jitter.
    """
    margin = gap_ns - threshold_ns
    warm = jnp.asarray(temperature_ns) > 0
    soft = -jax.nn.softplus(margin / jnp.where(warm, temperature_ns, 1.0))
    hard = jnp.where(margin > 0, -jnp.inf, 0.0)
    return SoftClusters(relax.decide(margin, temperature_ns), jnp.where(warm, soft, hard))


def cluster_expectations(
    time_ns: Float[Array, "hit"],
    area_pe: Float[Array, "hit"],
    threshold_ns: Float[Array, ""] | float,
    *,
    end_ns: Float[Array, "hit"] | None = None,
    temperature_ns: Float[Array, ""] | float | None = None,
) -> ClusterExpectations:
    """Expected clusters of hits under a gap threshold with logistic jitter.

    Args:
        time_ns: of each hit, ascending; float32 resolves 0.06 ns over a millisecond.
        area_pe: of each hit.
        threshold_ns: a longer gap ends a cluster.
        end_ns: of each hit, from where the next gap counts; its time if not given.
        temperature_ns: scale of the jitter; T / (ln n_hits + 3) if not given, 0 for the hard rule.

    Gradient: jitter (exact for the expectations).
    """
    if temperature_ns is None:
        temperature_ns = gap_temperature_ns(threshold_ns, time_ns.shape[0])
    clusters = soft_clusters(gaps_ns(time_ns, end_ns), threshold_ns, temperature_ns)
    before = clusters._before(area_pe)
    of_cluster = before + area_pe + clusters._after(area_pe)
    squares = jnp.sum(area_pe * (area_pe + 2 * before))
    return ClusterExpectations(clusters.number(), of_cluster, squares, clusters.split, clusters)


def _like(x: Array, value: Array) -> Array:
    return x.reshape(x.shape + (1,) * (value.ndim - 1))


@partial(jax.jit, static_argnames="reverse")
def _recurrence(factor: Array, term: Array, *, reverse: bool = False) -> Array:
    """x_j = factor_j x_{j-1} + term_j along the first axis, from x_{-1} = 0."""

    def combine(left, right):
        return left[0] * right[0], left[1] * right[0] + right[1]

    return jax.lax.associative_scan(combine, (factor, term), reverse=reverse)[1]
