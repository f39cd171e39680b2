"""A study of tuned thresholds of the reconstruction as a TOML file: which records are simulated, and how."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import dmsim
from dmsim.detector import Detector
from dmsim.pipeline.stream import iterate_stream_with_truth
from dmsim.pipeline.truth import iterate_records_with_truth
from dmsim.reconstruction.settings import Settings, load_settings
from dmsim.records import Deposits
from inference.tuning.clustering_loss import SCOPE, Scope
from inference.tuning.clustering_parameters import LEAVES, Leaf, parameters_of
from inference.tuning.clustering_result import Options
from inference.tuning.clustering_samples import Batch, batches_of
from inference.tuning.study import in_one_line, options_of, refuse_unknown

_STRICT = ConfigDict(extra="forbid", frozen=True)
SPACING_NS = 40_000_000  # of events of their own: no delayed electron comes after the next one
# one deposit an event, flat in the logarithm of its energy, or of the electrons that leave the place
IN_LOG = {"er": "er_beta", "nr": "nr", "electrons": "electrons"}


class SampleOf(BaseModel):
    """Simulated records: of one source, event by event, or of several on the detector's clock."""

    model_config = _STRICT

    source: str | None = None
    range: tuple[float, float] | None = None  # keV, or electrons, of the sources in IN_LOG
    events_per_batch: int = Field(default=40, ge=1, le=10_000)
    rates_hz: dict[str, float] = Field(default_factory=dict)
    chunk_s: float = Field(default=0.15, gt=0, le=100)  # a batch of what is on the clock
    options: dict[str, Any] = Field(default_factory=dict)
    batches: int = Field(default=4, ge=2, le=10_000)  # to tune and to choose on
    held_out: int = Field(default=4, ge=1, le=10_000)  # to judge on

    @model_validator(mode="after")
    def _one_origin(self):
        if (self.source is None) == (not self.rates_hz):
            raise ValueError("give either source or rates_hz")
        if (self.source in IN_LOG) != (self.range is not None):
            raise ValueError(f"range is given for the sources {', '.join(IN_LOG)}, and for no other")
        if self.range is not None and not 0 < self.range[0] < self.range[1]:
            raise ValueError(f"range is {list(self.range)}: must ascend from above 0")
        return self


class ClusteringStudy(BaseModel):
    """All of a study."""

    model_config = _STRICT

    kind: Literal["clustering"]
    detector: str
    settings: str | None = None  # file of where to start; dmsim's defaults if None
    tune: tuple[str, ...] = ()  # sections, or section.field; all of LEAVES if none
    n_bootstrap: int = Field(default=300, ge=10, le=100_000)
    scope: dict[str, float] = Field(default_factory=dict)
    tuning: dict[str, Any] = Field(default_factory=dict)
    samples: dict[str, SampleOf] = Field(min_length=1)

    def options(self) -> Options:
        """Of the tuner.

        Raises:
            ValueError: for an unknown key or a value out of range.
        """
        values = options_of("tuning", self.tuning, Options(), but=("scope",))
        refuse_unknown("scope", self.scope, set(Scope._fields) - {"rules"})
        return Options(**values, scope=SCOPE._replace(**self.scope))

    def leaves(self) -> tuple[Leaf, ...]:
        """What is tuned.

        Raises:
            ValueError: for a name that is none.
        """
        out: list[Leaf] = []
        for name in self.tune:
            found = [leaf for leaf in LEAVES if name in (leaf.name, leaf.name.split(".")[0])]
            if not found:
                known = ", ".join(dict.fromkeys(leaf.name.split(".")[0] for leaf in LEAVES))
                raise ValueError(f"tune: {name!r} cannot be tuned: give {known}, or a field as section.field")
            out += found
        return tuple(out) if self.tune else LEAVES

    def given(self, folder: Path) -> Settings:
        """Where tuning starts; a path counts from the study's folder."""
        return Settings() if self.settings is None else load_settings(folder / self.settings)


