"""The detector as one tree: every float leaf is a physical parameter, static fields change compilation.

Modules here hold parameters and the few relations that more than one stage needs; what happens to quanta,
electrons and photons stands in the stages. The preset's TOML has one table a module, with these names.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmsim import relax
from dmsim.detector.delayed import DelayedElectrons, Photoionisation
from dmsim.detector.drift_field import DriftField
from dmsim.detector.drift_map import DriftMap
from dmsim.detector.gas_gap import GasGap
from dmsim.detector.geometry import Geometry
from dmsim.detector.light import LightResponse
from dmsim.detector.maps import GridMap
from dmsim.detector.pulses import Afterpulses, DarkCounts, Noise
from dmsim.detector.quantities import leaf, leaves, setting, supplied
from dmsim.detector.yields import QuantaParameters

_LIFETIME_POINTS = 32  # on the way up, where the lifetime is a map


class Xenon(eqx.Module):
    """State of the liquid and the drift field in it."""

    temperature_k: Float[Array, ""] = leaf(
        "K", 161.4, 289.7, "of the liquid, between triple and critical point"
    )
    pressure_bar: Float[Array, ""] = leaf("bar", 0.5, 10, "of the gas")
    density_g_per_cm3: Float[Array, ""] = leaf("g/cm3", 2.0, 3.1, "of the liquid")
    field_v_per_cm: Float[Array, "power"] = leaves(
        "V/cm", -1e5, 1e5, "drift field as a polynomial in height [mm], constant first"
    )

    def field_at(self, height_mm: Float[Array, "..."]) -> Float[Array, "..."]:
        """Drift field [V/cm] at this height, by Horner's rule. Gradient: exact."""
        field = jnp.zeros_like(height_mm)
        for power in range(self.field_v_per_cm.shape[0] - 1, -1, -1):
            field = field * height_mm + self.field_v_per_cm[power]
        return field


