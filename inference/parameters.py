"""Which leaves of a detector are free: names, bounds, priors, and the way to an unconstrained vector.

A parameter is named by its place in the tree ("light.g1_phd_per_photon", "xenon.field_v_per_cm[0]") or by
a short alias ("g1"). Every optimiser and sampler sees one vector in which 0 is the preset and 1 is about one
prior standard deviation, so that step sizes mean the same for all parameters.
"""

import dataclasses
import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Float
from numpyro.distributions import constraints
from numpyro.distributions.transforms import AffineTransform, ComposeTransform, Transform, biject_to

from dmsim.detector import Detector
from dmsim.detector.quantities import Spec, specs

ALIASES = {
    "g1": "light.g1_phd_per_photon",
    "se_gain": "electroluminescence.se_gain_phd",
    "se_fano": "electroluminescence.se_fano",
    "s2_noise": "electroluminescence.linear_noise",
    "extraction": "electrons.extraction_efficiency",
    "lifetime": "electrons.lifetime_us",
    "drift_speed": "electrons.drift_speed_mm_per_us",
    "field": "xenon.field_v_per_cm[0]",
    "recombination": "quanta.er_fluctuations.recombination.near",  # fluctuation of ER below about 300 V/cm
    "work_function": "quanta.work_function.scale",
    "double_pe": "electronics.double_pe_probability",
    "spe_width": "electronics.spe_width",
}

DEFAULT_RELATIVE_WIDTH = 0.1  # assumed: a tenth of the preset, where no published uncertainty is given
_WIDTH_AT_ZERO = 0.1  # assumed: for a value of 0, such as a dimensionless slope
_FAR = 20.0  # prior standard deviations
_ELEMENT = re.compile(r"(?P<path>[^\[\]]+)\[(?P<index>\d+)\]")


def leaf_names(detector: Detector) -> dict[str, Array]:
    """Every float leaf of the detector by its dotted name."""
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(detector, eqx.is_inexact_array))
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def resolve(detector: Detector, name: str) -> str:
    """The full name of a scalar leaf, or of one element of an array leaf.

    Args:
        detector: whose tree is searched.
        name: full name, alias, or the last word of a full name where only one leaf has it.

    Raises:
        ValueError: if nothing, more than one leaf, or a whole array is called so; near matches are listed.
    """
    leaves = leaf_names(detector)
    path = ALIASES.get(name, name)
    element = _ELEMENT.fullmatch(path)
    base, index = (element["path"], int(element["index"])) if element else (path, None)
    matches = [base] if base in leaves else [leaf for leaf in leaves if leaf.rpartition(".")[2] == base]
    if len(matches) > 1:
        raise ValueError(f"parameter {name!r} is ambiguous: write one of {', '.join(matches)}")
    if not matches:
        known = [*ALIASES, *leaves, *(leaf.rpartition(".")[2] for leaf in leaves)]
        near = dict.fromkeys(difflib.get_close_matches(base, known, n=4, cutoff=0.5))
        hint = f"did you mean {', '.join(near)}?" if near else f"short names are {', '.join(ALIASES)}"
        raise ValueError(f"parameter {name!r} is not a leaf of detector {detector.name!r}: {hint}")
    (base,) = matches
    shape = leaves[base].shape
    if index is None and shape:
        raise ValueError(f"parameter {name!r} is an array of {shape[0]}: name one element, {base}[0]")
    if index is not None and (len(shape) != 1 or index >= shape[0]):
        raise ValueError(f"parameter {name!r}: {base} has shape {shape}")
    return base if index is None else f"{base}[{index}]"


def _node(tree: Any, path: str) -> Any:
    for word in path.split("."):
        if isinstance(tree, Mapping):
            tree = tree[word]
        elif isinstance(tree, Sequence):
            tree = tree[int(word)]
        else:
            tree = getattr(tree, word)
    return tree


def get_leaf(detector: Detector, path: str) -> Float[Array, ""]:
    """The value of a leaf by its full name. Gradient: exact."""
    element = _ELEMENT.fullmatch(path)
    if element is None:
        return _node(detector, path)
    return _node(detector, element["path"])[int(element["index"])]


def set_leaf(detector: Detector, path: str, value: Float[Array, ""] | float) -> Detector:
    """The same detector with another value in one leaf, in the leaf's precision. Gradient: exact."""
    element = _ELEMENT.fullmatch(path)
    base = path if element is None else element["path"]
    leaf = _node(detector, base)
    new = jnp.asarray(value, leaf.dtype)
    if element is not None:
        new = leaf.at[int(element["index"])].set(new)
    return eqx.tree_at(lambda tree: _node(tree, base), detector, new)


def _owner(detector: Detector, path: str) -> tuple[object, str]:
    base = path.partition("[")[0]
    parent, _, word = base.rpartition(".")
    return (_node(detector, parent) if parent else detector), word


def spec_of(detector: Detector, path: str) -> Spec:
    """Unit, range and meaning of a leaf by its full name; an unbounded one if the module states none."""
    module, word = _owner(detector, path)
    stated = dict(specs(module)) if dataclasses.is_dataclass(module) else {}
    return stated.get(word, Spec("", -math.inf, math.inf, "", "float"))


