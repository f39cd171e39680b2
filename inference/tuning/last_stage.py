"""Cuts whose variable is smeared by a normal distribution last of all: hard, with the expected acceptance.

Given what precedes the last stage the probability to pass is that of a normal number between two thresholds.
It is the expectation of the hard reading, smooth without any softness.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

import dmsim
from dmsim.detector import Detector
from dmsim.records import Areas, Deposits
from dmsim.selection import CutSet
from dmsim.selection.last_stage import interval_probability
from inference.parameters import set_leaf
from inference.tuning import acceptance
from inference.tuning.vector import side_margins


def check(cuts: CutSet, sigmas: Mapping[str, str]) -> None:
    """Refuse cuts whose variables are not independent, given what precedes the last stage.

    Raises:
        ValueError: names the cut, and the other that reads its columns.
    """
    unknown = sorted(set(sigmas) - {cut.name for cut in cuts})
    if unknown:
        raise ValueError(f"last_stage names {unknown[0]!r}: cuts are {', '.join(cut.name for cut in cuts)}")
    for cut in cuts:
        for other in cuts:
            shared = sorted(set(cut.columns) & set(other.columns))
            if cut.name in sigmas and other is not cut and shared:
                raise ValueError(
                    f"last_stage of cut {cut.name!r}: cut {other.name!r} reads {shared[0]} as well, so that "
                    "the two are not independent: leave it to its softness"
                )


def probability(
    cuts: CutSet, columns: Mapping[str, Array], softness: Array, sigmas: Mapping[str, str]
) -> Float[Array, "event"]:
    """That an event passes: by the last stage where it is known, else soft. Gradient: exact."""
    margins, first, passed = side_margins(cuts, columns), 0, []
    distances: list[Array] = []
    for cut in cuts:
        sides = slice(first, first + len(cut.sides))
        first = sides.stop
        if cut.name in sigmas:
            passed.append(interval_probability([m / columns[sigmas[cut.name]] for m in margins[sides]]))
        else:
            distances += [m / s for m, s in zip(margins[sides], softness[sides], strict=True)]
    known = jnp.exp(acceptance.log_acceptance(distances)) if distances else 1.0
    for one in passed:
        known = known * one
    return jnp.asarray(known)


def before_s1_charge(
    key: PRNGKeyArray, detector: Detector, deposits: Deposits, areas: Areas
) -> dict[str, Any]:
    """Mean and standard deviation of the S1s' charge, given their photoelectrons. Gradient: as the areas.

    Raises:
        ValueError: for sensors with measured spectra, which are not normal.
    """
    if detector.light.sensors is not None and detector.light.sensors.spe_quantiles is not None:
        raise ValueError(
            "the charges' spread is that of measured spectra: the last stage is not known to be normal"
        )
    # the same counts, as for the same key, with photoelectrons of exactly 1 PE; S2s of these are not used
    exact = set_leaf(detector, "electronics.spe_width", jnp.zeros(()))
    n_pe = dmsim.simulate_areas(key, exact, deposits).s1_pe
    positive = n_pe > 0
    sigma = detector.electronics.spe_width * jnp.sqrt(jnp.where(positive, n_pe, 1.0))
    # both are corrected at the place where the event was found
    ratio = jnp.where(areas.s1_pe > 0, areas.cs1_pe / jnp.where(areas.s1_pe > 0, areas.s1_pe, 1.0), 1.0)
    return {
        "s1_pe": n_pe,
        "cs1_pe": n_pe * ratio,
        "s1_sigma_pe": jnp.where(positive, sigma, 1.0),
        "cs1_sigma_pe": jnp.where(positive, sigma, 1.0) * ratio,
    }
