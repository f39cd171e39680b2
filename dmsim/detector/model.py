"""The detector as one tree: every float leaf is a physical parameter, static fields change compilation.

Modules here hold parameters and the few relations that more than one stage needs; what happens to quanta,
electrons and photons stands in the stages. The preset's TOML has one table a module, with these names.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmsim.detector.geometry import Geometry
from dmsim.detector.light import LightResponse
from dmsim.detector.yields import QuantaParameters


class Xenon(eqx.Module):
    """State of the liquid and the drift field in it."""

    temperature_k: Float[Array, ""]
    pressure_bar: Float[Array, ""]
    density_g_per_cm3: Float[Array, ""]
    field_v_per_cm: Float[Array, "power"]  # polynomial coefficients in height [mm], constant first

    def field_at(self, height_mm: Float[Array, "..."]) -> Float[Array, "..."]:
        """Drift field [V/cm] at this height, by Horner's rule. Gradient: exact."""
        field = jnp.zeros_like(height_mm)
        for power in range(self.field_v_per_cm.shape[0] - 1, -1, -1):
            field = field * height_mm + self.field_v_per_cm[power]
        return field


class Electrons(eqx.Module):
    """Transport of electrons from the deposit to the gas."""

    drift_speed_mm_per_us: Float[Array, ""]
    surface_delay_ns: Float[Array, ""]  # from the gate through the liquid surface
    lifetime_us: Float[Array, ""]
    diffusion_longitudinal_cm2_per_s: Float[Array, ""]
    diffusion_transverse_cm2_per_s: Float[Array, ""]
    extraction_efficiency: Float[Array, ""]

    def drift_time_ns(self, z_mm: Float[Array, "..."]) -> Float[Array, "..."]:
        """Mean time from z to the gas [ns]. Gradient: exact."""
        return jnp.maximum(-z_mm, 0.0) / self.drift_speed_mm_per_us * 1e3 + self.surface_delay_ns

    def z_mm(self, drift_time_ns: Float[Array, "..."]) -> Float[Array, "..."]:
        """Depth that belongs to a drift time. Gradient: exact."""
        return -(drift_time_ns - self.surface_delay_ns) * self.drift_speed_mm_per_us * 1e-3

    def survival(self, drift_time_ns: Float[Array, "..."]) -> Float[Array, "..."]:
        """Probability not to be attached on the way. Gradient: exact."""
        return jnp.exp(-drift_time_ns * 1e-3 / self.lifetime_us)


class Electroluminescence(eqx.Module):
    """Proportional light of one extracted electron in the gas gap."""

    se_gain_phd: Float[Array, ""]  # photons detected an extracted electron, mean
    se_fano: Float[Array, ""]  # variance of that number over its mean
    linear_noise: Float[Array, ""]  # relative spread of an S2's gain from event to event
    gap_transit_ns: Float[Array, ""]  # light is emitted uniformly over it
    singlet_lifetime_ns: Float[Array, ""]
    triplet_lifetime_ns: Float[Array, ""]
    singlet_fraction: Float[Array, ""]


class Scintillation(eqx.Module):
    """Time structure of the prompt light in the liquid."""

    singlet_lifetime_ns: Float[Array, ""]
    triplet_lifetime_ns: Float[Array, ""]
    singlet_fraction_er: Float[Array, ""]
    singlet_fraction_nr: Float[Array, ""]
    singlet_fraction_alpha: Float[Array, ""]
    recombination_base_ns: Float[Array, ""]  # tau_R = (base + slope log10 E) exp(-field / scale)
    recombination_slope_ns: Float[Array, ""]
    recombination_field_scale_v_per_cm: Float[Array, ""]
    recombination_nr_ns: Float[Array, ""]
    propagation_ns: Float[Array, ""]  # mean of an exponential, reflections included


class Electronics(eqx.Module):
    """Photosensors and digitiser."""

    double_pe_probability: Float[Array, ""]
    spe_width: Float[Array, ""]  # standard deviation of one photoelectron's charge over its mean
    transit_time_spread_ns: Float[Array, ""]  # standard deviation
    gain: Float[Array, ""]  # electrons a photoelectron
    amplification: Float[Array, ""]
    impedance_ohm: Float[Array, ""]
    voltage_range_v: Float[Array, ""]
    pulse_rise_ns: Float[Array, ""]
    pulse_decay_ns: Float[Array, ""]
    noise_adc: Float[Array, ""]  # standard deviation a sample
    sample_ns: int = eqx.field(static=True)
    n_bits: int = eqx.field(static=True)
    baseline_adc: int = eqx.field(static=True)
    samples_per_record: int = eqx.field(static=True)
    zle_threshold_adc: int = eqx.field(static=True)  # a pulse is kept if a sample goes this far below baseline
    zle_samples_before: int = eqx.field(static=True)
    zle_samples_after: int = eqx.field(static=True)

    @property
    def adc_per_pe(self) -> Float[Array, ""]:
        """Integral of one mean photoelectron in ADC counts x samples. Gradient: exact."""
        charge_c = self.gain * 1.602176634e-19  # elementary charge, CODATA 2018, exact
        volts = charge_c * self.impedance_ohm * self.amplification / (self.sample_ns * 1e-9)
        return volts * 2**self.n_bits / self.voltage_range_v


class Resolution(eqx.Module):
    """Stand-ins at the areas level for what reconstruction does to an event."""

    xy_mm_sqrt_pe: Float[Array, ""]  # sigma = this / sqrt(S2 in PE) + floor
    xy_floor_mm: Float[Array, ""]
    coincidence: int = eqx.field(static=True)  # sensors that an S1 needs


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

    def as_dtype(self, dtype) -> "Detector":
        """The same detector with every float leaf in this precision."""
        return jax.tree.map(lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf, self)

    @property
    def g1_pe_per_photon(self) -> Float[Array, ""]:
        """XENON's g1: mean S1 PE a scintillation photon, volume average. Gradient: exact."""
        return self.light.g1_phd_per_photon * (1 + self.electronics.double_pe_probability)

    @property
    def single_electron_gain_pe(self) -> Float[Array, ""]:
        """Mean S2 PE an extracted electron. Gradient: exact."""
        return self.electroluminescence.se_gain_phd * (1 + self.electronics.double_pe_probability)

    @property
    def g2_pe_per_electron(self) -> Float[Array, ""]:
        """XENON's g2: mean S2 PE an electron that reaches the surface. Gradient: exact."""
        return self.single_electron_gain_pe * self.electrons.extraction_efficiency
