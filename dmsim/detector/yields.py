"""Constants of the xenon emission model, as leaves of the detector.

Source: NEST, arXiv:2211.10726; constants as in the NEST C++ library v2.3.12 and its defaults of 2026. The
two generations differ in the fluctuations of electron recoils only.
"""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmsim.detector.quantities import Spec

Scalar = Float[Array, ""] | float  # a float only while a set of constants is being built

GENERATIONS = ("2026", "2.3.12")
WORK_FUNCTIONS = ("nest", "exo200")
# what a preset may add to the generation; without, the generation's own holds, and no energy is too low
OPTIONS = {
    "fano_er": Spec("1", 0, 10, "constant Fano factor of electron recoils' quanta", "float"),
    "fano_nr_ions": Spec("1", 0, 10, "Fano factor of nuclear recoils' ions", "float"),
    "fano_nr_excitons": Spec("1", 0, 10, "Fano factor of nuclear recoils' excitons", "float"),
    "min_energy_er_kev": Spec("keV", 0, 1000, "electron recoils below give no quanta", "float"),
    "min_energy_nr_kev": Spec("keV", 0, 1000, "nuclear recoils and alphas below give no quanta", "float"),
}
_ELECTRONS_PER_G = 6.0221409e23 * 54 / 131.293  # Avogadro constant, Z and molar mass [g/mol], as in NEST


class Transition(eqx.Module):
    """far + (near - far) / (1 + (x / scale)^power)^sharpness: from `near` to `far` as that power grows.

    A negative power runs the other way: `near` at large x, `far` at small x.
    """

    near: Scalar
    far: Scalar
    scale: Scalar
    power: Scalar
    sharpness: Scalar = 1.0

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """The value at x > 0. Gradient: exact."""
        return self.far + (self.near - self.far) * falloff(x, self.scale, self.power, self.sharpness)


def falloff(
    x: Float[Array, "..."], scale: Scalar, power: Scalar, sharpness: Scalar = 1.0
) -> Float[Array, "..."]:
    """(1 + (x / scale)^power)^-sharpness for x > 0, safe where the power overflows. Gradient: exact."""
    return jnp.exp(-sharpness * jax.nn.softplus(power * jnp.log(x / scale)))


def rise(
    x: Float[Array, "..."], scale: Scalar, power: Scalar, sharpness: Scalar = 1.0
) -> Float[Array, "..."]:
    """1 - falloff, accurate also where it is small. Gradient: exact."""
    return -jnp.expm1(-sharpness * jax.nn.softplus(power * jnp.log(x / scale)))


# NEST's factors between its W and that of EXO-200, and on the charge that goes with the latter
NEST_OVER_EXO_W, EXO_CHARGE = 1.1716263232, 1.08


class WorkFunction(eqx.Module):
    """Energy of a quantum, W = scale (offset - slope density), and the exciton ratio of electron recoils.

    The ratio of excitons to ions is (offset + slope density) erf(E / energy scale).
    """

    scale: Scalar = NEST_OVER_EXO_W  # 1 gives the value of EXO-200, arXiv:1908.04128
    offset_ev: Scalar = 18.7263
    slope_ev_cm3_per_g: Scalar = 1.01e-23 * _ELECTRONS_PER_G
    exciton_offset: Scalar = 0.067366
    exciton_slope_cm3_per_g: Scalar = 0.039693
    exciton_per_kev: Scalar = 0.05
    min_kev_per_quantum: Scalar = 0.0085  # neither yield goes above E over this
    charge_scale: Scalar = 1.0  # on every charge yield but the alphas', with the quanta kept
    recoil_scale: Scalar = 1.0  # on the quanta of nuclear recoils and alphas, whose yields do not come from W

    def quantum_ev(self, density_g_per_cm3: Float[Array, "..."]) -> Float[Array, "..."]:
        """Energy a quantum, W [eV]. Gradient: exact."""
        return self.scale * (self.offset_ev - self.slope_ev_cm3_per_g * density_g_per_cm3)

    @classmethod
    def exo200(cls) -> "WorkFunction":
        """W of EXO-200, 11.5 eV at 2.88 g/cm3, with the charge that NEST puts beside it.

        Source: arXiv:1908.04128; the factors are those of NEST's option `OldW13eV = false`.
        """
        return cls(scale=1.0, charge_scale=EXO_CHARGE, recoil_scale=NEST_OVER_EXO_W)


class ERBeta(eqx.Module):
    """Charge yield of betas: two sigmoids in energy with parameters m1 .. m10 of the field [V/cm]."""

    m1: Transition = Transition(6.1978, 30.66, 73.855, 2.0318, 0.41883)
    m2: Scalar = 77.2931084
    m3_offset: Scalar = 0.52561312
    m3_per_decade: Scalar = 0.13946236
    m4: Transition = Transition(2.82528809, 1.82217496, 144.65029656, -2.80532006)
    m7: Transition = Transition(98.27936794, 7.02921301, 256.48156448, 1.29119251)
    m8: Scalar = 4.285781736
    m9: Scalar = 0.3344049589
    m10: Transition = Transition(0.1166087199, 0.0508273937, 139.260460, -0.65763592)
    reference_density_g_per_cm3: Scalar = 2.90