def default_prior(
    detector: Detector, path: str, *, relative_width: float = DEFAULT_RELATIVE_WIDTH
) -> dist.Distribution:
    """A normal around the preset's value, cut at the ends of the leaf's stated range.

    Args:
        detector: gives the value and the range.
        path: full name.
        relative_width: standard deviation over |value|, > 0; values of 0 get an absolute 0.1.

    Raises:
        ValueError: if the width is not positive, or the preset lies at the edge of the range.
    """
    if not relative_width > 0:
        raise ValueError(f"relative prior width of {path} is {relative_width}: it must be positive")
    value, spec = float(get_leaf(detector, path)), spec_of(detector, path)
    width = relative_width * abs(value) if value != 0 else _WIDTH_AT_ZERO
    if not spec.low < value < spec.high:
        raise ValueError(
            f"{path} is {value:g} {spec.unit} in the preset, at the edge of its range "
            f"{spec.low:g} to {spec.high:g}: give it a prior to free it"
        )
    # an end that the prior does not reach is left out, so that the map to the real line stays simple
    low = spec.low if value - _FAR * width < spec.low or spec.low == 0 else None
    high = spec.high if value + _FAR * width > spec.high else None
    if low is None and high is None:
        return dist.Normal(value, width)
    return dist.TruncatedNormal(value, width, low=low, high=high)


class Parameter(eqx.Module):
    """One free leaf: the preset's value, a prior, and a map from an unconstrained number."""

    name: str = eqx.field(static=True)  # as the user called it
    path: str = eqx.field(static=True)
    start: float = eqx.field(static=True)
    unit: str = eqx.field(static=True)
    prior: dist.Distribution
    transform: Transform  # unconstrained -> physical; 0 -> start

    def __init__(self, name: str, path: str, start: float, prior: dist.Distribution, unit: str = ""):
        support: Any = prior.support
        if not bool(support(start)):
            raise ValueError(f"{name} starts at {start}, outside its prior's support {support}")
        self.name, self.path, self.start, self.prior, self.unit = name, path, start, prior, unit
        to_support = biject_to(support)
        centre = to_support.inv(jnp.asarray(start, jnp.float32))
        slope = jnp.exp(to_support.log_abs_det_jacobian(centre, to_support(centre)))
        width = jnp.sqrt(prior.variance) if jnp.isfinite(prior.variance) else jnp.abs(start) + 1.0
        # a prior wider than the bounds' scale would make steps of many e-folds
        scale = jnp.minimum(width / slope, 1.0) if support is not constraints.real else width / slope
        self.transform = ComposeTransform([AffineTransform(centre, scale), to_support])


class FreeParameters(eqx.Module):
    """The free leaves of a detector, in order."""

    parameters: tuple[Parameter, ...]

    @classmethod
    def of(
        cls,
        detector: Detector,
        names: Sequence[str],
        *,
        priors: Mapping[str, dist.Distribution] | None = None,
        relative_width: float = DEFAULT_RELATIVE_WIDTH,
        relative_widths: Mapping[str, float] | None = None,
    ) -> "FreeParameters":
        """Free these leaves, starting from the detector's values.

        Args:
            detector: gives names and starting values.
            names: full names or aliases.
            priors: by name (alias or full name); the others get `default_prior`.
            relative_width: of the default priors.
            relative_widths: the same by name, also of leaves that are not free.

        Raises:
            ValueError: for an unknown, repeated or ambiguous name, an empty list, or a prior for a
                parameter that is not free.
        """
        if not names:
            raise ValueError("no parameter is free: name at least one")
        given = {resolve(detector, name): prior for name, prior in (priors or {}).items()}
        widths = {resolve(detector, name): width for name, width in (relative_widths or {}).items()}
        parameters = []
        for name in names:
            path = resolve(detector, name)
            if any(path == other.path for other in parameters):
                raise ValueError(f"parameter {name!r} is named twice")
            value = float(get_leaf(detector, path))
            prior = given.pop(path, None) or default_prior(
                detector, path, relative_width=widths.get(path, relative_width)
            )
            parameters.append(Parameter(name, path, value, prior, spec_of(detector, path).unit))
        if given:
            raise ValueError(f"prior for {', '.join(given)}, which is not free")
        return cls(tuple(parameters))

    def __iter__(self) -> Iterator[Parameter]:
        """The parameters in order."""
        return iter(self.parameters)

    def __len__(self) -> int:
        """How many are free."""
        return len(self.parameters)

    @property
    def names(self) -> list[str]:
        """As the user called them."""
        return [parameter.name for parameter in self]

    def values(self, vector: Float[Array, "parameter"]) -> Float[Array, "parameter"]:
        """Physical values, each in its leaf's unit. Gradient: exact."""
        return jnp.stack([p.transform(vector[i]) for i, p in enumerate(self)])

    def pack(self, detector: Detector) -> Float[Array, "parameter"]:
        """The unconstrained vector of a detector's values. Gradient: exact."""
        return jnp.stack([p.transform.inv(get_leaf(detector, p.path)) for p in self])

    def unpack(self, vector: Float[Array, "parameter"], detector: Detector) -> Detector:
        """The detector with these values in its free leaves. Gradient: exact."""
        for parameter, value in zip(self, self.values(vector), strict=True):
            detector = set_leaf(detector, parameter.path, value)
        return detector

    def log_prior(self, vector: Float[Array, "parameter"]) -> Float[Array, ""]:
        """Log prior density of the physical values. Gradient: exact."""
        values = self.values(vector)
        return jnp.sum(jnp.stack([jnp.asarray(p.prior.log_prob(values[i])) for i, p in enumerate(self)]))

    def log_jacobian(self, vector: Float[Array, "parameter"]) -> Float[Array, ""]:
        """Log |d physical / d unconstrained|, which makes a density of the vector out of `log_prior`."""
        values = self.values(vector)
        terms = [p.transform.log_abs_det_jacobian(vector[i], values[i]) for i, p in enumerate(self)]
        return jnp.sum(jnp.stack([jnp.asarray(term) for term in terms]))
