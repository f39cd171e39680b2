"""Classifier two-sample test: how well a network tells two sets of draws apart; 0.5 is not at all.

As in Lueckmann et al., arXiv:2101.04653: draws standardised by the reference, two hidden layers of 10 units a
dimension, five folds. The folds train side by side, for a fixed number of passes.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

N_FOLDS, N_PASSES, BATCH = 5, 60, 200


def _layers(key, sizes):
    keys = jax.random.split(key, len(sizes) - 1)
    pairs = zip(keys, sizes[:-1], sizes[1:], strict=True)
    # Glorot, as scikit-learn's classifier
    return [
        (jax.random.uniform(k, (a, b), minval=-1.0, maxval=1.0) * (6 / (a + b)) ** 0.5, jnp.zeros(b))
        for k, a, b in pairs
    ]


def _logit(layers, x):
    for weight, bias in layers[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    return (x @ layers[-1][0] + layers[-1][1])[..., 0]


@functools.partial(jax.jit, static_argnames="n_passes")
def _fold(key, points, labels, train, test, *, n_passes):
    """Accuracy on one fold after training on the others."""
    key_start, key_order = jax.random.split(key)
    layers = _layers(key_start, (points.shape[1], 10 * points.shape[1], 10 * points.shape[1], 1))
    optimiser = optax.adam(1e-3)

    def step(carry, chosen):
        layers, state = carry

        def loss(layers):
            return optax.sigmoid_binary_cross_entropy(_logit(layers, points[chosen]), labels[chosen]).mean()

        updates, state = optimiser.update(jax.grad(loss)(layers), state)
        return (optax.apply_updates(layers, updates), state), None

    n_batches = train.shape[0] // BATCH
    orders = jax.vmap(lambda k: jax.random.permutation(k, train)[: n_batches * BATCH])(
        jax.random.split(key_order, n_passes)
    )
    (layers, _), _ = jax.lax.scan(step, (layers, optimiser.init(layers)), orders.reshape(-1, BATCH))
    return jnp.mean((_logit(layers, points[test]) > 0) == (labels[test] > 0.5))


def c2st(
    reference: Float[np.ndarray, "n d"],
    draws: Float[np.ndarray, "n d"],
    *,
    seed: int = 1,
    n_passes: int = N_PASSES,
) -> float:
    """Mean accuracy over the folds.

    Args:
        reference: draws of the exact posterior.
        draws: as many of the other.
        seed: of folds and networks.
        n_passes: over the training folds.
    """
    if reference.shape != draws.shape:
        raise ValueError(f"sets of draws differ in shape: {reference.shape}, {draws.shape}")
    mean, width = reference.mean(axis=0), reference.std(axis=0)
    points = jnp.asarray((np.concatenate([reference, draws]) - mean) / width)
    labels = jnp.repeat(jnp.array([0.0, 1.0]), len(reference))
    order = np.random.default_rng(seed).permutation(len(points))
    folds = np.array_split(order[: len(order) // N_FOLDS * N_FOLDS], N_FOLDS)
    scores: list[Array] = []
    for i, test in enumerate(folds):
        train = np.concatenate([fold for j, fold in enumerate(folds) if j != i])
        key = jax.random.key(1000 * seed + i)
        scores.append(_fold(key, points, labels, jnp.asarray(train), jnp.asarray(test), n_passes=n_passes))
    return float(np.mean(scores))
