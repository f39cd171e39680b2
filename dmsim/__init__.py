"""dmsim: differentiable detector-response and waveform simulation for dual-phase xenon TPCs."""

from importlib.metadata import version as _version

__version__ = _version("dmsim")
