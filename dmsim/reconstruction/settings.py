"""One frozen settings object for the whole chain, shared by the hard and the soft reading.

Defaults are those that strax and straxen publish for XENONnT (plugins pulse_processing, peaklets,
peaklet_classification_vanilla, merged_s2s, event_basics_vanilla; values read, not code), where not marked
"assumed".
"""

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator


class Settings(BaseModel):
    """Thresholds and windows of the reconstruction; every field carries its unit and range."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    baseline_samples: Annotated[int, Field(ge=1, le=10_000)] = 40  # first samples of a pulse; at most those
    # that the detector reads out before a trigger are used
    hit_threshold_adc: Annotated[float, Field(gt=0, le=16_384)] | None = None  # below the baseline; None: the
    # detector's zero-suppression threshold (XENONnT: 15)
    gap_ns: Annotated[float, Field(gt=0, le=1e6)] = 700.0  # no hit for this long ends a peak
    left_extension_ns: Annotated[float, Field(ge=0, le=1e5)] = 30.0  # before the first hit
    right_extension_ns: Annotated[float, Field(ge=0, le=1e5)] = 200.0  # after the last hit
    min_sensors: Annotated[int, Field(ge=1, le=10_000)] = 2  # a peak with fewer is dropped
    tight_coincidence_ns: Annotated[float, Field(gt=0, le=1e5)] = 50.0  # to either side of the maximum

    s1_min_coincidence: Annotated[int, Field(ge=1, le=1000)] | None = None  # None: the detector's own
    s1_small_area_pe: Annotated[float, Field(ge=0, le=1e7)] = 250.0  # the three rise-time cuts split here
    s1_max_rise_ns: Annotated[float, Field(gt=0, le=1e5)] = 120.0  # large S1
    # small S1 and every S2: rise time against norm exp(-area / tau) + constant
    rise_norm_ns: Annotated[float, Field(ge=0, le=1e5)] = 50.0
    rise_constant_ns: Annotated[float, Field(ge=0, le=1e5)] = 80.0
    rise_tau_pe: Annotated[float, Field(gt=0, le=1e5)] = 12.0
    # small S1: rise time [ns] < 10^(offset + slope x area fraction top), flat from `aft_flat_from` on
    aft_slope: Annotated[float, Field(ge=-10, le=10)] = -1.0
    aft_offset: Annotated[float, Field(ge=-10, le=10)] = 2.6
    aft_flat_from: Annotated[float, Field(ge=0, le=1)] = 0.6
    aft_flat_rise_ns: Annotated[float, Field(gt=0, le=1e5)] = 100.0
    s2_min_sensors: Annotated[int, Field(ge=1, le=10_000)] = 4
    s2_min_area_pe: Annotated[float, Field(ge=0, le=1e7)] = 10.0
    s2_min_area_fraction_top: Annotated[float, Field(ge=0, le=1)] = 0.5
    s2_min_coincidence: Annotated[int, Field(ge=1, le=1000)] = 3  # needed below the next area
    s2_small_area_pe: Annotated[float, Field(ge=0, le=1e7)] = 20.0

    merge_max_duration_ns: Annotated[float, Field(ge=0, le=1e7)] = 50_000.0  # 0: do not merge S2 pieces
    # largest gap [ns] between S2 pieces that are merged, against log10 of their joint area [PE]
    merge_log10_area: tuple[float, ...] = (1.84, 2.18, 2.51, 2.84, 3.18, 3.51, 3.84, 4.18, 4.51, 4.84)
    merge_gap_ns: tuple[float, ...] = (
        2.84e4,
        2.37e4,
        1.97e4,
        1.83e4,
        1.72e4,
        1.89e4,
        1.95e4,
        1.63e4,
        1.21e4,
        0.0,
    )

    position_max_steps: Annotated[int, Field(ge=1, le=100)] = 8  # Fisher-scoring steps; assumed
    max_drift_excess: Annotated[float, Field(ge=0, le=10)] = 0.05  # over the cathode's drift time; assumed

    @model_validator(mode="after")
    def _consistent(self) -> "Settings":
        extension = self.left_extension_ns + self.right_extension_ns
        if self.gap_ns <= extension:
            raise ValueError(
                f"gap_ns is {self.gap_ns} ns: it must exceed left_extension_ns + right_extension_ns = "
                f"{extension} ns, or windows of neighbouring peaks overlap"
            )
        if len(self.merge_log10_area) != len(self.merge_gap_ns) or not self.merge_gap_ns:
            raise ValueError("merge_log10_area and merge_gap_ns must have the same length, at least 1")
        if any(b <= a for a, b in zip(self.merge_log10_area, self.merge_log10_area[1:], strict=False)):
            raise ValueError(f"merge_log10_area is {self.merge_log10_area}: it must ascend")
        if min(self.merge_gap_ns) < 0:
            raise ValueError(f"merge_gap_ns is {self.merge_gap_ns}: each must be >= 0 ns")
        return self


def load_settings(path: str | Path) -> Settings:
    """Settings from a TOML file; what it does not name keeps its default.

    Raises:
        ValueError: if the file cannot be read, is not TOML, has an unknown key or a value out of range.
    """
    try:
        with open(path, "rb") as file:
            values = tomllib.load(file)
    except OSError as error:
        raise ValueError(f"settings file {path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"settings file {path} is not TOML: {error}") from None
    return settings_from(values, where=f"settings file {path}")


def settings_from(values: dict, *, where: str = "settings") -> Settings:
    """Settings from a mapping, with one clear line for what is wrong.

    Raises:
        ValueError: if a key is unknown or a value is out of range.
    """
    try:
        return Settings(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            names = ", ".join(Settings.model_fields)
            raise ValueError(f"{where}: unknown key {name!r}: choose from {names}") from None
        value = f" is {first['input']!r}" if name else ""
        raise ValueError(f"{where}: {name}{value}: {first['msg']}") from None
