"""Speed and diffusion of electrons in liquid xenon, as functions of field and temperature.

Source: NEST (arXiv:2211.10726; constants as in NEST C++ v2.4): the speed is a fit to arXiv:1712.08607, the
transverse diffusion to EXO-200 (arXiv:1609.04467).
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# v = sum of a_i exp(-E / b_i) over three terms, + c; a row a temperature
_SPEED_K = (163.0, 165.0, 167.0, 184.0, 200.0, 230.0)
_SPEED = np.array(
    [
        (-1.4939, 47.879, 0.12608, 8.9095, -1.3480, 1310.9, 2.7598),
        (-1.5389, 26.602, -0.44589, 196.08, -1.1516, 1810.8, 2.8912),
        (-1.5000, 28.510, -0.21948, 183.49, -1.4320, 1652.9, 2.884),
        (-1.1781, 49.072, -1.3008, 3438.4, -0.14817, 312.12, 2.8049),
        (1.2466, 85.975, -0.88005, 918.57, -3.0085, 27.568, 2.3823),
        (334.60, 37.556, 0.92211, 345.27, -338.00, 37.346, 1.9834),
    ]
)
LEAST_FIELD_V_PER_CM = 10.0  # the fits turn negative below some V/cm

# longitudinal [cm2/s] = a E^-p + b exp(-E / e): NEST's low (its default, LZ), central and high curve
_LONGITUDINAL = {
    1: (66.35, 0.24855, 36.85, 35.661),
    2: (57.381, 0.22221, 127.27, 32.821),
    3: (60.0, 0.16558, 462.0, 23.922),
}


def _fit(row: Float[Array, "7"], field: Float[Array, "..."]) -> Float[Array, "..."]:
    return sum((row[i] * jnp.exp(-field / row[i + 1]) for i in (0, 2, 4)), row[6])


def speed_mm_per_us(field_v_per_cm: Float[Array, "..."], temperature_k: Float[Array, ""]):
    """Drift speed of electrons.

    Args:
        field_v_per_cm: >= 0; below 10 V/cm the speed is proportional to it.
        temperature_k: of the liquid; held at the border outside of 163 to 230 K.

    Gradient: exact.
    Source: NEST; between its temperatures a hyperbola where the speed falls with temperature, else a line.
        Proportional at low field: assumed, the mobility of thermal electrons is constant.
    """
    table = jnp.asarray(_SPEED, jnp.result_type(field_v_per_cm))
    anchors = jnp.asarray(_SPEED_K, jnp.result_type(field_v_per_cm))
    temperature = jnp.clip(temperature_k, _SPEED_K[0], _SPEED_K[-1])
    row = jnp.clip(jnp.searchsorted(anchors, temperature, side="right") - 1, 0, len(_SPEED_K) - 2)
    low_k, span = anchors[row], anchors[row + 1] - anchors[row]

    field = jnp.maximum(field_v_per_cm, LEAST_FIELD_V_PER_CM)
    cold, warm = _fit(table[row], field), _fit(table[row + 1], field)
    falls = warm < cold
    # 1 / (T - pole) + constant through both, with the pole above the second of them by this distance
    fall = jnp.where(falls, cold - warm, 1.0)
    distance = (jnp.sqrt(span**2 + 4 * span / fall) - span) / 2
    offset = temperature - low_k
    bend = jnp.where(falls, distance / (distance + span - offset), 1.0)
    speed = cold + (warm - cold) * offset / span * bend
    return speed * jnp.minimum(field_v_per_cm / LEAST_FIELD_V_PER_CM, 1.0)


def longitudinal_cm2_per_s(field_v_per_cm: Float[Array, "..."], curve: int = 1) -> Float[Array, "..."]:
    """Diffusion along the drift.

    Args:
        field_v_per_cm: held at 10 V/cm below it.
        curve: 1 NEST's low one (its default), 2 central, 3 high.

    Gradient: exact above 10 V/cm.
    Source: NEST; low: LZ 2023.
    """
    scale, power, excess, decay = _LONGITUDINAL[curve]
    field = jnp.maximum(field_v_per_cm, LEAST_FIELD_V_PER_CM)
    return scale * field**-power + excess * jnp.exp(-field / decay)


def transverse_cm2_per_s(field_v_per_cm: Float[Array, "..."]) -> Float[Array, "..."]:
    """Diffusion across the drift, held at 10 V/cm below it. Gradient: exact above. Source: NEST, EXO-200."""
    field = jnp.maximum(field_v_per_cm, LEAST_FIELD_V_PER_CM)
    return 37.368 * field**0.093452 * jnp.exp(-8.1651e-5 * field)
