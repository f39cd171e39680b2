"""Figures whose events move with the detector: nuisance parameters, and gradients through the simulator.

`resimulate(key, parameters)` makes the samples anew for values of some detector parameters, differentiably
and with the same random numbers for the same key; `areas_simulator` makes such a function of
`dmsim.simulate_areas`. Where the last stage before a cut's variable is a normal distribution, `last_stage`
names the column of its standard deviation: the hard cut's expected acceptance needs no softness.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

import dmsim
from dmsim.detector import Detector
from dmsim.records import Deposits
from dmsim.selection import CutSet
from dmsim.selection.quantities import quantity
from inference.parameters import get_leaf, resolve, set_leaf
from inference.tuning import last_stage as last_stages
from inference.tuning.figures import Arrays, Evaluator
from inference.tuning.objective import Objective
from inference.tuning.samples import Sample, Samples
from inference.tuning.vector import Vector, make_vector

Parameters = Mapping[str, Any]  # name -> value
Resimulate = Callable[[PRNGKeyArray, Parameters], Samples]

_COLUMNS = ("s1_pe", "s2_pe", "cs1_pe", "cs2_pe", "drift_time_ns", "x_mm", "y_mm", "z_mm")


def areas_simulator(
    detector: Detector,
    deposits: Mapping[str, Deposits],
    expected: Mapping[str, float],
    *,
    signal: str,
    min_s1_pe: float = 0.0,
    min_s2_pe: float = 0.0,
    before_s1_charge: bool = False,
) -> Resimulate:
    """A `resimulate` on areas: the same deposits, seen by detectors of other parameters.

    Corrections stay those of `detector`, as the analyst believes in them. An event weighs as likely as its S1
    is seen; below the least areas it weighs nothing.

    Args:
        detector: all other parameters.
        deposits: of each class.
        expected: events of each class with this detector.
        signal: which class is the signal.
        min_s1_pe: least S1 [PE], >= 0.
        min_s2_pe: least S2 [PE], >= 0.
        before_s1_charge: S1s without the spread of the photoelectrons' charges, which is their last stage,
            and its standard deviation in the columns `s1_sigma_pe` and `cs1_sigma_pe`, for `last_stage`.
            No least S1 then: it would cut on the mean.

    Returns:
        A function of a key and of parameters named as in `inference.parameters`.

    Raises:
        ValueError: if the signal is none of the classes, a class has no expectation, or there is a least S1
            without the charges' spread.

    Gradient: of `resimulate`, as `dmsim.simulate_areas`; none through the least areas.
    """
    if signal not in deposits or set(expected) != set(deposits):
        raise ValueError(f"signal {signal!r}, expected {sorted(expected)}: classes are {sorted(deposits)}")
    if before_s1_charge and min_s1_pe > 0:
        raise ValueError(f"min_s1_pe is {min_s1_pe} PE: must be 0 before the charges' spread; cut on the S1")

    def resimulate(key: PRNGKeyArray, parameters: Parameters) -> Samples:
        moved = detector
        for name, value in parameters.items():
            moved = set_leaf(moved, resolve(detector, name), value)
        out = {}
        for number, (name, of) in enumerate(deposits.items()):
            areas = dmsim.simulate_areas(jax.random.fold_in(key, number), moved, of, calibration=detector)
            columns = {c: getattr(areas, c) for c in _COLUMNS}
            if before_s1_charge:
                columns |= last_stages.before_s1_charge(jax.random.fold_in(key, number), moved, of, areas)
            seen = (columns["s1_pe"] > min_s1_pe) & (columns["s2_pe"] > min_s2_pe)
            weight: Any = jnp.where(seen, areas.s1_acceptance, 0.0)
            out[name] = Sample(columns, expected[name], name == signal, weight)
        return out

    return resimulate


def values_of(detector: Detector, names: Mapping[str, float]) -> dict[str, Float[Array, ""]]:
    """The detector's own values of these parameters, as a point to differentiate at."""
    return {name: get_leaf(detector, resolve(detector, name)) for name in names}


