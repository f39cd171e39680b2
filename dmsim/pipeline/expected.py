"""The mean of what records hold."""

import math
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Array, Int

from dmsim import batches, charge, electronics, light, ragged
from dmsim import quanta as quanta_stage
from dmsim.detector import Detector
from dmsim.records import Deposits, ElectronClouds, ExpectedSignal, ExpectedWaveform, Interaction, Quanta

_S1_WINDOW_NS = 2500  # of an expected S1, where 99 % of the light has come


class Windows(NamedTuple):
    """Windows of the two signals; part of what is compiled."""

    s1: light.TimeGrid
    s2: light.TimeGrid
    pulse: bool = False  # whether each photoelectron is spread by its pulse

    def response(self, detector: Detector, grid: light.TimeGrid):
        """Transform of what follows the photoelectron's arrival. Gradient: exact."""
        if not self.pulse:
            return 1.0
        dtype = detector.electronics.pulse_rise_ns.dtype
        return electronics.pulse_transform(grid.arguments(dtype), detector.electronics)


class ExpectedSignals(eqx.Module):
    """Mean quanta, electrons and light of each deposit."""

    quanta: Quanta
    clouds: ElectronClouds
    s1: ExpectedSignal
    s2: ExpectedSignal


def expected_signals(
    detector: Detector,
    deposits: Deposits,
    windows: Windows,
    *,
    starts: tuple[Int[Array, "deposit"], Int[Array, "deposit"]] | None = None,
    interactions: tuple[Interaction, ...] | None = None,
) -> ExpectedSignals:
    """What `expected_waveform` is made of, in windows of any width of sample; not compiled by itself.

    Args:
        detector: what makes the signals.
        deposits: a batch, unchecked.
        windows: of S1 and S2, each with its own width of sample.
        starts: first samples of the windows, each in its own samples; where the signals begin if not given.
        interactions: all that can occur, if known.

    Gradient: exact in the detector, energies, positions and times.
    """
    quanta = quanta_stage.expected_quanta(detector, deposits, interactions=interactions)
    clouds = charge.expected_clouds(detector, deposits, quanta)
    first, second = (None, None) if starts is None else starts
    response = partial(windows.response, detector)
    return ExpectedSignals(
        quanta=quanta,
        clouds=clouds,
        s1=light.expected_s1(detector, deposits, quanta, windows.s1, response(windows.s1), start=first),
        s2=light.expected_s2(detector, clouds, windows.s2, response(windows.s2), start=second),
    )


def expected_totals(
    detector: Detector,
    deposits: Deposits,
    signals: ExpectedSignals,
    *,
    interactions: tuple[Interaction, ...] | None = None,
) -> light.SignalTotals:
    """Mean and covariance of each deposit's S1 and S2 areas, quanta's fluctuations included.

    Args:
        detector: what makes the signals.
        deposits: a batch, unchecked.
        signals: of the same deposits.
        interactions: all that can occur, if known.

    Gradient: exact, but for the clipping of draws at a few quanta.
    """
    spread = quanta_stage.quanta_spread(detector, deposits, interactions=interactions)
    return light.expected_totals(
        detector,
        deposits,
        signals.quanta,
        signals.clouds,
        var_photons=spread.var_photons,
        var_electrons=spread.var_electrons,
        covariance=spread.covariance,
    )


@eqx.filter_jit
def _expected(
    detector: Detector, deposits: Deposits, windows: Windows, interactions: tuple[Interaction, ...]
) -> ExpectedWaveform:
    signals = expected_signals(detector, deposits, windows, interactions=interactions)
    return ExpectedWaveform(
        event=deposits.event,
        s1=signals.s1,
        s2=signals.s2,
        n_events=deposits.n_events,
        sample_ns=windows.s1.sample_ns,
    )


def expected_window(detector: Detector, deposits: Deposits) -> tuple[int, int]:
    """Samples of S1 and of S2 in which `expected_waveform` holds these deposits by default, powers of two.

    S1: 2.5 us, which hold 99 % of its light. S2: ten standard deviations of the longest diffusion, the gap's
    transit, and 15 lifetimes of the gas.

    Raises:
        ValueError: under `jax.jit` or `jax.vmap`.

    Gradient: none (integers).
    """
    gas, sensor, way = detector.electroluminescence, detector.electronics, charge.drift(detector, deposits)
    gap_ns = detector.gap_transit_ns(way.x_mm, way.y_mm)
    parts = (way.time_spread_ns, sensor.transit_time_spread_ns, gap_ns, gas.triplet_lifetime_ns)
    spread, transit, gap, slowest = (ragged.concrete(x, what="expected_window") for x in parts)
    if detector.gas_gap is not None:
        delay = ragged.concrete(detector.gas_gap.emission_delay_ns, what="expected_window")
        slowest = np.maximum(slowest, delay)
    longest = 10 * np.hypot(np.max(spread, initial=0.0), transit) + np.max(gap, initial=0.0) + 15 * slowest
    counts = (math.ceil(length / sensor.sample_ns) for length in (_S1_WINDOW_NS, float(longest)))
    of_s1, of_s2 = (1 << (count - 1).bit_length() for count in counts)
    return of_s1, of_s2


def expected_waveform(
    detector: Detector,
    deposits: Deposits,
    *,
    n_samples: tuple[int, int] | None = None,
    pulse: bool = True,
    oversampling: int = 4,
) -> ExpectedWaveform:
    """Mean PE of each deposit on each sensor and in each sample, before zero suppression.

    Rank one a deposit and signal: PE a sensor times the share of each sample, in a window that starts at a
    sample of its own. The draws' clipping at a few quanta, NEST's, is not in the mean (`expected_quanta`).

    Args:
        detector: what makes the signals.
        deposits: a batch of any size; under `jax.vmap` every array of it may have the mapped axis.
        n_samples: samples of the S1 and of the S2 window, fixed as compiled code needs it; those of
            `expected_window` if not given. A S1 window is at most 10 us long.
        pulse: whether each photoelectron is spread by its pulse, as in records, or counts at its arrival.
        oversampling: points a sample of the numerical inversion; 4 is good to 3e-7 of the light with a
            transit-time spread of 3 ns; less spread needs more points.

    Returns:
        One row a deposit.

    Raises:
        ValueError: if a window or the oversampling is out of range, or without `n_samples` under `jax.jit`
            and `jax.vmap`.

    Gradient: exact in the detector, energies, positions and times.
    """
    batches.check(detector, deposits)
    detector = charge.prepare(detector)
    sizes = expected_window(detector, deposits) if n_samples is None else n_samples
    for name, value in (*(("n_samples", size) for size in sizes), ("oversampling", oversampling)):
        if value < 1:
            raise ValueError(f"{name} is {value}: must be at least 1")
    grids = (light.TimeGrid(n, detector.electronics.sample_ns, oversampling) for n in sizes)
    kinds = quanta_stage.present_interactions(deposits)
    host_free = replace(deposits, event_time_ns=None)
    return _expected(detector, host_free, Windows(*grids, pulse=pulse), kinds)
