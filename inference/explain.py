"""Which PMTs and samples made a posterior what it is: integrated gradients of its moments.

A posterior's mean and width are functions of the data, differentiable through its draws where these are made
of noise that does not depend on the data (flows are). Integrated gradients share the difference between a
moment at the data and at a baseline out over the inputs; the shares add up to it (completeness).

Source: Sundararajan, Taly and Yan, arXiv:1703.01365; deletion: Petsiuk, Das and Saenko, arXiv:1806.07421.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

Sample = Callable[[PRNGKeyArray, Any, int], Float[Array, "event draw parameter"]]

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


def _as_function(key: PRNGKeyArray, sample: Sample, x: Any, n_draws: int):
    """Moments as a function of flat data, at the same noise for all data."""
    flat, shape = ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), x))

    def function(flat):
        one = jax.tree.map(lambda leaf: leaf[None], shape(flat))
        return moments(sample(key, one, n_draws)[0])

    return function, flat, shape


def integrated_gradients(
    key: PRNGKeyArray,
    sample: Sample,
    x: Any,
    baseline: Any,
    *,
    n_draws: int = 256,
    largest_gap: float = LARGEST_GAP,
) -> Attribution:
    """Share a posterior's means and widths out over the data of one event.

    Gauss-Legendre nodes on pieces of the straight path from the baseline. The moments at a piece's ends say
    how wrong its shares are: the worst are cut in two until all add up, since splines in flows bend sharply
    in few places. A difference below a tenth of the parameter's width is held against that tenth: a share of
    nothing has no scale.

    Args:
        key: of the draws' noise, the same at all nodes.
        sample: (key, x[event, ...], n) -> [event, n, parameter], differentiable in x.
        x: data of one event: an array, or a tree of arrays such as hit patterns and waveforms.
        baseline: of the same shape, what "nothing seen" means: zeros, or an average event.
        n_draws: of the posterior.
        largest_gap: of completeness.

    Raises:
        ValueError: if x and baseline differ in shape, a gradient is not finite, or the shares do not add up
            with 1,056 nodes.

    Gradient: none meant.
    """
    function, there, shape = _as_function(key, sample, x, n_draws)
    here, _ = ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), baseline))
    if jax.tree.map(np.shape, x) != jax.tree.map(np.shape, baseline):
        shapes = [jax.tree.map(np.shape, tree) for tree in (x, baseline)]
        raise ValueError(f"x has shape {shapes[0]} and baseline {shapes[1]}: must be the same")
    path = jax.jit(_path_pieces(function, here, there))
    edges = np.linspace(0, 1, _PIECES + 1)
    pieces = np.stack([edges[:-1], edges[1:]], axis=1)
    shares, at_ends = path(jnp.asarray(pieces, there.dtype))
    at_baseline, at_data = at_ends[0, 0], at_ends[-1, 1]
    difference, width = at_data - at_baseline, jnp.tile(at_data[len(at_data) // 2 :], 2)
    scale = jnp.maximum(jnp.abs(difference), 0.1 * width)
    for _ in range(_ROUNDS):
        if not bool(jnp.all(jnp.isfinite(shares))):
            raise ValueError("the posterior's gradient in the data is not finite between baseline and data")
        off = (shares.sum(axis=2) - (at_ends[:, 1] - at_ends[:, 0])) / scale
        gap = jnp.abs(off.sum(axis=0))
        if bool(jnp.all(gap <= largest_gap)):
            total = shares.sum(axis=0)
            return Attribution(jax.vmap(shape)(total), at_data, at_baseline, gap, _NODES * len(pieces))
        # the worst pieces are cut in two: as many new ones as the compiled path takes
        worst = np.argsort(-np.asarray(jnp.max(jnp.abs(off), axis=1)))[: _PIECES // 2]
        middle = pieces[worst].mean(axis=1)
        new = np.concatenate(
            [np.stack([pieces[worst, 0], middle], axis=1), np.stack([middle, pieces[worst, 1]], axis=1)]
        )
        new_shares, new_ends = path(jnp.asarray(new, there.dtype))
        kept = np.setdiff1d(np.arange(len(pieces)), worst)
        pieces = np.concatenate([pieces[kept], new])
        shares = jnp.concatenate([shares[kept], new_shares])
        at_ends = jnp.concatenate([at_ends[kept], new_ends])
    raise ValueError(
        f"shares add up to {float(gap.max()):.1%} with {_NODES * len(pieces)} nodes: must be "
        f"{largest_gap:.1%}; a baseline nearer to the data makes the path shorter"
    )


def _path_pieces(function, here, there):
    """Of pieces of a path: shares [piece, moment, input], and moments at both ends [piece, end, moment]."""
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)

    def at(share):
        return here + share * (there - here)

    def piece(ends):
        length = ends[1] - ends[0]
        slopes = jax.vmap(lambda node: jax.jacrev(function)(at(ends[0] + length * node)))(
            jnp.asarray((nodes + 1) / 2, there.dtype)
        )
        share = jnp.einsum("n,nmi->mi", jnp.asarray(weights / 2, there.dtype), slopes) * length
        return share * (there - here), jax.vmap(lambda end: function(at(end)))(ends)

    return lambda pieces: jax.lax.map(piece, pieces)


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
    function, there, _ = _as_function(key_noise, sample, x, n_draws)
    here, _ = ravel_pytree(jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), baseline))
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

    def moved(order, n_taken):
        return function(jnp.where(order < n_taken, here, there))[moment]

    every = jax.jit(lambda orders: jax.lax.map(lambda given: moved(*given), orders, batch_size=_AT_ONCE))(
        (jnp.repeat(orders, n_steps, axis=0), jnp.tile(taken, len(orders)))
    )
    start = function(there)[moment]
    curves = np.asarray((every.reshape(len(orders), n_steps) - start) / (function(here)[moment] - start))
    areas = curves.mean(axis=1)
    p_value = float(np.mean(areas >= areas[0]))
    return Deletion(np.asarray(taken) / len(there), curves[0], curves[1:], p_value)


def figure(
    path: Path | str,
    *,
    patterns: dict[str, tuple[Float[Any, "sensor"], Float[Any, "sensor"], Float[Any, "sensor"]]],
    waveforms: dict[str, tuple[Float[Any, "sample"], Float[Any, "sample"]]],
    sample_ns: float = 10.0,
    title: str = "",
    test: Deletion | None = None,
    tested: str = "",
    panels: Sequence[Callable[[Any], None]] = (),
) -> None:
    """Shares on the sensors' array and along the waveform, in one file.

    Args:
        path: with an ending that matplotlib knows.
        patterns: title to (x in mm, y in mm, shares) of the sensors.
        waveforms: title to (PE a sample, shares).
        sample_ns: of the waveforms.
        title: what is shared out, with its unit; not needed where the names say it.
        test: the deletion test, drawn if given.
        tested: of which parameter it is.
        panels: further ones, each draws into axes.
    """
    from inference.diagnostics.figures import page  # noqa: PLC0415  matplotlib is slow to load

    page(
        path,
        [
            *(
                lambda axes, name=name, of=of: _sensors(axes, *of, f"{name}: {title}" if title else name)
                for name, of in patterns.items()
            ),
            *(
                lambda axes, name=name, of=of: _samples(
                    axes, *of, sample_ns, f"{name}: {title}" if title else name
                )
                for name, of in waveforms.items()
            ),
            *panels,
            *([lambda axes: _deletion(axes, test, tested)] if test is not None else []),
        ],
    )


def _sensors(axes, x_mm, y_mm, shares, title):
    shares = np.asarray(shares)
    largest = float(np.abs(shares).max()) or 1.0
    order = np.argsort(np.abs(shares))  # those that count on top
    dots = axes.scatter(
        np.asarray(x_mm)[order], np.asarray(y_mm)[order], c=shares[order], s=26, cmap="RdBu_r", vmin=-largest,
        vmax=largest, edgecolors="#cfcfcf", linewidths=0.3,
    )  # fmt: skip
    axes.figure.colorbar(dots, ax=axes, shrink=0.8)
    axes.set(aspect="equal", xlabel="x / mm", ylabel="y / mm", title=title)


def _samples(axes, pe, shares, sample_ns, title):
    at = np.arange(len(pe)) * sample_ns / 1e3
    axes.plot(at, np.asarray(pe), color="#222222", lw=0.8)
    axes.set(xlabel="time / \N{MICRO SIGN}s", ylabel="PE / sample", title=title)
    right = axes.twinx()
    right.fill_between(at, np.asarray(shares), step="mid", color="#D55E00", alpha=0.5, lw=0)
    limit = float(np.abs(np.asarray(shares)).max()) or 1.0
    right.set(ylim=(-1.1 * limit, 1.1 * limit))
    right.tick_params(labelsize=7, colors="#D55E00")


def _deletion(axes, test: Deletion, tested: str):
    share, random = np.concatenate([[0], test.share]), np.pad(test.random, ((0, 0), (1, 0)))
    axes.plot(share, random.T, color="#8a8a8a", lw=0.4, alpha=0.6)
    axes.plot(share, np.concatenate([[0], test.ordered]), color="#0072B2", label="most important first")
    axes.set(xlabel="inputs taken out", ylabel="way to the baseline")
    axes.set_title(f"Deletion, {tested + ': ' if tested else ''}p {test.p_value:.3g}")
    axes.legend(frameon=False, fontsize=7)