def with_nuisances(
    key: PRNGKeyArray, resimulate: Resimulate, parameters: Parameters, widths: Mapping[str, float]
) -> dict[str, Sample]:
    """Samples that know how they move with nuisance parameters.

    `tune` then profiles them: each adds the change of the background behind the cuts, for one standard
    deviation, to the background's error. That is the profile likelihood to first order in the change.

    Args:
        key: of the events.
        resimulate: makes them.
        parameters: central values.
        widths: of some of them, their standard deviations, > 0.

    Raises:
        ValueError: for a width that is not positive, or of no parameter.

    Gradient: none is needed; changes are those of `resimulate`'s gradient, forward.
    """
    for name, width in widths.items():
        if name not in parameters or not width > 0:
            raise ValueError(
                f"width of {name!r} is {width}: must be above 0, of one of {', '.join(parameters)}"
            )

    def events(values):
        samples = resimulate(key, values)
        return {name: {**s.columns, "weight": _weights(s)} for name, s in samples.items()}

    at = _floats(parameters)
    first = resimulate(key, at)
    tangents: dict[str, dict[str, Any]] = {name: {} for name in first}
    for nuisance, width in widths.items():
        direction = {name: jnp.zeros_like(value) for name, value in at.items()}
        direction[nuisance] = jnp.asarray(width, at[nuisance].dtype)
        moved = jax.jvp(events, (at,), (direction,))[1]
        for name, change in moved.items():
            tangents[name][nuisance] = {c: np.asarray(v) for c, v in change.items()}
    out = {}
    for name, sample in first.items():
        weight = np.asarray(_weights(sample))
        seen = weight > 0  # events that nobody sees have no place in a table
        columns = {c: np.asarray(v)[seen] for c, v in sample.columns.items()}
        moves = {n: {c: v[seen] for c, v in change.items()} for n, change in tangents[name].items()}
        out[name] = Sample(columns, sample.expected, sample.signal, weight[seen], moves)
    return out


def _weights(sample: Sample) -> Any:
    n = next(iter(sample.columns.values())).shape[0]
    return jnp.ones(n) if sample.weight is None else sample.weight


