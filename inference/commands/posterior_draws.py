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
            evidence of each event. Where no draw has weight, the draws stay as they are.
        report: told how far it is.
    """
    import equinox as eqx
    import jax
    import jax.numpy as jnp
    import numpy as np

    from inference.estimators.posterior import bucket

    n, compiled = len(inputs.event), eqx.filter_jit(seen_by)
    chunk = min(_CHUNK_EXACT if exact else _CHUNK, bucket(n))  # one shape, so one compilation
    parts: dict[str, list[Any]] = {}
    for first in range(0, n, chunk):
        here = {
            name: _filled(values[first : first + chunk], chunk) for name, values in inputs.columns.items()
        }
        n_here = min(chunk, n - first)
        key = jax.random.fold_in(jax.random.key(seed), first)
        x = compiled(inputs.model, here)
        draws, found = posterior.sample(key, x, N_DRAWS), {}
        if exact:
            refined = _weighed(inputs.model, draws, posterior.log_prob(draws, x), observables(here))
            has_weight = refined.efficiency > 0
            key = jax.random.fold_in(key, 1)
            drawn = jnp.where(has_weight[:, None, None], refined.resample(key, N_DRAWS), draws)
            found = {
                "importance_efficiency": refined.efficiency,
                "pareto_k": refined.pareto_k,
                "log_evidence": refined.log_evidence,
            }
            draws = drawn
        found |= _summed(np.asarray(draws), posterior.prior)
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


def _weighed(model: Any, draws: Any, log_proposal: Any, columns: Any) -> Any:
    """Importance weights of each event's draws against the model's exact density."""
    import equinox as eqx
    import jax
    import jax.numpy as jnp

    from inference.sampling.importance import weigh

    @eqx.filter_jit
    def density(model, draws, columns):
        data = jax.tree.map(lambda part: jnp.repeat(part, draws.shape[1], axis=0), model.data(columns))
        return model.log_density(draws.reshape(-1, draws.shape[-1]), data).reshape(draws.shape[:2])

    return jax.vmap(weigh)(draws, log_proposal, density(model, draws, columns))


def _summed(draws: Any, prior: Any) -> dict[str, Any]:
    """Numbers of each event from its draws [event, draw, parameter]."""
    import numpy as np

    found: dict[str, Any] = {}
    for i, name in enumerate(prior.names):
        of_name = draws[:, :, i]
        if prior.category is not None and i == len(prior.names) - 1:
            for label, kind in enumerate(prior.category.labels):
                found[f"probability_{kind}"] = np.mean(of_name == label, axis=1)
            continue
        found[f"{name}_mean"] = of_name.mean(axis=1)
        found[f"{name}_standard_deviation"] = of_name.std(axis=1)
        quantiles = np.quantile(of_name, list(_QUANTILES.values()), axis=1)
        found |= {f"{name}_{label}": row for label, row in zip(_QUANTILES, quantiles, strict=True)}
    return found
