"""Photoelectrons of S1."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from dmsim import relax, rng
from dmsim.detector import Detector
from dmsim.light.detection import choose_sensor, cumulative, detection_probability
from dmsim.light.photoelectrons import photon_charge
from dmsim.light.timing import two_exponentials
from dmsim.ragged import Pages
from dmsim.records import Deposits, Hits, Interaction, Quanta, Signal

_SENSOR, _DECISIONS, _RECOMBINATION, _ARRIVAL, _CHARGE = (np.uint32(0x51000000 + (k << 16)) for k in range(5))

# The 1/t^2 tail of the recombination law has no mean; it describes the first few hundred ns. Assumed.
RECOMBINATION_CUTOFF_NS = 1e4


def _kinds(deposits: Deposits) -> tuple[Bool[Array, "deposit"], Bool[Array, "deposit"]]:
    """Which deposits are nuclear, and which electronic recoils."""
    is_nr = deposits.interaction == Interaction.NR
    return is_nr, ~is_nr & (deposits.interaction != Interaction.ALPHA)


def _singlet_fraction(detector: Detector, interaction) -> Float[Array, "deposit"]:
    scintillation = detector.scintillation
    return jnp.select(
        [interaction == Interaction.NR, interaction == Interaction.ALPHA],
        [scintillation.singlet_fraction_nr, scintillation.singlet_fraction_alpha],
        scintillation.singlet_fraction_er,
    )


def _delays_ns(
    detector: Detector, deposits: Deposits
) -> tuple[Float[Array, "deposit"], Float[Array, "deposit"]]:
    """Time scales tau_R [ns] of the delay before excimers decay: of recombined and of directly excited light.

    Gradient: exact.
    Source: NEST (arXiv:2211.10726): (7.3138 + 3.8431 log10 E) exp(-0.009 F) for recombination in ER,
    E <= 1 MeV; 0.5 ns for direct excitation in NR. All other light has none (tests/physics/test_signals.py).
    """
    scintillation = detector.scintillation
    field = detector.field_v_per_cm(deposits.x_mm, deposits.y_mm, deposits.z_mm)
    energy = jnp.clip(deposits.energy_kev, 1e-3, 1e3)
    er = scintillation.recombination_base_ns + scintillation.recombination_slope_ns * jnp.log10(energy)
    er = jnp.maximum(er, 0.0) * jnp.exp(-field / scintillation.recombination_field_scale_v_per_cm)
    is_nr, is_er = _kinds(deposits)
    return jnp.where(is_er, er, 0.0), jnp.where(is_nr, scintillation.recombination_nr_ns, 0.0)


def sample_s1_hits(
    keys: rng.Words,
    detector: Detector,
    deposits: Deposits,
    quanta: Quanta,
    n_detected: Float[Array, "deposit"],
    pages: Pages,
) -> Hits:
    """Sensor, time and charge of each detected S1 photon; `deposit` is its row in the batch.

    Args:
        keys: one key a deposit.
        detector: of its parts the light, scintillation and electronics.
        deposits: in the liquid.
        quanta: of the same deposits.
        n_detected: integer-valued, with the gradient of the count.
        pages: of detected photons, with deposits as parents.

    Gradient: pathwise and implicit in time, weight in counts, sensor and recombination, matched-normal in
        the double photoelectron.
    Source: NEST photon timing (arXiv:2211.10726); the parameters' own sources stand in the preset.
    """
    dtype = n_detected.dtype
    # what belongs to the deposit is fetched once a page
    of_page = pages.parent[:, None]
    parent = jnp.broadcast_to(of_page, pages.child.shape)
    key = rng.Words(keys.first[of_page], keys.second[of_page])

    def block(stream):
        return rng.threefry2x32(key, pages.child.astype(jnp.uint32), stream)

    def draw(stream):
        return (rng.uniform_of(word, dtype=dtype) for word in block(stream))

    light, scintillation = detector.light, detector.scintillation
    pattern = light.s1_pattern(detector.geometry, deposits.x_mm, deposits.y_mm, deposits.z_mm)
    u_sensor, u_decay = draw(_SENSOR)
    sensor, sensor_weight = choose_sensor(u_sensor, parent, cumulative(pattern), pattern)

    _, is_er = _kinds(deposits)
    triplet_ns = jnp.where(is_er, scintillation.triplet_lifetime_er_ns, scintillation.triplet_lifetime_ns)
    decisions, last = block(_DECISIONS)
    u_which, u_double = rng.coarse_uniforms(decisions, dtype=dtype)
    u_branch = rng.uniform_of(last, dtype=dtype)
    decay_ns = two_exponentials(
        u_which,
        u_decay,
        fast_fraction=_singlet_fraction(detector, deposits.interaction)[of_page],
        fast_ns=scintillation.singlet_lifetime_ns,
        slow_ns=triplet_ns[of_page],
    )
    recombined = 1 - quanta.n_excitons / jnp.maximum(quanta.n_photons, 1)
    late = u_branch < recombined[of_page]
    branch_weight = relax.weight(jnp.where(late, recombined[of_page], 1 - recombined[of_page]))
    u_recombination, u_path = draw(_RECOMBINATION)
    late_ns, prompt_ns = _delays_ns(detector, deposits)
    tau = jnp.where(late, late_ns[of_page], prompt_ns[of_page])
    floor = relax.stop(tau / (tau + RECOMBINATION_CUTOFF_NS))
    delay_ns = tau * (1 / (floor + (1 - floor) * u_recombination) - 1)

    z_transit, z_charge = (rng.normal_of(u) for u in draw(_ARRIVAL))
    u_second, _ = draw(_CHARGE)  # used with measured spectra only
    time_ns = (
        deposits.time_ns[of_page]
        + decay_ns
        + delay_ns
        - scintillation.propagation_ns * jnp.log(u_path)
        + detector.electronics.transit_time_spread_ns * z_transit
    )
    seen = detection_probability(detector, deposits)
    weight = relax.count_weight(n_detected, quanta.n_photons, seen)[of_page] * sensor_weight * branch_weight
    charge = photon_charge(u_double, u_second, z_charge, sensor, detector.electronics, light.sensors)
    return Hits(
        event=jnp.broadcast_to(deposits.event[of_page], parent.shape).reshape(-1),
        sensor=sensor.reshape(-1),
        time_ns=time_ns.reshape(-1),
        charge_pe=(charge * pages.valid).reshape(-1),
        weight=(weight * pages.valid).reshape(-1),
        signal=jnp.full(parent.size, Signal.S1.value, jnp.int32),
        deposit=parent.reshape(-1),
        valid=pages.valid.reshape(-1),
        n_overflow=pages.n_overflow,
        n_events=deposits.n_events,
    )
