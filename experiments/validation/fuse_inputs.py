"""The same detector and the same deposits for fuse: a folder of what its public configuration reads.

Everything is made from a dmsim detector; nothing private and no map of the experiment is needed. What the
two models cannot share is switched off on both sides, in `shared_detector`:
- fuse has no reflections of its own (they are in its timing splines, which are not public): no path length;
- fuse draws Poisson numbers of photons an electron: Fano factor 1;
- fuse's simple luminescence follows the field around wires; with the radius of the wires as the distance of
  field domination it becomes the uniform field that dmsim has;
- neither adds noise, afterpulses, delayed electrons.
"""

import argparse
import csv
import json
import pickle
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

import dmsim
from dmsim.detector import Detector
from dmsim.records import Deposits, Interaction

_ELECTRON_CHARGE_C = 1.602176634e-19  # CODATA 2018, exact
# fuse's pressure in units of bar/e, of which only gas_drift_velocity_slope x kT/p enters with our settings
_GAS_PRESSURE = 1.21e18
_NEST_TYPE = {Interaction.NR: 0, Interaction.ER_BETA: 8, Interaction.ER_GAMMA: 7}  # nestpy.INTERACTION_TYPE
SPACING_NS = 10_000_000  # between events, as dmsim's own sources have it
_OPTIONAL = ("gas_gap", "photoionisation", "delayed_electrons", "afterpulses", "dark_counts", "noise")


def shared_detector(name: str = "xenonnt") -> Detector:
    """The preset with what fuse and dmsim can both have."""
    detector = dmsim.load_detector(name)
    present = [table for table in _OPTIONAL if getattr(detector, table, None) is not None]
    if present:
        detector = detector.without(*present)
    return eqx.tree_at(
        lambda d: (
            d.scintillation.propagation_ns,
            d.electroluminescence.se_fano,
            d.electronics.noise_adc,
        ),
        detector,
        (jnp.float32(0.0), jnp.float32(1.0), jnp.float32(0.0)),
    )


