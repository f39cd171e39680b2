"""INTERIM until the TOML presets stand: one hard-coded detector."""

import jax.numpy as jnp
import numpy as np

from dmsim.detector import model as m
from dmsim.detector.geometry import Geometry
from dmsim.detector.light import LightResponse
from dmsim.detector.sensors import SensorArray
from dmsim.detector.yields import QuantaParameters


def _hexagon(n, pitch):
    i = np.arange(-15, 16)
    a, b = np.meshgrid(i, i)
    x, y = (a + b / 2).ravel() * pitch, (b * np.sqrt(3) / 2).ravel() * pitch
    order = np.argsort(np.hypot(x, y), kind="stable")[:n]
    return x[order], y[order]


def list_detectors():
    """Names."""
    return ["xenonnt"]


def load_detector(name):
    """INTERIM."""
    f = lambda v: jnp.asarray(v, jnp.float32)
    top, bottom = _hexagon(253, 80.1), _hexagon(241, 80.1)
    sensors = SensorArray(
        f(np.r_[top[0], bottom[0]]), f(np.r_[top[1], bottom[1]]), f(np.ones(494)), n_top=253
    )
    return m.Detector(
        geometry=Geometry(f(664), f(1486.5), f(1545.8)),
        xenon=m.Xenon(f(176.7), f(1.89), f(2.862), f([23.0])),
        quanta=QuantaParameters.nest(),
        electrons=m.Electrons(f(0.677), f(2000.0), f(15000), f(44.5), f(48.4), f(0.53)),
        electroluminescence=m.Electroluminescence(
            f(31.15 / 1.219), f(2.0), f(0.0), f(500.0), f(5.88), f(100.1), f(0.1)
        ),
        scintillation=m.Scintillation(
            *map(f, (3.27, 23.97, 0.0403, 0.212, 0.6, 7.3138, 3.8431, 111.1, 0.5, 3.0))
        ),
        light=LightResponse(
            *map(f, (0.1515 / 1.219, 0.15, 0.0, -0.1, 0.35, 0.08, 0.5, -0.05, 0.75, 0.15, 70.0, 60.0)),
            sensors,
        ),
        electronics=m.Electronics(
            *map(f, (0.219, 0.35, 3.82, 2e6, 10.0, 50.0, 2.25, 5.0, 12.0, 2.5)),
            sample_ns=10, n_bits=14, baseline_adc=16000, samples_per_record=110,
            zle_threshold_adc=15, zle_samples_before=50, zle_samples_after=50,
        ),
        resolution=m.Resolution(f(152.2), f(0.36), 3),
        name="xenonnt",
    )
