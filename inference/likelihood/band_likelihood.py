"""How probable a measured band is for a detector: Gaussian in the means and widths of its bins."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dmsim.detector import Detector
from inference.likelihood.band import BandModel, PredictedBand
from inference.likelihood.band_data import Band

# assumed: what the emission model may be off by in each bin, beyond the file's errors and as large as they
# are for the LUX band. Such errors are shared by neighbouring bins, which this likelihood does not know.
MEAN_FLOOR_DEX = 0.005
WIDTH_FLOOR_DEX = 0.003


class BandLikelihood(eqx.Module):
    """Independent Gaussian errors: those of the file, the model's statistics and a floor, in quadrature."""

    model: BandModel
    data: Band
    mean_floor_dex: float = MEAN_FLOOR_DEX
    width_floor_dex: float = WIDTH_FLOOR_DEX

    def log_density(self, detector: Detector) -> Float[Array, ""]:
        """Log likelihood up to a constant. Gradient: as `BandModel`; the errors are held fixed."""
        return self.log_density_of(self.model(detector))

    def log_density_of(self, band: PredictedBand) -> Float[Array, ""]:
        """The same of a predicted band. Gradient: exact; the errors are held fixed."""
        pulls = jnp.concatenate(self.pulls(band))
        return -0.5 * jnp.sum(pulls**2)

    def pulls(self, band: PredictedBand) -> tuple[Float[Array, "bin"], Float[Array, "bin"]]:
        """(model - data) / error of means and of widths."""
        mean_error, width_error = self.errors(band)
        return (band.mean - self.data.mean) / mean_error, (band.width - self.data.width) / width_error

    def errors(self, band: PredictedBand) -> tuple[Float[Array, "bin"], Float[Array, "bin"]]:
        """Total standard deviations of mean and width in each bin [dex]."""
        statistical = jax.lax.stop_gradient(band.width**2 / jnp.maximum(band.n_effective, 2.0))
        mean = jnp.sqrt(self.data.mean_error**2 + self.mean_floor_dex**2 + statistical)
        width = jnp.sqrt(self.data.width_error**2 + self.width_floor_dex**2 + statistical / 2)
        return mean, width


class Residuals(eqx.Module):
    """How far a predicted band is from the data [dex], unweighted over bins."""

    offset: float  # mean of model - data in log10(S2/S1)
    rms: float  # of model - data in the means
    rms_without_offset: float
    slope_per_decade: float  # of model - data against log10 S1
    width_offset: float
    width_rms: float
    chi2_mean: float
    chi2_width: float
    n_bins: int


def residuals(likelihood: BandLikelihood, band: PredictedBand) -> Residuals:
    """Summary of model - data."""
    data = likelihood.data
    mean = np.asarray(band.mean, float) - data.mean
    width = np.asarray(band.width, float) - data.width
    pull_mean, pull_width = (np.asarray(pull, float) for pull in likelihood.pulls(band))
    return Residuals(
        offset=float(mean.mean()),
        rms=float(np.sqrt(np.mean(mean**2))),
        rms_without_offset=float(mean.std()),
        slope_per_decade=float(np.polyfit(np.log10(data.s1), mean, 1)[0]),
        width_offset=float(width.mean()),
        width_rms=float(np.sqrt(np.mean(width**2))),
        chi2_mean=float(np.sum(pull_mean**2)),
        chi2_width=float(np.sum(pull_width**2)),
        n_bins=len(data),
    )