class ERGamma(eqx.Module):
    """Charge yield of gammas: two sigmoids in energy with parameters that depend on the field [V/cm]."""

    m1: Transition = Transition(3.3284, 33.951, 165.34, 0.72665)
    m3_kev: Scalar = 2.0
    m5: Transition = Transition(10.737, 23.156, 34.195, 0.87459)
    m7_near_kev: Scalar = 829.25
    m7_far_kev: Scalar = 66.825
    m7_field_scale_v_per_cm: Scalar = 240720.0  # times density^-density_power
    m7_density_power: Scalar = 8.2076
    m7_power: Scalar = 0.83344


class ERWeighted(eqx.Module):
    """Weight of the gamma model where betas and gammas are mixed."""

    offset: Scalar = 0.23
    amplitude: Scalar = 0.77
    steepness: Scalar = 2.95
    log_energy: Scalar = 1.44
    field_v_per_cm: Scalar = 421.15
    field_power: Scalar = 3.27


class NuclearRecoil(eqx.Module):
    """The twelve parameters of NEST's nuclear-recoil model, in its order."""

    quanta_scale: Scalar = 11.0  # N_q = scale E^power
    quanta_power: Scalar = 1.1
    thomas_imel_scale: Scalar = 0.0480  # TI = scale F^power (density / reference)^0.3
    thomas_imel_power: Scalar = -0.0533
    charge_energy_kev: Scalar = 12.6  # Qy ~ 1 / (TI (E + this)^charge_power)
    charge_cutoff_kev: Scalar = 0.3  # low-energy roll-off of the charge
    charge_cutoff_power: Scalar = 2.0
    light_cutoff_kev: Scalar = 0.3  # the same of the light
    light_cutoff_power: Scalar = 2.0
    charge_power: Scalar = 0.5
    charge_cutoff_sharpness: Scalar = 1.0
    light_cutoff_sharpness: Scalar = 1.0
    density_power: Scalar = 0.3
    reference_density_g_per_cm3: Scalar = 2.90


class Kr83m(eqx.Module):
    """Light of the two steps of Kr-83m: 32.1 keV, then 9.4 keV after a half-life of 154.4 ns."""

    light_level: Scalar = 69.986  # photons/keV of the 9.4 keV step long after the first
    light_delay_ns2: Scalar = 3e5  # its rise towards short delays, over dt^2
    light_limit: Scalar = 87.0
    quenching: Scalar = 19.575  # its loss with field F: quenching k F ln(1 + 1/(k F))
    quenching_per_field: Scalar = 5.823e-4
    half_life_ns: Scalar = 154.4
    branch_30_2: Scalar = 0.76  # cascades of the 32.1 keV step
    branch_18_12_2: Scalar = 0.15
    branch_18_10_2_2: Scalar = 0.09


class Alpha(eqx.Module):
    """Alphas: quenching, own work function, and Thomas-Imel recombination."""

    quenching_scale: Scalar = 0.56136
    quenching_power: Scalar = 0.056972
    # Lindhard-type limit for mass number 4
    quenching_limit: Scalar = 0.96446 / (1 + (16 / 19227) ** 0.99199)
    exciton_ratio: Scalar = 0.00178 * 2**1.587  # for atomic number 2
    exciton_gas: Scalar = 0.64  # vanishes in the liquid
    exciton_gas_power: Scalar = 449.61
    thomas_imel_scale: Scalar = 0.00625
    thomas_imel_density_g_per_cm3: Scalar = 0.2679
    thomas_imel_density_power: Scalar = -2.3245
    field_scale: Scalar = 0.095
    field_power: Scalar = 0.515
    field_offset: Scalar = 0.025
    low_energy_offset: Scalar = 0.13  # of a term that is zero above 100 keV
    low_energy_per_kev: Scalar = 0.0013


class ERFluctuations(eqx.Module):
    """Fano factor and recombination fluctuations of electron recoils."""

    fano_constant: Scalar
    fano_field: Scalar  # Fano factor = constant (or its density law) + this sqrt(N_q F)
    recombination: Transition  # amplitude of omega against the field [V/cm]
    center: Scalar = 0.45  # of omega, in electrons over quanta
    width: Scalar = 0.205
    skew: Scalar = -0.2
    fano_density: tuple[Scalar, Scalar, Scalar] = (0.0, 0.0, 0.0)  # powers 1, 2, 3 of density


class NRFluctuations(eqx.Module):
    """Fano factors and recombination fluctuations of nuclear recoils and alphas."""

    fano_ions: Scalar = 0.4
    fano_excitons: Scalar = 0.4
    recombination: Scalar = 0.04  # amplitude of omega
    center: Scalar = 0.5
    width: Scalar = 0.19
    skewness: Scalar = 2.25


