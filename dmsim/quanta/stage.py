"""Deposits -> Quanta."""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float

from dmsim import rng
from dmsim.detector import Detector
from dmsim.quanta import kr83m, nr
from dmsim.quanta.conditions import Conditions, Yields
from dmsim.quanta.counted import without_fluctuations
from dmsim.quanta.fluctuations import fluctuate
from dmsim.quanta.models import MODELS, RECOIL_LIKE, evaluate
from dmsim.records import Deposits, Interaction, Quanta

_HARMLESS_KEV = 10.0  # what a model computes on for another's deposits, so that its gradient stays finite


def present_interactions(deposits: Deposits) -> tuple[Interaction, ...]:
    """The interactions that occur in a batch, in order; all of them where the batch is being traced.

    Computed outside of compiled code and handed to `sample_quanta` as a static argument, it spares the
    evaluation, and above all the compilation, of the other models.
    """
    if isinstance(deposits.interaction, Tracer):
        return tuple(MODELS)
    return tuple(Interaction(int(member)) for member in np.unique(np.asarray(deposits.interaction)))


def deposit_yields(
    detector: Detector, deposits: Deposits, *, interactions: Iterable[Interaction] | None = None
) -> Yields:
    """Mean yields of each deposit, by the model that its interaction names.

    Args:
        detector: gives the field and density at the deposit, and the constants.
        deposits: of any mixture of interactions; energy >= 0.
        interactions: all that can occur, if known: the fewer, the less is computed. A deposit of another
            interaction gets NaN.

    Gradient: as `mean_yields`, also through the position in the field.
    """
    energy = deposits.energy_kev
    dtype = energy.dtype
    field = jnp.broadcast_to(drift_field(detector, deposits), energy.shape)
    density = detector.xenon.density_g_per_cm3
    interactions = tuple(present_interactions(deposits) if interactions is None else interactions)
    dt_ns = jnp.zeros_like(energy)
    if Interaction.KR83M in interactions:
        both = energy >= (kr83m.FIRST_STEP_KEV + kr83m.BOTH_KEV) / 2
        dt_ns = jnp.where(both, kr83m.mean_delay_ns(detector.quanta), _since_first_step_ns(deposits))
    nothing = jnp.full_like(energy, jnp.nan)
    total = Yields(nothing, nothing, nothing, nothing)
    for interaction in interactions:
        here = deposits.interaction == interaction
        conditions = Conditions(
            energy_kev=jnp.where(here, energy, _HARMLESS_KEV),
            field_v_per_cm=field,
            density_g_per_cm3=density,
            dt_ns=dt_ns,
            mass_number=jnp.asarray(nr.DEFAULT_MASS_NUMBER, dtype),
        )
        ours = evaluate(interaction, detector.quanta, conditions)
        total = jax.tree.map(lambda new, old, here=here: jnp.where(here, new, old), ours, total)
    return total


def _since_first_step_ns(deposits: Deposits):
    """Time since the 32.1 keV step of Kr-83m in the same event; since the event's start if there is none."""
    energy = deposits.energy_kev
    first = (deposits.interaction == Interaction.KR83M) & (energy > 20.0) & (energy < 37.0)
    start = jax.ops.segment_min(
        jnp.where(first, deposits.time_ns, jnp.inf), deposits.event, num_segments=deposits.n_events
    )[deposits.event]
    return deposits.time_ns - jnp.where(jnp.isfinite(start), start, 0.0)


def drift_field(detector: Detector, deposits: Deposits) -> Float[Array, "..."]:
    """Drift field at each deposit; a scalar where it is uniform, which spares work. Gradient: exact."""
    if detector.drift_field is None and detector.xenon.field_v_per_cm.shape[0] == 1:
        return detector.xenon.field_v_per_cm[0]
    return detector.field_v_per_cm(deposits.x_mm, deposits.y_mm, deposits.z_mm)


def is_recoil_like(deposits: Deposits) -> Bool[Array, "deposit"]:
    """Whether each deposit fluctuates as a nuclear recoil. Gradient: none (a choice)."""
    recoil_like = jnp.zeros(deposits.interaction.shape, bool)
    for interaction in RECOIL_LIKE:
        recoil_like = recoil_like | (deposits.interaction == interaction)
    return recoil_like


def sample_quanta(
    keys: rng.Words,
    detector: Detector,
    deposits: Deposits,
    *,
    interactions: Iterable[Interaction] | None = None,
) -> Quanta:
    """Draw the photons and electrons that leave each deposit.

    Alphas fluctuate as nuclear recoils and Kr-83m as an electron recoil, as in NEST, whose rule is whether
    Lindhard's factor is below 1.

    Args:
        keys: one Threefry key a deposit.
        detector: gives the field and density at the deposit, and the constants.
        deposits: of any mixture of interactions; energy >= 0. The 9.4 keV step of Kr-83m takes its delay
            from the deposit's time in the event.
        interactions: all that can occur, if known: the fewer, the less is computed. A deposit of another
            interaction gets NaN.

    Returns:
        Integer-valued quanta; none where the energy does not suffice for one.

    Gradient: pathwise in the normal draws, straight-through their rounding, matched-normal in the binomial.
    Source: NEST, arXiv:2211.10726.
    """
    yields = deposit_yields(detector, deposits, interactions=interactions)
    drawn = fluctuate(
        keys,
        detector.quanta,
        yields,
        is_recoil_like(deposits),
        drift_field(detector, deposits),
        detector.xenon.density_g_per_cm3,
    )
    return without_fluctuations(deposits, yields, drawn)
