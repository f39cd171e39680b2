"""A population from a TOML file: the window, the components with their rates, and the free leaves.

exposure_t_y = 1.09

[window]
cs1_pe = [3, 100]
cs2_pe = [200, 12000]
bins = [12, 16]
r_max_mm = 600

[[component]]
name = "wimp"
source = "wimp"
options = { mass_gev = 50 }
signal = true
rate = 10
rate_max = 200

[[component]]
name = "er"
source = "er_flat"
options = { energy_max_kev = 25 }
rate = 134
rate_error = 12

[[parameter]]
name = "g1"
relative_width = 0.02
"""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import PRNGKeyArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dmsim import sources
from dmsim.detector import Detector
from dmsim.sources import nuclear
from inference.likelihood.population import Component, Population
from inference.likelihood.population_data import Window
from inference.likelihood.population_response import Bins, Pairing, Response
from inference.parameters import FreeParameters

ACCIDENTAL = "accidental"  # isolated S1s with isolated S2s
WIMP_UNIT_CM2 = 1e-47
_PLACE = {"n_events", "first_event", "rate_hz", "timing", "r_max_mm", "z_min_mm", "z_max_mm"}
_MAX_WIMP_KEV = 500.0

Positive = Annotated[float, Field(gt=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WindowConfig(_Strict):
    """What is looked at: corrected areas [PE] and the fiducial volume [mm]."""

    cs1_pe: tuple[float, float]
    cs2_pe: tuple[float, float]
    bins: tuple[int, int] = (20, 24)
    r_max_mm: Positive | None = None
    z_min_mm: float | None = None
    z_max_mm: float | None = None


class ComponentConfig(_Strict):
    """One source and what is known of its rate."""

    name: str
    source: str
    options: dict[str, Any] = {}
    rate: Annotated[float, Field(ge=0)]
    rate_error: Positive | None = None
    rate_max: Positive | None = None
    counts: Literal["seen", "all"] = "seen"  # the rate counts events seen in the window, or all that happen
    signal: bool = False

    @model_validator(mode="after")
    def _prior_is_given_once(self):
        if (self.rate_error is None) == (self.rate_max is None):
            raise ValueError(f"component {self.name} needs one of rate_error and rate_max")
        if self.rate_max is not None and not 0 < self.rate < self.rate_max:
            raise ValueError(f"component {self.name}: rate {self.rate:g} must be above 0 and below rate_max")
        return self


class ParameterConfig(_Strict):
    """One free leaf of the detector."""

    name: str
    relative_width: Positive


class PopulationConfig(_Strict):
    """The whole file."""

    exposure_t_y: Positive | None = None
    events: Annotated[int, Field(ge=512, le=10_000_000)] = 20_480  # simulated, a component
    window: WindowConfig
    component: tuple[ComponentConfig, ...] = Field(min_length=1)
    parameter: tuple[ParameterConfig, ...] = ()

    @model_validator(mode="after")
    def _is_consistent(self):
        if sum(c.signal for c in self.component) > 1:
            raise ValueError("more than one component is marked as signal")
        if any(c.source == "wimp" for c in self.component) and self.exposure_t_y is None:
            raise ValueError("a wimp component needs exposure_t_y")
        return self


def read_config(path: str | Path) -> PopulationConfig:
    """Read and check a TOML file.

    Raises:
        ValueError: if it cannot be read, or a value is missing, unknown or outside its range; one line.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"configuration {path} cannot be read: {error}") from None
    return checked_config(content, origin=path)


def checked_config(content: dict[str, Any], *, origin: object = "configuration") -> PopulationConfig:
    """A configuration from nested dictionaries.

    Raises:
        ValueError: as `read_config`.
    """
    try:
        return PopulationConfig.model_validate(content)
    except ValidationError as error:
        # a misspelt key comes before the one that is missing for it
        first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
        where = ".".join(map(str, first["loc"])) or "configuration"
        raise ValueError(f"{origin}: {where}: {first['msg']} ({error.error_count()} in all)") from None


def make_population(key: PRNGKeyArray, detector: Detector, config: PopulationConfig) -> Population:
    """Simulate the components' quanta and put the population together; a signal comes first.

    Args:
        key: of the simulated events.
        detector: what the analysis believes.
        config: as read.

    Raises:
        ValueError: for an unknown source or leaf, an option that the source does not take, or a component
            that the window never sees.
    """
    names = [p.name for p in config.parameter]
    widths = {p.name: p.relative_width for p in config.parameter}
    free = FreeParameters.of(detector, names, relative_widths=widths) if names else FreeParameters(())
    ordered = sorted(config.component, key=lambda c: not c.signal)
    window = Window.of(config.window.cs1_pe, config.window.cs2_pe, config.window.bins)
    components = tuple(
        _component(jax.random.fold_in(key, i), detector, config, c, window) for i, c in enumerate(ordered)
    )
    return Population(components, detector, free, window)


def _component(
    key: PRNGKeyArray,
    detector: Detector,
    config: PopulationConfig,
    component: ComponentConfig,
    window: Window,
) -> Component:
    response = _response(key, detector, config, component)
    per_unit, unit = 1.0, "events"
    if component.source == "wimp":
        per_unit, unit = (
            wimp_events(component.options.get("mass_gev", 50.0), config.exposure_t_y or 0.0),
            (f"{WIMP_UNIT_CM2:g} cm2"),
        )
    elif component.counts == "seen":
        seen = float(_seen(response, detector, Bins(window)))
        if not seen > 1 / config.events:
            raise ValueError(f"component {component.name}: the window sees none of its events")
        per_unit, unit = 1 / seen, "events in the window"
    if component.rate_error is not None:
        prior = dist.TruncatedNormal(component.rate, component.rate_error, low=0.0)
    else:
        prior = dist.Uniform(0.0, component.rate_max)
    start = max(component.rate, 1e-3 * (component.rate_error or 0.0))
    return Component.of(component.name, response, prior, start=start, unit=unit, events_per_unit=per_unit)


@eqx.filter_jit
def _seen(response: Response | Pairing, detector: Detector, where: Bins):
    return response(detector, where).sum()


def _response(
    key: PRNGKeyArray, detector: Detector, config: PopulationConfig, component: ComponentConfig
) -> Response | Pairing:
    w = config.window
    where = {"r_max_mm": w.r_max_mm, "z_min_mm": w.z_min_mm, "z_max_mm": w.z_max_mm}

    def one(key, name, options):
        source = sources.named(name)
        known = set(sources.options(source)) - _PLACE
        unknown = sorted(set(options) - known)
        if unknown:
            raise ValueError(
                f"component {component.name}: source {name} takes no {', '.join(unknown)}; "
                f"its options are {', '.join(sorted(known)) or 'none'}"
            )
        key_source, key_quanta = jax.random.split(key)
        deposits = source(key_source, detector, n_events=config.events, **options, **where)
        return Response.of(key_quanta, detector, deposits)

    if component.source != ACCIDENTAL:
        return one(key, component.source, component.options)
    if component.options:
        raise ValueError(f"component {component.name}: accidental pairs take no options")
    first, second = jax.random.split(key)
    return Pairing(one(first, "isolated_s1", {}), one(second, "isolated_s2", {}))


def wimp_events(mass_gev: float, exposure_t_y: float) -> float:
    """Scatters of WIMPs with a cross section of 1e-47 cm2 in an exposure [t y]."""
    energy_kev = _MAX_WIMP_KEV * np.linspace(0, 1, 4001) ** 3  # finer where the spectrum is steep
    rate = np.asarray(nuclear.wimp_rate(jnp.asarray(energy_kev), mass_gev, WIMP_UNIT_CM2 * 1e2), float) * 1e-2
    return float(np.trapezoid(rate, energy_kev) * exposure_t_y)
