"""Every float leaf of the detector at quanta and areas; the leaves that matter at hits and records.

The default run takes those that must be felt and every sixth of the others, the slow run all. At areas the
emission model's leaves but one are left to the slow run: they act through the counts alone, whose gradients
quanta and that one show. The optional tables have levels of their own, in the slow run.

False positives: 4.9 standard errors are 1e-6 a comparison, and about 3,000 are made: 3e-3 x 1e-1, since most
functionals of a leaf move together or not at all; seeds are fixed. Twin: gradients 10 % off are refused.
"""

import functools

import harness
import jax
import levels
import pytest

scene = functools.cache(lambda level: levels.scene(levels.PLANS[level]))


def compare(level, leaf, wrap=lambda evaluate: evaluate):
    plan, (evaluate, inputs) = levels.PLANS[level], scene(level)
    steps = {"step": plan.step, "largest_shift": plan.largest_shift}
    return harness.compare(wrap(evaluate), inputs, leaf, along=levels.EVENT_LEAVES, **steps)


def failures(level, leaves):
    wrong, resolved = [], set()
    for leaf in leaves:
        found = compare(level, leaf)
        resolved |= {leaf for c in found if c.resolved}
        wrong += [
            c for c in found if levels.PLANS[level].asserted(c) and not c.within(levels.PLANS[level].budget)
        ]
    return wrong, resolved


def levels_to_check():
    quick = [(level, 6) for level in levels.PLANS if level not in levels.SLOW]
    return quick + [pytest.param(level, 1, marks=pytest.mark.slow) for level in levels.PLANS]


@pytest.mark.parametrize(("level", "every"), levels_to_check())
def test_gradients_agree_with_common_random_numbers(level, every):
    plan = levels.PLANS[level]
    others = [leaf for leaf in levels.leaves(plan) if leaf not in plan.must_resolve]
    wrong, resolved = failures(
        level, [f"detector.{leaf}" for leaf in (*sorted(plan.must_resolve), *others[::every])]
    )
    assert not wrong
    # the check is worth something only where the reference is seen above its noise
    assert {f"detector.{leaf}" for leaf in plan.must_resolve} <= resolved


# what each level must feel of a deposit
FELT = {
    "quanta": {"energy_kev", "z_mm"},
    "areas": {"energy_kev", "x_mm", "y_mm", "z_mm"},
    "hits": {"energy_kev", "x_mm", "y_mm", "z_mm", "time_ns"},
    "records": {"energy_kev", "x_mm", "y_mm", "z_mm", "time_ns"},
}


@pytest.mark.parametrize("level", FELT)
def test_gradients_in_the_deposits_agree_with_common_random_numbers(level):
    wrong, resolved = failures(level, levels.EVENT_LEAVES)
    assert not wrong
    assert {f"deposits.{leaf}" for leaf in FELT[level]} <= resolved


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
            pytest.param(level, leaf, marks=pytest.mark.slow)
            for level, leaf in (
                ("late hits", "delayed_electrons.power"),
                ("late hits", "afterpulses.charge_pe"),
                ("late hits", "dark_counts.after_ns"),
                ("field and gap", "drift_field.ring_v"),
                ("gap hits", "gas_gap.wire_share"),
                ("noisy records", "noise.correlated_adc"),
            )
        ),
    ],
)
def test_a_gradient_ten_per_cent_off_is_refused(level, leaf):
    found = compare(level, f"detector.{leaf}", lambda evaluate: harness.scaled(evaluate, 1.1))
    assert not all(c.within(levels.PLANS[level].budget) for c in found)


@pytest.mark.parametrize(
    "level",
    [
        "quanta",
        "areas",
        *(pytest.param(x, marks=pytest.mark.slow) for x in levels.PLANS if x not in {"quanta", "areas"}),
    ],
)
def test_values_that_come_with_a_derivative_are_those_without(level):
    evaluate, inputs = scene(level)
    assert harness.values_agree(evaluate, inputs)

    @jax.custom_jvp
    def other(x):
        return x

    other.defjvp(lambda primals, tangents: (1.001 * primals[0], tangents[0]))
    assert not harness.values_agree(lambda x: {name: other(v) for name, v in evaluate(x).items()}, inputs)


def test_a_leaf_that_is_not_there_is_named():
    with pytest.raises(ValueError, match="light.g2"):
        compare("quanta", "detector.light.g2")
