"""Draws of a trained posterior for many events, weighed by the exact density if wanted, in numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from inference.commands.posterior_inputs import Inputs, observables, seen_by

N_DRAWS = 400  # an event
_QUANTILES = {"low_90": 0.05, "low_68": 0.16, "median": 0.5, "high_68": 0.84, "high_90": 0.95}
_CHUNK = 4096  # events at a time
_CHUNK_EXACT = 128  # the same, with the exact density of all draws


def moments_of(
    seed: int, posterior: Any, inputs: Inputs, *, exact: bool, report: Callable[[str, int, int], None]
) -> dict[str, Any]:
    """Moments and quantiles of each event's draws, and the probability of each kind: a column each.

    Args:
        seed: of all draws.
        posterior: trained.
        inputs: its events.
        exact: weigh the draws by the exact density of the inputs' model. Adds efficiency, Pareto k and log
            evidence of each event. Where no draw has weight, all count alike and the efficiency is 0.
        report: told how far it is.
    """
    import equinox as eqx
    import jax
    import numpy as np

    from inference.estimators.posterior import bucket
    from inference.events import weigh_draws

    n, compiled = len(inputs.event), eqx.filter_jit(seen_by)
    chunk = min(_CHUNK_EXACT if exact else _CHUNK, bucket(n))  # one shape, so one compilation
    parts: dict[str, list[Any]] = {}
    for first in range(0, n, chunk):
        here = {
            name: _filled(values[first : first + chunk], chunk) for name, values in inputs.columns.items()
        }
        n_here = min(chunk, n - first)
        x = compiled(inputs.model, here)
        draws = posterior.sample(jax.random.fold_in(jax.random.key(seed), first), x, N_DRAWS)
        weight, found = np.full(draws.shape[:2], 1 / N_DRAWS), {}
        if exact:
            refined = weigh_draws(inputs.model, draws, posterior.log_prob(draws, x), observables(here))
            found = {
                "importance_efficiency": refined.efficiency,
                "pareto_k": refined.pareto_k,
                "log_evidence": refined.log_evidence,
            }
            weighed = np.asarray(refined.efficiency) > 0
            weight[weighed] = np.exp(np.asarray(refined.log_weights, float))[weighed]
        found |= _summed(np.asarray(draws, float), weight, posterior.prior)
        if not exact and getattr(getattr(posterior, "network", None), "n_kinds", 0):
            # without the noise of counting draws
            chance = np.exp(np.asarray(posterior.network.log_kinds(posterior.condition(x))))
            found |= {
                f"probability_{k}": p for k, p in zip(posterior.prior.category.labels, chance.T, strict=True)
            }
        for name, values in found.items():
            parts.setdefault(name, []).append(np.asarray(values)[:n_here])
        report("drawing", first + n_here, n)
    return {name: np.concatenate(part) for name, part in parts.items()}


def _filled(values: Any, n: int) -> Any:
    """The last event repeated, so that every chunk has one shape."""
    import numpy as np

    return np.concatenate([values, np.repeat(values[-1:], n - len(values), axis=0)])


def _summed(draws: Any, weight: Any, prior: Any) -> dict[str, Any]:
    """Numbers of each event from its draws [event, draw, parameter] and their weights, which add up to 1."""
    import numpy as np

    found: dict[str, Any] = {}
    for i, name in enumerate(prior.names):
        of_name = draws[:, :, i]
        if prior.category is not None and i == len(prior.names) - 1:
            for label, kind in enumerate(prior.category.labels):
                found[f"probability_{kind}"] = np.sum(weight * (of_name == label), axis=1)
            continue
        mean = np.sum(weight * of_name, axis=1)
        found[f"{name}_mean"] = mean
        found[f"{name}_standard_deviation"] = np.sqrt(np.sum(weight * (of_name - mean[:, None]) ** 2, axis=1))
        order = np.argsort(of_name, axis=1)
        sizes = np.take_along_axis(weight, order, axis=1)
        middle, ascending = np.cumsum(sizes, axis=1) - sizes / 2, np.take_along_axis(of_name, order, axis=1)
        rows = [np.interp(list(_QUANTILES.values()), m, v) for m, v in zip(middle, ascending, strict=True)]
        found |= {f"{name}_{label}": row for label, row in zip(_QUANTILES, np.transpose(rows), strict=True)}
    return found
