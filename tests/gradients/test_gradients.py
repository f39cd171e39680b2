"""Every float leaf of the detector at quanta and areas; the leaves that matter at hits and records.

False positives: 4.9 standard errors are 1e-6 a comparison, and about 3,000 are made: 3e-3 x 1e-1, since most
functionals of a leaf move together or not at all; seeds are fixed.
"""

import harness
import levels
import pytest


def failures(plan):
    detector = plan.detector()
    per_event = plan.functionals(detector, plan.n_events)
    wrong, resolved = [], set()
    for leaf in plan.leaves or harness.leaf_paths(detector):
        for c in harness.compare(per_event, detector, leaf, step=plan.step, largest_shift=plan.largest_shift):
            resolved |= {leaf} if c.resolved else set()
            if plan.asserted(c) and not c.within(plan.budget):
                wrong.append(c)
    return wrong, resolved


@pytest.mark.parametrize(
    "level",
    [pytest.param(level, marks=[pytest.mark.slow] * (level in levels.SLOW)) for level in levels.PLANS],
)
def test_gradients_agree_with_common_random_numbers(level):
    wrong, resolved = failures(levels.PLANS[level])
    assert not wrong
    # the check is worth something only where the reference is seen above its noise
    assert levels.PLANS[level].must_resolve <= resolved


# what each level must feel of a deposit
FELT = {
    "quanta": {"energy_kev", "z_mm"},
    "areas": {"energy_kev", "x_mm", "y_mm", "z_mm"},
    "hits": {"energy_kev", "x_mm", "y_mm", "z_mm", "time_ns"},
    "records": {"energy_kev", "x_mm", "y_mm", "z_mm", "time_ns"},
}


@pytest.mark.parametrize("level", FELT)
def test_gradients_in_the_deposits_agree_with_common_random_numbers(level):
    plan = levels.PLANS[level]
    evaluate, batch = levels.of_deposits(plan, plan.n_events)
    wrong, resolved = [], set()
    for leaf in levels.EVENT_LEAVES:
        found = harness.compare(
            evaluate,
            batch,
            leaf,
            step=plan.step,
            largest_shift=plan.largest_shift,
            along=levels.EVENT_LEAVES,
        )
        resolved |= {leaf for c in found if c.resolved}
        wrong += [c for c in found if plan.asserted(c) and not c.within(plan.budget)]
    assert not wrong
    assert FELT[level] <= resolved


@pytest.mark.parametrize(
    ("level", "leaf"),
    [
        ("quanta", "quanta.work_function.offset_ev"),
        ("areas", "light.g1_phd_per_photon"),
        ("areas", "electrons.drift_speed_mm_per_us"),
        ("hits", "electronics.spe_width"),
        ("hits", "electroluminescence.gap_transit_ns"),
        ("records", "electronics.gain"),
        *(
            pytest.param("late hits", leaf, marks=pytest.mark.slow)
            for leaf in ("delayed_electrons.power", "afterpulses.charge_pe", "dark_counts.after_ns")
        ),
    ],
)
def test_a_gradient_ten_per_cent_off_is_refused(level, leaf):
    plan = levels.PLANS[level]
    detector = plan.detector()
    per_event = harness.scaled(plan.functionals(detector, plan.n_events), 1.1)
    found = harness.compare(per_event, detector, leaf, step=plan.step, largest_shift=plan.largest_shift)
    assert not all(c.within(plan.budget) for c in found)


def test_a_leaf_that_is_not_there_is_named():
    detector = levels.large_detector()
    per_event = levels.PLANS["quanta"].functionals(detector, 6)
    with pytest.raises(ValueError, match="light.g2"):
        harness.compare(per_event, detector, "light.g2")
