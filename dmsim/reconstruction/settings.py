"""Every threshold of the reconstruction, in one frozen tree that the hard and the soft reading share.

A float field is a leaf, so that `jax.grad` reaches it; counts, switches and names are static. Each field
carries its unit, range and help; a value outside of its range is refused.

Defaults are those that strax and straxen publish for XENONnT (plugins pulse_processing, peaklets,
peaklet_classification_vanilla, merged_s2s, events, event_basics; values read, not code), where not marked
"assumed".
"""

import math
import tomllib
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np
from jax.core import Tracer

from dmsim.detector import Detector

_M = TypeVar("_M", bound=eqx.Module)

# assumed: goodness of split is a ratio of variances of the waveform, which few sensors sample too coarsely
FEW_SENSORS = 20


def _as_float(value: Any) -> Any:
    """Whole numbers as floats, so that every leaf can carry a gradient; anything else as it is."""
    if isinstance(value, tuple):
        return tuple(map(_as_float, value))
    return float(value) if _concrete(value) else value


def _leaf(default: float | tuple[float, ...] | None, unit: str, low: float, high: float, text: str) -> Any:
    """A float that a gradient reaches."""
    metadata = {"unit": unit, "low": low, "high": high, "help": text}
    return eqx.field(default=default, converter=_as_float, metadata=metadata)


def _count(default: int | None, low: int, high: int, text: str) -> Any:
    """A whole number: no gradient."""
    metadata = {"unit": "", "low": low, "high": high, "help": text}
    return eqx.field(default=default, static=True, metadata=metadata)


def _choice(default: str, options: tuple[str, ...], text: str) -> Any:
    return eqx.field(default=default, static=True, metadata={"options": options, "help": text})


def _switch(text: str, *, default: bool) -> Any:
    return eqx.field(default=default, static=True, metadata={"options": (True, False), "help": text})


class _Section(eqx.Module):
    """A group of settings; checks its values."""

    def __check_init__(self) -> None:
        for field in fields(self):
            _check(type(self).__name__.lower(), field, getattr(self, field.name))


class Hits(_Section):
    """Baseline and threshold of one sensor's pulses."""

    baseline_samples: int = _count(
        40, 1, 10_000, "first samples of a pulse; fewer where the detector reads out fewer before a trigger"
    )
    baseline_clip_adc: float | None = _leaf(
        None, "ADC", 0.5, 16_384.0,
        "samples further than this from their median leave the baseline; None: half of the threshold",
    )  # fmt: skip
    threshold_adc: float | None = _leaf(
        None, "ADC", 0.0, 16_384.0, "below the baseline; None: the detector's zero-suppression threshold"
    )
    threshold_rms: float = _leaf(
        0.0, "", 0.0, 1e3, "times the baseline's rms; the larger of both thresholds holds"
    )


class Clustering(_Section):
    """Hits of all sensors into peaks."""

    gap_ns: float = _leaf(700.0, "ns", 0.0, 1e6, "no hit for this long ends a peak")
    left_extension_ns: float = _leaf(30.0, "ns", 0.0, 1e5, "before the first hit")
    right_extension_ns: float = _leaf(200.0, "ns", 0.0, 1e5, "after the last hit")
    min_sensors: int = _count(2, 1, 10_000, "a peak with fewer is dropped")
    max_duration_ns: float = _leaf(1e7, "ns", 1.0, 1e9, "a longer peak is cut")

    def __check_init__(self) -> None:
        extension = self.left_extension_ns + self.right_extension_ns
        if _concrete(extension) and _concrete(self.gap_ns) and self.gap_ns <= extension:
            raise ValueError(
                f"clustering.gap_ns is {self.gap_ns} ns: it must exceed left_extension_ns + "
                f"right_extension_ns = {extension} ns, or windows of neighbouring peaks overlap"
            )


