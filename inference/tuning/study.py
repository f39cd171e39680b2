"""A study of tuned cuts as a TOML file: samples, cuts, objective, constraints."""

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dmsim.selection import CutSet, columns_of, merit, read_cuts
from inference.tuning.constraints import Bounds, Constraint, Efficiency, MaxBackground, MinEfficiency
from inference.tuning.objective import Objective
from inference.tuning.result import Settings
from inference.tuning.samples import Sample

_STRICT = ConfigDict(extra="forbid", frozen=True)
_SIMULATED = ("s1_pe", "s2_pe", "cs1_pe", "cs2_pe", "drift_time_ns", "x_mm", "y_mm", "z_mm")


class SampleOf(BaseModel):
    """One class of events: from a file, or simulated down to areas."""

    model_config = _STRICT

    expected: float = Field(gt=0)
    signal: bool = False
    file: str | None = None
    weight: str | None = None  # column of the file
    source: str | None = None
    n_events: int = Field(default=20_000, ge=100, le=10_000_000)
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_origin(self):
        if (self.file is None) == (self.source is None):
            raise ValueError("give either file or source")
        return self


class ObjectiveOf(BaseModel):
    """The figure of merit by its name."""

    model_config = _STRICT

    figure: Literal[
        "asimov_significance", "binned_significance", "limit_reach", "punzi", "purity"
    ] = "asimov_significance"  # fmt: skip
    background_error: float = Field(default=0.0, ge=0)
    bin_column: str | None = None
    bin_edges: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _whole_bins(self):
        if (self.bin_column is None) != (not self.bin_edges):
            raise ValueError("bin_column and bin_edges come together")
        if self.bin_column is not None and self.figure != "binned_significance":
            raise ValueError("bins need the figure binned_significance")
        return self


class ConstraintsOf(BaseModel):
    """What must be obeyed."""

    model_config = _STRICT

    efficiency: float | None = None
    min_efficiency: float | None = None
    max_background: float | None = None
    max_background_of: dict[str, float] = Field(default_factory=dict)
    bounds: dict[str, tuple[float, float]] = Field(default_factory=dict)


class Study(BaseModel):
    """All of a study."""

    model_config = _STRICT

    kind: Literal["cuts"] = "cuts"
    cuts: str
    detector: str | None = None
    samples: dict[str, SampleOf]
    objective: ObjectiveOf = ObjectiveOf()
    constraints: ConstraintsOf = ConstraintsOf()
    tuning: dict[str, Any] = Field(default_factory=dict)

    def settings(self) -> Settings:
        """Of the tuner.

        Raises:
            ValueError: for an unknown key or a value out of range.
        """
        return Settings(**options_of("tuning", self.tuning, Settings()))

    def objective_of(self) -> Objective:
        """The figure of merit."""
        o = self.objective
        bins = None if o.bin_column is None else (o.bin_column, o.bin_edges)
        return Objective(getattr(merit, o.figure), o.background_error, bins=bins)

    def constraints_of(self) -> list[Constraint]:
        """All constraints."""
        c, out = self.constraints, []
        if c.efficiency is not None:
            out.append(Efficiency(c.efficiency))
        if c.min_efficiency is not None:
            out.append(MinEfficiency(c.min_efficiency))
        if c.max_background is not None:
            out.append(MaxBackground(c.max_background))
        out += [MaxBackground(value, name) for name, value in c.max_background_of.items()]
        return [*out, *(Bounds(name, low, high) for name, (low, high) in c.bounds.items())]


def options_of(
    table: str, values: Mapping[str, Any], usual: Any, *, but: Sequence[str] = ()
) -> dict[str, Any]:
    """Values of a study's table as fields of a dataclass.

    Args:
        table: its name, for messages.
        values: what is in it.
        usual: an object of the dataclass, whose values say of what kind each is.
        but: fields that are not set here.

    Raises:
        ValueError: for an unknown key, or a value of another kind.
    """
    refuse_unknown(table, values, {field.name for field in dataclasses.fields(usual)} - set(but))
    out: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    for name, value in out.items():
        if not _alike(value, getattr(usual, name)):
            raise ValueError(f"{table}.{name} is {value!r}: must be of the kind of {getattr(usual, name)!r}")
    return out


