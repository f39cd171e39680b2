"""Every number of the report, as one tree that JSON can hold."""

import argparse
import os
import platform
import time
from datetime import UTC, datetime

import jax
import numpy as np

import inference
from dmsim.io.provenance import Provenance, precision_of, source_sha256, tree_sha256
from inference.demo.calibration import Comparison, Sample, median_and_spread
from inference.demo.closure import LABELS, PARAMETERS, Closure
from inference.demo.stages import Stages
from inference.demo.study import ER_KEV, Study


def summarize(study: Study, args: argparse.Namespace, stages: Stages) -> dict:
    """The content of result.json."""
    detector = study.detector
    provenance = Provenance(
        command="demo",
        settings={"events": args.events, "inference_source_sha256": source_sha256(inference)},
        detector=detector.name,
        detector_sha256=tree_sha256(detector),
        seed=args.seed,
        chunks={},
        precision=precision_of(detector),
    )
    device = jax.devices()[0]
    return {
        "command": "demo",
        "samples": {
            "kr83m": _sample(study.kr83m),
            "er_flat": {**_sample(study.er_flat), "energy_kev": list(ER_KEV)},
        },
        "comparison": {
            "kr83m": _comparison(study.kr83m_comparison),
            "er_flat": _comparison(study.er_flat_comparison),
        },
        "display": _display(study.kr83m),
        "fit": _fit(study.closure),
        "band": {
            "n_bins": int(np.isfinite(study.band.quantiles[1]).sum()),
            "rms_start_dex": study.band_start_dex,
            "rms_fitted_dex": study.band_fitted_dex,
            "median_error_dex": float(np.nanmean(study.band.median_error)),
        },
        "detector": {
            "name": detector.name,
            "n_sensors": detector.light.sensors.n_sensors,
            "drift_length_mm": float(detector.geometry.drift_length_mm),
            "field_v_per_cm": float(detector.xenon.field_v_per_cm[0]),
        },
        "provenance": provenance.as_dict(),
        "run": {
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "wall_s": stages.wall_s,
            "cpu_s": time.process_time(),
            "n_cpus": os.cpu_count(),
            "device": f"{device.platform}: {device.device_kind}",
            "python": platform.python_version(),
        },
    }


def _sample(sample: Sample) -> dict:
    return {
        "name": sample.name,
        "n_events": len(sample.events),
        "n_photons": sample.n_photons,
        "area_pe": float(np.sum(sample.truth.s1_pe) + np.sum(sample.truth.s2_pe)),
        "n_records": sample.n_records,
        "n_megabytes": sample.n_bytes / 1e6,
        "n_peaks": len(sample.peaks),
    }


def _comparison(c: Comparison) -> dict:
    out: dict = {"n_events": len(c.right)}
    for name in ("right", "single"):
        n, k = len(c.right), int(np.sum(getattr(c, name)))
        fraction = k / n
        # Wald's error, with half an event where none or all pass
        error = float(np.sqrt(max(fraction * (1 - fraction), 0.5 / n) / n))
        out[name] = {"count": k, "fraction": fraction, "error": error}
    for name in ("s1_percent", "s2_percent", "x_mm", "y_mm", "z_mm"):
        values = getattr(c, name)
        median, spread = median_and_spread(values)
        n = max(int(np.isfinite(values).sum()), 1)
        # of a median of normal values
        out[name] = {"median": median, "half_width_68": spread, "error": spread * np.sqrt(np.pi / 2 / n)}
    return out


def _display(sample: Sample) -> dict:
    row, events, truth = sample.display.row, sample.events, sample.truth
    return {
        "event": int(events.event[row]),
        "s1_pe": float(events.s1_pe[row]),
        "s2_pe": float(events.s2_pe[row]),
        "true_s1_pe": float(truth.s1_pe[row]),
        "true_s2_pe": float(truth.s2_pe[row]),
        "position_mm": [float(getattr(events, f"{axis}_mm")[row]) for axis in "xyz"],
        "true_position_mm": [float(getattr(truth, f"{axis}_mm")[row]) for axis in "xyz"],
        "drift_time_us": float(events.drift_time_ns[row]) / 1e3,
        "n_records": len(sample.display.records.event),
    }


def _fit(closure: Closure) -> dict:
    return {
        "parameters": [
            {
                "name": name,
                "label": LABELS[name],
                "path": closure.paths[i],
                "unit": closure.units[i],
                "true": float(closure.true[i]),
                "start": float(closure.start[i]),
                "fitted": float(closure.fitted[i]),
                "statistical": float(closure.statistical[i]),
                "reconstruction_shift": float(closure.systematic[i]),
                "pull": float(closure.pull[i]),
                "tolerance": float(closure.tolerance[i]),  # of |ln(fitted / true)|
                "constrained": bool(closure.constrained[i]),
                "recovered": bool(closure.recovered[i]),
            }
            for i, name in enumerate(PARAMETERS)
        ],
        "correlation": closure.correlation.tolist(),
        "chi2": float(closure.chi2),
        "chi2_start": closure.chi2_start,
        "chi2_adam": closure.chi2_adam,
        "n_degrees_of_freedom": closure.n_freedom,
        "n_adam_steps": closure.n_adam_steps,
        "n_newton_steps": len(closure.trajectory) - 1 - closure.n_adam_steps,
        "next_step_sigma": float(np.max(np.abs(closure.last_step))),
        "n_events": int(closure.data.n_events.sum()),
        "n_left_out": closure.data.n_left_out,
        "n_slices": len(closure.data.n_events),
        "n_model_events": closure.n_model_events,
    }
