"""Classifier two-sample tests: can a network tell draws of a posterior from the truth, or from other draws?

Three questions:

- `c2st`: two sets of draws, as of a flow and of an exact reference for one event;
- `check_pairs`: over all events, pairs (truth, data) against (draw, data). It sees what ranks and coverage
  cannot: a wrong correlation, or a posterior that ignores the data;
- `local_c2st`: the same at one event.

Source: Lopez-Paz and Oquab, arXiv:1610.06545; local: Linhart et al., arXiv:2306.03580.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from scipy import stats

from inference.diagnostics.check import Check, need_rows
from inference.diagnostics.classifier import held_out_logits, logit, train

RATE = 0.01  # of false positives


class Accuracy(NamedTuple):
    """Held-out accuracy of telling two samples apart: 0.5 if they are alike, 1 if nothing overlaps."""

    value: float
    p_value: float  # of an accuracy this large, or larger, from guessing
    n: int


def _of_guesses(right: Float[np.ndarray, "guess"]) -> Accuracy:
    n = len(right)
    return Accuracy(float(np.mean(right)), float(stats.binom.sf(np.sum(right) - 1, n, 0.5)), n)


def c2st(
    key: PRNGKeyArray,
    first: Float[np.ndarray, "draw parameter"],
    second: Float[np.ndarray, "draw parameter"],
    *,
    n_steps: int = 1000,
) -> Accuracy:
    """Held-out accuracy between two samples of one size.

    The p-value takes the held-out guesses for independent, which within folds they are.

    Args:
        key: of the classifier.
        first: draws.
        second: other draws, as many.
        n_steps: of training.

    Raises:
        ValueError: if the shapes differ, or a number is not finite.
    """
    need_rows("first", first, (None, None))
    need_rows("second", second, first.shape)
    a, b = held_out_logits(key, first, second, n_steps=n_steps)
    return _of_guesses(np.concatenate([a < 0, b >= 0]))


def check_pairs(
    key: PRNGKeyArray,
    theta: Float[np.ndarray, "event parameter"],
    draws: Float[np.ndarray, "event draw parameter"],
    data: Float[np.ndarray, "event feature"],
    *,
    n_steps: int = 300,
) -> Check:
    """Which of (truth, data) and (draw, data) is the truth: guessed right half of the time, or refused.

    Args:
        key: of the classifier.
        theta: truths.
        draws: of each event's posterior, 3 at least.
        data: what the events look like, or a summary of it.
        n_steps: of training.

    Raises:
        ValueError: if the shapes do not fit, or a number is not finite.
    """
    a, b = held_out_logits(key, *_pairs(theta, draws, data), n_steps=n_steps)
    found = _of_guesses(a < b)
    words = f"p of {found.value:.3f} of {found.n} truths told from a draw of their posterior by a classifier"
    return Check.within("classifier", found.p_value, low=RATE, rate=RATE, detail=words)


def _spread(draws):
    spread = draws.std(axis=1, keepdims=True)
    return np.where(spread > 0, spread, 1)


def _pairs(theta, draws, data) -> tuple[np.ndarray, np.ndarray]:
    """Truth and first draw, in standard deviations of the other draws from their mean, each with the data.

    The other draws are functions of the data as far as truth and first draw go, which stay exchangeable. A
    network that had to find the posterior's place itself would need far more events to see a wrong width.
    """
    need_rows("theta", theta, (None, None))
    need_rows("draws", draws, (len(theta), None, theta.shape[1]))
    need_rows("data", data, (len(theta), None))
    others = draws[:, 1:]
    place, spread = others.mean(axis=1), _spread(others)[:, 0]
    truth, first = ((rows - place) / spread for rows in (theta, draws[:, 0]))
    return np.concatenate([truth, data], axis=1), np.concatenate([first, data], axis=1)


class LocalTest(NamedTuple):
    """How surely truth and draws are told apart at each of some events."""

    statistic: Float[np.ndarray, "event"]  # mean square of (probability - 1/2) over draws; 0 if alike
    null: Float[np.ndarray, "trial event"]  # the same, trained on labels that mean nothing
    p_value: Float[np.ndarray, "event"]


@functools.partial(jax.jit, static_argnames="n_steps")
def _local(key, rows, swaps, at, n_steps):
    n = rows.shape[0] // 2

    def one(key, swap):
        labels = jnp.concatenate([swap, 1 - swap])
        net = train(key, rows, labels, jnp.arange(2 * n), n_steps=n_steps)
        chance = jax.nn.sigmoid(jax.vmap(jax.vmap(functools.partial(logit, net)))(at))
        return jnp.mean((chance - 0.5) ** 2, axis=1)

    return jax.lax.map(lambda given: one(*given), (jax.random.split(key, len(swaps)), swaps), batch_size=8)


def local_c2st(
    key: PRNGKeyArray,
    theta: Float[np.ndarray, "event parameter"],
    draws: Float[np.ndarray, "event draw parameter"],
    data: Float[np.ndarray, "event feature"],
    *,
    at_draws: Float[np.ndarray, "at draw parameter"],
    at_data: Float[np.ndarray, "at feature"],
    n_trials: int = 99,
    n_steps: int = 200,
) -> LocalTest:
    """Test the posterior at single events, with a classifier trained on all.

    Under a right posterior truth and draw of an event may be exchanged: networks trained after such exchanges
    at random give the law of the statistic, and p-values that hold exactly at any number of events.

    Args:
        key: of exchanges and networks.
        theta: truths of the events to train on.
        draws: of each event's posterior, 3 at least.
        data: of these events, or a summary of it.
        at_draws: of the posterior at the events in question.
        at_data: the events in question.
        n_trials: exchanges; the smallest p-value is 1 / (n_trials + 1).
        n_steps: of training.

    Raises:
        ValueError: if the shapes do not fit, or a number is not finite.
    """
    need_rows("at_data", at_data, (None, data.shape[1]))
    need_rows("at_draws", at_draws, (len(at_data), None, theta.shape[1]))
    both = np.concatenate(_pairs(theta, draws, data))
    centre, spread = both.mean(axis=0), both.std(axis=0)
    spread = np.where(spread > 0, spread, 1)
    there = np.broadcast_to(at_data[:, None], (*at_draws.shape[:2], at_data.shape[1]))
    at_draws = (at_draws - at_draws.mean(axis=1, keepdims=True)) / _spread(at_draws)
    at = (np.concatenate([at_draws, there], axis=2) - centre) / spread
    key_swap, key_train = jax.random.split(key)
    swaps = jax.random.bernoulli(key_swap, shape=(n_trials + 1, len(theta))).astype(jnp.float32)
    rows = jnp.asarray((both - centre) / spread, jnp.float32)
    found = np.asarray(_local(key_train, rows, swaps.at[0].set(0.0), jnp.asarray(at, jnp.float32), n_steps))
    p_value = np.mean(found >= found[:1], axis=0)
    return LocalTest(found[0], found[1:], p_value)
