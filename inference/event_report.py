"""One event's posterior explained: which PMTs, samples and sums moved it, in numbers and a figure."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from inference.estimators.posterior import DirectPosterior
from inference.explain import (
    LARGEST_GAP,
    Attribution,
    Deletion,
    Sample,
    Way,
    deletion,
    integrated_gradients,
    straight,
)
from inference.explain_figure import figure
from inference.flows import MatchingFlow
from inference.priors import Prior

_LARGEST_LINEAR = 10.0  # widths: a figure with larger shifts has a logarithmic axis
_LEAST_MOVED = 0.1  # of a width: what moved less is not tested by deletion


def check_explainable(posterior: Any) -> None:
    """Raise unless the posterior's draws have a gradient in the data.

    Raises:
        ValueError: for draws by chains (NLE, NRE), and for those of flow matching.
    """
    if not isinstance(posterior, DirectPosterior):
        raise ValueError(
            f"draws of a {type(posterior).__name__} are made by chains, without a gradient in the data: only "
            "posteriors of NPE can be explained"
        )
    if isinstance(posterior.network.flow, MatchingFlow):
        raise ValueError(
            "draws of flow matching solve an equation, without a gradient in the data: only posteriors of "
            "NPE with another flow can be explained"
        )


def likeliest_kind(posterior: DirectPosterior, x: Any) -> tuple[int, float]:
    """Label that the posterior finds most probable, and its probability; (0, 1) without a category.

    Args:
        posterior: of a flow.
        x: data of one event.
    """
    if not posterior.network.n_kinds:
        return 0, 1.0
    condition = posterior.network.condition(jax.tree.map(lambda part: jnp.asarray(part)[None], x))
    chance = np.exp(np.asarray(posterior.network.log_kinds(condition))[0])
    return int(chance.argmax()), float(chance.max())


class _OfKind(eqx.Module):
    """A sampler whose label is data: what is compiled of it serves all labels."""

    network: Any
    prior: Prior
    kind: Int[Array, ""]
    summary: Callable[[Any], Any]

    def __call__(self, key: PRNGKeyArray, x: Any, n: int) -> Float[Array, "event draw parameter"]:
        """Draws of the continuous parameters."""
        network = self.network
        condition = network.condition(self.summary(x))
        if network.n_kinds:
            hot = jnp.broadcast_to(
                jax.nn.one_hot(self.kind, network.n_kinds), (len(condition), network.n_kinds)
            )
            condition = jnp.concatenate([condition, hot], axis=1)
        noise = jax.random.normal(key, (condition.shape[0], n, network.flow.size), condition.dtype)
        return self.prior.to_physical(network.u_scaling.undo(network.flow.push(noise, condition)))


def _itself(x: Any) -> Any:
    return x


def of_kind(posterior: DirectPosterior, kind: int, summary: Callable[[Any], Any] = _itself) -> Sample:
    """Draws of the continuous parameters given the kind, differentiable in the data.

    Args:
        posterior: of NPE, with any flow but flow matching.
        kind: label; 0 without a category.
        summary: from the data to what the posterior was trained on; give one object for all events and kinds,
            since what is compiled is kept with it.

    Raises:
        ValueError: for another posterior.
    """
    check_explainable(posterior)
    return _OfKind(posterior.network, posterior.prior, jnp.asarray(kind), summary)


def event_report(
    path: Path | str,
    key: PRNGKeyArray,
    sample: Sample,
    x: dict[str, Any],
    baseline: dict[str, Any],
    *,
    names: Sequence[str],
    units: Sequence[str],
    places_mm: dict[str, tuple[Any, Any]],
    sample_ns: float = 10.0,
    shown: Sequence[str] = (),
    summed: Sequence[str] = (),
    way: Way = straight,
    asked: Sequence[int] | None = None,
    n_draws: int = 256,
    largest_gap: float = LARGEST_GAP,
) -> dict[str, Any]:
    """Share an event's posterior means out over its data, test by deletion, draw.

    Args:
        path: of the figure.
        key: of noise and random orders.
        sample: of `of_kind`.
        x: data of one event by name: patterns, waveforms, single numbers.
        baseline: of the same shapes: an average event.
        names: of the continuous parameters.
        units: of the same.
        places_mm: x and y of the sensors, for the entries of x that are patterns.
        sample_ns: of the waveforms.
        shown: parameters with panels of their own; all if not given.
        summed: entries of x with several numbers that are neither; their sums alone are drawn.
        way: path from baseline to x, see `integrated_gradients`.
        asked: moments whose shares must add up, see there.
        n_draws: of the posterior.
        largest_gap: of completeness.

    Returns:
        For each parameter mean at event and baseline, gap of completeness, sum of shares in each entry of x;
        for the shown one that moved most, in widths, the p-value of deletion.

    Raises:
        ValueError: if the shares do not add up.
    """
    keys = jax.random.split(key)
    found = integrated_gradients(
        keys[0], sample, x, baseline, way=way, asked=asked, n_draws=n_draws, largest_gap=largest_gap
    )
    size = len(names)
    shown = list(shown) or list(names)
    moved = np.abs(np.asarray(found.moments - found.at_baseline))[:size] / np.asarray(found.moments)[size:]
    most = max((list(names).index(name) for name in shown), key=lambda i: moved[i])
    test: Deletion | None = None
    if moved[most] > _LEAST_MOVED:
        test = deletion(keys[1], sample, x, baseline, found, most, n_draws=n_draws)
    out: dict[str, Any] = {}
    for i, name in enumerate(names):
        out[name] = {
            "unit": units[i],
            "mean": float(found.moments[i]),
            "standard_deviation": float(found.moments[size + i]),
            "mean_at_baseline": float(found.at_baseline[i]),
            "completeness_gap": float(found.gap[i]),
            "deletion_p": test.p_value if test is not None and i == most else None,
            "shares": {entry: float(jnp.sum(part[i])) for entry, part in found.shares.items()},
        }
    _draw(path, found, x, test, list(names), list(units), places_mm, sample_ns, shown, summed, names[most])
    return {"parameters": out, "nodes": found.n_nodes}


def _draw(
    path, found: Attribution, x, test, names, units, places_mm, sample_ns, shown, summed, tested
) -> None:
    patterns, waveforms = {}, {}
    for entry, values in x.items():
        flat = np.ravel(values)
        if entry in places_mm:
            patterns[f"{entry}: light [PE]"] = (*places_mm[entry], flat)
        for name in shown:
            i = names.index(name)
            share, title = np.ravel(found.shares[entry][i]), f"{entry}: to {name} [{units[i]}]"
            if entry in places_mm:
                patterns[title] = (*places_mm[entry], share)
            elif flat.size > 1 and entry not in summed:
                waveforms[title] = (flat, share)
    numbers = [entry for entry, values in x.items() if np.size(values) == 1]
    panels = [lambda axes: _bars(axes, found, list(x), names)] if numbers or len(x) > 1 else []
    figure(
        path, patterns=patterns, waveforms=waveforms, sample_ns=sample_ns, test=test, tested=tested,
        panels=panels,
    )  # fmt: skip


def _bars(axes: Any, found: Attribution, entries: list[str], names: list[str]) -> None:
    """Sum of the shares in each entry, over the parameter's width."""
    height = 0.8 / len(names)
    colours = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
    for i, name in enumerate(names):
        width = max(float(found.moments[len(names) + i]), 1e-30)
        total = [float(jnp.sum(found.shares[entry][i])) / width for entry in entries]
        at = np.arange(len(entries)) + (i - (len(names) - 1) / 2) * height
        axes.barh(at, total, height, color=colours[i % len(colours)], label=name)
    axes.axvline(0, color="#8a8a8a", lw=0.8)
    axes.set_yticks(range(len(entries)), entries, fontsize=7)
    axes.set(xlabel="shift of the mean, in widths", title="All of each entry")
    if np.abs(axes.get_xlim()).max() > _LARGEST_LINEAR:
        axes.set_xscale("symlog")
    axes.legend(frameon=False, fontsize=7)
