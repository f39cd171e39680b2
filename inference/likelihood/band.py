"""The band that a detector would show: mean and width of log10(cS2/cS1) in bins of cS1.

Events are simulated once a call with the same random numbers, up to their quanta and their S2. What remains
of the S1 is not sampled: each event enters a bin with the binomial probability of the photon counts that
would put it there, so that no hard decision on the number of photons is left and the band is a smooth
function of the detector (conditional Monte Carlo, the last stage done exactly).
"""

import dataclasses
import math
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array, Float, PRNGKeyArray

import dmsim
from dmsim import relax, rng
from dmsim.detector import Detector
from dmsim.records import Deposits
from inference.likelihood.counts import binomial_log_pmf

_SMEAR = 0x42414E45  # stream of the charge spread of S1
_CHUNK = 8192  # events a step of the scan: about 2 MB an array of (event, count)
_REACH = 1.35  # counts are summed up to this much over the last bin edge: light collection varies by less


@dataclasses.dataclass(frozen=True)
class BandSettings:
    """How the measured band was made. Areas in photons detected (phd), lengths in mm."""

    s1_unit: str = "area"  # "area" in PE over (1 + double_pe), or "spikes": photons counted one by one
    spike_threshold_pe: float = 0.0  # height over which a spike counts, in units of one photoelectron
    max_radius_mm: float | None = None  # fiducial volume; the whole detector if not given
    drift_time_us: tuple[float, float] | None = None

    def __post_init__(self):
        if self.s1_unit not in ("area", "spikes"):
            raise ValueError(f"s1_unit is {self.s1_unit!r}: choose area or spikes")


# S1 spikes, threshold 0.3 phd in PE: NEST's LUX_Run03 header after arXiv:1910.04211 and 1512.03506;
# radius and drift time: arXiv:1608.05381
SETTINGS = {
    "lux": BandSettings("spikes", 0.3 * 1.173 / 0.915, 200.0, (38.0, 305.0)),
}


class PredictedBand(eqx.Module):
    """A detector's band in the bins of the data."""

    mean: Float[Array, "bin"]  # of log10(cS2/cS1)
    width: Float[Array, "bin"]  # its standard deviation
    n_effective: Float[Array, "bin"]  # (sum of weights)^2 / sum of squared weights

    def curves(self) -> tuple[Float[Array, "bin"], Float[Array, "bin"]]:
        """Mean and width."""
        return self.mean, self.width