class Skewness(eqx.Module):
    """Shape parameter of the skew-normal recombination law of electron recoils.

    Source: LUX, arXiv:1910.04211.
    """

    low_energy_offset: Scalar = 1.39
    low_energy_amplitude: Scalar = 4.0
    low_energy_field_v_per_cm: Scalar = 225.0
    low_energy_rise_kev: Scalar = 7.7
    high_energy_amplitude: Scalar = 22.1
    high_energy_decay_kev: Scalar = 54.0
    high_energy_field_v_per_cm: Scalar = 71.0
    crossover_kev: Scalar = 26.7
    crossover_width_kev: Scalar = 6.4


class QuantaParameters(eqx.Module):
    """Constants of the NEST yields and fluctuations."""

    work_function: WorkFunction
    er_beta: ERBeta
    er_gamma: ERGamma
    er_weighted: ERWeighted
    nr: NuclearRecoil
    kr83m: Kr83m
    alpha: Alpha
    er_fluctuations: ERFluctuations
    nr_fluctuations: NRFluctuations
    skewness: Skewness
    generation: str = eqx.field(static=True)  # "2026" or "2.3.12"
    # deposits below give no quanta; settings, as a step at a sharp energy has no gradient
    min_energy_er_kev: float = eqx.field(static=True, default=0.0)
    min_energy_nr_kev: float = eqx.field(static=True, default=0.0)  # alphas count as nuclear recoils

    @classmethod
    def nest(
        cls,
        generation: Literal["2026", "2.3.12"] | str = "2026",
        *,
        work_function: Literal["nest", "exo200"] | str = "nest",
        fano_er: float | None = None,
        fano_nr_ions: float | None = None,
        fano_nr_excitons: float | None = None,
        min_energy_er_kev: float = 0.0,
        min_energy_nr_kev: float = 0.0,
        dtype=None,
    ) -> "QuantaParameters":
        """The published constants of one NEST generation.

        Args:
            generation: "2026" or "2.3.12".
            work_function: "nest" (13.5 eV) or "exo200" (11.5 eV).
            fano_er: constant Fano factor of electron recoils, >= 0; the generation's law if not given.
            fano_nr_ions: Fano factor of nuclear recoils' ions, >= 0; 0.4 if not given.
            fano_nr_excitons: Fano factor of nuclear recoils' excitons, >= 0; 0.4 if not given.
            min_energy_er_kev: electron recoils below give no quanta, >= 0.
            min_energy_nr_kev: nuclear recoils and alphas below give no quanta, >= 0.
            dtype: of every leaf; JAX's default float if not given.

        Raises:
            ValueError: if the generation or the work function is not known, or a number is out of range.

        Source: arXiv:2211.10726; NEST C++ v2.3.12 and its defaults of 2026.
        """
        if generation == "2026":
            er_fluctuations = ERFluctuations(
                # E. Dahl, PhD thesis, Princeton 2009: about 0.03 in the liquid
                fano_constant=0.12707,
                fano_field=0.001,
                fano_density=(-0.029623, -0.0057042, 0.0015957),
                recombination=Transition(0.046452, 0.07, 295.2, 251.6, 0.0069114),
            )
        elif generation == "2.3.12":
            er_fluctuations = ERFluctuations(
                fano_constant=1.0,
                fano_field=0.0,
                recombination=Transition(0.046452, 0.086036, 295.2, 251.6, 0.0069114),
            )
        else:
            raise ValueError(
                f"generation {generation!r} is not known: choose one of {', '.join(GENERATIONS)}"
            )
        if work_function not in WORK_FUNCTIONS:
            known = ", ".join(WORK_FUNCTIONS)
            raise ValueError(f"work_function {work_function!r} is not known: choose one of {known}")
        given = {
            "fano_er": fano_er,
            "fano_nr_ions": fano_nr_ions,
            "fano_nr_excitons": fano_nr_excitons,
            "min_energy_er_kev": min_energy_er_kev,
            "min_energy_nr_kev": min_energy_nr_kev,
        }
        for name, value in given.items():
            spec = OPTIONS[name]
            if value is not None and not spec.low <= value <= spec.high:
                raise ValueError(
                    f"{name} is {value} {spec.unit}: must be from {spec.low:g} to {spec.high:g} {spec.unit}"
                )
        if fano_er is not None:
            er_fluctuations = ERFluctuations(
                fano_constant=fano_er, fano_field=0.0, recombination=er_fluctuations.recombination
            )
        nr = {"fano_ions": fano_nr_ions, "fano_excitons": fano_nr_excitons}
        constants = cls(
            work_function=WorkFunction.exo200() if work_function == "exo200" else WorkFunction(),
            er_beta=ERBeta(),
            er_gamma=ERGamma(),
            er_weighted=ERWeighted(),
            nr=NuclearRecoil(),
            kr83m=Kr83m(),
            alpha=Alpha(),
            er_fluctuations=er_fluctuations,
            nr_fluctuations=NRFluctuations(
                **{name: value for name, value in nr.items() if value is not None}
            ),
            skewness=Skewness(),
            generation=generation,
            min_energy_er_kev=float(min_energy_er_kev),
            min_energy_nr_kev=float(min_energy_nr_kev),
        )
        dtype = jnp.result_type(float) if dtype is None else dtype
        return jax.tree.map(lambda value: jnp.asarray(value, dtype), constants)
