"""Simulated records with their truth, batch by batch; errors of the hard and of the soft reading."""

import dataclasses
from collections.abc import Iterable, Sequence

import jax.numpy as jnp
import numpy as np

from dmsim.detector import Detector
from dmsim.reconstruction import soft
from dmsim.reconstruction.peaks import hits_of, peaks_of_hits
from dmsim.reconstruction.pulses import Pulses
from dmsim.reconstruction.settings import Settings, replaced
from dmsim.reconstruction.tables import HitTable, RecordTable, event_and_time_ns, record_table
from dmsim.records import Peaks, RawRecords
from dmsim.records import Truth as SimulatedTruth
from inference.tuning.clustering_loss import (
    SCOPE,
    Errors,
    Labels,
    Scope,
    Truth,
    count,
    expect,
    label,
    truth_of,
)
from inference.tuning.clustering_plans import Sizes, resized, sizes_of
from inference.tuning.truth_matching import Found, light_of

_COOLER = 0.5  # of the gap's temperature, where too many peaks are possible
_TRIES = 6


class _Hits:
    """Hits of a batch's records, found once: no threshold that is tuned comes before them."""

    def __init__(self):
        self._of: tuple[Detector, dict] | None = None

    def __call__(
        self, detector: Detector, records: RawRecords, settings: Settings
    ) -> tuple[RecordTable, Pulses, HitTable]:
        asked = settings.as_dict()["hits"]
        if self._of is None or self._of[0] is not detector or self._of[1] != asked:
            table = record_table(detector, records)
            self._found = table, *hits_of(detector, table, settings)
            self._of = detector, asked
        return self._found


@dataclasses.dataclass(frozen=True)
class Batch:
    """Records of some events, and what they are of."""

    records: RawRecords
    truth: Truth
    hits: _Hits = dataclasses.field(default_factory=_Hits, repr=False, compare=False)


def batches_of(
    simulated: Iterable[tuple[RawRecords, SimulatedTruth]], *, scope: Scope = SCOPE
) -> list[Batch]:
    """Batches of records with their truth at depth "photons", as `iterate_records_with_truth` gives them."""
    out = []
    for records, truth in simulated:
        light = light_of(truth, scope.rules, sample_ns=records.sample_ns)
        whole = np.asarray(records.data).astype(np.int16)  # as the hard reading wants it: no copy each time
        out.append(Batch(dataclasses.replace(records, data=whole), truth_of(light, scope)))
    return out


def found_by(detector: Detector, batches: Sequence[Batch], settings: Settings) -> list[Found]:
    """Peaks of the hard reading of each batch, without places."""
    # a place is fitted to each S2: of no concern here, and most of the time
    settings = replaced(settings, position=replaced(settings.position, min_area_pe=1e7)).for_host(detector)
    out = []
    for batch in batches:
        records = batch.records
        peaks = peaks_of_hits(detector, *batch.hits(detector, records, settings), settings)
        event, time_ns = event_and_time_ns(peaks.time_ns, records.sample_ns)
        if records.event_time_ns is not None:
            time_ns = time_ns + np.asarray(records.event_time_ns, np.int64)[event]
        out.append(found_of(dataclasses.replace(peaks, time_ns=time_ns)))
    return out


def found_of(peaks: Peaks) -> Found:
    """Peaks as matching wants them."""
    start = np.asarray(peaks.time_ns, np.int64)
    return Found(
        start_ns=start,
        end_ns=start + np.asarray(peaks.length_ns, np.int64),
        center_ns=np.asarray(peaks.center_time_ns, np.float64),
        area_pe=np.asarray(peaks.area_pe, np.float64),
        signal=np.asarray(peaks.signal, np.int64),
        x_mm=np.asarray(peaks.x_mm, np.float64),
        y_mm=np.asarray(peaks.y_mm, np.float64),
    )


def hard_errors(
    detector: Detector, batches: Sequence[Batch], settings: Settings, *, scope: Scope = SCOPE
) -> list[Errors]:
    """Errors of the hard reading, batch by batch."""
    found = found_by(detector, batches, settings)
    return [count(batch.truth, peaks, scope) for batch, peaks in zip(batches, found, strict=True)]


@dataclasses.dataclass(frozen=True)
class Planned:
    """A batch with the plan of its soft reading, in arrays of the size of all."""

    plan: soft.Plan
    labels: Labels
    data: np.ndarray
    temperature: soft.Temperature


class Planner:
    """Plans batches; all, and all later ones, in arrays of one size that only grows."""

    def __init__(self, detector: Detector, scope: Scope = SCOPE):
        self.detector, self.scope = detector, scope
        self.sizes: Sizes = {}

    def __call__(
        self, batches: Sequence[Batch], settings: Settings, temperature: soft.Temperature
    ) -> list[Planned]:
        """Plan and label batches at these settings.

        Raises:
            ValueError: if too many peaks are possible at a much lower temperature of the gap, too.
        """
        found = [_plan(self.detector, batch, settings, temperature) for batch in batches]
        self.sizes = sizes_of([plan for plan, _ in found], self.sizes)
        n_rows = max(len(batch.records.data) for batch in batches)
        self.sizes["records"] = max(self.sizes["records"], 1 << (n_rows - 1).bit_length())
        return [self._planned(batch, *of) for batch, of in zip(batches, found, strict=True)]

    def _planned(self, batch: Batch, plan: soft.Plan, temperature: soft.Temperature) -> Planned:
        start = np.asarray(plan.time_ns, np.int64)
        labels = label(
            batch.truth, start, start + plan.length_ns, size=self.sizes["candidates"], scope=self.scope
        )
        samples = np.asarray(batch.records.data)
        data = np.zeros((self.sizes["records"], samples.shape[1]), np.float32)
        data[: len(samples)] = samples
        return Planned(resized(plan, self.sizes), labels, data, temperature)


def _plan(
    detector: Detector, batch: Batch, settings: Settings, temperature: soft.Temperature
) -> tuple[soft.Plan, soft.Temperature]:
    for tried in range(_TRIES):
        try:
            plan = soft.plan(detector, batch.records, settings=settings, temperature=temperature)
            return plan, temperature
        except ValueError as error:
            if "peaks are possible" not in str(error) or tried == _TRIES - 1:
                raise
            temperature = replaced(temperature, gap=_COOLER * temperature.gap)
    raise AssertionError


def soft_errors(part: Planned, settings: Settings) -> Errors:
    """Errors that are expected, at resolved settings. Gradient: that of the soft reading, in the settings."""
    columns = soft.peak_columns(
        part.plan, jnp.asarray(part.data), settings=settings, temperature=part.temperature
    )
    return expect(part.labels, columns)


def added(errors: Sequence[Errors]) -> Errors:
    """Of all batches together."""
    nothing = Errors(0.0, 0.0, 0.0, 0.0, 0.0, np.zeros(2), np.zeros(2))
    return Errors(*(sum(column) for column in zip(nothing, *errors, strict=True)))
