"""Likelihood of one event's light in (energy, x, y, z, t), from the expected waveform.

Each signal is a product, sensors times samples, so that sums over sensors and sums over time are all that
counts. The likelihood has three parts:

- the areas of S1 and S2: a normal in two dimensions, with the quanta's fluctuations in its covariance;
- the shares of the sensors, given the areas;
- the shares of the samples, given the areas.

Shares are Poisson quasi-likelihoods, sum(PE x log share) / dispersion. The dispersion is the score's variance
over that of independent photons of 1 PE: charge spread and double photoelectrons in all of them, photons that
share their electron's arrival in the time of S2, the scatter of the cloud's centre in the sensors of S2.

Values are taken against a reference event, term by term: in single precision the sums themselves lose what
counts.

Source of the quasi-likelihood: Wedderburn, Biometrika 61 (1974) 439, doi:10.1093/biomet/61.3.439.
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from dmsim import light
from dmsim.detector import Detector
from dmsim.pipeline.expected import Windows, expected_signals, expected_totals
from dmsim.records import Deposits, Interaction

PARAMETERS = ("energy_kev", "x_mm", "y_mm", "z_mm", "time_ns")

_LEAST_SHARE = 1e-12  # of a sensor: a dead one has none, and no light either
_LEAST_VARIANCE_PE2 = 0.01  # of an area, where a window misses the light
_BACKGROUND = 1e-6  # share of a sample added to all: the inversion is good to 3e-7


class EventParameters(eqx.Module):
    """One deposit's energy, place and time; with a leading axis, one a row."""

    energy_kev: Float[Array, ""]
    x_mm: Float[Array, ""]
    y_mm: Float[Array, ""]
    z_mm: Float[Array, ""]
    time_ns: Float[Array, ""]  # from the event's start
    interaction: Interaction = eqx.field(static=True, default=Interaction.ER_BETA)

    def vector(self) -> Float[Array, "*batch 5"]:
        """The five numbers in the order of `PARAMETERS`."""
        return jnp.stack([getattr(self, name) for name in PARAMETERS], axis=-1)

    def at(self, vector: Float[Array, "*batch 5"]) -> "EventParameters":
        """The same interaction with these five numbers."""
        return EventParameters(*jnp.moveaxis(vector, -1, 0), interaction=self.interaction)

    def deposits(self) -> Deposits:
        """A batch of this one deposit."""
        return Deposits(
            event=jnp.zeros(1, jnp.int32),
            interaction=jnp.full(1, int(self.interaction), jnp.int32),
            **{name: jnp.asarray(getattr(self, name))[None] for name in PARAMETERS},
            first_event=jnp.int32(0),
            event_time_ns=None,
            n_events=1,
        )


class EventData(eqx.Module):
    """What is seen of one event in the windows of its S1 and its S2; with a leading axis, one a row."""

    s1_sensor_pe: Float[Array, "sensor"]  # inside of the window
    s1_sample_pe: Float[Array, "sample"]  # of all sensors
    s2_sensor_pe: Float[Array, "sensor"]
    s2_sample_pe: Float[Array, "sample"]
    s1_start: Int[Array, ""]  # first sample of the window, in its samples from the event's start
    s2_start: Int[Array, ""]
    reference: "Expectation"
    windows: Windows = eqx.field(static=True)


class Shares(NamedTuple):
    """One signal: logarithms of the shares of sensors and samples, and the PE that they share."""

    log_sensor: Float[Array, "sensor"]
    log_sample: Float[Array, "sample"]  # of the light inside of the window
    pe: Float[Array, ""]


class Expectation(eqx.Module):
    """What the model expects of one event, and the dispersions of its parts."""

    s1: Shares
    s2: Shares
    variance_s1: Float[Array, ""]
    variance_s2: Float[Array, ""]
    covariance: Float[Array, ""]
    dispersion: Float[Array, ""]  # of independent photons: mean square of a photon's charge over its mean
    dispersion_s2_sensor: Float[Array, ""]
    dispersion_s2_sample: Float[Array, ""]


def _shares(signal, area_pe) -> tuple[Shares, Float[Array, ""]]:
    """Shares of a signal in its window, and the part of the light that the window holds."""
    sensor = signal.sensor_pe[0]
    total = jnp.sum(sensor)
    share = signal.share[0]
    held = jnp.minimum(jnp.sum(share), 1.0)
    share = (share + _BACKGROUND) / (jnp.sum(share) + _BACKGROUND * share.size)
    fraction = sensor / jnp.where(total > 0, total, 1.0)
    return Shares(jnp.log(jnp.maximum(fraction, _LEAST_SHARE)), jnp.log(share), area_pe * held), held


