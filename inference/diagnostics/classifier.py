"""A small classifier, cross-validated: compiled once for a shape, all folds side by side."""

import functools
from collections.abc import Callable
from typing import cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

_BATCH = 128
_WIDTH = 64
_RATE = 3e-3  # learning rate at the start; falls to 0 as a cosine
_DECAY = 1e-3  # assumed: weight decay; without it folds of 100 rows are learned by heart


def logit(net: Callable, row: Float[Array, "feature"]) -> Float[Array, ""]:
    """Log-odds that a row is of the second kind. Gradient: exact."""
    return net(row)[0]


def train(
    key: PRNGKeyArray,
    rows: Float[Array, "row feature"],
    labels: Float[Array, "row"],
    chosen: Int[Array, "train"],
    *,
    n_steps: int,
) -> Callable:
    """A network that tells label 1 from 0, trained on the chosen rows. Gradient: none meant."""
    key_net, key_batches = jax.random.split(key)
    net = eqx.nn.MLP(rows.shape[1], 1, _WIDTH, 2, activation=jax.nn.silu, key=key_net)
    trained, static = eqx.partition(net, eqx.is_inexact_array)
    optimiser = optax.adamw(optax.cosine_decay_schedule(_RATE, n_steps), weight_decay=_DECAY)

    def loss(trained, batch):
        logits = jax.vmap(functools.partial(logit, eqx.combine(trained, static)))(rows[batch])
        return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, labels[batch]))

    def step(carry, key):
        trained, state = carry
        batch = chosen[jax.random.randint(key, (_BATCH,), 0, chosen.shape[0])]
        updates, state = optimiser.update(jax.grad(loss)(trained, batch), state, trained)
        return (optax.apply_updates(trained, updates), state), None

    keys = jax.random.split(key_batches, n_steps)
    (trained, _), _ = jax.lax.scan(step, (trained, optimiser.init(trained)), keys)
    return cast(Callable, eqx.combine(trained, static))


@functools.partial(jax.jit, static_argnames="n_steps")
def _cross_validated(key, rows, labels, train_sets, test_sets, n_steps):
    def fold(key, chosen, held_out):
        net = train(key, rows, labels, chosen, n_steps=n_steps)
        return jax.vmap(functools.partial(logit, net))(rows[held_out])

    return jax.vmap(fold)(jax.random.split(key, len(train_sets)), train_sets, test_sets)


def standardised(rows: Float[np.ndarray, "row feature"]) -> Float[np.ndarray, "row feature"]:
    """Columns of mean 0 and standard deviation 1; a constant column becomes 0."""
    spread = rows.std(axis=0)
    return (rows - rows.mean(axis=0)) / np.where(spread > 0, spread, 1)


def held_out_logits(
    key: PRNGKeyArray,
    first: Float[np.ndarray, "pair feature"],
    second: Float[np.ndarray, "pair feature"],
    *,
    n_folds: int = 5,
    n_steps: int = 500,
) -> tuple[Float[np.ndarray, "pair"], Float[np.ndarray, "pair"]]:
    """Log-odds that a row is of the second kind, by a network that saw neither it nor its partner.

    Args:
        key: of folds, networks and batches.
        first: rows of one kind.
        second: as many of the other; row i of both fall into the same fold.
        n_folds: > 1; what is left of a division of the rows by it has its log-odds from the last fold.
        n_steps: of training, of 128 rows.

    Returns:
        Of the first and of the second kind.
    """
    n = len(first)
    rows = jnp.asarray(standardised(np.concatenate([first, second]).astype(np.float64)), jnp.float32)
    labels = jnp.repeat(jnp.array([0.0, 1.0]), n)
    key_order, key_folds = jax.random.split(key)
    order = np.asarray(jax.random.permutation(key_order, n))
    size = -(-n // n_folds)
    # folds of one length overlap at the end, so that one compiled program serves all
    begins = [min(k * size, n - size) for k in range(n_folds)]
    tests = [order[begin : begin + size] for begin in begins]
    trains = [np.concatenate([order[:begin], order[begin + size :]]) for begin in begins]

    def pairs(sets):
        return jnp.asarray(np.concatenate([np.stack(sets), np.stack(sets) + n], axis=1))

    logits = np.asarray(_cross_validated(key_folds, rows, labels, pairs(trains), pairs(tests), n_steps))
    found = np.empty((2, n))
    for test, values in zip(tests, logits, strict=True):
        found[0, test], found[1, test] = values[:size], values[size:]
    return found[0], found[1]