class Splitting(_Section):
    """One peak into several.

    The goodness of split of natural breaks is held against a threshold that falls with log10 of the area,
    between one curve for peaks that rise fast (S1) and one for those that rise slowly (S2).
    """

    method: str = _choice(
        "auto",
        ("auto", "natural_breaks", "local_minimum", "none"),
        "auto: local_minimum for a detector of fewer than 20 sensors, natural_breaks for others",
    )
    min_area_pe: float = _leaf(40.0, "PE", 0.0, 1e7, "smaller peaks are not split")
    filter_wing_ns: float = _leaf(
        70.0, "ns", 0.0, 1e5, "on either side, in the moving average that finds where the light is low"
    )
    max_iterations: int = _count(20, 0, 1000, "rounds of splitting")
    s1_log10_area: tuple[float, ...] = _leaf((0.5, 6.0), "", -10.0, 10.0, "knots of the S1 threshold")
    s1_threshold: tuple[float, ...] = _leaf((1.0, 0.4), "", 0.0, 10.0, "goodness of split at the knots")
    s2_log10_area: tuple[float, ...] = _leaf((2.5, 5.625), "", -10.0, 10.0, "knots of the S2 threshold")
    s2_threshold: tuple[float, ...] = _leaf((1.0, 0.4), "", 0.0, 10.0, "goodness of split at the knots")
    rise_ns: float = _leaf(100.0, "ns", 1.0, 1e5, "rise time half-way between the two thresholds")
    rise_power: float = _leaf(8.0, "", 0.0, 100.0, "steepness of the change, per decade of the rise time")
    minimum_height_pe: float = _leaf(
        25.0, "PE", 0.0, 1e6, "local minimum: a side's moving sum is larger by this; strax: 25 of its units"
    )
    minimum_ratio: float = _leaf(4.0, "", 1.0, 1e4, "local minimum: and by this factor; strax: 4")

    def __check_init__(self) -> None:
        _same_length("splitting", "s1_log10_area", self.s1_log10_area, "s1_threshold", self.s1_threshold)
        _same_length("splitting", "s2_log10_area", self.s2_log10_area, "s2_threshold", self.s2_threshold)

    @property
    def search(self) -> str:
        """The method that was chosen.

        Raises:
            ValueError: if that is left to the detector.
        """
        if self.method == "auto":
            raise ValueError("splitting.method is 'auto': take that of settings.resolved(detector)")
        return self.method


class Saturation(_Section):
    """Samples at the digitiser's floor, restored from the shape that unsaturated sensors saw."""

    correct: bool = _switch("restore saturated samples", default=True)
    reference_samples: int = _count(100, 1, 10_000, "before saturation, used to scale the reference; at most")
    min_reference_samples: int = _count(20, 1, 10_000, "with fewer, nothing is restored")


class Coincidence(_Section):
    """Hits near the time of a peak's maximum."""

    left_ns: float = _leaf(50.0, "ns", 0.0, 1e5, "before the maximum")
    right_ns: float = _leaf(50.0, "ns", 0.0, 1e5, "after the maximum")


class Classification(_Section):
    """S1 or S2.

    An S1 rises faster than norm exp(-area / tau) + constant and, by its area fraction top, faster than
    10^(offset + slope x fraction); a large one just faster than `s1_max_rise_ns`.
    """

    s1_min_coincidence: int | None = _count(None, 1, 1000, "sensors; None: the detector's own")
    s1_small_area_pe: float = _leaf(250.0, "PE", 0.0, 1e7, "below it both rise-time bounds hold for an S1")
    s1_max_rise_ns: float = _leaf(120.0, "ns", 0.0, 1e5, "of a larger S1")
    rise_norm_ns: float = _leaf(50.0, "ns", 0.0, 1e5, "rise-time bound of small S1s and of S2s")
    rise_constant_ns: float = _leaf(80.0, "ns", 0.0, 1e5, "the same")
    rise_tau_pe: float = _leaf(12.0, "PE", 1e-3, 1e5, "the same")
    aft_slope: float = _leaf(-1.0, "", -10.0, 10.0, "of log10(rise time) against the area fraction top")
    aft_offset: float = _leaf(2.6, "", -10.0, 10.0, "log10(rise time / ns) at fraction 0")
    aft_flat_from: float = _leaf(0.6, "", 0.0, 1.0, "fraction from which the bound is constant")
    aft_flat_rise_ns: float = _leaf(100.0, "ns", 0.0, 1e5, "that constant")
    s2_min_sensors: int = _count(4, 1, 10_000, "sensors with a hit")
    s2_min_area_pe: float = _leaf(10.0, "PE", 0.0, 1e7, "of an S2")
    s2_min_area_fraction_top: float = _leaf(0.5, "", 0.0, 1.0, "of an S2")
    s2_min_coincidence: int = _count(3, 1, 1000, "needed below the next area")
    s2_small_area_pe: float = _leaf(20.0, "PE", 0.0, 1e7, "from here on an S2 needs no coincidence")


