"""The trained posterior held against the exact one: importance weights, and NUTS with a network as judge."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from inference.diagnostics.c2st import c2st
from inference.events import SingleScatters, weigh_draws
from inference.sampling.many import ManyDraws, sample_many

_FEWEST_SHARE = 0.01  # of the exact posterior's mass: a kind with less gets no chains


def importance(
    key: PRNGKeyArray,
    events: SingleScatters,
    post: Any,
    columns: Float[np.ndarray, "event 5"],
    *,
    n_draws: int,
    chunk: int = 250,
) -> dict[str, np.ndarray]:
    """Efficiency, Pareto k, evidence and the exact probability of the last kind, of each event.

    Args:
        key: of the draws.
        events: with the exact likelihood.
        post: trained; its draws are weighed.
        columns: observables of the events.
        n_draws: an event, >= 25.
        chunk: events at a time.
    """
    n = len(columns)
    chunk = min(chunk, n)
    out: dict[str, list[np.ndarray]] = {}
    for number, first in enumerate(range(0, n, chunk)):
        begin = min(first, n - chunk)
        here = jnp.asarray(columns[begin : begin + chunk])
        x = _summaries(events, here)
        draws = post.sample(jax.random.fold_in(key, number), x, n_draws)
        found = weigh_draws(events, draws, post.log_prob(draws, x), here)
        weight = np.exp(np.asarray(found.log_weights))
        part = {
            "efficiency": np.asarray(found.efficiency),
            "pareto_k": np.asarray(found.pareto_k),
            "log_evidence": np.asarray(found.log_evidence),
            "log_evidence_error": np.asarray(found.log_evidence_error),
            "n_invalid": np.asarray(found.n_invalid),
        }
        if events.n_kinds:
            label = np.asarray(draws[..., -1])
            part |= {"exact_share": np.sum(weight * label, axis=1), "flow_share": label.mean(axis=1)}
        for name, values in part.items():
            out.setdefault(name, []).append(values[first - begin :])
    return {name: np.concatenate(parts) for name, parts in out.items()}


def shares(
    key: PRNGKeyArray,
    events: SingleScatters,
    post: Any,
    columns: Float[np.ndarray, "event 5"],
    *,
    n_draws: int,
    repeats: int,
) -> Float[np.ndarray, "event"]:
    """Exact probability of the last kind, from rounds of `importance` weighted with their evidence."""
    rounds = [
        importance(jax.random.fold_in(key, i), events, post, columns, n_draws=n_draws) for i in range(repeats)
    ]
    log_evidence = np.stack([found["log_evidence"] for found in rounds])
    weight = np.exp(log_evidence - log_evidence.max(axis=0))
    share = np.stack([found["exact_share"] for found in rounds])
    return np.sum(weight * share, axis=0) / np.sum(weight, axis=0)


@eqx.filter_jit
def _summaries(events: SingleScatters, columns: Float[Array, "event 5"]) -> Float[Array, "event x"]:
    return events.summary(columns)


def summaries(
    events: SingleScatters, columns: Float[np.ndarray, "event 5"], *, chunk: int = 8192
) -> np.ndarray:
    """What the network sees of many events, in chunks of one shape."""
    n = len(columns)
    chunk = min(chunk, n)
    found = np.empty((n, jax.eval_shape(events.summary, jnp.asarray(columns[:1])).shape[1]), np.float32)
    for first in range(0, n, chunk):
        begin = min(first, n - chunk)
        found[begin : begin + chunk] = _summaries(events, jnp.asarray(columns[begin : begin + chunk]))
    return found


def nuts(
    key: PRNGKeyArray,
    events: SingleScatters,
    columns: Float[np.ndarray, "problem 5"],
    label: Int[np.ndarray, "problem"],
    *,
    n_chains: int,
    n_warmup: int,
    n_samples: int,
) -> ManyDraws:
    """Draws of the exact posterior of energy and place, by NUTS in the anchors' coordinates.

    Args:
        key: of all chains.
        events: with the exact likelihood.
        columns: observables of each problem's event.
        label: kind that each problem takes for known.
        n_chains: a problem, > 1.
        n_warmup: draws a chain to adapt the step.
        n_samples: draws a chain.
    """
    kinds, prior = max(events.n_kinds, 1), events.prior
    x = _summaries(events, jnp.asarray(columns))
    anchors = x[:, : 8 * kinds].reshape(-1, kinds, 2, 4)[jnp.arange(len(x)), jnp.asarray(label)]
    start, width = anchors[:, 0], jnp.exp(anchors[:, 1])
    cos, sin = x[:, 8 * kinds], x[:, 8 * kinds + 1]
    turn = jnp.zeros((len(x), 4, 4)).at[:, 0, 0].set(1.0).at[:, 3, 3].set(1.0)
    turn = turn.at[:, 1, 1].set(cos).at[:, 2, 2].set(cos).at[:, 2, 1].set(sin).at[:, 1, 2].set(-sin)
    # these set the steps' scale alone: what NUTS draws does not depend on them
    root = turn * width[:, None, :]

    def log_density(u, given):
        data, label = given
        theta = prior.to_physical(u[None])
        if events.n_kinds:
            theta = jnp.concatenate([theta, label[None, None]], axis=1)
        one = jax.tree.map(lambda part: part[None], data)
        return events.log_density(theta, one)[0] + prior.log_jacobian(u)

    given = (events.data(jnp.asarray(columns)), jnp.asarray(label, start.dtype))
    counts = {"n_chains": n_chains, "n_warmup": n_warmup, "n_samples": n_samples}
    u, diverging = sample_many(key, log_density, given, start, root, **counts)
    return ManyDraws.of(prior.to_physical(u), diverging, prior.names[:4])


def two_sample(
    key: PRNGKeyArray,
    events: SingleScatters,
    post: Any,
    columns: Float[np.ndarray, "event 5"],
    share: Float[np.ndarray, "event"] | None,
    *,
    n_draws: int,
    n_steps: int,
    chains: dict[str, int],
) -> dict[str, Any]:
    """C2ST between the flow and NUTS, event by event, over energy, place and kind.

    Args:
        key: of everything random.
        events: with the exact likelihood.
        post: trained.
        columns: observables of the events.
        share: exact probability of the last kind, from `importance`; none without kinds.
        n_draws: an event, of each; at most as many as all chains of a kind give.
        n_steps: of each classifier's training.
        chains: options of `nuts`.

    Returns:
        Accuracies, and how far the chains are to be trusted.
    """
    keys = jax.random.split(key, 4)
    random = np.random.default_rng(np.asarray(jax.random.key_data(keys[0])))
    flow = np.asarray(post.sample(keys[1], _summaries(events, jnp.asarray(columns)), n_draws))
    exact = np.empty_like(flow)
    label_of = np.zeros(flow.shape[:2], int)
    if share is not None:
        # a kind too unlikely for chains counts as impossible: an accuracy moves by half a per cent at most
        share = np.where(share < _FEWEST_SHARE, 0.0, np.where(share > 1 - _FEWEST_SHARE, 1.0, share))
        label_of = (random.random(label_of.shape) < share[:, None]).astype(int)
        exact[..., 4] = label_of
    row, label = np.nonzero(np.stack([np.any(label_of == k, axis=1) for k in (0, 1)], axis=1))
    found = nuts(keys[2], events, columns[row], label, **chains)
    trusted = np.ones(len(columns), bool)
    np.logical_and.at(trusted, row, found.trusted())
    for event, kind, draws in zip(row, label, found.flat, strict=True):
        mine = np.flatnonzero(label_of[event] == kind)
        exact[event, mine, :4] = draws[random.permutation(len(draws))[: len(mine)]]
    accuracy = [
        c2st(jax.random.fold_in(keys[3], i), exact[i], flow[i], n_steps=n_steps).value
        for i in range(len(columns))
    ]
    return {
        "accuracy": np.array(accuracy),
        "trusted": trusted,
        "largest_r_hat": float(np.nanmax(found.r_hat)),
        "flow": flow,
        "exact": exact,
    }
