"""Which thresholds of the reconstruction are tuned, and the way between them and a vector of steps."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float

from dmsim.reconstruction.settings import Settings, settings_from

_ROOM_NS = 10.0  # of a gap over both extensions
_APART = 0.02  # knots of log10(area) stay so far apart


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One number of the settings, or all of a tuple.

    Attributes:
        name: `section.field`.
        step: what 1 in the vector is worth: of the natural logarithm if `log`, else in the leaf's unit; > 0.
        log: whether it moves in its logarithm, as positive thresholds should.
        reach: largest distance from where it starts, in steps, > 0.
    """

    name: str
    step: float = 0.2
    log: bool = True
    reach: float = 8.0


# steps: assumed, a change that moves some per cent of the decisions. Not among them: hit thresholds, which
# follow from the noise, and settings of events
CLUSTERING = (
    Leaf("clustering.gap_ns"),
    Leaf("clustering.left_extension_ns"),
    Leaf("clustering.right_extension_ns"),
)
SPLITTING = (
    Leaf("splitting.min_area_pe"),
    Leaf("splitting.filter_wing_ns"),
    Leaf("splitting.s1_threshold", step=0.03, log=False),
    Leaf("splitting.s2_threshold", step=0.03, log=False),
    Leaf("splitting.s2_log10_area", step=0.1, log=False),
    Leaf("splitting.rise_ns"),
)
CLASSIFICATION = (
    Leaf("coincidence.left_ns"),
    Leaf("coincidence.right_ns"),
    Leaf("classification.s1_small_area_pe"),
    Leaf("classification.s1_max_rise_ns", step=0.1),
    Leaf("classification.rise_norm_ns", step=0.1),
    Leaf("classification.rise_constant_ns", step=0.1),
    Leaf("classification.rise_tau_pe"),
    Leaf("classification.aft_slope", step=0.1, log=False),
    Leaf("classification.aft_offset", step=0.05, log=False),
    Leaf("classification.aft_flat_rise_ns", step=0.1),
    Leaf("classification.s2_min_area_pe"),
    Leaf("classification.s2_min_area_fraction_top", step=0.05, log=False),
    Leaf("classification.s2_small_area_pe"),
)
MERGING = (
    Leaf("merging.max_duration_ns", step=0.1),
    Leaf("merging.log10_area", step=0.05, log=False),
    Leaf("merging.gap_ns"),
)
LEAVES = CLUSTERING + SPLITTING + CLASSIFICATION + MERGING


