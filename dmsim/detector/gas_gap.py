"""The gas gap: extraction, light and crossing time of an electron from field, gap, pressure and temperature.

Source: the detector response of NEST (arXiv:2211.10726; constants as in NEST C++ v2.4): extraction as a fit
to measurements between 165 and 181 K, light as arXiv:1207.2292, electron speed in the gas as a fit to
MagBoltz.
"""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from numpy.polynomial import Polynomial

from dmsim.detector.quantities import leaf

_PERMITTIVITY_RATIO = 1.85 / 1.00126  # liquid over gas, NEST
_PHOTONS_PER_V, _PHOTON_THRESHOLD_V_CM2 = 0.137, 4.70e-18  # arXiv:1207.2292, in NEST

_GAS_CONSTANT = 8.31446261815324  # J / (mol K)
_WAALS_A, _WAALS_B = 0.4250, 5.105e-5  # of xenon, m6 Pa / mol2 and m3 / mol
_ATOMS_PER_MOL = 6.0221409e23

_FIT_K = (165.0, 181.0)  # where NEST's extraction is a fit to data
_CENTER_K = 173.0


def _recentred(coefficients: tuple[float, ...], center: float) -> list[float]:
    """Coefficients in x - center: NEST's powers of the temperature cancel to 1e-7, beyond float32."""
    return Polynomial(coefficients)(Polynomial([center, 1.0])).coef.tolist()


# 1 - em1 exp(-em2 E^em3), each a polynomial in the temperature [K]
_EXTRACTION = tuple(
    _recentred(coefficients, _CENTER_K)
    for coefficients in (
        (8.807528626640e4, -2.026247730928e3, 1.747197309338e1, -6.692362929271e-2, 9.607626262594e-5),
        (
            5.074800229635e5,
            -1.460168019275e4,
            1.680089978382e2,
            -9.663183204468e-1,
            2.778229721617e-3,
            -3.194249083426e-6,
        ),
        (
            -4.659269964120e6,
            1.366555237249e5,
            -1.602830617076e3,
            9.397480411915,
            -2.754232523872e-2,
            3.228101180588e-5,
        ),
    )
)

# speed [cm/s] = scale P(ln(1008.30998933704 E/N)) below 3.8e-17 V cm2, a straight line above
_LOG_SCALE = float(np.log(1008.30998933704))
_CENTER_LOG = -32.0
_GAS_SPEED = _recentred(
    (-592981.611357632, -90261.9643716643, -4911.83213989609, -115.157545835228, -0.990440443390298),
    _CENTER_LOG,
)
_GAS_SPEED_SCALE = 223.711221224885
_REDUCED_BORDER = 3.8e-17
_REDUCED_LEAST = 3.5e-19  # below 30 V/cm, where no gap is run


def _horner(coefficients: list[float], x: Float[Array, "..."]) -> Float[Array, "..."]:
    total = jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * x + coefficient
    return total