class BandModel(eqx.Module):
    """Events in a fiducial volume and the bins to sort them into; call it with a detector.

    `calibration` is the detector that the analysis believed in: its light map and lifetime correct the
    areas and stay what they were while the fit moves the detector, as the corrections in a data file do.
    """

    key: PRNGKeyArray
    deposits: Deposits  # one an event
    edges: tuple[float, ...] = eqx.field(static=True)
    calibration: Detector
    settings: BandSettings = eqx.field(static=True)

    def __call__(self, detector: Detector) -> PredictedBand:
        """The band of this detector.

        Gradient: conditional in the number of S1 photons (exact given the quanta), matched-normal in quanta
        and S2; none through the charge spread of S1 photoelectrons into the bin that an event falls in.
        """
        log_s2 = self._log_s2(detector)
        sums = self._sums(detector, *log_s2)
        weight = jnp.maximum(sums[0], jnp.finfo(sums.dtype).tiny)
        mean = sums[1] / weight
        variance = sums[2] / weight - mean**2
        # moments were taken about a curve near the band, which keeps the difference of squares accurate
        return PredictedBand(
            mean=mean + self._reference(),
            width=relax.safe_sqrt(variance),
            n_effective=sums[0] ** 2 / jnp.maximum(sums[3], jnp.finfo(sums.dtype).tiny),
        )

    def _reference(self) -> Float[np.ndarray, "bin"]:
        """A fixed curve through any xenon band, about which moments are taken."""
        edges = np.asarray(self.edges)
        centre = (edges[1:] + edges[:-1]) / 2
        return 2.8 - 0.6 * np.log10(np.maximum(centre, 1.0))

    def _log_s2(self, detector: Detector) -> tuple[Array, Array]:
        """Photons of each event, and log10 of its corrected S2 in phd (-inf where it has none)."""
        quanta = dmsim.simulate_quanta(self.key, detector, self.deposits)
        areas = dmsim.simulate_areas(self.key, detector, self.deposits, calibration=self.calibration)
        seen = areas.cs2_pe > 0
        phd = jnp.where(seen, areas.cs2_pe, 1.0) / (1 + self.calibration.electronics.double_pe_probability)
        return quanta.n_photons, jnp.where(seen, jnp.log10(phd), -jnp.inf)

    def _spread(self) -> Float[Array, ""]:
        """Standard deviation of a measured S1 over sqrt(photons detected), of the calibration."""
        electronics = self.calibration.electronics
        if self.settings.s1_unit == "spikes":
            return electronics.spe_width / 4  # pile-up correction of the spike count, as NEST models it
        double, width = electronics.double_pe_probability, electronics.spe_width
        return jnp.sqrt(double * (1 - double) + (1 + double) * width**2) / (1 + double)

    def _counted(self, detector: Detector) -> Float[Array, ""]:
        """Probability that a detected photon counts: one in spikes above threshold, every one in an area."""
        threshold = self.settings.spike_threshold_pe
        if self.settings.s1_unit != "spikes" or threshold <= 0:
            return jnp.ones(())
        double, width = detector.electronics.double_pe_probability, detector.electronics.spe_width
        single = norm.sf((threshold - 1) / width)
        pair = norm.sf((threshold - 2) / (width * math.sqrt(2)))
        return (1 - double) * single + double * pair

    def _find_bin(self, dtype: jnp.dtype) -> Callable[[Array], Array]:
        """A function from corrected S1 to the number of its bin, out of range for those outside."""
        widths = np.diff(self.edges)
        if np.allclose(widths, widths[0]):  # ten times faster than a search
            return lambda s1: jnp.floor((s1 - float(self.edges[0])) / float(widths[0])).astype(jnp.int32)
        edges = jnp.asarray(self.edges, dtype)
        return lambda s1: jnp.searchsorted(edges, s1.reshape(-1), side="right").reshape(s1.shape) - 1

    def _sums(self, detector: Detector, n_photons: Array, log_s2: Array) -> Float[Array, "moment bin"]:
        """Sums over events and counts of weight x (1, y, y^2), and of weight^2, in each bin."""
        dtype = n_photons.dtype
        deposits, light = self.deposits, detector.light
        place = (deposits.x_mm, deposits.y_mm, deposits.z_mm)
        chance = light.g1_phd_per_photon * light.s1_relative_yield(detector.geometry, *place)
        chance = chance * self._counted(detector)
        correction = 1 / self.calibration.light.s1_relative_yield(self.calibration.geometry, *place)
        event = self.deposits.event.astype(jnp.uint32)
        smear, _ = rng.normal_pair(rng.words_of(self.key), event, jnp.uint32(_SMEAR), dtype=dtype)
        smear = smear * jax.lax.stop_gradient(self._spread())

        first = max(detector.resolution.coincidence, 1)
        counts = jnp.arange(first, int(self.edges[-1] * _REACH) + 8, dtype=dtype)
        find_bin, reference = self._find_bin(dtype), jnp.asarray(self._reference(), dtype)
        n_bins = reference.shape[0]

        def chunk_sums(columns):
            n, p, s2, factor, z = columns
            probability = jnp.exp(binomial_log_pmf(counts, n[:, None], p[:, None]))
            cs1 = factor[:, None] * (counts + jnp.sqrt(counts) * z[:, None])
            bins = find_bin(cs1)
            inside = (bins >= 0) & (bins < n_bins) & jnp.isfinite(s2)[:, None] & (n[:, None] > 0)
            bins = jnp.where(inside, bins, n_bins)
            weight = jnp.where(inside, probability, 0.0)
            s2 = jnp.where(jnp.isfinite(s2), s2, 0.0)[:, None]
            y = s2 - jnp.log10(jnp.where(inside, cs1, 1.0)) - reference[jnp.minimum(bins, n_bins - 1)]
            # one scatter a moment: XLA:CPU fuses a scatter of stacked rows with their making, 7 times slower
            moments = (weight, weight * y, weight * y**2, weight**2)
            return jnp.stack(
                [jax.ops.segment_sum(m.reshape(-1), bins.reshape(-1), n_bins + 1) for m in moments]
            )

        columns = (n_photons, chance, log_s2, correction, smear)
        padding = -len(deposits) % _CHUNK if len(deposits) > _CHUNK else 0
        size = min(len(deposits), _CHUNK)
        chunks = jax.tree.map(lambda a: jnp.pad(a, (0, padding)).reshape(-1, size), columns)

        def step(total, chunk):
            return total + jax.checkpoint(chunk_sums)(chunk), None

        total, _ = jax.lax.scan(step, jnp.zeros((4, n_bins + 1), dtype), chunks)
        return total[:, :n_bins]
