"""What `dmsim infer` found, as plain numbers for result.json and as words for the terminal."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpyro.distributions as dist

if TYPE_CHECKING:
    from inference.likelihood.population_data import EventSet
    from inference.parameters import Parameter
    from inference.population.fit import PopulationFit
    from inference.population.intervals import SignalResult

# signal events at the limit: below, a Poisson distribution is far from the normal one of the asymptotic
# formulae. assumed
FEW_EVENTS = 5.0


def summarise(
    fit: PopulationFit, events: EventSet, signal: SignalResult | None, trouble: list[str]
) -> dict[str, Any]:
    """Everything that goes into result.json: plain numbers and words."""
    import dataclasses

    population = fit.likelihood.population
    parameters = {}
    for i, parameter in enumerate(population.parameters):
        draws = fit.draws[:, i]
        parameters[parameter.name] = {
            "unit": parameter.unit,
            "prior": prior_text(parameter),
            "start": parameter.start,
            "prior_standard_deviation": float(parameter.prior.variance) ** 0.5,
            "mode": float(fit.values[i]),  # in the sampler's unconstrained coordinates
            "mean": float(draws.mean()),
            "standard_deviation": float(draws.std()),
            "median": float(np.median(draws)),
            "interval_68": np.quantile(draws, [0.16, 0.84]).tolist(),
            "interval_90": np.quantile(draws, [0.05, 0.95]).tolist(),
            "below_90": float(np.quantile(draws, 0.9)),
            "is_rate": i >= len(population.free),
            "r_hat": float(fit.chains.r_hat[i]),
            "effective_sample_size": float(fit.chains.effective_size[i]),
        }
    in_window = len(events.inside(population.window))
    summary: dict[str, Any] = {
        "parameters": parameters,
        "correlation": np.atleast_2d(np.corrcoef(fit.draws.T)).tolist(),
        "events": {
            "read": len(events) + events.n_without,
            "without_s1_or_s2": events.n_without,
            "outside_of_window": len(events) - in_window,
            "in_window": in_window,
        },
        "check": dataclasses.asdict(fit.check),
        "trouble": trouble,
    }
    if signal is not None:
        component = population.components[0]
        summary["signal"] = {
            "name": component.name,
            "unit": component.rate.unit,
            "events_per_unit": component.events_per_unit,
            "events_in_window_per_unit": signal.events_per_unit,
            "best": float(signal.best.parameters[0]),
            "q0": signal.discovery.q0,
            "significance": signal.discovery.z,
            "p_value": signal.discovery.p_value,
            "confidence": signal.asymptotic.level,
            "asymptotic_interval": [signal.asymptotic.low, signal.asymptotic.high],
            "asymptotic_upper_limit": signal.upper,
            "toy_interval": None if signal.toys is None else [signal.toys.low, signal.toys.high],
            "toy_upper_limit": signal.toy_upper,
            "asymptotic_is_valid": bool(signal.upper * signal.events_per_unit >= FEW_EVENTS),
            "scan": {
                "rate": signal.signals.tolist(),
                "t": signal.t.tolist(),
                "level": None if signal.levels is None else signal.levels.tolist(),
            },
        }
    return summary


def finite(tree: Any) -> Any:
    """The same with null for what is not a number, which JSON does not know."""
    if isinstance(tree, dict):
        return {key: finite(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def prior_text(parameter: Parameter) -> str:
    """A prior in a few words."""
    prior: Any = parameter.prior
    if isinstance(prior, dist.Uniform):
        low, high = np.asarray(prior.low), np.asarray(prior.high)
        return f"flat {low:g} to {high:g}"
    return f"{parameter.start:.4g} +- {float(prior.variance) ** 0.5:.2g}"


def print_summary(args: argparse.Namespace, summary: dict[str, Any]) -> None:
    """The table of parameters, the signal, and what speaks against them."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        console = Console(width=120)  # in a file, names are not cut short
    found = summary["events"]
    table = Table()
    for heading in ("parameter", "unit", "prior", "posterior"):
        table.add_column(heading, justify="left" if heading in ("parameter", "unit") else "right")
    for name, row in summary["parameters"].items():
        table.add_row(name, row["unit"], row["prior"], _posterior(row))
    lines = [
        f"{found['in_window']} of {found['read']} events in {args.events}: {found['outside_of_window']} are "
        f"outside of the window, {found['without_s1_or_s2']} have no S1 or no S2"
    ]
    console.print(*lines, highlight=False)
    console.print(table)
    if "signal" in summary:
        for line in signal_lines(summary["signal"]):
            console.print(line, highlight=False)
    for trouble in summary["trouble"]:
        console.print(f"warning: {trouble}: do not trust the uncertainties", highlight=False)
    console.print(f"written: {args.out / 'result.json'}, {', '.join(summary['figures'])}", highlight=False)


def _posterior(row: dict[str, Any]) -> str:
    if row["is_rate"] and row["mean"] < 2 * row["standard_deviation"]:  # piles up at 0
        return f"below {row['below_90']:.3g} (90 %)"
    return f"{row['mean']:.4g} +- {row['standard_deviation']:.2g}"


def signal_lines(s: dict[str, Any]) -> list[str]:
    """Best fit, significance, interval and limit of a signal, each by its name."""
    unit, confidence, per_unit = s["unit"], f"{s['confidence']:.0%}", s["events_in_window_per_unit"]
    lines = [
        f"{s['name']}: best fit {s['best']:.3g} {unit}, {s['significance']:.2f} sigma above none",
        f"  two-sided {confidence} interval {_span(s['asymptotic_interval'])} {unit}, "
        f"one-sided {confidence} upper limit {_end(s['asymptotic_upper_limit'])} {unit} (asymptotic)",
    ]
    if s["toy_interval"] is not None:
        lines.append(
            f"  two-sided {confidence} interval {_span(s['toy_interval'])} {unit}, "
            f"one-sided {confidence} upper limit {_end(s['toy_upper_limit'])} {unit} (from toys)"
        )
    lines.append(
        f"  a rate of 1 {unit} is {s['events_per_unit']:.3g} events in the exposure, {per_unit:.3g} of them "
        "seen in the window"
    )
    if not s["asymptotic_is_valid"]:
        at_limit = s["asymptotic_upper_limit"] * per_unit
        more = "trust those from toys" if s["toy_interval"] is not None else "--toys 1000 gives others"
        lines.append(
            f"  warning: the asymptotic limit is {at_limit:.2g} events in the window, too few for asymptotic "
            f"formulae, which can be too low: {more}"
        )
    return lines


def _end(value: float) -> str:
    return "beyond the scan" if math.isnan(value) else f"{value:.3g}"


def _span(ends: list[float]) -> str:
    return f"{ends[0]:.3g} to {_end(ends[1])}"