def write(folder: Path, detector: Detector, deposits: Deposits, *, seed: int, spacing_ns: int) -> None:
    """All that `fuse_chain.py` needs.

    Args:
        folder: made if it is not there.
        detector: as from `shared_detector`.
        deposits: one an event.
        seed: of the quanta, which fuse takes over.
        spacing_ns: time between events.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_configuration(folder, detector)
    _write_maps(folder, detector)
    _write_electronics(folder, detector)
    quanta = dmsim.simulate_quanta(jax.random.key(seed), detector, deposits)
    field = float(np.mean(detector.xenon.field_at(jnp.zeros(1))))
    columns = {
        "eventid": np.asarray(deposits.event),
        "t": np.arange(1, len(deposits) + 1) * spacing_ns,
        "x": np.asarray(deposits.x_mm) / 10,
        "y": np.asarray(deposits.y_mm) / 10,
        "z": np.asarray(deposits.z_mm) / 10,
        "ed": np.asarray(deposits.energy_kev),
        "nestid": [_NEST_TYPE[Interaction(int(kind))] for kind in np.asarray(deposits.interaction)],
        "photons": np.asarray(quanta.n_photons, int),
        "electrons": np.asarray(quanta.n_electrons, int),
        "excitons": np.asarray(quanta.n_excitons, int),
        "e_field": np.full(len(deposits), field),
        "cluster_id": np.arange(1, len(deposits) + 1),
    }
    with (folder / "deposits.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _write_configuration(folder: Path, detector: Detector) -> None:
    electrons, gas, sensor = detector.electrons, detector.electroluminescence, detector.electronics
    # uniform field in the gap: V / gap; speed = slope x kT/p x field
    gap_cm, anode_v, wire_cm = 0.3, 4000.0, 0.01
    to_gate_cm, epsilon = 0.8, 1.874
    voltage = anode_v / (1 + (to_gate_cm - gap_cm) / gap_cm / epsilon)
    field = voltage / (gap_cm - wire_cm)
    temperature = float(detector.xenon.temperature_k)
    number_density = _GAS_PRESSURE / (1.380649e-23 / _ELECTRON_CHARGE_C * temperature)
    slope = (gap_cm - wire_cm) / float(gas.gap_transit_ns) / field * number_density
    times = np.arange(-13, 196)
    configuration = {
        "tag_cluster_by": "energy",
        **dict.fromkeys(
            (
                "se_gain_from_map",
                "ext_eff_from_map",
                "enable_gas_gap_warping",
                "enable_pmt_afterpulses",
                "enable_delayed_electrons",
                "enable_noise",
                "enable_survival_probability_map",
                "enable_drift_velocity_map",
                "norm_drift_velocity",
                "enable_diffusion_longitudinal_map",
                "enable_diffusion_transverse_map",
                "override_s1_nr_scint_time",
            ),
            False,
        ),
        "field_distortion_model": "none",
        "efield_map": f"constant_dummy_map://{float(detector.xenon.field_at(jnp.zeros(()))):g}",
        "s1_time_spline": "constant_dummy_map://1e-10",
        "s2_time_spline": "constant_dummy_map://1e-10",
        "s2_correction_map": "constant_dummy_map://1",
        "s1_pattern_map": f"pattern_map://resource://{folder}/s1_pattern.pkl?&fmt=pkl"
        "&pmt_mask=plugin.pmt_mask&method=RegularGridInterpolator",
        "s2_pattern_map": f"pattern_map://resource://{folder}/s2_pattern.pkl?&fmt=pkl"
        "&pmt_mask=plugin.pmt_mask&method=RegularGridInterpolator",
        "photon_area_distribution": f"simple_load://resource://{folder}/spe.csv?&fmt=csv",
        "noise_file": f"simple_load://resource://{folder}/noise.npz?&fmt=npy",
        "photon_ap_cdfs": {},
        "temperature": temperature,
        "pressure": _GAS_PRESSURE,
        "lxe_dielectric_constant": epsilon,
        "xenonnt_z_lxe": 0.5,
        "tpc_length": float(detector.geometry.drift_length_mm) / 10,
        "tpc_radius": float(detector.geometry.radius_mm) / 10,
        "anode_wire_radius": wire_cm,
        "anode_field_domination_distance": wire_cm,
        "elr_gas_gap_length": gap_cm,
        "gate_to_anode_distance": to_gate_cm,
        "anode_voltage": anode_v,
        "diffusion_constant_longitudinal": float(electrons.diffusion_longitudinal_cm2_per_s) * 1e-9,
        "diffusion_constant_transverse": float(electrons.diffusion_transverse_cm2_per_s) * 1e-9,
        "drift_time_gate": float(electrons.surface_delay_ns),
        "drift_velocity_liquid": float(electrons.drift_speed_mm_per_us) * 1e-4,
        "xenon_density_tpc": float(detector.xenon.density_g_per_cm3),
        "singlet_fraction_gas": float(gas.singlet_fraction),
        "singlet_lifetime_gas": float(gas.singlet_lifetime_ns),
        "triplet_lifetime_gas": float(gas.triplet_lifetime_ns),
        "singlet_lifetime_liquid": float(detector.scintillation.singlet_lifetime_ns),
        "triplet_lifetime_liquid": float(detector.scintillation.triplet_lifetime_ns),
        "maximum_recombination_time": 10000,
        "s1_detection_efficiency": 1.0,
        "electron_extraction_yield": float(electrons.extraction_efficiency),
        "electron_lifetime_liquid": float(electrons.lifetime_us) * 1e3,
        "electron_trapping_time": 1e-6,
        "gas_drift_velocity_slope": slope,
        "s2_mean_area_fraction_top": -1,  # the map's own
        "s2_aft_sigma": 0.0,
        "s2_aft_skewness": 0.0,
        "s2_secondary_sc_gain": float(detector.single_electron_gain_pe),
        "g2_mean": float(detector.g2_pe_per_electron),
        "photoionization_time_constant": 1e6,
        "photoionization_time_cutoff": 2.25e6,
        "p_double_pe_emision": float(sensor.double_pe_probability),
        "pe_pulse_ts": times.tolist(),
        "pe_pulse_ys": _pulse(times, sensor).tolist(),
        "pmt_pulse_time_rounding": 1.0,
        "pmt_transit_time_mean": 0.0,
        "pmt_transit_time_spread": float(sensor.transit_time_spread_ns) * 2.35482,
        "pmt_ap_modifier": 1,
        "pmt_ap_t_modifier": 0,
        "sample_duration": sensor.sample_ns,
        "samples_after_pulse_center": 20,
        "samples_before_pulse_center": 2,
        "samples_to_store_after": sensor.zle_samples_after,
        "samples_to_store_before": sensor.zle_samples_before,
        "pmt_circuit_load_resistor": _ELECTRON_CHARGE_C * float(sensor.impedance_ohm) * 1e9,
        "external_amplification": float(sensor.amplification),
        "trigger_window": sensor.zle_samples_before,
        "digitizer_bits": sensor.n_bits,
        "digitizer_reference_baseline": sensor.baseline_adc,
        "digitizer_voltage_range": float(sensor.voltage_range_v),
        "special_thresholds": {},
        "zle_threshold": sensor.zle_threshold_adc,
        "clustering_method": "dbscan",
    }
    (folder / "config.json").write_text(json.dumps(configuration, indent=1) + "\n")


def _pulse(times: np.ndarray, sensor) -> np.ndarray:
    """Current of one photoelectron on fuse's grid of 1 ns, from the integral over each ns."""
    rise, decay = float(sensor.pulse_rise_ns), float(sensor.pulse_decay_ns)

    def cdf(t):
        t = np.maximum(t, 0)
        return 1 - (decay * np.exp(-t / decay) - rise * np.exp(-t / rise)) / (decay - rise)

    return cdf(times.astype(float)) - cdf(times - 1.0)


