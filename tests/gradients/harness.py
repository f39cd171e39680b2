"""Checks the gradient of any simulate function in every float leaf of the detector or of the deposits.

For each leaf the derivative along a fixed direction (its own value, for a scalar: d/dlog) is taken twice,
event by event: by forward-mode differentiation, and by a central finite difference with common random
numbers. Both are unbiased for the same mean (the second up to the step squared), so that the mean of their
difference is the bias of the gradient rule, with an error from the scatter over events.

A leaf passes if, for every functional, |bias| <= budget x |gradient| + 4.9 standard errors + a floor: what
the finite difference may be off by itself, (largest change over a step)^2 by curvature and one grain of the
numbers over the step by rounding. Under the null that is a false-positive rate of 1e-6 for each comparison;
there are about 2,000, with fixed seeds.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from zlib import crc32

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

SIGMAS = 4.9

PerEvent = Callable[[object], dict[str, jax.Array]]  # tree -> functional -> one value an event


@dataclass(frozen=True)
class Comparison:
    """One leaf and one functional. All derivatives are along the leaf's direction."""

    leaf: str
    functional: str
    gradient: float  # mean over events, by automatic differentiation
    gradient_spread: float  # standard deviation over events
    reference: float  # by finite difference with common random numbers
    reference_error: float
    bias: float  # gradient - reference, paired event by event
    bias_error: float
    floor: float  # what the finite difference itself may be off by

    @property
    def resolved(self) -> bool:
        """Whether the reference differs from zero."""
        return abs(self.reference) > SIGMAS * self.reference_error

    @property
    def absent(self) -> bool:
        """Whether the leaf does not enter at all."""
        return self.gradient == self.reference == self.bias_error == 0.0

    def within(self, budget: float) -> bool:
        """Whether the bias is explained by noise or small."""
        return abs(self.bias) <= budget * abs(self.reference) + SIGMAS * self.bias_error + self.floor


def leaf_paths(tree) -> Iterator[str]:
    """Dotted names of all float leaves."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if eqx.is_inexact_array(leaf):
            yield jax.tree_util.keystr(path).lstrip(".")


def _direction(name: str, leaf, along: Mapping[str, float | None]):
    """What `along` says; else a scalar's own value, and for an array a random vector of its entries' size."""
    if name in along:
        shift = along[name]
        return leaf if shift is None else jnp.full_like(leaf, shift)
    if leaf.ndim == 0:
        return leaf
    random = np.random.default_rng(crc32(name.encode())).standard_normal(leaf.shape)
    return jnp.asarray(random * (np.abs(leaf) + 0.1 * np.abs(leaf).max()), leaf.dtype)


def compare(
    per_event: PerEvent,
    tree,
    name: str,
    *,
    step: float = 0.01,
    largest_shift: float = 0.003,
    along: Mapping[str, float | None] = MappingProxyType({}),
) -> list[Comparison]:
    """Gradient and reference of every functional along one leaf.

    Args:
        per_event: functionals with one value an event, for such a tree; randomness fixed inside.
        tree: where to differentiate. With a detector and deposits in one tree, the gradients in both are
            one program, compiled once.
        name: dotted name of the leaf.
        step: of the finite difference, in units of the direction.
        largest_shift: the step is shortened until the steepest functional changes by no more (root mean
            square over events), which keeps the finite difference's own bias small.
        along: directions of leaves: a common shift, or None for the leaf's own value.
    """
    params, static = eqx.partition(tree, eqx.is_inexact_array)
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    tangent = [
        _direction(name, leaf, along) if jax.tree_util.keystr(path) == f".{name}" else jnp.zeros_like(leaf)
        for path, leaf in leaves
    ]
    if not any(bool(jnp.any(t != 0)) for t in tangent):
        raise ValueError(
            f"leaf {name!r} is not there, or is zero: give it a value that a relative step can change"
        )
    tangent = jax.tree_util.tree_unflatten(structure, tangent)

    def evaluate(params):
        return per_event(eqx.combine(params, static))

    still = jax.tree.map(jnp.zeros_like, tangent)

    def shifted(sign):
        """By the program that gives the derivative: a second one would take as long to compile."""
        there = jax.tree.map(lambda p, t: p + sign * step * t, params, tangent)
        return jax.jvp(evaluate, (there,), (still,))[0]

    _, gradients = jax.jvp(evaluate, (params,), (tangent,))
    steepest = max(float(jnp.sqrt(jnp.mean(g**2))) for g in gradients.values())
    step = min(step, largest_shift / max(steepest, 1e-9))
    up, down = shifted(1), shifted(-1)
    results = []
    for functional, gradient in gradients.items():
        reference = (np.asarray(up[functional], float) - np.asarray(down[functional], float)) / (2 * step)
        ours = np.asarray(gradient, float)
        if not (np.isfinite(ours).all() and np.isfinite(reference).all()):
            raise AssertionError(f"{name}: {functional} has a derivative that is not finite")
        values = np.asarray(up[functional])
        grain = np.finfo(values.dtype).eps * np.abs(values).mean()
        difference, root = ours - reference, np.sqrt(ours.size)
        # where no count of any event happened to jump, the scatter says nothing: take a jump of a per cent
        # in one event
        unseen = 0.01 / (2 * step * ours.size) if difference.any() and not reference.any() else 0.0
        results.append(
            Comparison(
                leaf=name,
                functional=functional,
                gradient=ours.mean(),
                gradient_spread=ours.std(),
                reference=reference.mean(),
                reference_error=reference.std() / root,
                bias=difference.mean(),
                bias_error=max(difference.std() / root, unseen),
                floor=(step * steepest) ** 2 + grain / step,
            )
        )
    return results


def values_agree(per_event: PerEvent, tree) -> bool:
    """Whether values that come with a derivative, which `compare` takes, are those without one.

    But for one event in a thousand: two programs round differently, and a draw on the brink turns over.
    """
    params, static = eqx.partition(tree, eqx.is_inexact_array)
    still = jax.tree.map(jnp.zeros_like, params)
    with_derivative = jax.jvp(lambda p: per_event(eqx.combine(p, static)), (params,), (still,))[0]
    return all(
        np.mean(np.isclose(value, with_derivative[name], rtol=1e-5, atol=1e-5)) > 0.999
        for name, value in per_event(tree).items()
    )


def scaled(per_event: PerEvent, factor: float) -> PerEvent:
    """The same values with gradients wrong by this factor: what the check must reject."""

    @jax.custom_jvp
    def wrong(x):
        return x

    wrong.defjvp(lambda primals, tangents: (primals[0], tangents[0] * factor))
    return lambda detector: {name: wrong(value) for name, value in per_event(detector).items()}
