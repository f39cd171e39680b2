"""The soft reading's gradients: against its own differences, and against the hard chain under jitter.

On one fixed plan of the records of `soft_records`, in double precision. The second reference is the hard
chain itself, run at shifted thresholds: d/dT of its mean under logistic noise is the sum of its jumps, each
times the density of the noise that makes it. No random numbers are drawn.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soft_records

from dmsim.reconstruction import build_events, find_peaks, soft
from dmsim.reconstruction.event_building import cathode_drift_ns
from dmsim.reconstruction.settings import replaced

# a wide gap temperature would make every hit a peak of its own
WARM = replaced(soft.Temperature().scaled(3.0), gap=1.0, duration_ns=500.0)
N_NODES = 100
FURTHEST = 9.0  # beyond it are 1e-4 of the logistic law
DEPTH = 5  # halvings of a cell with a jump: to 0.003 of the noise's scale on either side

# no decision of the chain depends on them here, or what they decide is held; said in the docs
WITHOUT = {
    "hits.baseline_clip_adc",  # which samples make the baseline
    "clustering.max_duration_ns",  # no group is near it
    "splitting.minimum_height_pe",  # of the other method
    "splitting.minimum_ratio",
    "classification.aft_flat_from",  # a change of formula, not a decision
    "events.trigger_max_proximity",  # earlier S2s are not looked at
    "events.proximity_window_ns",
    "events.proximity_min_area_fraction",
    "events.proximity_width_mm",
    "events.left_extension_ns",  # events by number have no windows
    "events.right_extension_ns",
    "events.ambiguous_fraction",  # alternates are not given
}


class Reading:
    """A plan, and its values and derivatives, compiled once for any settings and temperatures."""

    def __init__(self):
        self.records, self.settings = soft_records.near()
        detector = soft_records.detector()
        self.plan = soft.plan(detector, self.records, settings=self.settings, temperature=WARM)
        data = jnp.asarray(self.records.data, float)
        self.data = data
        places = soft.places_of(self.plan, detector, data, settings=self.settings, temperature=WARM)

        def values(settings, temperature, data):
            p, e = soft.evaluate(
                self.plan, detector, data, settings=settings, temperature=temperature, places=places
            )
            weight = p.probability
            peak = {"area": p.area_pe, "s1": p.s1, "s2": p.s2, "hits": p.n_hits, "sensors": p.n_sensors,
                    "tight": p.tight_coincidence,
                    "median": p.decile_ns[:, 5], "placed": p.position * p.s2}  # fmt: skip
            peak = {k: jnp.sum(weight * jnp.where(jnp.isfinite(v), v, 0.0)) for k, v in peak.items()}
            names = ("s1_pe", "cs2_pe", "energy_kev", "drift_time_ns", "x_mm", "z_mm", "has_pair")
            names += ("n_triggers", "n_peaks")
            peak |= {f"n_peaks of event {k}": e.n_peaks[k] for k in range(4)}
            return peak | {k: jnp.sum(jnp.nan_to_num(getattr(e, k))) for k in names}

        # one program for values and derivatives, at any settings, temperatures and samples
        self.program = jax.jit(
            lambda settings, temperature, data, direction: jax.jvp(
                lambda s, d: values(s, temperature, d), (settings, data), direction
            )
        )
        self.still = jax.tree.map(lambda _: 0.0, self.settings), jnp.zeros_like(data)

    def values(self, settings, temperature, data):
        """Numbers of the soft reading."""
        return self.program(settings, temperature, data, self.still)[0]

    def along(self, settings, temperature, data, direction):
        """Their derivatives along a direction of settings and samples."""
        return self.program(settings, temperature, data, direction)[1]

    def names(self):
        """Of all leaves."""
        paths = jax.tree_util.tree_leaves_with_path(self.settings)
        return [jax.tree_util.keystr(path).lstrip(".") for path, _ in paths]

    def direction(self, *wanted, sizes=None):
        """Step of the named leaves, or of all entries of the named fields; of size 1 if not given."""
        names = self.names()
        marks = [1.0 if n in wanted or n.split("[")[0] in wanted else 0.0 for n in names]
        assert sum(marks) >= len(wanted)
        marks = [
            m * float(z)
            for m, z in zip(marks, sizes if sizes is not None else np.ones(len(names)), strict=True)
        ]
        return jax.tree_util.tree_unflatten(jax.tree.structure(self.settings), marks)

    def disagreements(self, direction, step, *, factor=1.0):
        """Values whose derivative is not that of their differences, and those that the direction moves."""
        ours = self.along(self.settings, WARM, self.data, (direction, self.still[1]))
        up, down = (
            self.values(shifted(self.settings, direction, s * step), WARM, self.data) for s in (1, -1)
        )
        wrong, felt = [], []
        for key, gradient in ours.items():
            value, reference = factor * float(gradient), float(up[key] - down[key]) / (2 * step)
            grain = 1e-12 * max(abs(float(up[key])), 1.0)
            if step * abs(value) > 1e3 * grain:
                felt.append(key)
            if abs(value - reference) > 1e-3 * abs(reference) + 10 * grain / step:
                wrong.append((key, value, reference))
        return wrong, felt


@pytest.fixture(scope="module")
def reading():
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    soft_records.detector.cache_clear()
    soft_records.near.cache_clear()
    yield Reading()
    jax.config.update("jax_enable_x64", before)


def shifted(settings, direction, step):
    return jax.tree.map(lambda x, d: float(x) + step * d if d else float(x), settings, direction)


SECTIONS = (
    "hits",
    "clustering",
    "splitting",
    "coincidence",
    "classification",
    "merging",
    "position",
    "events",
)


@pytest.mark.parametrize("section", SECTIONS)
def test_the_leaves_of_a_section_together_have_the_gradient_of_their_differences(reading, section):
    names, values = reading.names(), jax.tree.leaves(reading.settings)
    random = np.random.default_rng(6)
    sizes = [random.normal() * max(abs(float(value)), 0.1) for value in values]
    mine = [name for name in names if name.split(".")[0] == section]
    direction = reading.direction(*mine, sizes=sizes)
    wrong, felt = reading.disagreements(direction, 1e-5)
    assert not wrong
    assert felt
    twin, _ = reading.disagreements(direction, 1e-5, factor=1.01)
    assert len(twin) == len(felt) or len(twin) > 3  # a gradient one per cent off is seen


@pytest.mark.slow
def test_every_leaf_of_the_settings_has_the_gradient_of_its_differences(reading):
    silent, bad, twins = set(), [], 0
    for name, value in zip(reading.names(), jax.tree.leaves(reading.settings), strict=True):
        direction, step = reading.direction(name), 1e-5 * max(abs(float(value)), 0.1)
        wrong, felt = reading.disagreements(direction, step)
        bad += [(name, *w) for w in wrong]
        twins += len(reading.disagreements(direction, step, factor=1.01)[0])
        if not felt:
            silent.add(name.split("[")[0])
    assert not bad
    assert twins > 50  # a gradient one per cent off is seen
    felt_elsewhere = {
        "splitting.s1_log10_area",
        "splitting.s1_threshold",
        "merging.log10_area",
        "merging.gap_ns",
    }
    assert silent - felt_elsewhere <= WITHOUT


def test_every_sample_has_the_gradient_of_its_differences(reading):
    random = np.random.default_rng(1)
    # samples after those of the baseline, which is rounded to whole counts
    direction = random.normal(size=reading.data.shape) * (np.arange(reading.data.shape[1]) > 45)
    direction *= (random.uniform(size=len(direction)) < 0.05)[:, None]
    ours = reading.along(reading.settings, WARM, reading.data, (reading.still[0], jnp.asarray(direction)))
    up, down = (reading.values(reading.settings, WARM, reading.data + s * 1e-3 * direction) for s in (1, -1))
    for key in ("area", "hits", "median", "s1_pe", "cs2_pe", "drift_time_ns"):
        reference = float(up[key] - down[key]) / 2e-3
        np.testing.assert_allclose(float(ours[key]), reference, rtol=2e-3, atol=1e-7, err_msg=key)
        assert abs(reference) > 0


def hard(settings):
    """Numbers that the hard chain finds at these settings."""
    peaks = find_peaks(soft_records.detector(), soft_records.near()[0], settings=settings)
    return {
        "n_peaks": len(peaks),
        **{f"n_peaks of event {event}": np.sum(peaks.event == event) for event in range(4)},
        "s1": np.sum(peaks.signal == 1),
        "s2": np.sum(peaks.signal == 2),
        "sensors": np.sum(peaks.n_sensors),
        "tight": np.sum(peaks.tight_coincidence),
        "placed": np.sum(np.isfinite(peaks.x_mm)),
    }, peaks


def hard_pairs(settings):
    """The same of the events."""
    numbers, peaks = hard(settings)
    events = build_events(soft_records.detector(), peaks, n_events=4, settings=settings)
    return numbers | {"has_pair": np.sum(np.isfinite(events.drift_time_ns))}


def gap_scales(plan):
    """Temperature of the gaps of each event that has any near one [ns]."""
    b, c = plan.layout.boundaries, plan.layout.candidates
    event = np.full(len(b.is_gap), -1)
    event[c.right] = c.event
    gaps = np.flatnonzero(b.is_gap & (event >= 0))
    return dict(zip(event[gaps].tolist(), b.gap_tau_ns[gaps].tolist(), strict=True))


def under_jitter(settings, direction, metric, which, scale, *, n_nodes):
    """d/dT of the mean of a hard metric under logistic noise on the thresholds along a direction.

    The metric is a count: a jump by J at noise x moves the mean by J times the law's density at x. Jumps are
    looked for between nodes and narrowed down: quantiles of the law would lie far apart in its tail.
    """
    numbers = hard_pairs if metric == "has_pair" else lambda s: hard(s)[0]

    def found(noise):
        step = scale * noise
        if which == "gap":  # gaps no longer than both extensions are refused
            c = settings.clustering
            step = max(step, float(c.left_extension_ns) + float(c.right_extension_ns) + 1 - float(c.gap_ns))
        # nor are thresholds below 0, where the metrics are those at 0
        moved = shifted(settings, direction, step)
        return float(numbers(jax.tree.map(lambda x, d: max(x, 0.0) if d else x, moved, direction))[metric])

    def jumps(low, high, at_low, at_high, depth):
        if at_low == at_high:
            return 0.0
        middle = (low + high) / 2
        if depth == 0:
            return (at_high - at_low) / (2 * np.cosh(middle / 2)) ** 2
        at = found(middle)
        return jumps(low, middle, at_low, at, depth - 1) + jumps(middle, high, at, at_high, depth - 1)

    nodes = np.linspace(-FURTHEST, FURTHEST, n_nodes)
    values = [found(noise) for noise in nodes]
    cells = zip(nodes[:-1], nodes[1:], values[:-1], values[1:], strict=True)
    return sum(jumps(*cell, DEPTH) for cell in cells) / scale


def both_gradients(reading, leaves, metric, which, others, *, n_nodes):
    """Of the soft reading, and of the hard chain at thresholds jittered as much; and the noise's scale.

    Only the decision of interest is warm. The leaves move its margin one to one, or as said below.
    """
    default = soft.Temperature()
    only = replaced(default.scaled(0.0), **{which: getattr(default, which)})
    settings = soft_records.changed(reading.settings, **others)
    direction = reading.direction(*leaves)
    scale = getattr(default, which)
    if which == "drift_ns":  # the bound is a share of the longest drift
        scale /= float(cathode_drift_ns(soft_records.detector()))
    if which != "gap":
        parts = [(metric, scale)]
    else:  # each event has its own scale, which follows its number of hits
        scales = {event: scale * tau_ns for event, tau_ns in gap_scales(reading.plan).items()}
        scale = scales[1]
        one = metric.endswith("event 1")
        parts = [(f"n_peaks of event {e}", tau) for e, tau in scales.items() if e == 1 or not one]
    reference = sum(under_jitter(settings, direction, part, which, at, n_nodes=n_nodes) for part, at in parts)
    ours = float(reading.along(settings, only, reading.data, (direction, reading.still[1]))[metric])
    return ours, reference, scale


# leaf, metric, temperature of its decision, and other settings that make it count
CASES = [
    ("clustering.gap_ns", "n_peaks of event 1", "gap", {"splitting": {"min_area_pe": 1e6}}),
    ("classification.s1_max_rise_ns", "s1", "rise_ns", {}),
    ("classification.s1_small_area_pe", "s1", "area_pe", {"classification": {"s1_max_rise_ns": 1.0}}),
    ("position.min_area_pe", "placed", "position_pe", {"position": {"min_area_pe": 17.0}}),
]


@pytest.mark.parametrize(("leaf", "metric", "which", "others"), CASES)
def test_the_gradient_is_that_of_the_hard_chain_under_jitter(reading, leaf, metric, which, others):
    ours, reference, scale = both_gradients(reading, (leaf,), metric, which, others, n_nodes=N_NODES)
    assert abs(reference) * scale > 0.01
    assert abs(ours - reference) <= 0.02 * abs(reference)
    # twin: a gradient five per cent off
    assert abs(1.05 * ours - reference) > 0.02 * abs(reference)


LEVELS = ("splitting.s1_threshold", "splitting.s2_threshold")
BARE = {"left_extension_ns": 0.0, "right_extension_ns": 0.0}
APART = {"merging": {"max_duration_ns": 0.0}}
# two events have many short gaps, 6 tau and more from the threshold, where extensions would stop the gap
TAIL = (("clustering.gap_ns",), "n_peaks", "gap", {"splitting": {"min_area_pe": 1e6}, "clustering": BARE})
# the same of every section; the leaves of a curve move together
MORE = [
    (LEVELS, "n_peaks", "goodness", APART),
    # both edges of the window follow one noise
    (("coincidence.left_ns", "coincidence.right_ns"), "tight", "coincidence_ns", {}),
    (("classification.s2_min_area_pe",), "s2", "area_pe", {"classification": {"s2_min_area_pe": 26.0}}),
    (("merging.gap_ns",), "n_peaks", "merge_gap_ns", {}),
    (("merging.max_duration_ns",), "n_peaks", "duration_ns", {}),
    (("events.max_drift_excess",), "has_pair", "drift_ns", {}),
]


@pytest.mark.slow
def test_table_of_gradients_beside_those_of_the_hard_chain(reading):
    rows, wrong = [], []
    for leaves, *what in [*(((leaf,), *rest) for leaf, *rest in CASES), *MORE]:
        ours, reference, scale = both_gradients(reading, leaves, *what, n_nodes=200)
        differ = 100 * (ours / reference - 1)
        rows.append(
            f"| {leaves[0]} | {what[0]} | {ours * scale:.4f} | {reference * scale:.4f} | {differ:.1f} |"
        )
        if not (abs(reference) * scale > 0.01 and abs(differ) <= 2.0):
            wrong.append(rows[-1])
    print("\n".join(["| setting | of | soft | hard | differ [%] |", "|---|---|---|---|---|", *rows]))
    assert not wrong


@pytest.mark.slow
@pytest.mark.xfail(
    strict=True, reason="far in the tail, one noise opens all gaps at once, and not each its own"
)
def test_many_gaps_far_in_the_tail(reading):
    """2.2 %: six of an event's pieces at once, and readings of less than 1e-3 are left out."""
    leaves, *what = TAIL
    ours, reference, _ = both_gradients(reading, leaves, *what, n_nodes=200)
    assert abs(ours - reference) <= 0.02 * abs(reference)
