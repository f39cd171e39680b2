"""Baseline and threshold of each pulse."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from dmsim.detector import Detector
from dmsim.reconstruction import margins, xla
from dmsim.reconstruction.host import pulses as host
from dmsim.reconstruction.settings import Hits
from dmsim.reconstruction.tables import ADC_PER_COUNT, RecordTable

PER_ADC = round(1 / ADC_PER_COUNT)


class Pulses(NamedTuple):
    """What is measured of each pulse before its hits are looked for."""

    baseline: Int[np.ndarray, "pulse"]  # int32, in `ADC_PER_COUNT`
    limit: Int[np.ndarray, "pulse"]  # int32 ADC: a sample counts as over threshold up to this value


def free_samples(detector: Detector, settings: Hits) -> int:
    """Samples of a pulse that give its baseline: those read out before its light begins to rise, at most.

    A readout begins `zle_samples_before` samples before the first one over threshold, and light before that
    one by the pulse's rise and the sample that it begins in.
    """
    electronics = detector.electronics
    rise = math.ceil(float(electronics.pulse_rise_ns) / electronics.sample_ns) + 1
    return min(settings.baseline_samples, max(electronics.zle_samples_before - rise, 1))


def measure_pulses(settings: Hits, table: RecordTable, *, n_first: int, backend: str = "host") -> Pulses:
    """Baseline and threshold of each pulse.

    The baseline is the mean of those of the first samples that lie within `baseline_clip_adc` of their
    median. So the rise of a pulse and light below the threshold, which pull a plain mean down, do not count.
    Fragments take the baseline of their pulse; a pulse whose first fragment is missing takes the nominal
    one: its own first samples may lie inside a signal.

    Args:
        settings: resolved.
        table: records.
        n_first: samples looked at.
        backend: "host", or "xla", which gives the same.
    """
    assert settings.baseline_clip_adc is not None  # resolved
    if backend == "xla":
        clip_adc = settings.baseline_clip_adc
        baseline, rms = xla.baselines(table, n_first=n_first, clip_adc=clip_adc, per_adc=PER_ADC)
    else:
        baseline, rms = host.baselines(
            table.data, table.length, table.pulse, table.first, table.n_pulses, table.baseline_adc, n_first,
            settings.baseline_clip_adc, PER_ADC,
        )  # fmt: skip
    # a sample s is over threshold where the margin of its depth, baseline - s, is not negative
    limit = np.floor(baseline * ADC_PER_COUNT + margins.hit(settings, 0.0, rms))
    return Pulses(baseline, limit.astype(np.int32))
