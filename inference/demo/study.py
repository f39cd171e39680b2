"""The demonstration's physics: two sources, their reconstruction, and the fit."""

from dataclasses import dataclass, replace
from functools import partial

import jax

import dmsim
from dmsim.reconstruction import build_events
from inference.demo.band_check import (
    QuantileBand,
    band_edges_pe,
    distance_dex,
    measure_band,
    predict_quantile_band,
)
from inference.demo.calibration import (
    Comparison,
    Sample,
    compare,
    events_in_key,
    n_batches,
    simulate_and_reconstruct,
)
from inference.demo.closure import N_EVALUATIONS, Closure, fit_line, wrong_detector
from inference.demo.stages import Stages

FOLLOWS = ("photoionisation", "delayed_electrons", "afterpulses", "dark_counts")  # tables of a detector
ER_KEV = (1.0, 30.0)
_MODEL_EVENTS_PER_EVENT, _MAX_MODEL_EVENTS, _BAND_EVENTS = 10, 20_000, 20_000
_FIT_KEY, _BAND_KEY = 1, 2  # purposes of keys that are not the data's


@dataclass(frozen=True)
class Study:
    """Everything that figures and report show."""

    detector: dmsim.Detector
    seed: int
    kr83m: Sample  # events corrected with the fitted detector
    er_flat: Sample
    kr83m_comparison: Comparison
    er_flat_comparison: Comparison
    closure: Closure
    band: QuantileBand  # of er_flat, reconstructed
    band_start: QuantileBand  # predicted
    band_fitted: QuantileBand
    band_start_dex: float
    band_fitted_dex: float


def run_study(detector_name: str, *, n_events: int, seed: int, stages: Stages) -> Study:
    """Simulate, reconstruct, fit, correct, compare.

    The analyst starts with a wrong g1, lifetime and gain. Reconstruction's areas use none of them; corrected
    areas use the lifetime, so events are built a second time with the fitted detector.

    Args:
        detector_name: preset or path of a TOML file.
        n_events: of Kr-83m; half as many flat recoils.
        seed: of the run.
        stages: told what happens.
    """
    # the fit is of the light that energy made: what follows it, 2 % of an S2, is no part of its model
    detector = dmsim.load_detector(detector_name).without(*FOLLOWS)
    believed = wrong_detector(detector)
    key = jax.random.key(seed)
    # merged: steps that are close, as most are, give one S1 and others two, of which a line is no model
    kr83m = partial(dmsim.sources.kr83m, merged=True)
    er_flat = partial(dmsim.sources.er_flat, energy_min_kev=ER_KEV[0], energy_max_kev=ER_KEV[1])

    samples = []
    # recoils only check the band, so half as many will do
    plan = ((kr83m, "Kr-83m", 0, n_events), (er_flat, "flat ER", n_events, n_events // 2))
    for source, name, first, n in plan:
        total = n_batches(n)
        with stages.stage(f"simulate and reconstruct {name}", total=total) as advance:
            sample = simulate_and_reconstruct(
                key,
                detector,
                source,
                believed=believed,
                name=name,
                n_events=n,
                first_event=first,
                on_batch=advance,
            )
        samples.append(sample)

    with stages.stage("fit three parameters", total=N_EVALUATIONS) as advance:
        closure = fit_line(
            events_in_key(key, _FIT_KEY),
            detector,
            believed,
            kr83m,
            samples[0],
            n_model_events=min(_MODEL_EVENTS_PER_EVENT * n_events, _MAX_MODEL_EVENTS),
            on_step=advance,
        )
    fitted = closure.detector

    with stages.stage("correct with the fit, compare with truth"):
        kr_sample, er_sample = (
            replace(sample, events=build_events(fitted, sample.peaks, n_events=n, first_event=first))
            for sample, (_, _, first, n) in zip(samples, plan, strict=True)
        )
        edges = band_edges_pe(er_sample.events)
        band = measure_band(er_sample.events.cs1_pe, er_sample.events.cs2_pe, edges)
        predict = partial(
            predict_quantile_band,
            events_in_key(key, _BAND_KEY),
            source=er_flat,
            edges_pe=edges,
            n_events=_BAND_EVENTS,
        )
        # both are corrected as the data are, with the fitted detector
        band_start, band_fitted = (predict(model, calibration=fitted) for model in (believed, fitted))
    return Study(
        detector=detector,
        seed=seed,
        kr83m=kr_sample,
        er_flat=er_sample,
        kr83m_comparison=compare(kr_sample.truth, kr_sample.events),
        er_flat_comparison=compare(er_sample.truth, er_sample.events),
        closure=closure,
        band=band,
        band_start=band_start,
        band_fitted=band_fitted,
        band_start_dex=distance_dex(band, band_start),
        band_fitted_dex=distance_dex(band, band_fitted),
    )