def extraction_efficiency(
    gas_field_kv_per_cm: Float[Array, "..."], temperature_k: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Probability of an electron to pass the liquid surface.

    Args:
        gas_field_kv_per_cm: field in the gas, > 0; that in the liquid is 1.85/1.00126 times less.
        temperature_k: of the liquid; held at the border outside of 165 to 181 K.

    Gradient: exact, zero where the fit is cut to 0 or 1 or the temperature held.
    Source: NEST, 1 - em1 exp(-em2 E_liq^em3).
    """
    liquid_field = gas_field_kv_per_cm / _PERMITTIVITY_RATIO
    offset = jnp.clip(temperature_k, *_FIT_K) - _CENTER_K
    em1, em2, em3 = (_horner(coefficients, offset) for coefficients in _EXTRACTION)
    return jnp.clip(1 - em1 * jnp.exp(-em2 * liquid_field**em3), 0.0, 1.0)


def gas_atoms_per_cm3(
    temperature_k: Float[Array, "..."], pressure_bar: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Number density of xenon gas. Gradient: exact. Source: van der Waals' equation to first order, NEST."""
    pressure_pa = pressure_bar * 1e5
    energy = _GAS_CONSTANT * temperature_k
    m3_per_mol = energy / (pressure_pa * (1 + _WAALS_A * pressure_pa / energy**2)) + _WAALS_B
    return _ATOMS_PER_MOL * 1e-6 / m3_per_mol


def gas_speed_mm_per_us(
    field_kv_per_cm: Float[Array, "..."], atoms_per_cm3: Float[Array, "..."]
) -> Float[Array, "..."]:
    """Speed of electrons in xenon gas.

    Args:
        field_kv_per_cm: in the gas, >= 0.03.
        atoms_per_cm3: number density.

    Gradient: exact.
    Source: a fit to MagBoltz in the reduced field, NEST C++ v2.4; that of nestpy 2.1.3 is within 2.2 % of it
        from 3.5 kV/cm on.
    """
    reduced = jnp.maximum(field_kv_per_cm * 1e3 / atoms_per_cm3, _REDUCED_LEAST)
    high = reduced > _REDUCED_BORDER
    low = jnp.where(high, _REDUCED_BORDER, reduced)
    curve = _GAS_SPEED_SCALE * _horner(_GAS_SPEED, jnp.log(low) + _LOG_SCALE - _CENTER_LOG)
    cm_per_s = jnp.where(high, 6e21 * reduced - 32279.0, curve)
    return cm_per_s * 1e-5


class GasGap(eqx.Module):
    """Replaces the constant gain, extraction and crossing time of an electron where a preset has it.

    The electrodes' voltage is the same everywhere: where the gap is wider, the field is lower.
    """

    field_kv_per_cm: Float[Array, ""] = leaf("kV/cm", 0.1, 50, "in the gas, on the axis")
    gap_mm: Float[Array, ""] = leaf("mm", 0.1, 50, "from the liquid surface to the anode, on the axis")
    liquid_mm: Float[Array, ""] = leaf("mm", 0, 50, "from the gate to the liquid surface")
    sag_mm: Float[Array, ""] = leaf(
        "mm", -10, 10, "by which the gap is wider at the wall than on the axis; it grows as r^2"
    )
    g1_gas_phd_per_photon: Float[Array, ""] = leaf(
        "phd/photon", 0.001, 1, "photons detected a photon emitted in the gap"
    )
    emission_delay_ns: Float[Array, ""] = leaf(
        "ns", 0, 1e5, "mean of an exponential wait at the liquid surface"
    )
    wire_share: Float[Array, ""] = leaf(
        "1", 0, 0.9, "share of the light that is emitted in excess near the anode's wires"
    )
    wire_mm: Float[Array, ""] = leaf(
        "mm", 0.001, 10, "length of the way on which that is, on the axis; it is the same share of any gap"
    )

    def gap_at(self, r2: Float[Array, "..."]) -> Float[Array, "..."]:
        """Gap [mm] at (r / radius)^2. Gradient: exact."""
        return self.gap_mm + self.sag_mm * r2

    def field_at(self, r2: Float[Array, "..."]) -> Float[Array, "..."]:
        """Field in the gas [kV/cm] at (r / radius)^2. Gradient: exact. Source: two layers in series."""
        liquid = self.liquid_mm / _PERMITTIVITY_RATIO
        return self.field_kv_per_cm * (self.gap_mm + liquid) / (self.gap_at(r2) + liquid)

    def extraction_efficiency(
        self, r2: Float[Array, "..."], temperature_k: Float[Array, ""]
    ) -> Float[Array, "..."]:
        """At (r / radius)^2. Gradient: as the function of this name."""
        return extraction_efficiency(self.field_at(r2), temperature_k)

    def photons_per_electron(
        self, r2: Float[Array, "..."], temperature_k: Float[Array, ""], pressure_bar: Float[Array, ""]
    ) -> Float[Array, "..."]:
        """Photons that one electron makes in the gap.

        Gradient: exact, zero below the field where light begins.
        Source: arXiv:1207.2292, (0.137 E - 4.70e-18 n) d.
        """
        threshold = _PHOTON_THRESHOLD_V_CM2 * gas_atoms_per_cm3(temperature_k, pressure_bar)
        per_cm = _PHOTONS_PER_V * self.field_at(r2) * 1e3 - threshold
        return jnp.maximum(per_cm, 0.0) * self.gap_at(r2) * 0.1

    def gain_phd(
        self, r2: Float[Array, "..."], temperature_k: Float[Array, ""], pressure_bar: Float[Array, ""]
    ) -> Float[Array, "..."]:
        """Photons detected an extracted electron. Gradient: as `photons_per_electron`."""
        return self.g1_gas_phd_per_photon * self.photons_per_electron(r2, temperature_k, pressure_bar)

    def transit_ns(
        self, r2: Float[Array, "..."], temperature_k: Float[Array, ""], pressure_bar: Float[Array, ""]
    ) -> Float[Array, "..."]:
        """Time of an electron to cross the gap. Gradient: exact."""
        atoms = gas_atoms_per_cm3(temperature_k, pressure_bar)
        return self.gap_at(r2) / gas_speed_mm_per_us(self.field_at(r2), atoms) * 1e3

    def emission_ns(self, u: Float[Array, "..."], transit_ns: Float[Array, "..."]) -> Float[Array, "..."]:
        """When light is emitted on the way through the gap.

        Uniform over the crossing but for the share near the wires, which is uniform over its last part.

        Args:
            u: uniforms in (0, 1).
            transit_ns: of the crossing.

        Gradient: pathwise.
        """
        share = self.wire_share
        wire_ns = self.wire_ns(transit_ns)
        before = (1 - share) * (1 - wire_ns / transit_ns)  # of the light
        rate = (1 - share) / transit_ns
        return jnp.where(u < before, u / rate, transit_ns - (1 - u) / (rate + share / wire_ns))

    def mean_emission_ns(self, transit_ns: Float[Array, "..."]) -> Float[Array, "..."]:
        """Mean of light's emission after an electron came to the surface. Gradient: exact."""
        late = self.wire_share * (transit_ns - self.wire_ns(transit_ns)) / 2
        return self.emission_delay_ns + transit_ns / 2 + late

    def wire_ns(self, transit_ns: Float[Array, "..."]) -> Float[Array, "..."]:
        """The last part of the crossing, near the wires: everywhere the share that it is on the axis.

        Assumed: with a sag of a tenth of the gap, that is a tenth of `wire_mm` off at the wall.

        Gradient: exact.
        """
        return transit_ns * jnp.minimum(self.wire_mm / self.gap_mm, 1.0)
