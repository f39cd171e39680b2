"""Laws that every yield model and the sampling stage obey, by registry."""

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest

from dmsim import rng
from dmsim.detector import load_detector
from dmsim.detector.yields import QuantaParameters
from dmsim.quanta import MODELS, deposit_yields, mean_yields, sample_quanta
from dmsim.quanta.expected import expected_quanta, quanta_spread
from dmsim.records import Deposits, Interaction

pytestmark = pytest.mark.quick_compile

NAMES = [interaction.name.lower() for interaction in MODELS]
ENERGIES_KEV = {"kr83m": (9.4, 32.1, 41.5), "alpha": (5490.0, 7687.0)}
FIELD, DENSITY = 180.0, 2.87


def yields_of(name, energy, field=FIELD, density=DENSITY, parameters=None):
    # at 160 ns, the second step of Kr-83m has electrons left, and a slope in the delay
    return mean_yields(name, energy, field, density, parameters=parameters, dt_ns=400.0)


def energies(name):
    return ENERGIES_KEV.get(name, (0.7, 5.0, 60.0))


def make_deposits(interaction, energy_kev, time_ns=200.0):
    energy_kev = np.asarray(energy_kev, np.float32)
    n = len(energy_kev)
    interaction = np.broadcast_to(np.asarray(interaction, np.int32), (n,))
    return Deposits(
        event=jnp.arange(n),
        interaction=jnp.asarray(interaction),
        energy_kev=jnp.asarray(energy_kev),
        x_mm=jnp.zeros(n),
        y_mm=jnp.zeros(n),
        z_mm=jnp.linspace(-1400.0, -10.0, n),
        time_ns=jnp.full(n, time_ns),
        first_event=jnp.int32(0),
        event_time_ns=None,
        n_events=n,
    )


def keys(n, seed=5):
    return rng.fold(rng.words_of(jax.random.key(seed)), jnp.arange(n))


def all_kinds(n):
    """Deposits of all interactions, in turn."""
    choices = np.array([[5.0, 40.0, 20.0, 30.0, 41.5, 5490.0], [0.0, 1e-4, 0.01, 0.2, 9.4, 0.0]])
    kind = np.arange(n) % 6
    return make_deposits(kind, choices[np.arange(n) // 6 % 2, kind])


@pytest.fixture(scope="module")
def detector():
    return load_detector("xenonnt")


@pytest.mark.parametrize("name", NAMES)
def test_shapes_jit_and_vmap(name):
    energy = jnp.asarray(energies(name))
    eager = yields_of(name, energy[:, None], jnp.asarray([20.0, 100.0]))
    assert eager.n_photons.shape == eager.n_electrons.shape == (len(energy), 2)
    compiled = jax.jit(lambda e: yields_of(name, e))(energy)
    looped = [yields_of(name, float(e)) for e in energy]
    for field in ("n_photons", "n_electrons"):
        np.testing.assert_allclose(
            getattr(compiled, field), [getattr(one, field) for one in looped], rtol=1e-4
        )
    mapped = jax.vmap(lambda e: yields_of(name, e).n_photons)(energy)
    np.testing.assert_allclose(mapped, compiled.n_photons, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_no_quanta_at_no_energy(name):
    def total(energy, field, density, parameters):
        yields = mean_yields(name, energy, field, density, parameters=parameters, dt_ns=400.0)
        return yields.n_photons + yields.n_electrons

    # traced, so that kr83m accepts an energy that is none of its own
    value, gradient = jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2, 3)))(
        0.0, FIELD, DENSITY, QuantaParameters.nest()
    )
    assert value == 0
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_mean_yields(name, x64):
    """In energy, field, density and every constant, against central differences."""
    parameters = QuantaParameters.nest()
    flat, unravel = jax.flatten_util.ravel_pytree(parameters)
    energy = jnp.asarray(energies(name))
    # a factor on each input and on each constant: the derivatives are then all of the size of the yields
    arguments = jnp.ones(3 + len(flat))

    @jax.jit
    def totals(factors):
        yields = yields_of(
            name,
            energy * factors[0],
            FIELD * factors[1],
            DENSITY * factors[2],
            parameters=unravel(flat * factors[3:]),
        )
        return jnp.stack([yields.n_photons, yields.n_electrons, yields.exciton_ratio])

    exact = jax.jit(jax.jacfwd(totals))(arguments)
    backward = jax.jit(jax.jacrev(totals))(arguments)
    np.testing.assert_allclose(exact, backward, rtol=1e-9, atol=1e-9)
    assert np.any(exact[..., 0] != 0)
    assert np.any(exact[..., 1] != 0) or name in ("alpha", "photons", "electrons")
    step = 1e-5
    shifts = step * jnp.eye(len(arguments))
    many = jax.jit(lambda points: jax.lax.map(totals, points))
    difference = (many(arguments + shifts) - many(arguments - shifts)) / (2 * step)
    difference = jnp.moveaxis(difference, 0, -1)
    np.testing.assert_allclose(exact, difference, rtol=1e-5, atol=1e-5)