def _write_maps(folder: Path, detector: Detector) -> None:
    radius, length = float(detector.geometry.radius_mm), float(detector.geometry.drift_length_mm)

    def dump(name, axes, values):
        grid = [[axis, [lo / 10, hi / 10, n]] for axis, (lo, hi, n) in axes.items()]
        value = {"coordinate_system": grid, "map": values, "name": name, "description": "", "timestamp": 0}
        with (folder / f"{name}.pkl").open("wb") as file:
            pickle.dump(value, file)

    def axis(lo, hi, n):
        return np.linspace(lo, hi, n, dtype=np.float32)

    sides = {"x": (-radius, radius, 15), "y": (-radius, radius, 15), "z": (-length, 0.0, 15)}
    place = [jnp.asarray(c) for c in np.meshgrid(*(axis(*side) for side in sides.values()), indexing="ij")]
    seen = detector.light.s1_relative_yield(detector.geometry, *place)
    seen = seen * detector.g1_pe_per_photon  # fuse's map holds PE a photon and divides by 1 + p_dpe
    shares = detector.light.s1_pattern(detector.geometry, *place)
    dump("s1_pattern", sides, np.asarray(shares * seen[..., None], np.float32))

    sides = {"x": (-radius, radius, 133), "y": (-radius, radius, 133)}  # 10 mm, an eighth of a sensor
    place = [jnp.asarray(c) for c in np.meshgrid(*(axis(*side) for side in sides.values()), indexing="ij")]
    dump("s2_pattern", sides, np.asarray(detector.light.s2_pattern(detector.geometry, *place), np.float32))

    # read, though not used without distortion
    flat = {
        "coordinate_system": [[0.0, 0.0], [0.0, -200.0], [100.0, 0.0], [100.0, -200.0]],
        "map": [0.0] * 4,
        "r_distortion_map": [0.0, 0.0, 100.0, 100.0],
        "name": "none",
        "description": "",
        "timestamp": 0,
    }
    (folder / "no_distortion.json").write_text(json.dumps(flat))


def _write_electronics(folder: Path, detector: Detector) -> None:
    sensor, n_sensors = detector.electronics, detector.light.sensors.n_sensors
    # one photoelectron's charge: normal, cut at zero where it collects what would be below
    edges = np.linspace(-0.005, 4.005, 402)
    width = float(sensor.spe_width)
    weight = np.diff(special.ndtr((edges - 1) / width))
    weight[0] += special.ndtr((edges[0] - 1) / width)
    with (folder / "spe.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["charge", *range(n_sensors)])
        for charge, share in zip((edges[1:] + edges[:-1]) / 2, weight, strict=True):
            writer.writerow([f"{charge:.3f}"] + [f"{share:.9f}"] * n_sensors)
    np.savez(folder / "noise.npz", arr_0=np.zeros((1000, n_sensors), np.int64))
    current = float(sensor.voltage_range_v) / 2**sensor.n_bits
    current /= _ELECTRON_CHARGE_C * float(sensor.impedance_ohm) * 1e9
    np.save(folder / "to_pe.npy", np.full(n_sensors, current / float(sensor.gain)))


def main() -> None:
    """Inputs of 10 keV electron recoils all over the detector."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    detector = shared_detector()
    deposits = dmsim.sources.mono(
        jax.random.key(args.seed), detector, n_events=args.events, energy_kev=10.0, interaction="er_beta"
    )
    write(args.folder.resolve(), detector, deposits, seed=args.seed, spacing_ns=SPACING_NS)


if __name__ == "__main__":
    main()
