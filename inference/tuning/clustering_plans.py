"""Plans of the soft reading in arrays of one size: batches and later plans share one compiled program."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dmsim.reconstruction import soft

_FAR = 1 << 20  # samples: beyond every candidate
# what padding holds, where that is not zero
_FILL: dict[str, dict[str, Any]] = {
    "heads": {"row": -1},
    "overlaps": {"position": _FAR},
    "members": {"time_ns": -1e9},
    "candidates": {"event": -1},
    "boundaries": {"node": -1, "mother": -1, "gap_ns": 1.0, "merge": -1},
}
_ROWS = ("heads", "hits", "starts", "ends", "overlaps", "members", "candidates", "boundaries", "nodes")
Sizes = dict[str, int]
# few events are all of one size
_LEAST = dict.fromkeys(("heads", "hits", "overlaps", "members"), 16384) | {
    "starts": 512, "ends": 512, "candidates": 512, "boundaries": 512, "nodes": 16, "inner": 16,
    "excluded": 16, "n_samples": 4096, "slots": 2, "n_levels": 2, "records": 4096,
}  # fmt: skip


def sizes_of(plans: Sequence[soft.Plan], least: Sizes) -> Sizes:
    """Powers of two that hold all of the plans, and no less than before."""
    out = _LEAST | least
    for plan in plans:
        layout = plan.layout
        rows = {name: len(getattr(layout, name)[-1]) for name in _ROWS}
        rows |= {"inner": layout.candidates.inner.shape[1], "excluded": layout.candidates.excluded.shape[1]}
        rows |= {"n_samples": plan.static.n_samples, "slots": layout.slots.up.shape[1]}
        for name, n in rows.items():
            out[name] = max(out[name], 1 << max(n - 1, 0).bit_length())
        out["n_levels"] = max(out["n_levels"], plan.static.n_levels)
    return out


def resized(plan: soft.Plan, sizes: Sizes) -> soft.Plan:
    """The plan in arrays of these sizes, without what only events need."""
    layout = plan.layout
    new = {name: _longer(getattr(layout, name), sizes[name], _FILL.get(name, {})) for name in _ROWS}
    certain, last = len(layout.boundaries.gap_ns) - 1, sizes["boundaries"] - 1
    c = new["candidates"]
    inner = _wider(c.inner, sizes["inner"], certain)
    excluded = _wider(c.excluded, sizes["excluded"], 0)
    n = len(layout.candidates.event)
    left, right, inner = (_moved(x, n, certain, last) for x in (c.left, c.right, inner))
    # trees of splits: those of no candidate or boundary come to none
    size, width = sizes["candidates"], layout.slots.up.shape[1]
    slots = layout.slots._replace(
        boundary=_moved(_wider(layout.slots.boundary, sizes["slots"], certain), n, certain, last),
        up=_moved(_wider(layout.slots.up, sizes["slots"], width), n, width, sizes["slots"]),
        inside=_wider(layout.slots.inside, sizes["slots"], 0),
        end=_wider(layout.slots.end, sizes["slots"], 0),
    )
    slots = _longer(slots, size, {"boundary": last, "up": sizes["slots"]})
    new["candidates"] = c._replace(left=left, right=right, inner=inner, excluded=excluded)
    channel = np.zeros(sizes["hits"], layout.hit_channel.dtype)
    channel[: len(layout.hit_channel)] = layout.hit_channel
    wave, area = layout.held_wave_pe, layout.held_area_pe
    if wave.size > 1:
        wave = _wider(wave, sizes["n_samples"], 0)
        wave, area = (
            np.concatenate([x, np.zeros((sizes["candidates"] - n, x.shape[1]))]) for x in (wave, area)
        )
    layout = layout._replace(
        **new, slots=slots, hit_channel=channel, held_wave_pe=wave, held_area_pe=area, events=None
    )  # type: ignore[arg-type]
    static = plan.static._replace(
        n_samples=sizes["n_samples"], n_levels=sizes["n_levels"], n_events=0, n_atoms=0
    )
    return soft.Plan(layout, plan.time_ns, plan.length_ns, plan.event, 0, static)


def _longer(table: Any, size: int, fill: dict[str, Any]) -> Any:
    """A table with rows added."""
    columns = {}
    for name, column in table._asdict().items():
        if column is None:
            columns[name] = None
            continue
        rest = np.full((size - len(column), *column.shape[1:]), fill.get(name, 0), column.dtype)
        columns[name] = np.concatenate([column, rest])
    return type(table)(**columns)


def _wider(column: np.ndarray, size: int, fill: int) -> np.ndarray:
    """A column of rows of numbers with numbers added to each row."""
    rest = np.full((len(column), size - column.shape[1], *column.shape[2:]), fill, column.dtype)
    return np.concatenate([column, rest], axis=1)


def _moved(column: np.ndarray, n: int, old: int, new: int) -> np.ndarray:
    """The certain boundary is always the last one; also in added rows."""
    out = np.where(column == old, new, column)
    out[n:] = new
    return out