def test_unknown_names():
    with pytest.raises(ValueError, match="interaction 'er_betta' is not known: choose one of er_beta"):
        mean_yields("er_betta", 5.0, FIELD, DENSITY)
    with pytest.raises(ValueError, match=r"generation '2\.4' is not known: choose one of 2026, 2\.3\.12"):
        QuantaParameters.nest("2.4")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nr", -1.0, FIELD, DENSITY), r"energy_kev is -1.0 keV: must be finite and >= 0 keV"),
        (("nr", np.nan, FIELD, DENSITY), r"energy_kev is nan keV"),
        (("er_beta", np.array([1.0, np.inf]), FIELD, DENSITY), r"energy_kev is inf keV"),
        (("er_beta", 5.0, 0.0, DENSITY), r"field_v_per_cm is 0.0 V/cm: must be finite and > 0 V/cm"),
        (("er_beta", 5.0, -100.0, DENSITY), r"field_v_per_cm is -100.0 V/cm"),
        (("er_beta", 5.0, FIELD, 0.0), r"density_g_per_cm3 is 0.0 g/cm3: must be finite and > 0 g/cm3"),
        (("kr83m", 12.0, FIELD, DENSITY), r"energy_kev is 12.0 keV: for kr83m must be 9.4, 32.1 or 41.5"),
        (("kr83m", 9.4, FIELD, DENSITY), r"dt_ns is None ns: the 9.4 keV step of kr83m needs its delay"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        mean_yields(*arguments)


def test_default_delay_of_kr83m():
    default = mean_yields("kr83m", 41.5, FIELD, DENSITY)
    mean_delay = mean_yields("kr83m", 41.5, FIELD, DENSITY, dt_ns=154.4 / np.log(2))
    np.testing.assert_allclose(default.n_photons, mean_delay.n_photons, rtol=1e-6)


def test_dtype_follows_the_constants(x64):
    assert QuantaParameters.nest().nr.quanta_scale.dtype == jnp.float64
    single = QuantaParameters.nest(dtype=jnp.float32)
    assert mean_yields("nr", 10.0, FIELD, DENSITY, parameters=single).n_photons.dtype == jnp.float32


def test_sampled_quanta_are_conserved_integers(detector):
    deposits = all_kinds(6000)
    quanta = jax.jit(sample_quanta)(keys(6000), detector, deposits)
    photons, electrons, excitons = (np.asarray(leaf) for leaf in jax.tree.leaves(quanta))
    for counts in (photons, electrons, excitons):
        assert np.all(counts == np.round(counts))
        assert np.all(counts >= 0)
    assert np.all(photons >= excitons)
    nothing = np.asarray(deposits.energy_kev) < 0.011
    assert np.all(photons[nothing] == 0)
    assert np.all(electrons[nothing] == 0)
    assert np.all((photons + electrons)[np.asarray(deposits.energy_kev) > 1] > 0)


def test_sampled_quanta_do_not_depend_on_batching_or_hints(detector):
    deposits = all_kinds(60)
    whole = sample_quanta(keys(60), detector, deposits)
    part = jax.tree.map(lambda leaf: leaf[24:48] if getattr(leaf, "ndim", 0) else leaf, (keys(60), deposits))
    np.testing.assert_array_equal(sample_quanta(part[0], detector, part[1]).n_photons, whole.n_photons[24:48])
    hinted = sample_quanta(keys(60), detector, deposits, interactions=(Interaction.NR,))
    recoils = np.asarray(deposits.interaction) == Interaction.NR
    np.testing.assert_array_equal(hinted.n_electrons[recoils], whole.n_electrons[recoils])
    assert np.all(np.isnan(hinted.n_electrons[~recoils]))


@pytest.mark.parametrize("interaction", list(Interaction))
def test_sampled_means_are_the_mean_yields(detector, interaction):
    """4.4 sigma of the mean of 2e4 draws, 1e-5 a number, and 0.2 quanta for clips at zero; 5 % is refused."""
    n = 20_000
    energy = energies(interaction.name.lower())[1]
    deposits = make_deposits(interaction, np.full(n, energy))
    quanta = jax.jit(sample_quanta)(keys(n), detector, deposits)
    yields = deposit_yields(detector, deposits)
    for drawn, mean in (
        (quanta.n_photons, yields.n_photons[0]),
        (quanta.n_electrons, yields.n_electrons[0]),
    ):
        tolerance = 4.4 * np.std(drawn) / np.sqrt(n) + 0.2
        assert abs(np.mean(np.asarray(drawn, float)) - mean) < tolerance
        assert mean == 0 or abs(np.mean(np.asarray(drawn, float)) - 1.05 * mean) > tolerance


@pytest.mark.quick_compile
def test_sampling_has_finite_gradients_everywhere(detector):
    deposits = all_kinds(120)

    def total(inputs):
        quanta = sample_quanta(keys(120), *inputs)
        return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(quanta))

    gradient = eqx.filter_jit(eqx.filter_grad(total))((detector, deposits))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.all(np.isfinite(leaf)), jax.tree_util.keystr(path)
    assert np.all(np.asarray(gradient[1].energy_kev)[np.asarray(deposits.energy_kev) > 1] > 0)


