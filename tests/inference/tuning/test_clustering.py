"""Tuning of the reconstruction's thresholds, on records by hand."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest
from clustering_truth import batch

import dmsim
from dmsim.reconstruction import find_peaks, load_settings, soft
from dmsim.reconstruction.settings import Settings, replaced
from inference.tuning.clustering import Descent, divided, tune_clustering
from inference.tuning.clustering_events import Groups, apart, near, together
from inference.tuning.clustering_loss import SCOPE
from inference.tuning.clustering_parameters import Leaf, parameters_of
from inference.tuning.clustering_result import Options, write_settings
from inference.tuning.clustering_samples import Planner, added, hard_errors

pytestmark = pytest.mark.quick_compile
LEAVES = (
    Leaf("clustering.gap_ns"),
    Leaf("splitting.s2_threshold", step=0.03, log=False),
    Leaf("classification.s1_max_rise_ns", step=0.1),
    Leaf("merging.log10_area", step=0.05, log=False),
    Leaf("merging.gap_ns"),
)


def changed(**sections):
    """The defaults with other values: section={name: value}."""
    new = {name: replaced(getattr(Settings(), name), **values) for name, values in sections.items()}
    return replaced(Settings(), **new)


# pieces of small S2s stay apart
APART = changed(merging={"gap_ns": (300.0, 250.0, 200.0, 150.0, 100.0)})
# those of two S2s are joined
JOINED = changed(merging={"gap_ns": (1800.0, 1500.0, 1200.0, 900.0, 600.0)})
NARROW = changed(clustering={"gap_ns": 300.0}, splitting={"s2_threshold": (0.8, 0.3)})


class Case:
    """A batch, compiled once."""

    def __init__(self):
        self.detector = dmsim.load_detector("xenonnt")
        self.batches = [batch(self.detector, seed) for seed in (1, 2)]
        self.parameters = parameters_of(Settings(), LEAVES)
        self.descent = Descent(self.detector, self.parameters, SCOPE)
        self.planner = Planner(self.detector)

    def both(self, vector, temperature):
        """Expected errors and slope, and hard errors."""
        frozen = self.parameters.frozen(vector)
        hard = added(hard_errors(self.detector, self.batches, frozen))
        plans = self.planner(self.batches, frozen, soft.Temperature().scaled(temperature))
        exact = self.parameters.of_values(self.numbers(frozen))
        return *self.descent(plans, exact, hard), hard

    def numbers(self, settings):
        """Values of the parameters in these settings."""
        leaves = jax.tree.leaves(settings)
        return np.array([float(leaves[place]) for place in self.parameters.places])

    def vector(self, settings):
        return self.parameters.of_values(self.numbers(settings))


@pytest.fixture(scope="module")
def case():
    return Case()


@pytest.mark.parametrize("settings", [Settings(), APART, NARROW], ids=["defaults", "apart", "narrow"])
def test_expected_errors_at_temperature_zero_are_those_counted(case, settings):
    expected, _, hard = case.both(case.vector(settings), 0.0)
    for name, one, other in zip(hard._fields, expected, hard, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=2e-3, err_msg=name)
    if settings is not Settings():
        assert hard.per_signal > 0


def test_the_slope_is_that_of_the_differences(case):
    vector = case.vector(APART) + 0.05
    frozen = case.parameters.frozen(vector)
    vector = case.parameters.of_values(case.numbers(frozen))
    plans = case.planner(case.batches, frozen, soft.Temperature().scaled(1.0))
    near, _ = case.descent(plans, vector, added(hard_errors(case.detector, case.batches, frozen)))
    _, slope = case.descent(plans, vector, near)
    random = np.random.default_rng(2)
    direction = random.normal(size=vector.size)
    step = 0.02  # float32
    up, down = (case.descent(plans, vector + s * step * direction, near)[0].loss() for s in (1, -1))
    reference = float(up - down) / (2 * step)
    assert abs(reference) > 1e-3
    assert abs(slope @ direction / reference - 1) < 0.03
    # twin: a slope ten per cent off
    assert abs(1.1 * slope @ direction / reference - 1) > 0.03


def test_thresholds_that_join_two_s2s_are_tuned_away(case, tmp_path):
    batches = [*case.batches, batch(case.detector, 3)]
    options = Options(n_steps=4, steps_per_plan=2, learning_rate=1.5, temperature=(1.0, 0.5))
    looks = []
    tuned = tune_clustering(
        jax.random.key(1), case.detector, JOINED, {"by hand": batches},
        leaves=(Leaf("merging.gap_ns"),), options=options, on_look=looks.append,
    )  # fmt: skip
    assert tuned.improved
    assert tuned.validation.loss() < tuned.validation_given.loss()
    assert len(looks) == 3
    assert tuned.n_gradients >= 4
    tuned.as_dict()
    path = tmp_path / "settings.toml"
    tuned.write(path)
    read = load_settings(path)
    assert read.as_dict() == tuned.settings.as_dict()
    records = batches[0].records
    one, other = (find_peaks(case.detector, records, settings=s) for s in (read, tuned.settings))
    assert np.array_equal(one.time_ns, other.time_ns)
    assert np.array_equal(one.signal, other.signal)
    # twin: other settings find other peaks
    fewer = [len(find_peaks(case.detector, b.records, settings=JOINED)) for b in batches]
    assert sum(fewer) < sum(len(find_peaks(case.detector, b.records, settings=read)) for b in batches)


def test_given_settings_come_back_where_nothing_is_better(case):
    options = Options(n_steps=1, steps_per_plan=1)
    batches = [batch(case.detector, 1), batch(case.detector, 1)]  # nothing is wrong with it
    tuned = tune_clustering(
        jax.random.key(1), case.detector, APART, {"by hand": batches},
        leaves=(Leaf("classification.s2_min_area_pe"),), options=options,
    )  # fmt: skip
    assert tuned.validation.per_signal == 0
    assert not tuned.improved
    assert tuned.settings.as_dict() == APART.as_dict()
    assert "handed back" in tuned.message


def test_vectors_become_settings_in_range():
    parameters = parameters_of(Settings())
    assert parameters.frozen(np.zeros(len(parameters))).as_dict() == Settings().as_dict()
    random = np.random.default_rng(1)
    for _ in range(30):
        vector = parameters.project(20 * random.normal(size=len(parameters)))
        settings = parameters.frozen(vector)
        values = dict(zip(parameters.names, parameters.values(vector), strict=True))
        assert settings.clustering.gap_ns == pytest.approx(values["clustering.gap_ns"], rel=1e-5)
        knots = settings.merging.log10_area
        assert all(b > a for a, b in itertools.pairwise(knots))
        np.testing.assert_allclose(
            parameters.project(vector), vector, atol=1e-6
        )  # a second time changes nothing


@pytest.mark.parametrize(
    ("leaves", "said"),
    [
        ((Leaf("clustering.gap"),), "no number of the settings"),
        ((Leaf("clustering.min_sensors"),), "no number of the settings"),
        ((Leaf("clustering.gap_ns"), Leaf("clustering.gap_ns")), "twice"),
        ((Leaf("classification.aft_slope"),), "above 0"),
        ((Leaf("clustering.gap_ns", step=0.0),), "above 0"),
    ],
)
def test_bad_leaves_are_named(leaves, said):
    with pytest.raises(ValueError, match=said):
        parameters_of(Settings(), leaves)


@pytest.mark.parametrize(
    "options",
    [
        {"n_steps": 0},
        {"temperature": (0.1, 0.5)},
        {"learning_rate": 0.0},
        {"to_given": -1.0},
        {"validation": 1.0},
    ],
)
def test_bad_options_are_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Options(**options)


def test_a_sample_of_one_batch_cannot_be_divided():
    with pytest.raises(ValueError, match="two or more"):
        divided(jax.random.key(0), {"er": [None]}, 0.5)  # type: ignore[list-item]


def test_settings_with_other_switches_are_written_and_read(tmp_path):
    settings = dataclasses.replace(
        changed(splitting={"method": "none"}, saturation={"correct": False}, merging={"max_duration_ns": 0.0})
    )
    write_settings(settings, tmp_path / "s.toml", tuned={"splitting.rise_ns"})
    assert load_settings(tmp_path / "s.toml").as_dict() == settings.as_dict()
    assert "# tuned" in (tmp_path / "s.toml").read_text()


def test_events_apart_and_together_have_the_same_errors(case):
    settings, whole = case.parameters.frozen(case.vector(NARROW)), case.batches
    events = [event for b in whole for event in apart(b, SCOPE)]
    assert [event.records.n_events for event in events] == [1] * 8
    joined = together(events, SCOPE)
    for one, other, parts in zip(
        added(hard_errors(case.detector, whole, settings)),
        added(hard_errors(case.detector, [joined], settings)),
        added(hard_errors(case.detector, events, settings)),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, rtol=1e-5)
        np.testing.assert_allclose(one, parts, rtol=1e-5)
    chosen, _ = near(case.detector, case.parameters, Groups(events, SCOPE), reach=0.1)
    assert 0 < chosen.sum() < 8
