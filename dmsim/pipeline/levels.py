"""The first two depths: quanta, and areas."""

from dataclasses import fields, replace
from functools import partial

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from dmsim import batches, charge, light, rng
from dmsim import quanta as quanta_stage
from dmsim.detector import Detector
from dmsim.pipeline.keys import AREAS, CHARGE, LIGHT, QUANTA, deposit_keys, event_keys
from dmsim.records import Areas, Deposits, ElectronClouds, Interaction, Quanta

_OF_QUANTA = {"name", "geometry", "xenon", "quanta", "drift_field"}
_NOT_OF_AREAS = {
    "quanta",
    "scintillation",
    "photoionisation",
    "delayed_electrons",
    "afterpulses",
    "dark_counts",
    "noise",
}


# a call costs time for every leaf that it is given, and a gradient several times that: kernels are given the
# parts of the detector that they can need
def for_quanta(detector: Detector, interactions: tuple[Interaction, ...]) -> Detector:
    """The parts of a detector that quanta of these interactions need, None for the others."""
    every, needed = (
        {table for interaction in of for table in quanta_stage.YIELD_TABLES[interaction]}
        for of in (quanta_stage.YIELD_TABLES, interactions)
    )
    quanta = replace(detector.quanta, **dict.fromkeys(every - needed))
    others = (f.name for f in fields(detector) if f.name not in _OF_QUANTA)
    return replace(detector, quanta=quanta, **dict.fromkeys(others))


def after_quanta(detector: Detector) -> Detector:
    """The detector without the emission models, None in their place: nothing behind the quanta needs them."""
    return replace(detector, quanta=None)


def for_areas(detector: Detector) -> Detector:
    """The parts of a detector that areas need behind the quanta, None for the others."""
    return replace(detector, **dict.fromkeys(_NOT_OF_AREAS))


@partial(jax.jit, static_argnames="interactions")
def _jitted_quanta(
    words: rng.Words, detector: Detector, deposits: Deposits, interactions: tuple[Interaction, ...]
) -> Quanta:
    keys = deposit_keys(words, deposits, QUANTA)
    return quanta_stage.sample_quanta(keys, detector, deposits, interactions=interactions)


def draw_quanta(words: rng.Words, detector: Detector, deposits: Deposits) -> Quanta:
    """Quanta of a padded batch. Gradient: as `simulate_quanta`."""
    # only the emission models that occur are compiled
    interactions = quanta_stage.present_interactions(deposits)
    return _jitted_quanta(words, for_quanta(detector, interactions), deposits, interactions)


def draw_signals(
    words: rng.Words, detector: Detector, deposits: Deposits, quanta: Quanta
) -> tuple[ElectronClouds, Float[Array, "deposit"]]:
    """Electrons at the gas and detected S1 photons of each deposit. Gradient: matched-normal."""
    clouds = charge.transport(deposit_keys(words, deposits, CHARGE), detector, deposits, quanta)
    n_s1 = light.count_s1_photons(deposit_keys(words, deposits, LIGHT), detector, deposits, quanta)
    return clouds, n_s1


@jax.jit
def _areas(
    words: rng.Words, detector: Detector, deposits: Deposits, quanta: Quanta, calibration: Detector | None
) -> Areas:
    clouds, n_s1 = draw_signals(words, detector, deposits, quanta)
    n_s2 = charge.count_s2_photons(deposit_keys(words, deposits, CHARGE), detector, clouds)
    return light.measure(
        deposit_keys(words, deposits, AREAS),
        event_keys(words, deposits, AREAS),
        detector,
        deposits,
        quanta,
        clouds,
        n_s1,
        n_s2,
        calibration=detector if calibration is None else calibration,
    )


def simulate_quanta(key: PRNGKeyArray, detector: Detector, deposits: Deposits) -> Quanta:
    """Photons and electrons that leave each deposit.

    Args:
        key: a Threefry key, `jax.random.key(seed)`.
        detector: its field, density and emission model count.
        deposits: a batch of any size.

    Returns:
        Integer-valued counts, one row a deposit.

    Raises:
        ValueError: if the key is not one Threefry key.

    Gradient: matched-normal, in the detector, the energies and the positions.
    Source: NEST, arXiv:2211.10726.
    """
    batches.check(detector, deposits)
    detector = charge.prepare(detector)
    padded = batches.padded(deposits)
    return batches.unpadded(draw_quanta(rng.words_of(key), detector, padded), len(deposits), len(padded))


def simulate_areas(
    key: PRNGKeyArray, detector: Detector, deposits: Deposits, *, calibration: Detector | None = None
) -> Areas:
    """S1 and S2 areas, corrected areas, drift time and position of each event.

    Deposits of one event are summed; place and drift time are means weighted with S2.

    Args:
        key: a Threefry key, `jax.random.key(seed)`.
        detector: what makes the signals.
        deposits: a batch of any size.
        calibration: the detector as the analyst believes it, whose maps and lifetime correct the areas; the
            same as `detector` if not given.

    Returns:
        One row an event; areas in PE, times in ns, places in mm.

    Gradient: matched-normal through every count, pathwise elsewhere.
    """
    batches.check(detector, deposits)
    detector = charge.prepare(detector)
    words, padded = rng.words_of(key), batches.padded(deposits)
    quanta = draw_quanta(words, detector, padded)
    calibration = None if calibration is None else for_areas(calibration)
    areas = _areas(words, for_areas(detector), padded, quanta, calibration)
    return batches.unpadded(areas, deposits.n_events, padded.n_events)
