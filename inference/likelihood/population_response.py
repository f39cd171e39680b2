"""Where a source's events fall in (cS1, log10 cS2): probabilities of bins and densities at points.

Events are simulated once a call with the same random numbers, up to their quanta. The rest is not drawn: an
event with n photons and m electrons has each number of detected photons with its binomial probability, and
each corrected area with the probability of the photoelectrons' and the electrons' spread. No hard decision is
left, so that bins and densities are smooth functions of the detector (conditional Monte Carlo), and scatter
less than a histogram of as many events.
"""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jaxtyping import Array, Float, PRNGKeyArray

from dmsim import charge, light, rng
from dmsim import quanta as quanta_stage
from dmsim.detector import Detector
from dmsim.light.coincidence import s1_acceptance
from dmsim.pipeline.keys import QUANTA, deposit_keys
from dmsim.records import Deposits, Interaction, Quanta
from inference.likelihood.counts import binomial_log_pmf
from inference.likelihood.population_data import Window

_GROUP = 512  # events that share one S1 correction: a 40th of them and fewer in sets of 20,000
_LEAST_VARIANCE_PE2 = 1e-2  # of an area: a deposit without charge has none
_TAIL = 6.0  # standard deviations of the largest S1 that are summed over
_MANY = 48  # detected photons that never miss a coincidence of up to 8 sensors
DEPOSIT_COLUMNS = ("interaction", "energy_kev", "x_mm", "y_mm", "z_mm", "time_ns")


class Bins(eqx.Module):
    """Bins of a window: every bin of cS1 with every bin of cS2."""

    window: Window
    combine: ClassVar[str] = "mi,mj->ij"

    def light(self, relative, mean, spread):
        """Probability of each bin of cS1, given counts [count, bin]."""
        edges = jnp.asarray(self.window.cs1_edges, mean.dtype) * relative
        return jnp.diff(norm.cdf((edges - mean[:, None]) / spread[:, None]), axis=1)

    def charge(self, mean, spread):
        """Probability of each bin of cS2, given electrons [deposit, bin]."""
        edges = jnp.asarray(10.0 ** np.asarray(self.window.log_cs2_edges), mean.dtype)
        return jnp.diff(norm.cdf((edges - mean[:, None]) / spread[:, None]), axis=1)

    @property
    def max_cs1_pe(self) -> float:
        """Largest cS1 asked for."""
        return self.window.cs1_edges[-1]


class Points(eqx.Module):
    """Single events: the density per PE of cS1 and per unit of log10 cS2 at each."""

    cs1_pe: Float[np.ndarray, "point"]
    log_cs2: Float[np.ndarray, "point"]
    max_cs1_pe: float = eqx.field(static=True)
    combine: ClassVar[str] = "mi,mi->i"

    @classmethod
    def of(
        cls,
        cs1_pe: Float[np.ndarray, "point"],
        log_cs2: Float[np.ndarray, "point"],
        *,
        max_cs1_pe: float | None = None,
    ) -> "Points":
        """Points at these places; what is compiled depends on the largest cS1, their own if not given."""
        cs1, log_cs2 = np.asarray(cs1_pe, np.float32), np.asarray(log_cs2, np.float32)
        return cls(cs1, log_cs2, float(cs1.max()) if max_cs1_pe is None else max_cs1_pe)

    def light(self, relative, mean, spread):
        """Density in cS1, given counts [count, point]."""
        return relative * norm.pdf(self.cs1_pe * relative, mean[:, None], spread[:, None])

    def charge(self, mean, spread):
        """Density in log10 cS2, given electrons [deposit, point]."""
        cs2 = jnp.asarray(10.0**self.log_cs2, mean.dtype)
        return math.log(10) * cs2 * norm.pdf(cs2, mean[:, None], spread[:, None])


