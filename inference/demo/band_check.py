"""The band of a source that the fit has not seen, reconstructed and predicted."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, PRNGKeyArray

import dmsim
from dmsim.records import Deposits, Events

_MIN_EVENTS = 12  # in a bin
_QUANTILES = (0.16, 0.5, 0.84)


@dataclass(frozen=True)
class QuantileBand:
    """Quantiles 0.16, 0.5 and 0.84 of log10(cS2 / cS1) in bins of cS1."""

    centre_pe: Float[np.ndarray, "bin"]
    quantiles: Float[np.ndarray, "3 bin"]
    median_error: Float[np.ndarray, "bin"]


def band_edges_pe(events: Events) -> Float[np.ndarray, "edge"]:
    """Edges with as many events in each bin, 2 to 10 of them, from the events' own cS1."""
    cs1 = events.cs1_pe[np.isfinite(events.cs1_pe) & np.isfinite(events.cs2_pe)]
    return np.quantile(cs1, np.linspace(0.01, 0.99, int(np.clip(len(cs1) // 45, 2, 10)) + 1))


def measure_band(cs1_pe, cs2_pe, edges_pe: Float[np.ndarray, "edge"]) -> QuantileBand:
    """The band of some events. Bins with fewer than 12 are NaN."""
    cs1, cs2 = np.asarray(cs1_pe, np.float64), np.asarray(cs2_pe, np.float64)
    good = np.isfinite(cs1) & np.isfinite(cs2) & (cs1 > 0) & (cs2 > 0)
    cs1, height = cs1[good], np.log10(cs2[good] / cs1[good])
    where = np.digitize(cs1, edges_pe) - 1
    n_bins = len(edges_pe) - 1
    quantiles, error = np.full((3, n_bins), np.nan), np.full(n_bins, np.nan)
    for i in range(n_bins):
        inside = height[where == i]
        if inside.size >= _MIN_EVENTS:
            quantiles[:, i] = np.quantile(inside, _QUANTILES)
            # of a median of normal values: sqrt(pi / 2) sigma / sqrt(n)
            sigma = (quantiles[2, i] - quantiles[0, i]) / 2
            error[i] = np.sqrt(np.pi / 2) * sigma / np.sqrt(inside.size)
    return QuantileBand((edges_pe[1:] + edges_pe[:-1]) / 2, quantiles, error)


def predict_quantile_band(
    key: PRNGKeyArray,
    detector: dmsim.Detector,
    source: Callable[..., Deposits],
    edges_pe: Float[np.ndarray, "edge"],
    *,
    calibration: dmsim.Detector,
    n_events: int,
) -> QuantileBand:
    """The band at the areas level, corrected as the data are.

    Args:
        key: of the model's events.
        detector: what makes the signals.
        source: of the band.
        edges_pe: bins.
        calibration: what the data are corrected with.
        n_events: of the model.
    """
    deposits = source(key, detector, n_events=n_events, first_event=0)
    areas = dmsim.simulate_areas(key, detector, deposits, calibration=calibration)
    return measure_band(areas.cs1_pe, areas.cs2_pe, edges_pe)


def distance_dex(data: QuantileBand, model: QuantileBand) -> float:
    """Root mean square difference of the medians."""
    difference = data.quantiles[1] - model.quantiles[1]
    return float(np.sqrt(np.nanmean(difference**2)))
