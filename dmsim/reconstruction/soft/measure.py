"""Everything that is measured of a possible peak, in JAX."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dmsim import relax
from dmsim.reconstruction.settings import Settings
from dmsim.reconstruction.soft import decisions
from dmsim.reconstruction.soft.layout import Heads, Layout, Places, Static
from dmsim.reconstruction.soft.temperature import Temperature
from dmsim.reconstruction.tables import ADC_PER_COUNT

_NEAR = 2  # samples on either side of a crossing that noise may make the first, or the last

_WINDOW = jax.lax.ScatterDimensionNumbers(
    update_window_dims=(1,), inserted_window_dims=(0,), scatter_dims_to_operand_dims=(0, 1)
)


class Baselines(NamedTuple):
    """Of each head, then one for pulses that lack theirs."""

    shift_adc: Float[Array, "head"]  # minus the nominal baseline
    rms_adc: Float[Array, "head"]


class Measured(NamedTuple):
    """Of each candidate. Times count from its hard start."""

    area_per_channel_pe: Float[Array, "peak sensor"]
    wave_pe: Float[Array, "peak sample"]
    twentieth_ns: Float[Array, "peak 21"]  # when 0, 5, .. 100 % of the area have come
    center_ns: Float[Array, "peak"]
    maximum_ns: Float[Array, "peak"]
    n_hits: Float[Array, "peak"]
    sees: Float[Array, "peak sensor"]
    sees_at_once: Float[Array, "peak sensor"]
    chance: decisions.ClassChances  # before merging

    @property
    def area_pe(self) -> Float[Array, "peak"]:
        """Sum over sensors."""
        return jnp.sum(self.area_per_channel_pe, axis=1)

    @property
    def rise_ns(self) -> Float[Array, "peak"]:
        """From 10 to 50 % of the area."""
        return self.twentieth_ns[:, 10] - self.twentieth_ns[:, 2]


def baselines(data: Float[Array, "record sample"], heads: Heads, nominal: int) -> Baselines:
    """Mean of the member samples, in whole counts of the hard reading. Gradient: straight through those."""
    n = jnp.maximum(jnp.sum(heads.member, axis=1), 1)
    first = data[:, : heads.member.shape[1]][heads.row] - nominal  # differences first: float32 keeps digits
    shift = jnp.sum(jnp.where(heads.member, first, 0.0), axis=1) / n
    variance = jnp.sum(jnp.where(heads.member, (first - shift[:, None]) ** 2, 0.0), axis=1) / n
    rounded = jnp.floor(shift / ADC_PER_COUNT + 0.5) * ADC_PER_COUNT
    return Baselines(shift + relax.stop(rounded - shift), relax.safe_sqrt(variance))


def _depth(data, base: Baselines, at: Places, nominal: int, *, move: int = 0) -> Array:
    """Depth below the baseline of a sample near each place; far above it outside of the record."""
    sample = at.sample + move
    inside = (sample >= 0) & (sample < data.shape[1])
    value = data[at.row, jnp.clip(sample, 0, data.shape[1] - 1)]
    return jnp.where(inside, base.shift_adc[at.head] + (nominal - value), -1e6)


def _over(settings: Settings, t: Temperature, data, base: Baselines, at: Places, nominal: int, move: int):
    return decisions.present(
        settings.hits, t, _depth(data, base, at, nominal, move=move), base.rms_adc[at.head]
    )


def crossing_shift(settings, t, data, base: Baselines, at: Places, nominal: int, *, outward: int) -> Array:
    """Expected move of a hit's first (outward -1) or last (+1) sample under noise on the threshold [samples].

    The samples on the way out are over threshold or not, each with its probability: with the outer ones over
    it the edge moves out, with the inner ones under it, in. Gradient: jitter.
    """
    out, chain = jnp.zeros(()), 1.0
    for k in range(1, _NEAR + 1):
        chain = chain * _over(settings, t, data, base, at, nominal, outward * k)
        out = out + chain
    inward, chain = jnp.zeros(()), 1.0
    for k in range(_NEAR):
        chain = chain * (1 - _over(settings, t, data, base, at, nominal, -outward * k))
        inward = inward + chain
    return out - inward


def _coverage(settings: Settings, t: Temperature, layout: Layout, static: Static, first, last) -> Array:
    """Probability that each sample lies in each candidate."""
    c, dt = layout.candidates, static.dt
    sample = jnp.arange(static.n_samples)
    start = sample * dt
    # the sample k before the first hit is in if the extension, rounded up to samples, reaches it
    before = settings.clustering.left_extension_ns - ((c.first_ns + dt * first)[:, None] - dt - start)
    after = settings.clustering.right_extension_ns - (start - (c.last_ns + dt * last)[:, None])
    left = jnp.where(c.left_soft[:, None], relax.decide(before, t.edge_ns), 1.0)
    right = jnp.where(c.right_soft[:, None], relax.decide(after, t.edge_ns), 1.0)
    row = jnp.arange(c.event.shape[0])[:, None]
    marks = jnp.zeros((c.event.shape[0], static.n_samples + 1))
    marks = marks.at[row, c.excluded[..., 0]].add(1.0).at[row, c.excluded[..., 1]].add(-1.0)
    kept = 1 - jnp.cumsum(marks, axis=1)[:, :-1]
    return jnp.where(sample < c.n_samples[:, None], left * right * kept, 0.0)


def _integrate(data, base: Baselines, layout: Layout, static: Static, coverage) -> tuple[Array, Array]:
    """Areas by sensor and waveforms [PE]."""
    o, width = layout.overlaps, data.shape[1]
    n_cand = coverage.shape[0]
    sample = jnp.arange(width)
    # a candidate's samples, with a record's length of nothing on either side
    padded = jnp.pad(coverage, ((0, 0), (width, width)))
    at = jnp.clip(o.position + width, 0, padded.shape[1] - width)
    share = jax.vmap(lambda c, p: jax.lax.dynamic_slice(padded, (c, p), (1, width))[0])(o.candidate, at)
    adc = base.shift_adc[o.head][:, None] + (static.baseline_adc - data[o.row])
    inside = (sample >= o.begin[:, None]) & (sample < o.end[:, None])
    value = jnp.where(inside, adc * share, 0.0) * layout.pe_per_count[o.channel][:, None]
    cell = o.candidate * static.n_sensors + o.channel
    area = jax.ops.segment_sum(jnp.sum(value, axis=1), cell, num_segments=n_cand * static.n_sensors)
    wave = jax.lax.scatter_add(
        jnp.zeros_like(padded), jnp.stack([o.candidate, at], axis=1), value, _WINDOW,
        mode=jax.lax.GatherScatterMode.FILL_OR_DROP,
    )  # fmt: skip
    return area.reshape(n_cand, static.n_sensors), wave[:, width : width + static.n_samples]


def _times(wave, static: Static) -> tuple[Array, Array, Array]:
    """Twentieths, centre and maximum [ns] from the first sample; as the hard reading defines them."""
    dt = static.dt
    running = jnp.cumsum(wave, axis=1)
    total = running[:, -1]
    reached = jax.lax.cummax(relax.stop(running), axis=1)
    share = jnp.arange(21) / 20
    level = share * total[:, None]
    index = jax.vmap(jnp.searchsorted)(reached, relax.stop(level))
    start = jax.vmap(lambda r: jnp.searchsorted(r, 0.0, side="right"))(reached)
    index = jnp.minimum(index.at[:, 0].set(start), wave.shape[1] - 1)
    step = jnp.take_along_axis(wave, index, axis=1)
    before = jnp.take_along_axis(running, index, axis=1) - step
    some = (total > 0)[:, None] & (step > 0)
    inside = jnp.where(some, (level - before) / jnp.where(some, step, 1.0), 0.0)
    positive = total > 0
    time = jnp.where(positive[:, None], (index + jnp.clip(inside, 0.0, 1.0)) * dt, jnp.nan)
    middle = (jnp.arange(wave.shape[1]) + 0.5) * dt
    center = jnp.where(positive, wave @ middle / jnp.where(positive, total, 1.0), jnp.nan)
    return time, center, jnp.argmax(wave, axis=1) * float(dt)


def measure(
    data: Float[Array, "record sample"], settings: Settings, t: Temperature, layout: Layout, static: Static
) -> tuple[Measured, Baselines, Array, Array]:
    """Measure every candidate; also the moves of the hits' edges."""
    nominal, c = static.baseline_adc, layout.candidates
    base = baselines(data, layout.heads, nominal)
    missing = Baselines(jnp.zeros(1, data.dtype), jnp.zeros(1, data.dtype))
    # padding rows and the pulses without a first fragment have row -1, that is the nominal baseline
    there = layout.heads.row >= 0
    base = Baselines(*(jnp.where(there, b, m) for b, m in zip(base, missing, strict=True)))
    starts = crossing_shift(settings, t, data, base, layout.starts, nominal, outward=-1)
    ends = crossing_shift(settings, t, data, base, layout.ends, nominal, outward=1)
    # a start that moves out comes earlier
    coverage = _coverage(settings, t, layout, static, -starts[c.first_place], ends[c.last_place])
    area, wave = _integrate(data, base, layout, static, coverage.astype(data.dtype))
    area, wave = area + layout.held_area_pe, wave + layout.held_wave_pe
    twentieth, center, maximum = _times(wave, static)

    over = decisions.present(
        settings.hits, t, _depth(data, base, layout.hits, nominal), base.rms_adc[layout.hits.head]
    )
    m = layout.members
    chance = over[m.hit]
    late = m.time_ns - maximum[m.candidate]
    cell = m.candidate * static.n_sensors + layout.hit_channel[m.hit]
    n_cand, n_cells = c.event.shape[0], c.event.shape[0] * static.n_sensors
    sees = decisions.any_of(chance * m.inside, cell, n_cells).reshape(n_cand, -1)
    near = decisions.near_maximum(settings.coincidence, t, late)
    at_once = decisions.any_within(chance, near, cell, n_cells).reshape(n_cand, -1)
    lone = jax.ops.segment_sum(chance * m.inside * m.alone, cell, num_segments=n_cells)
    area = area + static.lost_pe * lone.reshape(n_cand, -1)
    n_hits = jax.ops.segment_sum(chance * m.inside, m.candidate, num_segments=n_cand)
    total = jnp.sum(area, axis=1)
    some = total != 0
    top = jnp.sum(area[:, : static.n_top], axis=1)
    classes = decisions.classes(
        settings.classification,
        t,
        area_pe=total,
        area_fraction_top=jnp.where(some, top / jnp.where(some, total, 1.0), jnp.nan),
        rise_time_ns=twentieth[:, 10] - twentieth[:, 2],
        sees=sees,
        sees_at_once=at_once,
    )
    early = c.pad * float(static.dt)
    measured = Measured(
        area,
        wave,
        twentieth - early[:, None],
        center - early,
        maximum - early,
        n_hits,
        sees,
        at_once,
        classes,
    )
    return measured, base, starts, ends