class Response(eqx.Module):
    """A source's events in a detector, one deposit each; call it with a detector and `Bins` or `Points`.

    `calibration` is what the analysis believes the detector to be: it corrects the areas, and stays as it is
    while a fit moves the detector, as the corrections in a data file do.
    """

    key: PRNGKeyArray
    deposits: Deposits  # one an event, in order of their S1 correction
    calibration: Detector
    relative: Float[Array, "group"]  # S1 light of a group over the volume's average, by the calibration
    acceptance: Float[Array, "deposit count"]  # of the coincidence for 0, 1, ... photons; 1 beyond
    photons_per_pe: float = eqx.field(static=True)  # of cS1, at most
    interactions: tuple[Interaction, ...] = eqx.field(static=True)  # those that occur

    @classmethod
    def of(cls, key: PRNGKeyArray, detector: Detector, deposits: Deposits) -> "Response":
        """A response with the detector as its calibration.

        Args:
            key: of the quanta; the same at every call.
            detector: what the analysis believes. It also gives the coincidence's acceptance, which is held
                fixed at a number of detected photons.
            deposits: one an event. Beyond 512, their number is cut to a multiple of 512.

        Raises:
            ValueError: if an event has more than one deposit.
        """
        if len(deposits) != deposits.n_events:
            raise ValueError(
                f"{len(deposits)} deposits in {deposits.n_events} events: a population takes single deposits"
            )
        n = max(len(deposits) // _GROUP, 1) * _GROUP if len(deposits) > _GROUP else len(deposits)
        place = (deposits.x_mm, deposits.y_mm, deposits.z_mm)
        relative = np.asarray(detector.light.s1_relative_yield(detector.geometry, *place))[:n]
        order = np.argsort(relative, kind="stable")
        deposits = Deposits(
            event=jnp.arange(n, dtype=jnp.int32),
            **{name: getattr(deposits, name)[order] for name in DEPOSIT_COLUMNS},
            first_event=jnp.int32(0),
            event_time_ns=None,
            n_events=n,
        )
        kinds = quanta_stage.present_interactions(deposits)
        groups = relative[order].reshape(-1, min(n, _GROUP)).mean(axis=1)
        photons_per_pe = float(groups.max()) / float(photon_charge_moments(detector)[0])
        acceptance = _acceptance(detector, deposits)
        return cls(key, deposits, detector, jnp.asarray(groups), acceptance, photons_per_pe, kinds)

    @property
    def n_events(self) -> int:
        """Simulated events."""
        return len(self.deposits)

    def __call__(self, detector: Detector, where: Bins | Points) -> Float[Array, "..."]:
        """Probability that an event is seen in each bin [s1, s2], or its density at each point.

        Gradient: exact given the quanta, matched-normal in them; none in the coincidence's acceptance at a
        number of detected photons.
        """
        quanta = self._quanta(detector)
        s2 = self.corrected_s2(detector, quanta)

        def combined(lights, s2):
            return jnp.einsum(where.combine, lights, where.charge(*s2))

        return self._sum(detector, quanta, where, combined, s2) / self.n_events

    def s1_alone(self, detector: Detector, where: Bins | Points) -> Float[Array, "..."]:
        """The same in cS1 whatever the S2. Gradient: as `__call__`."""
        quanta = self._quanta(detector)
        return self._sum(detector, quanta, where, lambda lights, _: lights.sum(axis=0), ()) / self.n_events

    def s2_alone(self, detector: Detector, where: Bins | Points) -> Float[Array, "..."]:
        """The same in log10 cS2 whatever the S1. Gradient: as `__call__`."""
        quanta = self._quanta(detector)
        return jnp.mean(where.charge(*self.corrected_s2(detector, quanta)), axis=0)

    def _quanta(self, detector: Detector) -> Quanta:
        """As `dmsim.simulate_quanta`; but what occurs is known here while deposits are being traced."""
        keys = deposit_keys(rng.words_of(self.key), self.deposits, QUANTA)
        detector = charge.prepare(detector)
        return quanta_stage.sample_quanta(keys, detector, self.deposits, interactions=self.interactions)

    def corrected_s2(
        self, detector: Detector, quanta: Quanta
    ) -> tuple[Float[Array, "deposit"], Float[Array, "deposit"]]:
        """Mean and standard deviation of each deposit's corrected S2 [PE], given its electrons.

        Survival and extraction are binomial, light and charge as the areas' own draws. Gradient: exact.
        """
        deposits, gas = self.deposits, detector.electroluminescence
        clouds = charge.expected_clouds(detector, deposits, quanta)
        mean, gain = clouds.n_electrons, clouds.photons_per_electron
        survival = mean / jnp.maximum(quanta.n_electrons, 1.0)
        variance = mean * (1 - survival)
        photons = mean * gain
        noise = (gas.linear_noise * gain) ** 2 * (mean**2 + variance)
        variance = gain**2 * variance + gas.se_fano * photons + noise
        charge_pe, charge_variance = photon_charge_moments(detector)
        variance = charge_pe**2 * variance + charge_variance * photons
        calibration = self.calibration
        believed = calibration.electrons.survival(clouds.time_ns) * calibration.light.s2_relative_yield(
            calibration.geometry, clouds.x_mm, clouds.y_mm
        )
        spread = jnp.sqrt(jnp.maximum(variance, _LEAST_VARIANCE_PE2))
        return charge_pe * photons / believed, spread / believed

    def _sum(self, detector, quanta, where, combine, s2):
        """Sum over events of what `combine` makes of their light [event, bin or point] and S2."""
        deposits = self.deposits
        dtype = deposits.energy_kev.dtype
        most = where.max_cs1_pe * self.photons_per_pe
        counts = jnp.arange(1, math.ceil(most + _TAIL * math.sqrt(most) + 8), dtype=dtype)
        charge_pe, charge_variance = photon_charge_moments(detector)
        mean, spread = counts * charge_pe, jnp.sqrt(counts * charge_variance)
        chance = light.detection_probability(detector, deposits)
        few = self.acceptance[:, 1 : len(counts) + 1]
        n_groups = self.relative.shape[0]

        def of_group(columns):
            relative, n, p, accepted, s2 = columns
            weight = jnp.exp(binomial_log_pmf(counts, n[:, None], p[:, None]))
            weight = jnp.where((n > 0)[:, None], weight, 0.0)
            weight = weight.at[:, : accepted.shape[1]].multiply(accepted)
            return combine(weight @ where.light(relative, mean, spread), s2)

        def grouped(a):
            return a.reshape(n_groups, -1, *a.shape[1:])

        columns = (self.relative, *jax.tree.map(grouped, (quanta.n_photons, chance, few, s2)))
        shape = jax.eval_shape(of_group, jax.tree.map(lambda a: a[0], columns))

        def step(total, group):
            return total + jax.checkpoint(of_group)(group), None

        return jax.lax.scan(step, jnp.zeros(shape.shape, shape.dtype), columns)[0]


class Pairing(eqx.Module):
    """Accidental coincidences: an isolated S1 with an isolated S2, each with its own distribution."""

    lone_s1: Response
    lone_s2: Response

    def __call__(self, detector: Detector, where: Bins | Points) -> Float[Array, "..."]:
        """Probability that a pair is seen in each bin [s1, s2], or its density at each point.

        Gradient: as `Response`.
        """
        s1, s2 = self.lone_s1.s1_alone(detector, where), self.lone_s2.s2_alone(detector, where)
        return s1[:, None] * s2 if isinstance(where, Bins) else s1 * s2


def photon_charge_moments(detector: Detector) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Mean [PE] and variance [PE^2] of a detected photon's charge within an area. Gradient: exact.

    Source: as `dmsim.light.photoelectrons.area`, a second photoelectron with its probability.
    """
    double, sensors = detector.electronics.double_pe_probability, detector.light.sensors
    if sensors.spe_quantiles is None:
        one, variance = jnp.ones_like(double), detector.electronics.spe_width**2
    else:
        one, variance = sensors.spe_moments()
    return (1 + double) * one, double * (1 - double) * one**2 + (1 + double) * variance


@eqx.filter_jit
def _acceptance(detector: Detector, deposits: Deposits) -> Float[Array, "deposit count"]:
    """Probability that 0, 1, ... detected photons reach the coincidence's number of sensors."""
    none = jnp.zeros_like(deposits.energy_kev)
    if detector.resolution.coincidence <= 1:
        return jnp.ones((len(deposits), 1), none.dtype)

    def of_count(count):
        return s1_acceptance(detector, deposits, Quanta(none, none, none), jnp.full_like(none, count))

    return jax.lax.map(of_count, jnp.arange(_MANY + 1.0, dtype=none.dtype)).T