def _expect(detector: Detector, parameters: EventParameters, windows: Windows, starts):
    """The expectation but for the dispersions of S2, and the signals that it comes from."""
    deposits, kinds = parameters.deposits(), (parameters.interaction,)
    given = (jnp.asarray(starts[0])[None], jnp.asarray(starts[1])[None])
    signals = expected_signals(detector, deposits, windows, starts=given, interactions=kinds)
    totals = expected_totals(detector, deposits, signals, interactions=kinds)
    s1, held_1 = _shares(signals.s1, totals.s1_pe[0])
    s2, held_2 = _shares(signals.s2, totals.s2_pe[0])
    photon = totals.photon_pe

    def inside(variance, mean, held):
        # each photon falls into the window or not
        return jnp.maximum(held**2 * (variance - mean * photon) + held * mean * photon, _LEAST_VARIANCE_PE2)

    expectation = Expectation(
        s1=s1,
        s2=s2,
        variance_s1=inside(totals.var_s1[0], totals.s1_pe[0], held_1),
        variance_s2=inside(totals.var_s2[0], totals.s2_pe[0], held_2),
        covariance=held_1 * held_2 * totals.covariance[0],
        dispersion=photon,
        dispersion_s2_sensor=photon,
        dispersion_s2_sample=photon,
    )
    return expectation, signals


def expected_starts(
    detector: Detector, parameters: EventParameters, windows: Windows
) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """First samples of the windows of S1 and S2, an eighth of the window before the light begins.

    Gradient: none (integers).
    """
    signals = expected_signals(
        detector, parameters.deposits(), windows, interactions=(parameters.interaction,)
    )
    of_s1, of_s2 = signals.s1.start_sample[0], signals.s2.start_sample[0]
    return of_s1 - windows.s1.n_samples // 8, of_s2 - windows.s2.n_samples // 8


def reference(
    detector: Detector, parameters: EventParameters, windows: Windows, starts: tuple[Array, Array]
) -> Expectation:
    """The expectation for this event with the dispersions of S2, which a fit then keeps fixed.

    Gradient: exact.
    """
    expectation, signals = _expect(detector, parameters, windows, starts)
    in_time = light.s2_time_dispersion(
        detector,
        signals.clouds,
        windows.s2,
        windows.response(detector, windows.s2),
        jnp.asarray(starts[1])[None],
    )[0]
    # a displacement d of the cloud's centre shifts the place that its pattern points to by d: a variance of
    # spread^2 / n beside 1 / information
    clouds, geometry = signals.clouds, detector.geometry

    def log_pattern(place):
        pattern = detector.light.s2_pattern(geometry, place[0], place[1], clouds.spread_mm[0])
        return jnp.log(jnp.maximum(pattern, _LEAST_SHARE))

    place = jnp.stack([clouds.x_mm[0], clouds.y_mm[0]])
    slopes = jax.jacfwd(log_pattern)(place)
    information = jnp.mean(jnp.sum(jnp.exp(expectation.s2.log_sensor)[:, None] * slopes**2, axis=0))
    information = information * expectation.s2.pe / expectation.dispersion
    scatter = clouds.spread_mm[0] ** 2 / jnp.maximum(clouds.n_electrons[0], 1.0)
    return eqx.tree_at(
        lambda e: (e.dispersion_s2_sensor, e.dispersion_s2_sample),
        expectation,
        (expectation.dispersion * (1 + information * scatter), in_time),
    )


def event_data(
    detector: Detector,
    guess: EventParameters,
    *,
    windows: Windows,
    starts: tuple[Array, Array],
    s1_sensor_pe: Float[Array, "sensor"],
    s1_sample_pe: Float[Array, "sample"],
    s2_sensor_pe: Float[Array, "sensor"],
    s2_sample_pe: Float[Array, "sample"],
) -> EventData:
    """One event's data from arrays; `jax.vmap` takes many.

    Args:
        detector: gives the reference and its dispersions; a nominal one will do.
        guess: an event near the right one, as reconstruction gives it: values of the likelihood are taken
            against it, and the dispersions are its.
        windows: of both signals.
        starts: first sample of each window, in the window's samples; `expected_starts` chooses them.
        s1_sensor_pe: inside of the window.
        s1_sample_pe: of all sensors.
        s2_sensor_pe: inside of the window.
        s2_sample_pe: of all sensors.

    Gradient: exact in the arrays.
    """
    return EventData(
        s1_sensor_pe=s1_sensor_pe,
        s1_sample_pe=s1_sample_pe,
        s2_sensor_pe=s2_sensor_pe,
        s2_sample_pe=s2_sample_pe,
        s1_start=starts[0],
        s2_start=starts[1],
        reference=reference(detector, guess, windows, starts),
        windows=windows,
    )


def _areas_log_density(expectation: Expectation, s1_pe, s2_pe):
    """Normal in S1 and S2, without its constant."""
    a, b, c = expectation.variance_s1, expectation.variance_s2, expectation.covariance
    r1, r2 = s1_pe - expectation.s1.pe, s2_pe - expectation.s2.pe
    correlation = c / jnp.sqrt(a * b)
    left = 1 - correlation**2
    u, v = r1 / jnp.sqrt(a), r2 / jnp.sqrt(b)
    return -0.5 * ((u**2 - 2 * correlation * u * v + v**2) / left + jnp.log(a) + jnp.log(b) + jnp.log(left))