class Electrons(eqx.Module):
    """Transport of electrons from the deposit to the gas."""

    drift_speed_mm_per_us: Float[Array, ""] = leaf("mm/us", 0.01, 5, "mean, between cathode and gate")
    surface_delay_ns: Float[Array, ""] = leaf("ns", 0, 1e5, "from the gate through the liquid surface")
    lifetime_us: Float[Array, ""] = leaf("us", 1, 1e7, "before attachment to impurities")
    diffusion_longitudinal_cm2_per_s: Float[Array, ""] = leaf("cm2/s", 0, 1000, "along the drift")
    diffusion_transverse_cm2_per_s: Float[Array, ""] = leaf("cm2/s", 0, 1000, "across the drift")
    extraction_efficiency: Float[Array, ""] = leaf("1", 0, 1, "probability to pass the liquid surface")
    lifetime_map: GridMap | None = supplied("us", 1, 1e7, "lifetime over (r, z); replaces lifetime_us", "rz")
    extraction_map: GridMap | None = supplied(
        "1", 0, 10, "over (x, y); multiplies extraction_efficiency", "xy"
    )

    def drift_time_ns(self, z_mm: Float[Array, "..."]) -> Float[Array, "..."]:
        """Mean time from z to the gas [ns]. Gradient: exact."""
        return jnp.maximum(-z_mm, 0.0) / self.drift_speed_mm_per_us * 1e3 + self.surface_delay_ns

    def z_mm(self, drift_time_ns: Float[Array, "..."]) -> Float[Array, "..."]:
        """Depth that belongs to a drift time. Gradient: exact."""
        return -(drift_time_ns - self.surface_delay_ns) * self.drift_speed_mm_per_us * 1e-3

    def attachment_per_us(
        self, x_mm: Float[Array, "..."], y_mm: Float[Array, "..."], z_mm: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """Mean of 1 / lifetime straight up from a place: of the lifetime map where there is one.

        Gradient: exact.
        """
        if self.lifetime_map is None:
            return jnp.broadcast_to(1 / self.lifetime_us, jnp.shape(z_mm))
        share = (jnp.arange(_LIFETIME_POINTS, dtype=z_mm.dtype) + 0.5) / _LIFETIME_POINTS
        r_mm = relax.safe_sqrt(x_mm**2 + y_mm**2)
        lifetime_us = self.lifetime_map(r_mm[..., None], z_mm[..., None] * share)
        return jnp.mean(1 / lifetime_us, axis=-1)

    def survival(self, drift_time_ns: Float[Array, "..."]) -> Float[Array, "..."]:
        """Probability not to be attached before the surface, where no time is spent in liquid any more.

        Gradient: exact.
        """
        in_liquid_us = jnp.maximum(drift_time_ns - self.surface_delay_ns, 0.0) * 1e-3
        return jnp.exp(-in_liquid_us / self.lifetime_us)


class Electroluminescence(eqx.Module):
    """Proportional light of one extracted electron in the gas gap."""

    se_gain_phd: Float[Array, ""] = leaf(
        "phd/electron", 0.1, 500, "photons detected an extracted electron, mean"
    )
    se_fano: Float[Array, ""] = leaf("1", 0, 100, "variance of that number over its mean")
    linear_noise: Float[Array, ""] = leaf("1", 0, 0.5, "relative spread of an S2's gain from event to event")
    gap_transit_ns: Float[Array, ""] = leaf(
        "ns", 1, 1e5, "gas-gap crossing; light is emitted uniformly over it"
    )
    singlet_lifetime_ns: Float[Array, ""] = leaf("ns", 0.1, 1000, "in the gas")
    triplet_lifetime_ns: Float[Array, ""] = leaf("ns", 0.1, 1000, "in the gas")
    singlet_fraction: Float[Array, ""] = leaf("1", 0, 1, "in the gas")


class Scintillation(eqx.Module):
    """Time structure of the prompt light in the liquid."""

    singlet_lifetime_ns: Float[Array, ""] = leaf("ns", 0.1, 100, "in the liquid")
    triplet_lifetime_ns: Float[Array, ""] = leaf("ns", 0.1, 100, "in the liquid, nuclear recoils and alphas")
    triplet_lifetime_er_ns: Float[Array, ""] = leaf("ns", 0.1, 100, "in the liquid, electronic recoils")
    singlet_fraction_er: Float[Array, ""] = leaf("1", 0, 1, "electronic recoils")
    singlet_fraction_nr: Float[Array, ""] = leaf("1", 0, 1, "nuclear recoils")
    singlet_fraction_alpha: Float[Array, ""] = leaf("1", 0, 1, "alpha particles")
    recombination_base_ns: Float[Array, ""] = leaf(
        "ns", 0, 1000, "tau_R = (base + slope log10 E[keV]) exp(-field / scale)"
    )
    recombination_slope_ns: Float[Array, ""] = leaf("ns", 0, 1000, "see recombination_base_ns")
    recombination_field_scale_v_per_cm: Float[Array, ""] = leaf("V/cm", 1, 1e5, "see recombination_base_ns")
    recombination_nr_ns: Float[Array, ""] = leaf(
        "ns", 0, 1000, "the same for directly excited light of nuclear recoils"
    )
    propagation_ns: Float[Array, ""] = leaf(
        "ns", 0, 1000, "mean of an exponential path to the sensor, reflections included"
    )


class Electronics(eqx.Module):
    """Photosensors and digitiser."""

    double_pe_probability: Float[Array, ""] = leaf("1", 0, 1, "second photoelectron for one detected photon")
    spe_width: Float[Array, ""] = leaf(
        "1", 0, 2, "standard deviation of one photoelectron's charge over its mean"
    )
    transit_time_spread_ns: Float[Array, ""] = leaf(
        "ns", 0, 100, "standard deviation of the sensor transit time"
    )
    gain: Float[Array, ""] = leaf("electrons/PE", 1e4, 1e9, "of the sensor")
    amplification: Float[Array, ""] = leaf("1", 0.01, 1e4, "between sensor and digitiser")
    impedance_ohm: Float[Array, ""] = leaf("ohm", 1, 1e5, "that the charge is read across")
    voltage_range_v: Float[Array, ""] = leaf("V", 0.01, 100, "full range of the digitiser")
    pulse_rise_ns: Float[Array, ""] = leaf("ns", 0.01, 1000, "of one photoelectron")
    pulse_decay_ns: Float[Array, ""] = leaf("ns", 0.01, 1000, "of one photoelectron")
    noise_adc: Float[Array, ""] = leaf("adc", 0, 1000, "standard deviation a sample")
    sample_ns: int = setting("ns", 1, 1000, "a sample")
    n_bits: int = setting("bit", 4, 24, "of the digitiser")
    baseline_adc: int = setting("adc", 0, 2**24, "nominal")
    samples_per_record: int = setting("samples", 1, 10000, "length of a record fragment")
    pulse_samples: int = setting("samples", 1, 1000, "window in which a photoelectron's pulse is rendered")
    zle_threshold_adc: int = setting(
        "adc", 1, 2**24, "a pulse is kept if a sample goes this far below baseline"
    )
    zle_samples_before: int = setting("samples", 0, 10000, "kept before the first crossing")
    zle_samples_after: int = setting("samples", 0, 10000, "kept after the last crossing")

    @property
    def adc_per_pe(self) -> Float[Array, ""]:
        """Integral of one mean photoelectron in ADC counts x samples. Gradient: exact."""
        charge_c = self.gain * 1.602176634e-19  # elementary charge, CODATA 2018, exact
        volts = charge_c * self.impedance_ohm * self.amplification / (self.sample_ns * 1e-9)
        return volts * 2**self.n_bits / self.voltage_range_v


class Resolution(eqx.Module):
    """Stand-ins at the areas level for what reconstruction does to an event."""

    xy_mm_sqrt_pe: Float[Array, ""] = leaf(
        "mm sqrt(PE)", 0, 1e5, "position sigma = this / sqrt(S2 in PE) + floor"
    )
    xy_floor_mm: Float[Array, ""] = leaf("mm", 0, 1000, "see xy_mm_sqrt_pe")
    coincidence: int = setting("sensors", 1, 8, "that must see light for an S1")


class Detector(eqx.Module):
    """A dual-phase xenon TPC."""

    geometry: Geometry
    xenon: Xenon
    quanta: QuantaParameters
    electrons: Electrons
    electroluminescence: Electroluminescence
    scintillation: Scintillation
    light: LightResponse
    electronics: Electronics
    resolution: Resolution
    name: str = eqx.field(static=True)
    # optional tables of a preset: without one, its physics is off and not compiled
    gas_gap: GasGap | None = None
    drift_field: DriftField | DriftMap | None = None  # the map is made by the pipeline, from the field
    photoionisation: Photoionisation | None = None
    delayed_electrons: DelayedElectrons | None = None
    afterpulses: Afterpulses | None = None
    dark_counts: DarkCounts | None = None
    noise: Noise | None = None

    def as_dtype(self, dtype) -> "Detector":
        """The same detector with every float leaf in this precision."""
        return jax.tree.map(lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf, self)

    def without(self, *tables: str) -> "Detector":
        """The same detector with these optional tables off.

        Args:
            tables: names in `OPTIONAL`; "all" for every one.

        Raises:
            ValueError: if a name is none of them.
        """
        for table in tables:
            if table not in (*OPTIONAL, "all"):
                raise ValueError(f"table {table!r} is not known: choose of {', '.join(OPTIONAL)}, or all")
        off = OPTIONAL if "all" in tables else tables
        return dataclasses.replace(self, **dict.fromkeys(off))

    @property
    def g1_pe_per_photon(self) -> Float[Array, ""]:
        """XENON's g1: mean S1 PE a scintillation photon, volume average. Gradient: exact."""
        return self.light.g1_phd_per_photon * (1 + self.electronics.double_pe_probability)

    @property
    def single_electron_gain_pe(self) -> Float[Array, ""]:
        """Mean S2 PE an extracted electron, on the axis where a gas gap makes it. Gradient: exact."""
        gain = self.electron_gain_phd(jnp.zeros_like(self.geometry.radius_mm))
        return gain * (1 + self.electronics.double_pe_probability)

    @property
    def g2_pe_per_electron(self) -> Float[Array, ""]:
        """XENON's g2: mean S2 PE an electron that reaches the surface, on the axis. Gradient: exact."""
        center = jnp.zeros_like(self.geometry.radius_mm)
        return self.single_electron_gain_pe * self.extraction_at(center, center)

    def _r2(self, x_mm: Float[Array, "..."], y_mm: Float[Array, "..."]) -> Float[Array, "..."]:
        return (x_mm**2 + y_mm**2) / self.geometry.radius_mm**2

    def electron_gain_phd(
        self, x_mm: Float[Array, "..."], y_mm: Float[Array, "..."] | float = 0.0
    ) -> Float[Array, "..."]:
        """Photons detected an electron extracted there, before the relative S2 yield.

        That of the gas gap where the detector has one, else `se_gain_phd`. Gradient: exact.
        """
        if self.gas_gap is None:
            return self.electroluminescence.se_gain_phd
        r2 = self._r2(x_mm, jnp.asarray(y_mm))
        return self.gas_gap.gain_phd(r2, self.xenon.temperature_k, self.xenon.pressure_bar)

    def extraction_at(self, x_mm: Float[Array, "..."], y_mm: Float[Array, "..."]) -> Float[Array, "..."]:
        """Probability to pass the liquid surface there.

        That of the gas gap where the detector has one, else `extraction_efficiency`; times the map.
        Gradient: exact, zero where the product is above 1.
        """
        electrons = self.electrons
        if self.gas_gap is None:
            efficiency = electrons.extraction_efficiency
        else:
            efficiency = self.gas_gap.extraction_efficiency(self._r2(x_mm, y_mm), self.xenon.temperature_k)
        if electrons.extraction_map is not None:
            efficiency = jnp.clip(efficiency * electrons.extraction_map(x_mm, y_mm), 0.0, 1.0)
        return efficiency

    def gap_transit_ns(self, x_mm: Float[Array, "..."], y_mm: Float[Array, "..."]) -> Float[Array, "..."]:
        """Time of an electron to cross the gas gap there. Gradient: exact."""
        if self.gas_gap is None:
            return self.electroluminescence.gap_transit_ns
        return self.gas_gap.transit_ns(
            self._r2(x_mm, y_mm), self.xenon.temperature_k, self.xenon.pressure_bar
        )

    def field_v_per_cm(
        self, x_mm: Float[Array, "..."], y_mm: Float[Array, "..."], z_mm: Float[Array, "..."]
    ) -> Float[Array, "..."]:
        """Strength of the drift field there: of the drift field, else of the polynomial. Gradient: exact."""
        if self.drift_field is None:
            return self.xenon.field_at(self.geometry.height_mm(z_mm))
        if isinstance(self.drift_field, DriftMap):
            return self.drift_field(x_mm, y_mm, z_mm).field_v_per_cm
        return self.drift_field.strength(self.geometry, relax.safe_sqrt(x_mm**2 + y_mm**2), z_mm)


OPTIONAL = {
    "gas_gap": GasGap,
    "drift_field": DriftField,
    "photoionisation": Photoionisation,
    "delayed_electrons": DelayedElectrons,
    "afterpulses": Afterpulses,
    "dark_counts": DarkCounts,
    "noise": Noise,
}