GRADIENTS = {
    (Interaction.ER_BETA, 6.0): (
        lambda d: d.quanta.er_beta.m2,
        lambda d: d.quanta.work_function.scale,
        lambda d: d.quanta.er_fluctuations.recombination.near,
        lambda d: d.xenon.field_v_per_cm,
    ),
    (Interaction.NR, 4.0): (
        lambda d: d.quanta.nr.thomas_imel_scale,
        lambda d: d.quanta.nr_fluctuations.fano_ions,
    ),
    (Interaction.ALPHA, 5490.0): (lambda d: d.quanta.alpha.quenching_scale,),
}


def gradient_gaps(detector, interaction, energy, *, bias=1.0):
    """Gradient less difference of N_e's mean and variance at common random numbers: gap, error, size."""
    n, step = 40_000, 0.03
    leaves = GRADIENTS[interaction, energy]
    detector = detector.as_dtype(jnp.float64)
    deposits = make_deposits(interaction, np.full(n, energy))
    deposits = jax.tree.map(lambda a: a.astype(float) if a.dtype == jnp.float32 else a, deposits)

    def electrons(factors):  # one of each leaf: all of them are compiled together
        changed = detector
        for where, factor in zip(leaves, factors, strict=True):
            changed = eqx.tree_at(where, changed, where(detector) * factor)
        return sample_quanta(keys(n), changed, deposits, interactions=(interaction,)).n_electrons

    compiled, pushed = jax.jit(electrons), jax.jit(lambda *pair: jax.jvp(electrons, *pair))
    ones = jnp.ones(len(leaves))
    for direction in jnp.eye(len(leaves)):
        value, slope = pushed((ones,), (bias * direction,))
        above, below = (compiled(ones + sign * step * direction) for sign in (1, -1))
        squares = [(count - count.mean()) ** 2 for count in (above, below)]
        for ours, reference in (
            (slope, (above - below) / (2 * step)),
            (2 * (value - value.mean()) * slope, (squares[0] - squares[1]) / (2 * step)),
        ):
            gap = np.asarray(ours - reference)
            yield abs(gap.mean()), gap.std() / np.sqrt(n), abs(np.mean(reference))


def test_counted_quanta_do_not_fluctuate(detector):
    numbers = np.array([0.0, 1.0, 7.4, 7.6, 300.0, 1e5])
    kinds = (Interaction.PHOTONS, Interaction.ELECTRONS)
    for interaction, field in zip(kinds, ("n_photons", "n_electrons"), strict=True):
        deposits = make_deposits(interaction, numbers)
        quanta = sample_quanta(keys(len(numbers)), detector, deposits)
        np.testing.assert_array_equal(getattr(quanta, field), np.round(numbers))
        assert float(quanta.n_photons.sum() + quanta.n_electrons.sum()) == np.round(numbers).sum()
        spread = quanta_spread(detector, deposits)
        assert not any(np.any(leaf) for leaf in jax.tree.leaves(spread))
        # none of the light waits for recombination, of which nothing is known; so it is in the mean, too
        np.testing.assert_array_equal(quanta.n_excitons, quanta.n_photons)
        np.testing.assert_allclose(
            expected_quanta(detector, deposits).n_excitons, numbers * (field == "n_photons")
        )


@pytest.mark.parametrize(("interaction", "energy"), GRADIENTS)
def test_gradient_of_sampled_means(detector, interaction, energy, x64):
    """Within 4.4 sigma (1e-5 a number) and 2 % for the step of the difference and the lattice."""
    for gap, error, size in gradient_gaps(detector, interaction, energy):
        assert gap < 4.4 * error + 0.02 * size


def test_a_wrong_gradient_of_sampled_means_is_rejected(detector, x64):
    gaps = list(gradient_gaps(detector, Interaction.ER_BETA, 6.0, bias=1.05))[:2]  # of the first leaf
    assert any(gap > 4.4 * error + 0.02 * size for gap, error, size in gaps)
