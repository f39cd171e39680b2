"""Which PMTs and samples made a posterior what it is: integrated gradients of its moments.

A posterior's mean and width are functions of the data, differentiable through its draws where these are made
of noise that does not depend on the data (flows are). Integrated gradients share the difference between a
moment at the data and at a baseline out over the inputs; the shares add up to it (completeness).

Source: Sundararajan, Taly and Yan, arXiv:1703.01365, section 4 for paths that are not straight; deletion:
Petsiuk, Das and Saenko, arXiv:1806.07421.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

Sample = Callable[[PRNGKeyArray, Any, int], Float[Array, "event draw parameter"]]
# (share of the way, baseline, x) -> data on the way
Way = Callable[[Float[Array, ""], Any, Any], Any]

LARGEST_GAP = 0.01  # of completeness
_PIECES = 8  # of the path at first, and evaluated in one call
_NODES = 4  # of Gauss and Legendre in each piece
_ROUNDS = 64  # in each of which the four worst pieces are cut in two
_AT_ONCE = 16  # deletions evaluated side by side


class Attribution(NamedTuple):
    """Shares of the inputs in the moments, and how well they add up."""

    shares: Any  # as the data, with an axis of moments in front: means, then widths
    moments: Float[Array, "moment"]  # at the data
    at_baseline: Float[Array, "moment"]
    gap: Float[Array, "moment"]  # of completeness: |sum of shares - difference| over the difference
    n_nodes: int


def moments(draws: Float[Array, "draw parameter"]) -> Float[Array, "moment"]:
    """Means of all parameters, then their standard deviations. Gradient: exact."""
    return jnp.concatenate([jnp.mean(draws, axis=0), jnp.std(draws, axis=0)])


def straight(share: Float[Array, ""], baseline: Any, x: Any) -> Any:
    """The data this share of the straight way from the baseline."""
    return jax.tree.map(lambda a, b: a + share * (b - a), baseline, x)


def _as_function(sample: Sample, key: PRNGKeyArray, n_draws: int, x: Any):
    """Moments as a function of flat data, at the same noise for all data."""
    _, shape = ravel_pytree(x)

    def function(flat):
        one = jax.tree.map(lambda leaf: leaf[None], shape(flat))
        return moments(sample(key, one, n_draws)[0])

    return function


def _floats(x: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), x)


def integrated_gradients(
    key: PRNGKeyArray,
    sample: Sample,
    x: Any,
    baseline: Any,
    *,
    way: Way = straight,
    asked: Sequence[int] | None = None,
    n_draws: int = 256,
    largest_gap: float = LARGEST_GAP,
) -> Attribution:
    """Share a posterior's means and widths out over the data of one event.

    Gauss-Legendre nodes on pieces of the path from the baseline. The moments at a piece's ends say how wrong
    its shares are: the worst are cut in two until all add up, since splines in flows bend sharply in few
    places. A difference below a tenth of the parameter's width is held against that tenth: a share of nothing
    has no scale.

    Shares add up on any smooth path along which the posterior is smooth: where a straight one leads through
    data on which an estimate jumps, give one through data that could be. What is compiled is kept for further
    events of the same `sample` and `way`.

    Args:
        key: of the draws' noise, the same at all nodes.
        sample: (key, x[event, ...], n) -> [event, n, parameter], differentiable in x.
        x: data of one event: an array, or a tree of arrays such as hit patterns and waveforms.
        baseline: of the same shape, what "nothing seen" means: zeros, or an average event.
        way: (share, baseline, x) -> data: the baseline at 0, x at 1, differentiable but at multiples of 1/8.
        asked: moments whose shares must add up, means first, then widths; all if not given. `gap` tells of
            all.
        n_draws: of the posterior.
        largest_gap: of completeness.

    Raises:
        ValueError: if x and baseline differ in shape, the path does not join them, a gradient is not finite,
            or the shares do not add up with 1,056 nodes.

    Gradient: none meant.
    """
    if jax.tree.map(np.shape, x) != jax.tree.map(np.shape, baseline):
        shapes = [jax.tree.map(np.shape, tree) for tree in (x, baseline)]
        raise ValueError(f"x has shape {shapes[0]} and baseline {shapes[1]}: must be the same")
    baseline, x = _floats(baseline), _floats(x)
    there, shape = ravel_pytree(x)
    _check_way(way, baseline, x)
    edges = np.linspace(0, 1, _PIECES + 1)
    pieces = np.stack([edges[:-1], edges[1:]], axis=1)
    shares, at_ends = _pieces(sample, way, n_draws, key, baseline, x, jnp.asarray(pieces, there.dtype))
    at_baseline, at_data = at_ends[0, 0], at_ends[-1, 1]
    difference, width = at_data - at_baseline, jnp.tile(at_data[len(at_data) // 2 :], 2)
    scale = jnp.maximum(jnp.abs(difference), 0.1 * width)
    wanted = np.arange(len(scale)) if asked is None else np.asarray(asked)
    for _ in range(_ROUNDS):
        if not bool(jnp.all(jnp.isfinite(shares))):
            raise ValueError("the posterior's gradient in the data is not finite between baseline and data")
        off = (shares.sum(axis=2) - (at_ends[:, 1] - at_ends[:, 0])) / scale
        gap = jnp.abs(off.sum(axis=0))
        if bool(jnp.all(gap[wanted] <= largest_gap)):
            total = shares.sum(axis=0)
            return Attribution(jax.vmap(shape)(total), at_data, at_baseline, gap, _NODES * len(pieces))
        # the worst pieces are cut in two: as many new ones as the compiled path takes
        worst = np.argsort(-np.asarray(jnp.max(jnp.abs(off[:, wanted]), axis=1)))[: _PIECES // 2]
        middle = pieces[worst].mean(axis=1)
        new = np.concatenate(
            [np.stack([pieces[worst, 0], middle], axis=1), np.stack([middle, pieces[worst, 1]], axis=1)]
        )
        new_shares, new_ends = _pieces(sample, way, n_draws, key, baseline, x, jnp.asarray(new, there.dtype))
        kept = np.setdiff1d(np.arange(len(pieces)), worst)
        pieces = np.concatenate([pieces[kept], new])
        shares = jnp.concatenate([shares[kept], new_shares])
        at_ends = jnp.concatenate([at_ends[kept], new_ends])
    raise ValueError(
        f"shares add up to {float(gap[wanted].max()):.1%} with {_NODES * len(pieces)} nodes: must be "
        f"{largest_gap:.1%}; a baseline nearer to the data makes the path shorter"
    )


def _check_way(way: Way, baseline: Any, x: Any) -> None:
    """Entry by entry, since one in ns beside one in mm would hide it."""
    for share, name, data in ((0.0, "baseline", baseline), (1.0, "x", x)):
        end = way(jnp.asarray(share), baseline, x)
        if jax.tree.map(jnp.shape, end) != jax.tree.map(jnp.shape, data):
            raise ValueError(f"the path at {share:g} is not the {name}: it has other entries or shapes")
        for place, wanted in jax.tree_util.tree_leaves_with_path(data):
            found = dict(jax.tree_util.tree_leaves_with_path(end))[place]
            if not jnp.allclose(found, wanted, rtol=1e-3, atol=1e-3 * jnp.abs(wanted).max()):
                where = jax.tree_util.keystr(place)
                raise ValueError(f"the path at {share:g} is not the {name}{f' in {where}' if where else ''}")


@eqx.filter_jit
def _pieces(
    sample: Sample, way: Way, n_draws: int, key: PRNGKeyArray, baseline: Any, x: Any, pieces: Array
) -> tuple[Array, Array]:
    """Of pieces of a path: shares [piece, moment, input], and moments at both ends [piece, end, moment]."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    function = _as_function(sample, key, n_draws, x)

    def at(share):
        return ravel_pytree(way(share, baseline, x))[0]

    def node_share(share):
        flat, velocity = jax.jvp(at, (share,), (jnp.ones_like(share),))
        return jax.jacrev(function)(flat) * velocity

    def piece(ends):
        length = ends[1] - ends[0]
        each = jax.vmap(node_share)(ends[0] + length * jnp.asarray((nodes + 1) / 2, pieces.dtype))
        share = jnp.einsum("n,nmi->mi", jnp.asarray(weights / 2, pieces.dtype), each) * length
        return share, jax.vmap(lambda end: function(at(end)))(ends)

    return jax.lax.map(piece, pieces)