def soft_figure(
    key: PRNGKeyArray,
    cuts: CutSet,
    resimulate: Resimulate,
    parameters: Parameters,
    objective: Objective,
    *,
    softness: float = 0.1,
    last_stage: Mapping[str, str] | None = None,
) -> tuple[Vector, Callable[[Array, Parameters], Float[Array, ""]]]:
    """A figure of soft cuts as a function of thresholds and detector parameters.

    What is fixed here: the random numbers, the softness of each threshold, and how many simulated events an
    expectation is divided among, so that a lower acceptance is a lower expectation.

    Args:
        key: of the events.
        cuts: any.
        resimulate: makes the events.
        parameters: where softness and expectations are taken.
        objective: the figure; without penalty here.
        softness: in spreads of the signal in each cut's own variable, > 0; of the cuts not in `last_stage`.
        last_stage: name of a cut -> column with the standard deviation, > 0, of the normal distribution that
            its variable is still to be smeared with; the events' variable is the mean then. Such a cut is
            read hard, and counts with the probability that an event passes.

    Returns:
        The names and values of the thresholds, and `figure(thresholds, parameters)`.

    Raises:
        ValueError: for a softness that is not positive, or a last stage of no cut, or of a variable that
            another cut reads as well.

    Gradient: of the figure exact in thresholds; in parameters as `resimulate`. With all cuts in `last_stage`
        it is that of hard cuts, averaged over the last stage.
    Source: Fu & Hu, "Conditional Monte Carlo" (1997), chapter 1.
    """
    if not softness > 0:
        raise ValueError(f"softness is {softness}: must be above 0 spreads of the signal")
    sigmas = dict(last_stage or {})
    last_stages.check(cuts, sigmas)
    nominal = resimulate(key, _floats(parameters))
    names, signal = tuple(nominal), tuple(s.signal for s in nominal.values())
    totals = {name: float(jnp.sum(_weights(s))) for name, s in nominal.items()}
    (chosen,) = (s for s in nominal.values() if s.signal)
    seen = np.asarray(_weights(chosen)) > 0
    reduced = cuts.reduce({c: np.asarray(v, float)[seen] for c, v in chosen.columns.items()})
    scales = {name: s.tolist() for name, s in cuts.scales(reduced).items()}
    vector = make_vector(cuts, scales, dict.fromkeys(scales, (-np.inf, np.inf)), {})
    side_softness = jnp.asarray(softness * np.concatenate([scales[cut.name] for cut in cuts]), jnp.float32)
    evaluator = Evaluator(objective, names, signal)

    def figure(thresholds: Array, values: Parameters) -> Float[Array, ""]:
        columns: dict[str, list[Any]] = {}
        weights, sizes = [], []
        for name, sample in resimulate(key, values).items():
            kept = cuts.reduce(sample.columns)
            for c in (*objective.columns, *sigmas.values()):
                kept[c] = quantity(c, sample.columns)
            for c, v in kept.items():
                # what is not defined is of events without weight, and must not reach the gradient
                columns.setdefault(c, []).append(jnp.where(jnp.isfinite(v), v, 0.0))
            weights.append(_weights(sample) * (sample.expected / totals[name]))
            sizes.append(len(weights[-1]))
        joined = {c: jnp.concatenate(parts) for c, parts in columns.items()}
        arrays = Arrays(joined, jnp.concatenate(weights), _bins(objective, joined), {})
        passed = last_stages.probability(vector.rebuild(thresholds), joined, side_softness, sigmas)
        return evaluator.of_probability(passed, arrays, sizes).value

    return vector, figure


def figure_and_gradient(
    key: PRNGKeyArray,
    cuts: CutSet,
    resimulate: Resimulate,
    parameters: Parameters,
    objective: Objective,
    *,
    softness: float = 0.1,
    last_stage: Mapping[str, str] | None = None,
) -> tuple[float, dict[str, float], dict[str, float]]:
    """A figure of soft cuts on simulated events, and its slopes in thresholds and detector parameters.

    Args:
        key: of the events.
        cuts: any.
        resimulate: makes the events.
        parameters: where.
        objective: the figure; without penalty here.
        softness: in spreads of the signal in each cut's own variable, > 0; of the cuts not in `last_stage`.
        last_stage: name of a cut -> column with the standard deviation, > 0, of the normal distribution that
            its variable is still to be smeared with; the events' variable is the mean then. Such a cut is
            read hard, and counts with the probability that an event passes.

    Returns:
        The figure; its derivative with each threshold, by `cut.side` (with [i] for knots), and with each
        parameter.

    Raises:
        ValueError: as `soft_figure`.

    Gradient: as `soft_figure`.
    """
    ways: Any = {"softness": softness, "last_stage": last_stage}
    vector, figure = soft_figure(key, cuts, resimulate, parameters, objective, **ways)
    at, start = _floats(parameters), jnp.asarray(vector.origin, float)
    value, (slopes, moves) = jax.value_and_grad(figure, argnums=(0, 1))(start, at)
    of_thresholds = dict(zip(vector.names, np.asarray(slopes, float).tolist(), strict=True))
    return float(value), of_thresholds, {name: float(move) for name, move in moves.items()}


def _floats(parameters: Parameters) -> dict[str, Array]:
    return {name: jnp.asarray(value, float) for name, value in parameters.items()}


def _bins(objective: Objective, columns: Mapping[str, Array]) -> Any:
    if objective.bins is None:
        return None
    column, edges = objective.bins
    found = jnp.searchsorted(jnp.asarray(edges), columns[column], side="right") - 1
    return jnp.where((found < 0) | (found >= objective.n_bins), objective.n_bins, found)