class Merging(_Section):
    """Pieces of one S2 joined again."""

    max_duration_ns: float = _leaf(50_000.0, "ns", 0.0, 1e7, "of a joint S2; 0: nothing is joined")
    # tuned on simulated S2s of XENONnT, lone ones and pairs 2 to 6 spreads apart, with seeds that the quality
    # report does not use (experiments/reconstruction_quality, "Tuning of the merging"): of lone S2s from 5
    # electrons 2 % stay split, of the pairs that splitting finds 5 % are joined again
    log10_area: tuple[float, ...] = _leaf(
        (1.5, 1.84, 2.18, 2.4, 2.6), "", -10.0, 10.0,
        "knots of the largest gap, of the area in PE of the smaller of two pieces; two pieces that are both "
        "larger than the last stay apart",
    )  # fmt: skip
    gap_ns: tuple[float, ...] = _leaf(
        (2.84e4, 1.5e4, 7e3, 3e3, 1e3), "ns", 0.0, 1e7,
        "largest gap at the knots",
    )  # fmt: skip

    def __check_init__(self) -> None:
        _same_length("merging", "log10_area", self.log10_area, "gap_ns", self.gap_ns)


class Position(_Section):
    """x, y of S2s from the light on the top array."""

    min_area_pe: float = _leaf(0.0, "PE", 0.0, 1e7, "on the top array; below it no position is given")
    max_steps: int = _count(24, 1, 1000, "of the likelihood's damped scoring; few need more than 10; assumed")


class EventBuilding(_Section):
    """Peaks into events: around triggering S2s, or by the number that simulated records carry."""

    trigger_min_area_pe: float = _leaf(240.0, "PE", 0.0, 1e7, "an S2 above it can make an event")
    trigger_max_proximity: float = _leaf(
        1.5e-3, "1/(ms mm)", 0.0, 1e6,
        "proximity score at which an S2 is taken for light of an earlier one; straxen: 0.015/(ms cm)",
    )  # fmt: skip
    proximity_window_ns: float = _leaf(1e7, "ns", 0.0, 1e9, "S2s that start this long before an S2 count")
    proximity_min_area_fraction: float = _leaf(0.2, "", 0.0, 1e3, "of its area that an earlier S2 must have")
    proximity_width_mm: float = _leaf(
        200.0, "mm sqrt(PE)", 1e-3, 1e6, "half width of the distance between two S2s of one place"
    )
    left_extension_ns: float = _leaf(1e5, "ns", 0.0, 1e9, "before the longest drift time before a trigger")
    right_extension_ns: float = _leaf(1e5, "ns", 0.0, 1e9, "after a trigger")
    max_drift_excess: float = _leaf(0.05, "", 0.0, 10.0, "over the cathode's drift time; assumed")
    ambiguous_fraction: float = _leaf(
        0.5, "", 0.0, 1.0, "of the main one's area from which an alternate makes it ambiguous; assumed"
    )


class Settings(eqx.Module):
    """Thresholds and windows of the whole chain."""

    hits: Hits = eqx.field(default_factory=Hits)
    clustering: Clustering = eqx.field(default_factory=Clustering)
    splitting: Splitting = eqx.field(default_factory=Splitting)
    saturation: Saturation = eqx.field(default_factory=Saturation)
    coincidence: Coincidence = eqx.field(default_factory=Coincidence)
    classification: Classification = eqx.field(default_factory=Classification)
    merging: Merging = eqx.field(default_factory=Merging)
    position: Position = eqx.field(default_factory=Position)
    events: EventBuilding = eqx.field(default_factory=EventBuilding)

    def resolved(self, detector: Detector) -> "Settings":
        """With what the detector decides in place of every None and "auto"."""
        hits, classes, splitting = self.hits, self.classification, self.splitting
        if hits.threshold_adc is None:
            hits = replaced(hits, threshold_adc=float(detector.electronics.zle_threshold_adc))
        assert hits.threshold_adc is not None
        if hits.baseline_clip_adc is None:
            hits = replaced(hits, baseline_clip_adc=max(hits.threshold_adc / 2, 0.5))
        if classes.s1_min_coincidence is None:
            classes = replaced(classes, s1_min_coincidence=detector.resolution.coincidence)
        if splitting.method == "auto":
            few = detector.light.sensors.n_sensors < FEW_SENSORS
            splitting = replaced(splitting, method="local_minimum" if few else "natural_breaks")
        return replaced(self, hits=hits, classification=classes, splitting=splitting)

    def for_host(self, detector: Detector) -> "Settings":
        """Resolved, with plain numbers in place of JAX's: what the hard reading works with.

        Raises:
            ValueError: if a value is being traced: only the soft reading has gradients.
        """
        resolved = self.resolved(detector)
        if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(resolved)):
            raise ValueError("settings are traced by JAX: the hard reading has no gradient, take mode 'soft'")
        return settings_from(resolved.as_dict())

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Plain values by section and name, for provenance; `settings_from` reads them back."""
        return {
            section.name: {
                field.name: _plain(getattr(getattr(self, section.name), field.name))
                for field in fields(getattr(self, section.name))
            }
            for section in fields(self)
        }


def replaced(module: _M, **values: Any) -> _M:
    """A copy with other values, checked like a new one.

    Raises:
        ValueError: if a name is unknown or a value out of range.
    """
    old = {field.name: getattr(module, field.name) for field in fields(module)}
    for name in values:
        if name not in old:
            raise ValueError(f"{type(module).__name__} has no field {name!r}: choose from {', '.join(old)}")
    return type(module)(**{**old, **values})


def load_settings(path: str | Path) -> Settings:
    """Settings from a TOML file, one table a section; what it does not name keeps its default.

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