@dataclasses.dataclass(frozen=True)
class Parameters:
    """A vector whose 0 are the given settings."""

    given: Settings
    names: tuple[str, ...]  # `section.field`, with [i] for knots
    origin: Float[np.ndarray, "parameter"]
    step: Float[np.ndarray, "parameter"]
    is_log: np.ndarray
    reach: Float[np.ndarray, "parameter"]
    low: Float[np.ndarray, "parameter"]  # ranges of the settings
    high: Float[np.ndarray, "parameter"]
    places: tuple[int, ...]  # among the leaves of the settings

    def __len__(self) -> int:
        """Number of parameters."""
        return len(self.names)

    def values(self, vector: Float[np.ndarray, "parameter"]) -> Float[np.ndarray, "parameter"]:
        """Thresholds."""
        moved = self.step * np.asarray(vector, float)
        return np.where(
            self.is_log, self.origin * np.exp(np.where(self.is_log, moved, 0.0)), self.origin + moved
        )

    def settings(self, vector: Float[np.ndarray, "parameter"]) -> Settings:
        """Settings with exactly these thresholds, not checked: for the soft reading."""
        values = self.values(vector).tolist()
        leaves, tree = jax.tree.flatten(self.given)
        for i, place in enumerate(self.places):
            leaves[place] = values[i]
        return jax.tree.unflatten(tree, leaves)

    def slope(
        self, vector: Float[np.ndarray, "parameter"], of_settings: Settings
    ) -> Float[np.ndarray, "parameter"]:
        """Derivative in the vector from the derivative in every number of the settings."""
        # by name: settings that were resolved with a detector have leaves that the given ones leave to it
        found = {_name(path): float(x) for path, x in jax.tree_util.tree_leaves_with_path(of_settings)}
        of_values = np.array([found[name] for name in self.names])
        return of_values * self.step * np.where(self.is_log, self.values(vector), 1.0)

    def frozen(self, vector: Float[np.ndarray, "parameter"]) -> Settings:
        """Settings of plain numbers, checked like any.

        Raises:
            ValueError: if a value is out of range: `project` the vector first.
        """
        values = self.values(vector)
        leaves, tree = jax.tree.flatten(self.given)
        for i, place in enumerate(self.places):
            # six digits say all that was found out
            leaves[place] = float(f"{values[i]:.6g}")
        return settings_from(jax.tree.unflatten(tree, leaves).as_dict())

    def project(self, vector: Float[np.ndarray, "parameter"]) -> Float[np.ndarray, "parameter"]:
        """The nearest vector in reach, in range, with ascending knots and a gap over both extensions."""
        vector = np.clip(np.asarray(vector, float), -self.reach, self.reach)
        values = np.clip(self.values(vector), self.low, self.high)
        row = {name: i for i, name in enumerate(self.names)}
        for name, i in row.items():
            if "log10_area[" in name and not name.endswith("[0]"):
                values[i] = max(values[i], values[i - 1] + _APART)
        gap, left, right = (
            row.get(f"clustering.{n}_ns") for n in ("gap", "left_extension", "right_extension")
        )
        given = self.given.clustering
        sides = [
            float(of) if i is None else values[i]
            for i, of in ((left, given.left_extension_ns), (right, given.right_extension_ns))
        ]
        if gap is not None:
            values[gap] = max(values[gap], sum(sides) + _ROOM_NS)
        else:
            most = float(given.gap_ns) - _ROOM_NS
            for i in (left, right):
                if i is not None and sum(sides) > most:
                    values[i] *= most / sum(sides)
        return self.of_values(values)

    def of_values(self, values: Float[np.ndarray, "parameter"]) -> Float[np.ndarray, "parameter"]:
        """The vector of these thresholds."""
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.log(np.where(self.is_log, values / np.where(self.is_log, self.origin, 1.0), 1.0))
        return np.where(self.is_log, ratio, values - self.origin) / self.step


def parameters_of(given: Settings, leaves: Sequence[Leaf] = LEAVES) -> Parameters:
    """The vector of these leaves.

    Args:
        given: where it starts.
        leaves: what is tuned.

    Raises:
        ValueError: if a leaf is no float of the settings, is named twice, or moves in its logarithm and is
            not positive.
    """
    paths = [jax.tree_util.keystr(path).lstrip(".") for path, _ in jax.tree_util.tree_leaves_with_path(given)]
    numbers = [float(x) for x in jax.tree.leaves(given)]
    rows: list[tuple[str, int, Leaf]] = []
    for leaf in leaves:
        found = [i for i, path in enumerate(paths) if path.split("[")[0] == leaf.name]
        if not found:
            known = sorted({path.split("[")[0] for path in paths})
            raise ValueError(
                f"{leaf.name!r} is no number of the settings that can be tuned: {', '.join(known)}"
            )
        rows += [(paths[i], i, leaf) for i in found]
    if len({place for _, place, _ in rows}) < len(rows):
        raise ValueError("a threshold is to be tuned twice: name each once")
    for name, place, leaf in rows:
        if leaf.log and not numbers[place] > 0:
            raise ValueError(f"{name} is {numbers[place]}: must be above 0 to move in its logarithm")
        if not (leaf.step > 0 and leaf.reach > 0):
            raise ValueError(f"step {leaf.step} and reach {leaf.reach} of {name} must be above 0")
    ranges = [_range(given, leaf.name) for _, _, leaf in rows]
    low, high = np.array(ranges, float).reshape(-1, 2).T
    return Parameters(
        given=given,
        names=tuple(name for name, _, _ in rows),
        origin=np.array([numbers[place] for _, place, _ in rows]),
        step=np.array([leaf.step for _, _, leaf in rows]),
        is_log=np.array([leaf.log for _, _, leaf in rows]),
        reach=np.array([leaf.reach for _, _, leaf in rows]),
        low=low,
        high=high,
        places=tuple(place for _, place, _ in rows),
    )


def _name(path: tuple) -> str:
    """`section.field`, with [i] for knots."""
    return jax.tree_util.keystr(path).lstrip(".")


def _range(given: Settings, name: str) -> tuple[float, float]:
    section, field = name.split(".")
    metadata = {f.name: f.metadata for f in dataclasses.fields(getattr(given, section))}[field]
    return metadata["low"], metadata["high"]
