"""How often a clean S1 or S2 is split, one S2 is found as several, and two S1s come apart.

`python tests/physics/test_splitting_fractions.py` prints the tables of docs/physics/reconstruction.md.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dmsim
from dmsim.reconstruction import Settings, find_peaks
from dmsim.reconstruction.settings import settings_from
from dmsim.records import Deposits, Interaction, Signal

# tiny versions on hand-made records: tests/dmsim/reconstruction/test_reconstruct_splitting.py
pytestmark = pytest.mark.slow
BATCH = 20
PHOTONS_PER_PE = 6.8  # emitted, mean over the active volume of xenonnt
KR83M_PHOTONS = (1600.0, 480.0)  # 32.1 and 9.4 keV at 50 photons a keV: 235 and 70 PE
NO_MERGING = {"merging": {"max_duration_ns": 0.0}}
NO_SPLITTING = {"splitting": {"method": "none"}}


def deposits_of(key, detector, n_events, interaction, quanta, *, delays_ns=(0.0,), first_event=0):
    """Light or charge alone, uniform in the active volume: `quanta[k]` of them after `delays_ns[k]`."""
    one = dmsim.sources.mono(
        key, detector, n_events=n_events, energy_kev=1.0, interaction="er_beta", first_event=first_event
    )
    n = len(delays_ns)
    repeated = {name: jnp.repeat(getattr(one, name), n) for name in ("event", "x_mm", "y_mm", "z_mm")}
    return Deposits(
        **repeated,
        interaction=jnp.full(n * n_events, int(interaction), jnp.int32),
        energy_kev=jnp.tile(jnp.asarray(quanta, one.energy_kev.dtype), n_events),
        time_ns=jnp.tile(jnp.asarray(delays_ns, one.time_ns.dtype), n_events),
        first_event=one.first_event,
        event_time_ns=one.event_time_ns,
        n_events=n_events,
    )


def batches(detector, n_events, interaction, quanta, *, delays_ns=(0.0,), seed=1):
    key = jax.random.key(seed)
    for first in range(0, n_events, BATCH):
        chosen = {"delays_ns": delays_ns, "first_event": first}
        deposits = deposits_of(key, detector, BATCH, interaction, quanta, **chosen)
        yield dmsim.simulate_records(key, detector, deposits)


def pieces_of(detector, records, **sections):
    """Windows without splitting or merging, and the number of pieces that splitting makes of each."""
    whole = find_peaks(detector, records, settings=settings_from({**NO_MERGING, **NO_SPLITTING}))
    split = find_peaks(detector, records, settings=settings_from({**NO_MERGING, **sections}))
    parent = np.searchsorted(whole.time_ns, split.time_ns, side="right") - 1
    return whole, np.bincount(parent, minlength=len(whole))


def split_fractions(detector, n_events, interaction, quanta, *, delays_ns=(0.0,), seed=1, **sections):
    """Area of every window that may be split, and whether it was."""
    area, split = [], []
    least = settings_from(sections).splitting.min_area_pe
    for records in batches(detector, n_events, interaction, quanta, delays_ns=delays_ns, seed=seed):
        whole, n_pieces = pieces_of(detector, records, **sections)
        area.append(whole.area_pe)
        split.append(n_pieces > 1)
    area, split = np.concatenate(area), np.concatenate(split)
    return area[area >= least], split[area >= least]


def s2s_found(detector, n_events, n_electrons, *, seed=1, settings=None):
    """Number of S2s and of other peaks that each cloud of electrons is found as, and the area of all S2s."""
    n_s2, n_other, area = [], [], []
    for records in batches(detector, n_events, Interaction.ELECTRONS, [float(n_electrons)], seed=seed):
        peaks = find_peaks(detector, records, settings=settings or Settings())
        row, is_s2 = peaks.event - int(records.first_event), peaks.signal == int(Signal.S2)
        n_s2.append(np.bincount(row[is_s2], minlength=BATCH))
        n_other.append(np.bincount(row[~is_s2], minlength=BATCH))
        area.append(np.bincount(row[is_s2], peaks.area_pe[is_s2], minlength=BATCH))
    return np.concatenate(n_s2), np.concatenate(n_other), np.concatenate(area)


@pytest.fixture(scope="module")
def xenonnt():
    return dmsim.load_detector("xenonnt").without("all")


# Limits are for acceptance: with 40 signals a true fraction of 10 % would pass "none" in 1.5 % of runs; the
# printed tables have none in thousands.
@pytest.mark.parametrize(
    ("interaction", "quanta"), [(Interaction.PHOTONS, 700.0), (Interaction.ELECTRONS, 40.0)]
)
def test_clean_signals_stay_whole(xenonnt, interaction, quanta):
    _, split = split_fractions(xenonnt, 40, interaction, [quanta])
    assert len(split) >= 20
    assert not split.any()
    # must fail: thresholds 0.5 lower
    low = {"s1_threshold": (0.5, 0.0), "s2_threshold": (0.5, 0.0)}
    assert split_fractions(xenonnt, 40, interaction, [quanta], splitting=low)[1].mean() > 0.1


def test_two_s1s_come_apart_with_their_delay(xenonnt):
    def fraction(delay_ns, **sections):
        _, split = split_fractions(
            xenonnt, 40, Interaction.PHOTONS, KR83M_PHOTONS, delays_ns=(0.0, delay_ns), **sections
        )
        return split.mean()

    assert fraction(100.0) == 0.0
    assert fraction(300.0) == 1.0
    # must fail: a moving average over 300 ns on either side blurs the gap
    assert fraction(300.0, splitting={"filter_wing_ns": 300.0}) < 0.9


def test_clouds_of_electrons_are_found_as_one_s2(xenonnt):
    """Of 30 electrons: of 100, one in ten is split in two pieces that are both too large to be joined."""
    n_s2, _, _ = s2s_found(xenonnt, 40, 30)
    assert np.mean(n_s2 == 1) >= 0.9
    # must fail: without merging a cloud that diffused is several
    unmerged, _, _ = s2s_found(xenonnt, 40, 30, settings=settings_from(NO_MERGING))
    assert np.mean(unmerged == 1) < 0.8


def report(scale=1.0):
    detector = dmsim.load_detector("xenonnt").without("all")

    def count(n):
        return max(int(n * scale) // BATCH, 1) * BATCH

    print("wrong splits\nsignal, median PE, windows from 40 PE, split")
    for pe in (5, 20, 50, 100, 300, 1000):
        n = count(2000 if pe < 500 else 1000)
        area, split = split_fractions(detector, n, Interaction.PHOTONS, [pe * PHOTONS_PER_PE])
        median = f"{np.median(area):.0f}" if len(area) else f"about {pe}"
        print(f"S1, {median}, {len(split)}, {split.sum()}", flush=True)
    for electrons, n in (
        (1, 2000),
        (3, 1000),
        (10, 600),
        (30, 400),
        (100, 200),
        (300, 100),
        (1000, 60),
        (3000, 40),
    ):
        area, split = split_fractions(detector, count(n), Interaction.ELECTRONS, [electrons])
        print(f"S2 of {electrons} electrons, {np.median(area):.0f}, {len(split)}, {split.sum()}", flush=True)
    print("\ntwo S1s of 235 and 70 PE\ndelay [ns], windows, split")
    for delay in (100, 150, 200, 210, 220, 230, 240, 250, 300, 400, 600):
        _, split = split_fractions(
            detector, count(200), Interaction.PHOTONS, KR83M_PHOTONS, delays_ns=(0.0, float(delay))
        )
        print(f"{delay}, {len(split)}, {split.mean():.1%}", flush=True)
    print("\nclouds of electrons\nelectrons, clouds, found as one S2, as none, median other peaks")
    for electrons, n in ((3, 400), (10, 400), (30, 400), (100, 200), (300, 100), (1000, 60)):
        n_s2, n_other, _ = s2s_found(detector, count(n), electrons)
        fractions = f"{np.mean(n_s2 == 1):.1%}, {np.mean(n_s2 == 0):.1%}"
        print(f"{electrons}, {len(n_s2)}, {fractions}, {n_other.mean():.2f}", flush=True)


if __name__ == "__main__":  # [SCALE of the numbers of events]
    report(*map(float, sys.argv[1:]))