def settings_from(values: dict[str, Any], *, where: str = "settings") -> Settings:
    """Settings from a mapping of sections, with one clear line for what is wrong.

    Raises:
        ValueError: if a section or key is unknown or a value is out of range.
    """
    sections = {field.name: field.default_factory for field in fields(Settings)}
    out = {}
    for name, table in values.items():
        if name not in sections:
            raise ValueError(f"{where}: unknown section {name!r}: choose from {', '.join(sections)}")
        if not isinstance(table, dict):
            raise ValueError(f"{where}: {name} is {table!r}: must be a table [{name}]")
        default: Any = sections[name]
        known = [field.name for field in fields(default)]
        for key in table:
            if key not in known:
                raise ValueError(f"{where}: unknown key {name}.{key}: choose from {', '.join(known)}")
        given = {key: tuple(v) if isinstance(v, list) else v for key, v in table.items()}
        try:
            out[name] = default(**given)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
    return Settings(**out)


def _concrete(value: Any) -> bool:
    """Whether it is a number and not a tracer."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _check(section: str, field: Field, value: Any) -> None:
    where, limits = f"{section}.{field.name}", field.metadata
    if "options" in limits:
        if not any(
            value is option or (isinstance(value, str) and value == option) for option in limits["options"]
        ):
            choices = ", ".join(map(str, limits["options"]))
            raise ValueError(f"{where} is {value!r}: choose from {choices}")
        return
    if value is None and field.default is None:
        return
    several = isinstance(field.default, tuple)
    if several and (not isinstance(value, tuple) or not value):
        raise ValueError(f"{where} is {value!r}: must be a list of at least one number")
    whole = field.metadata.get("static", False)
    numbers: tuple[Any, ...] = value if several and isinstance(value, tuple) else (value,)
    for one in numbers:
        is_number = isinstance(one, int | float | np.number) or hasattr(one, "dtype")
        if isinstance(one, bool) or not is_number or (whole and not isinstance(one, int | np.integer)):
            raise ValueError(f"{where} is {value!r}: must be a {'whole ' if whole else ''}number")
        if _concrete(one) and not (math.isfinite(one) and limits["low"] <= one <= limits["high"]):
            unit = f" {limits['unit']}" if limits["unit"] else ""
            raise ValueError(
                f"{where} is {value!r}: must be in {limits['low']:g} to {limits['high']:g}{unit}"
            )


def _same_length(section: str, x_name: str, x: Any, y_name: str, y: Any) -> None:
    if not (isinstance(x, tuple) and isinstance(y, tuple)):
        return  # said by the check of each
    if len(x) != len(y):
        raise ValueError(f"{section}: {x_name} and {y_name} have {len(x)} and {len(y)} values: must be equal")
    if all(map(_concrete, x)) and any(b <= a for a, b in zip(x, x[1:], strict=False)):
        raise ValueError(f"{section}.{x_name} is {x}: it must ascend")


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return value if value is None or isinstance(value, bool | int | str) else float(value)


def describe(settings: Settings | None = None) -> list[tuple[str, Any, str, str, str]]:
    """Every setting as (section.name, value, unit, allowed, help), for the reference page."""
    settings = settings or Settings()
    rows = []
    for section in fields(settings):
        group = getattr(settings, section.name)
        for field in fields(group):
            limits = field.metadata
            allowed = (
                ", ".join(map(str, limits["options"]))
                if "options" in limits
                else f"{limits['low']:g} to {limits['high']:g}"
            )
            value = getattr(group, field.name)
            name = f"{section.name}.{field.name}"
            rows.append((name, value, limits.get("unit", ""), allowed, limits["help"]))
    return rows
