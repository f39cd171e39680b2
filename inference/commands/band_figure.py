"""The figure of a band fit: data, model before and after, and what is left."""

import numpy as np
from matplotlib.figure import Figure

from inference.band_fit import BandFit

_BEFORE, _AFTER = "#b0653a", "#1f5a96"


def draw_band(result: BandFit) -> Figure:
    """Mean and width of log10(S2/S1) against S1, and residuals of the mean with the errors of the fit."""
    data = result.likelihood.data
    before, after = result.residuals_before, result.residuals_after
    figure = Figure(figsize=(7, 8.5), layout="constrained")
    mean, residual, width = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 2))

    points = {"fmt": ".", "color": "black", "markersize": 4, "elinewidth": 0.8, "zorder": 3}
    mean.errorbar(data.s1, data.mean, data.mean_error, label="data", **points)
    mean.plot(data.s1, result.before.mean, "--", color=_BEFORE, label=f"preset (rms {before.rms:.4f} dex)")
    mean.plot(data.s1, result.after.mean, color=_AFTER, label=f"fitted (rms {after.rms:.4f} dex)")
    mean.set_ylabel("mean of log$_{10}$(S2/S1)")
    mean.set_title(f"{result.likelihood.model.calibration.name}: {', '.join(result.free.names)} free")
    mean.legend(frameon=False)

    total = np.asarray(result.likelihood.errors(result.after)[0])
    residual.axhline(0, color="black", linewidth=0.8)
    residual.fill_between(data.s1, -total, total, color="0.85", label="error in the fit")
    residual.plot(data.s1, np.asarray(result.before.mean) - data.mean, "--", color=_BEFORE)
    residual.plot(data.s1, np.asarray(result.after.mean) - data.mean, color=_AFTER)
    residual.set_ylabel("model - data [dex]")
    residual.legend(frameon=False, loc="lower right")

    width.errorbar(data.s1, data.width, data.width_error, **points)
    width.plot(
        data.s1, result.before.width, "--", color=_BEFORE, label=f"preset (rms {before.width_rms:.4f} dex)"
    )
    width.plot(data.s1, result.after.width, color=_AFTER, label=f"fitted (rms {after.width_rms:.4f} dex)")
    width.set_ylabel("width of log$_{10}$(S2/S1)")
    width.set_xlabel("S1 [photons detected]")
    width.legend(frameon=False)
    figure.align_ylabels()
    return figure