def read_clustering_study(path: Path, values: Mapping[str, Any]) -> ClusteringStudy:
    """Check a study.

    Args:
        path: of the file, for messages.
        values: what is in it.

    Raises:
        ValueError: for a key or a value that is wrong; one line names it.
    """
    try:
        study = ClusteringStudy(**values)
    except ValidationError as error:
        raise ValueError(in_one_line(path, error)) from None
    try:
        study.options()
        parameters_of(study.given(path.parent), study.leaves())
        for name, sample in study.samples.items():
            _check_sources(name, sample)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return study


def _check_sources(name: str, sample: SampleOf) -> None:
    """Unknown sources and options, before anything is simulated."""
    if sample.source in IN_LOG:
        refuse_unknown(f"samples.{name}.options", sample.options, set())
        return
    alone = {} if sample.source is None else {sample.source: sample.options}
    for source, options in (alone or {s: sample.options.get(s, {}) for s in sample.rates_hz}).items():
        try:
            known = set(dmsim.sources.options(dmsim.sources.named(source)))
        except ValueError as error:
            raise ValueError(f"samples.{name}: {error}") from None
        if not isinstance(options, dict):
            raise ValueError(f"samples.{name}.options.{source} is {options!r}: must be a table")
        refuse_unknown(f"samples.{name}.options", options, known - {"n_events", "rate_hz", "event_time_ns"})
    if sample.rates_hz:
        refuse_unknown(f"samples.{name}.options", sample.options, set(sample.rates_hz))


def simulate_samples(
    study: ClusteringStudy, detector: Detector, seed: int, *, held_out: bool = False
) -> Iterator[tuple[str, list[Batch]]]:
    """Records with their truth, sample by sample.

    Args:
        study: which.
        detector: that takes the records.
        seed: of everything random, 0 to 2^32 - 1.
        held_out: those to judge on, of other random numbers.

    Raises:
        ValueError: for a value that a source refuses.
    """
    scope = study.options().scope
    for number, (name, sample) in enumerate(study.samples.items()):
        key = jax.random.fold_in(jax.random.key(seed), 2 * number + held_out)
        n = sample.held_out if held_out else sample.batches
        try:
            yield name, batches_of(_records(key, detector, sample, n), scope=scope)
        except (ValueError, TypeError) as error:
            raise ValueError(f"samples.{name}: {error}") from None


def _records(key, detector: Detector, sample: SampleOf, n_batches: int) -> Iterator[Any]:
    if sample.rates_hz:
        length = n_batches * sample.chunk_s
        mixed = dmsim.sources.mixture(key, detector, sample.rates_hz, length, options=sample.options)
        return iterate_stream_with_truth(
            key, detector, mixed.deposits, chunk_ns=1e9 * sample.chunk_s, depth="photons"
        )  # type: ignore[return-value]
    n = n_batches * sample.events_per_batch
    if sample.source in IN_LOG:
        deposits = _flat_in_log(key, detector, sample, n)
    else:
        source = dmsim.sources.named(str(sample.source))
        deposits = source(key, detector, n_events=n, rate_hz=1e9 / SPACING_NS, **sample.options)
    return iterate_records_with_truth(
        key, detector, deposits, depth="photons", events_per_batch=sample.events_per_batch
    )


def _flat_in_log(key, detector: Detector, sample: SampleOf, n: int) -> Deposits:
    """Uniform in the volume, 40 ms apart."""
    assert sample.range is not None
    low, high = sample.range
    uniform = np.random.default_rng(np.asarray(jax.random.key_data(key))).uniform(size=(4, n))
    size = low * (high / low) ** uniform[0]
    radius, length = float(detector.geometry.radius_mm), float(detector.geometry.drift_length_mm)
    r_mm, angle = radius * np.sqrt(uniform[1]), 2 * np.pi * uniform[2]
    return dmsim.sources.deposits(
        detector,
        energy_kev=np.round(size) if sample.source == "electrons" else size,
        x_mm=r_mm * np.cos(angle),
        y_mm=r_mm * np.sin(angle),
        z_mm=-length * uniform[3],
        interaction=IN_LOG[str(sample.source)],
        event_time_ns=(1 + np.arange(n, dtype=np.int64)) * SPACING_NS,
    )
