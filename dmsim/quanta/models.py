"""The registry of yield models, and the mean yields as a user calls them."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import ArrayLike, Float

from dmsim.detector.yields import QuantaParameters
from dmsim.quanta import alpha, counted, er_beta, er_gamma, er_weighted, kr83m, nr
from dmsim.quanta.conditions import MIN_ENERGY_KEV, Conditions, Yields
from dmsim.records import Interaction

YieldModel = Callable[[QuantaParameters, Conditions], Yields]

MODELS: dict[Interaction, YieldModel] = {
    Interaction.ER_BETA: er_beta.mean,
    Interaction.ER_GAMMA: er_gamma.mean,
    Interaction.ER_WEIGHTED: er_weighted.mean,
    Interaction.NR: nr.mean,
    Interaction.KR83M: kr83m.mean,
    Interaction.ALPHA: alpha.mean,
    Interaction.PHOTONS: counted.photons,
    Interaction.ELECTRONS: counted.electrons,
}
# constants of the yields that a model reads, beside its own fluctuations and the work function
YIELD_TABLES: dict[Interaction, tuple[str, ...]] = {
    Interaction.ER_BETA: ("er_beta",),
    Interaction.ER_GAMMA: ("er_gamma",),
    Interaction.ER_WEIGHTED: ("er_weighted", "er_beta", "er_gamma"),
    Interaction.NR: ("nr",),
    Interaction.KR83M: ("kr83m", "er_gamma"),
    Interaction.ALPHA: ("alpha",),
    Interaction.PHOTONS: (),
    Interaction.ELECTRONS: (),
}
# those that fluctuate as nuclear recoils: NEST's rule is Lindhard's factor below 1
RECOIL_LIKE = (Interaction.NR, Interaction.ALPHA)


def _check(name: str, value, unit: str, *, above: float, inclusive: bool = False) -> None:
    """Refuse a concrete value out of range; what is being traced has no value to check."""
    if isinstance(value, Tracer):
        return
    values = np.asarray(value)
    good = np.isfinite(values) & (values >= above if inclusive else values > above)
    if not np.all(good):
        bad = values[~good].flat[0]
        relation = ">=" if inclusive else ">"
        raise ValueError(f"{name} is {bad} {unit}: must be finite and {relation} {above:g} {unit}")


def _check_kr83m(energy_kev, dt_ns) -> None:
    if isinstance(energy_kev, Tracer):
        return
    steps = np.array([kr83m.SECOND_STEP_KEV, kr83m.FIRST_STEP_KEV, kr83m.BOTH_KEV])
    values = np.atleast_1d(np.asarray(energy_kev, float))
    off = np.abs(values[..., None] / steps - 1) > 1e-2
    if np.any(np.all(off, axis=-1)):
        bad = values[np.all(off, axis=-1)].flat[0]
        raise ValueError(f"energy_kev is {bad} keV: for kr83m must be 9.4, 32.1 or 41.5 keV within 1 %")
    if dt_ns is None and np.any(~off[..., 0]):
        raise ValueError("dt_ns is None ns: the 9.4 keV step of kr83m needs its delay, >= 0 ns")


def mean_yields(
    interaction: str | Interaction,
    energy_kev: Float[ArrayLike, "..."],
    field_v_per_cm: Float[ArrayLike, "..."],
    density_g_per_cm3: Float[ArrayLike, "..."],
    *,
    parameters: QuantaParameters | None = None,
    dt_ns: Float[ArrayLike, "..."] | None = None,
    mass_number: Float[ArrayLike, "..."] = nr.DEFAULT_MASS_NUMBER,
) -> Yields:
    """Mean numbers of photons and electrons of a deposit in liquid xenon.

    Args:
        interaction: name of an `Interaction`: er_beta, er_gamma, er_weighted, nr, kr83m, alpha, photons,
            electrons.
        energy_kev: deposited energy, >= 0; for kr83m one of 9.4, 32.1 and 41.5.
        field_v_per_cm: drift field, > 0.
        density_g_per_cm3: of the liquid, > 0.
        parameters: constants of the model; NEST's of 2026 if not given.
        dt_ns: delay of kr83m's second step, >= 0; needed at 9.4 keV, its mean of 223 ns if not given at
            41.5 keV, unused elsewhere.
        mass_number: of the recoiling nucleus in nr, > 0. NEST truncates 131.293 to 131, the default.

    Returns:
        The yields, broadcast over the arguments.

    Raises:
        ValueError: if the interaction is not known or a concrete value is out of range.

    Gradient: exact within NEST's bounds on the yields, zero beyond them.
    Source: NEST, arXiv:2211.10726.
    """
    interaction = Interaction.named(interaction) if isinstance(interaction, str) else Interaction(interaction)
    _check("energy_kev", energy_kev, "keV", above=0, inclusive=True)
    _check("field_v_per_cm", field_v_per_cm, "V/cm", above=0)
    _check("density_g_per_cm3", density_g_per_cm3, "g/cm3", above=0)
    _check("mass_number", mass_number, "u", above=0)
    if interaction == Interaction.KR83M:
        _check_kr83m(energy_kev, dt_ns)
    parameters = QuantaParameters.nest() if parameters is None else parameters
    if dt_ns is None:
        dt_ns = kr83m.mean_delay_ns(parameters)
    else:
        _check("dt_ns", dt_ns, "ns", above=0, inclusive=True)
    dtype = jnp.result_type(parameters.work_function.scale)
    columns = (energy_kev, field_v_per_cm, density_g_per_cm3, dt_ns, mass_number)
    return evaluate(
        interaction, parameters, Conditions(*jnp.broadcast_arrays(*(jnp.asarray(c, dtype) for c in columns)))
    )


def evaluate(interaction: Interaction, parameters: QuantaParameters, conditions: Conditions) -> Yields:
    """Mean yields of one model on checked input, finite in value and gradient down to zero energy.

    Gradient: as `mean_yields`; none in the minimum energies.
    """
    energy = jnp.maximum(conditions.energy_kev, MIN_ENERGY_KEV)
    safe = Conditions(
        energy,
        conditions.field_v_per_cm,
        conditions.density_g_per_cm3,
        conditions.dt_ns,
        conditions.mass_number,
    )
    yields = MODELS[interaction](parameters, safe)
    heavy = interaction in RECOIL_LIKE
    least = parameters.min_energy_nr_kev if heavy else parameters.min_energy_er_kev
    if least == 0 or interaction in counted.COUNTED:
        return yields
    enough = conditions.energy_kev >= least
    photons, electrons = (jnp.where(enough, n, 0.0) for n in (yields.n_photons, yields.n_electrons))
    return Yields(photons, electrons, yields.exciton_ratio, yields.lindhard)