class Deletion(NamedTuple):
    """How fast a moment goes to its baseline when inputs are taken out, the most important first."""

    share: Float[np.ndarray, "step"]  # of the inputs taken out
    ordered: Float[np.ndarray, "step"]  # moved share of the difference
    random: Float[np.ndarray, "order step"]
    p_value: float  # of an area this large among random orders

    @property
    def area(self) -> float:
        """Mean of the ordered curve: 1/2 if the order means nothing to a linear posterior."""
        return float(np.mean(self.ordered))


def deletion(
    key: PRNGKeyArray,
    sample: Sample,
    x: Any,
    baseline: Any,
    found: Attribution,
    moment: int,
    *,
    n_steps: int = 20,
    n_random: int = 39,
    n_draws: int = 256,
) -> Deletion:
    """Put inputs to their baseline in the order of their shares, and in random orders.

    Args:
        key: of noise and orders.
        sample: as in `integrated_gradients`.
        x: data of one event.
        baseline: of the same shape.
        found: attribution of these data.
        moment: which; means come first, then widths.
        n_steps: of deletion, each of the same number of inputs.
        n_random: orders; the smallest p-value is 1 / (n_random + 1).
        n_draws: of the posterior.

    Gradient: none.
    """
    key_noise, key_orders = jax.random.split(key)
    baseline, x = _floats(baseline), _floats(x)
    there, _ = ravel_pytree(x)
    given, _ = ravel_pytree(jax.tree.map(lambda leaf: leaf[moment], found.shares))
    towards = jnp.sign(found.moments[moment] - found.at_baseline[moment])
    # rank of each input: 0 goes first
    orders = jnp.concatenate(
        [
            jnp.argsort(jnp.argsort(-towards * given))[None],
            jax.vmap(lambda k: jax.random.permutation(k, len(there)))(jax.random.split(key_orders, n_random)),
        ]
    )
    taken = jnp.round(jnp.linspace(0, len(there), n_steps + 1)[1:])
    every, start, end = _deleted(
        sample,
        n_draws,
        key_noise,
        baseline,
        x,
        jnp.repeat(orders, n_steps, axis=0),
        jnp.tile(taken, len(orders)),
    )
    every = every[:, moment].reshape(len(orders), n_steps)
    curves = np.asarray((every - start[moment]) / (end[moment] - start[moment]))
    areas = curves.mean(axis=1)
    p_value = float(np.mean(areas >= areas[0]))
    return Deletion(np.asarray(taken) / len(there), curves[0], curves[1:], p_value)


@eqx.filter_jit
def _deleted(
    sample: Sample, n_draws: int, key: PRNGKeyArray, baseline: Any, x: Any, orders: Array, taken: Array
):
    """Moments with inputs taken out, with none, and with all."""
    function = _as_function(sample, key, n_draws, x)
    here, there = ravel_pytree(baseline)[0], ravel_pytree(x)[0]

    def moved(given):
        order, n_taken = given
        return function(jnp.where(order < n_taken, here, there))

    return jax.lax.map(moved, (orders, taken), batch_size=_AT_ONCE), function(there), function(here)