def log_likelihood(detector: Detector, parameters: EventParameters, data: EventData) -> Float[Array, ""]:
    """Log-likelihood of one event over that of the reference in `data`; `jax.vmap` takes many.

    Args:
        detector: what makes the signals; made ready by `dmsim.charge.prepare` where it has a drift field.
        parameters: energy > 0, inside of the active volume.
        data: of one event.

    Gradient: exact, in the event and in the detector, at the reference's dispersions.
    """
    ours, _ = _expect(detector, parameters, data.windows, (data.s1_start, data.s2_start))
    there = jax.lax.stop_gradient(data.reference)
    of_photon = there.dispersion
    total = _areas_log_density(ours, jnp.sum(data.s1_sensor_pe), jnp.sum(data.s2_sensor_pe))
    total = total - _areas_log_density(there, jnp.sum(data.s1_sensor_pe), jnp.sum(data.s2_sensor_pe))
    for seen, now, then, dispersion in (
        (data.s1_sensor_pe, ours.s1.log_sensor, there.s1.log_sensor, of_photon),
        (data.s1_sample_pe, ours.s1.log_sample, there.s1.log_sample, of_photon),
        (data.s2_sensor_pe, ours.s2.log_sensor, there.s2.log_sensor, there.dispersion_s2_sensor),
        (data.s2_sample_pe, ours.s2.log_sample, there.s2.log_sample, there.dispersion_s2_sample),
    ):
        total = total + jnp.sum(seen * (now - then)) / dispersion
    return total


def fisher_information(
    detector: Detector, parameters: EventParameters, *, windows: Windows
) -> Float[Array, "5 5"]:
    """Fisher information of one event in `PARAMETERS`, from the expected signals; `jax.vmap` takes many.

    Args:
        detector: what makes the signals.
        parameters: the event.
        windows: of both signals.

    Returns:
        Symmetric; in inverse products of the parameters' units.

    Gradient: exact.
    """
    starts = jax.lax.stop_gradient(expected_starts(detector, parameters, windows))
    here = reference(detector, parameters, windows, starts)

    def numbers(vector):
        e, _ = _expect(detector, parameters.at(vector), windows, starts)
        logs = (e.s1.log_sensor, e.s1.log_sample, e.s2.log_sensor, e.s2.log_sample)
        mean = jnp.stack([e.s1.pe, e.s2.pe])
        covariance = jnp.stack(
            [jnp.stack([e.variance_s1, e.covariance]), jnp.stack([e.covariance, e.variance_s2])]
        )
        return logs, mean, covariance

    logs, mean, covariance = jax.jacfwd(numbers)(parameters.vector())
    pe = (here.s1.pe, here.s1.pe, here.s2.pe, here.s2.pe)
    dispersion = (here.dispersion, here.dispersion, here.dispersion_s2_sensor, here.dispersion_s2_sample)
    expected = (here.s1.log_sensor, here.s1.log_sample, here.s2.log_sensor, here.s2.log_sample)
    total = sum(
        n / d * jnp.einsum("c,ci,cj->ij", jnp.exp(log_share), slope, slope)
        for n, d, log_share, slope in zip(pe, dispersion, expected, logs, strict=True)
    )
    # areas, in units of their standard deviations: (dm' V^-1 dm) + tr(V^-1 dV V^-1 dV) / 2
    scale = jnp.sqrt(jnp.stack([here.variance_s1, here.variance_s2]))
    correlation = here.covariance / (scale[0] * scale[1])
    inverse = jnp.array([[1.0, 0.0], [0.0, 1.0]]) + 0 * correlation
    inverse = (inverse - correlation * jnp.array([[0.0, 1.0], [1.0, 0.0]])) / (1 - correlation**2)
    shift = mean / scale[:, None]
    change = jnp.einsum("ab,bci->aci", inverse, covariance / (scale[:, None, None] * scale[None, :, None]))
    areas = jnp.einsum("ai,ab,bj->ij", shift, inverse, shift) + 0.5 * jnp.einsum(
        "abi,baj->ij", change, change
    )
    return total + areas


def cramer_rao(information: Float[Array, "*batch 5 5"]) -> Float[Array, "*batch 5"]:
    """Smallest standard deviations that the information allows, the other four parameters unknown.

    Args:
        information: as `fisher_information` gives it.

    Gradient: exact.
    """
    # to unit diagonal first: the parameters' units differ by decades
    scale = jnp.sqrt(jnp.diagonal(information, axis1=-2, axis2=-1))
    unit = information / (scale[..., :, None] * scale[..., None, :])
    return jnp.sqrt(jnp.diagonal(jnp.linalg.inv(unit), axis1=-2, axis2=-1)) / scale