def _alike(value: Any, usual: Any) -> bool:
    """Whether it is a yes or no, number, whole number or pair like the usual one."""
    if isinstance(usual, tuple):
        return isinstance(value, tuple) and len(value) == len(usual) and all(map(_alike, value, usual))
    if isinstance(usual, bool) or isinstance(value, bool):
        return isinstance(usual, bool) and isinstance(value, bool)
    return isinstance(value, int if isinstance(usual, int) else (int, float))


def refuse_unknown(table: str, values: Mapping[str, Any], known: set[str]) -> None:
    """Refuse a key that is not known.

    Raises:
        ValueError: names it and those that are.
    """
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"{table}.{unknown[0]} is not known: must be of {', '.join(sorted(known))}")


def in_one_line(path: Path, error: ValidationError) -> str:
    """The first of what is wrong in a study: file, key, what must be."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"]) or "the file"
    return f"{path}: {place}: {first['msg'].removeprefix('Value error, ')}"


def table_of(path: Path) -> dict[str, Any]:
    """What is in a study's file.

    Raises:
        ValueError: if it cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no TOML: {error}") from None


def read_study(path: Path) -> Study:
    """Read and check a study.

    Raises:
        ValueError: if the file is no such TOML; one line names the key.
    """
    try:
        return Study(**table_of(path))
    except ValidationError as error:
        raise ValueError(in_one_line(path, error)) from None


def load_cuts(study: Study, folder: Path) -> CutSet:
    """The cuts to start from; their path counts from the study's folder."""
    return read_cuts(folder / study.cuts)


def load_samples(study: Study, folder: Path, seed: int) -> dict[str, Sample]:
    """Samples from files and from simulation.

    Events of a simulation without S1 or S2 are left out, and their share of the expectation with them.

    Raises:
        ValueError: for a missing file or column, an unknown source or option, or no detector to simulate.
    """
    out = {}
    for number, (name, given) in enumerate(study.samples.items()):
        if given.file is not None:
            out[name] = _from_file(name, given, folder)
        else:
            out[name] = _simulated(name, given, study.detector, seed, number)
    return out


def _from_file(name: str, given: SampleOf, folder: Path) -> Sample:
    path = folder / str(given.file)
    if not path.exists():
        raise ValueError(f"samples.{name}: {path} does not exist")
    columns: Mapping[str, Any] = columns_of(path)
    if given.weight is not None and given.weight not in columns:
        raise ValueError(f"samples.{name}: {path} has no column {given.weight!r} to weigh with")
    weight = None if given.weight is None else np.asarray(columns[given.weight], float)
    return Sample(columns, given.expected, given.signal, weight)


def _simulated(name: str, given: SampleOf, detector_name: str | None, seed: int, number: int) -> Sample:
    import jax  # noqa: PLC0415 - files alone need no simulator

    import dmsim  # noqa: PLC0415

    if detector_name is None:
        raise ValueError(f"samples.{name} is simulated from source {given.source!r}: name a detector")
    detector = dmsim.load_detector(detector_name)
    source = dmsim.sources.named(str(given.source))
    known = dmsim.sources.options(source)
    unknown = sorted(set(given.options) - set(known))
    if unknown:
        raise ValueError(
            f"samples.{name}: option {unknown[0]!r} of {given.source}: known are {', '.join(known)}"
        )
    key = jax.random.fold_in(jax.random.key(seed), number)
    deposits = source(key, detector, n_events=given.n_events, **given.options)
    areas = dmsim.simulate_areas(key, detector, deposits)
    columns = {c: np.asarray(getattr(areas, c), float) for c in _SIMULATED}
    weight = np.asarray(areas.s1_acceptance, float)
    weight = np.where((columns["s1_pe"] > 0) & (columns["s2_pe"] > 0), weight, 0.0)
    seen = weight > 0
    if not seen.any():
        raise ValueError(f"samples.{name}: none of {given.n_events} simulated events has an S1 and an S2")
    expected = given.expected * float(weight.sum()) / len(weight)
    lost = given.expected - expected
    note = (
        f"{int(seen.sum())} of {given.n_events} simulated events have an S1 and an S2 and can be cut on, "
        f"worth {expected:.4g} of the {given.expected:g} expected events; {lost:.4g} are lost before. "
        "Weight: the probability that so small an S1 is seen"
    )
    columns = {c: v[seen] for c, v in columns.items()}
    return Sample(columns, expected, given.signal, weight[seen], lost=lost, note=note)
