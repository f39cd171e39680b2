"""What zero suppression takes from a photon that is alone in its sensor, from the detector's parameters.

A sensor is read out where a sample goes `zle_threshold_adc` below the baseline, and then whole: light below
the threshold is lost only if no other photon triggers its sensor within the readout window. So the loss
scales with the number of pulses that hold a single hit, which the records show, and with two properties of
a lone photon: the chance to trigger and the mean charge when it does not.
"""

import math
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr

from dmsim.detector.model import Electronics

_PHASES = (np.arange(40) + 0.5) / 40  # arrival times inside a sample
_CHARGE_STEP = 0.0025  # PE
_MIN_PROBABILITY = 0.5  # below it most of the light would be inferred, not seen


def pulse_integral(time_ns: np.ndarray, rise_ns: float, decay_ns: float) -> np.ndarray:
    """Share of a photoelectron's charge that came before `time_ns`: exp(-t/decay) - exp(-t/rise), scaled.

    Source: the two-exponential anode pulse that the presets describe (`pulse_rise_ns`, `pulse_decay_ns`).
    """
    t = np.maximum(time_ns, 0.0)
    if math.isclose(rise_ns, decay_ns, rel_tol=1e-3):
        return 1 - (1 + t / decay_ns) * np.exp(-t / decay_ns)
    return 1 - (decay_ns * np.exp(-t / decay_ns) - rise_ns * np.exp(-t / rise_ns)) / (decay_ns - rise_ns)


def lone_photon(electronics: Electronics) -> tuple[float, float]:
    """Trigger probability of a lone detected photon, and its mean charge when it does not trigger [PE].

    The charge law is Normal(n, spe_width sqrt(n)) cut at zero with n = 1, or 2 with the double-photoelectron
    probability; the arrival phase is uniform; noise is normal in the largest sample.

    Raises:
        ValueError: if sensors have gains of their own.
    """
    gains = np.unique(np.asarray(electronics.adc_per_pe))
    if len(gains) > 1:
        raise ValueError(f"electronics.gain has {len(gains)} values: must be one for all sensors here")
    return _lone_photon(float(gains[0]), *_others(electronics))


def _others(electronics: Electronics) -> tuple[float, ...]:
    """What else a lone photon depends on."""
    e = electronics
    leaves = e.noise_adc, e.pulse_rise_ns, e.pulse_decay_ns, e.spe_width, e.double_pe_probability
    return (e.sample_ns, e.zle_threshold_adc, *map(float, leaves))


@lru_cache(maxsize=1024)  # it takes as long as the peaks of an event, and a detector may have as many gains
def _lone_photon(
    adc_per_pe: float, sample_ns: int, threshold_adc: int, noise_adc: float, rise: float, decay: float,
    width: float, double: float,
) -> tuple[float, float]:  # fmt: skip
    edges = (np.arange(int(np.ceil((rise + 3 * decay) / sample_ns)) + 3)
             * sample_ns)  # fmt: skip
    peak_share = np.array(
        [np.diff(pulse_integral(edges - f * sample_ns, rise, decay)).max() for f in _PHASES]
    )
    # up to where the charge law ends, so that a threshold above one photoelectron is covered too
    n_charges = math.ceil((2 + 6 * math.sqrt(2) * width) / _CHARGE_STEP)
    charges = _CHARGE_STEP * np.arange(1, n_charges + 1)
    amplitude = adc_per_pe * peak_share[:, None] * charges
    # a rounded sample passes from half a count below the threshold on
    missing = (threshold_adc - 0.5 - amplitude) / max(noise_adc, 1e-6)
    p_missed = np.mean(ndtr(missing), axis=0)  # in double precision: its rounding must not show in areas
    missed, missed_charge = 0.0, 0.0
    for n, share in ((1, 1 - double), (2, double)):
        spread = max(width * math.sqrt(n), 1e-3)
        density = (
            np.exp(-0.5 * ((charges - n) / spread) ** 2) / (spread * math.sqrt(2 * math.pi)) * _CHARGE_STEP
        )
        at_zero = 0.5 * (1 + math.erf(-n / (spread * math.sqrt(2))))
        missed += share * (float(np.sum(density * p_missed)) + at_zero)
        missed_charge += share * float(np.sum(density * p_missed * charges))
    return 1 - missed, missed_charge / missed if missed > 0 else 0.0


def lost_charge_per_lone_hit(electronics: Electronics) -> float:
    """Mean charge lost below threshold for each lone photon that is seen [PE].

    Of N lone photons, N p are seen and N (1 - p) q are lost; so (1 - p) q / p for each one seen.
    Where p is below 0.5 nothing is corrected (0): the figure grows without bound as p falls, and would rest
    on the assumed charge spread and on noise rather than on light that was seen.
    """
    return _lost(*lone_photon(electronics))


def _lost(p: float, q: float) -> float:
    return (1 - p) * q / p if p >= _MIN_PROBABILITY else 0.0


def lost_charge_of_sensors(electronics: Electronics, n_sensors: int) -> Float[np.ndarray, "sensor"]:
    """`lost_charge_per_lone_hit` [PE] of each sensor, by its own gain; 0 for a sensor without gain."""
    gains, which = np.unique(np.asarray(electronics.adc_per_pe, np.float64), return_inverse=True)
    others = _others(electronics)
    lost = np.array([_lost(*_lone_photon(float(gain), *others)) if gain > 0 else 0.0 for gain in gains])
    return np.broadcast_to(lost[which.reshape(-1)], n_sensors)
