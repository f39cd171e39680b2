"""Afterpulses of the photosensors.

Photons lie in chunks of a fixed number of slots. The afterpulses of a chunk are one Poisson count; each then
picks its photon in proportion to the rate of the photon's sensor. That is one Poisson count a photon, with a
draw a chunk instead of one a photon, and without looking for the few photons that have one.
"""

import csv
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dmsim import ragged, relax, rng
from dmsim.detector import Detector
from dmsim.detector.pulses import Afterpulses
from dmsim.records import Hits, Signal

CHUNK = 16  # slots that share a count
_CHUNK_STREAM = 0x42000000  # plus the number of the chunk
_COUNT, _CHOICE, _DELAY, _CHARGE = (np.uint32(0x41000000 + k) for k in range(4))


def chunk_keys(
    keys: rng.Words, parent: Int[Array, "page 1"], child: Int[Array, "page slot"], number: Array
) -> rng.Words:
    """One key a chunk of each page.

    Args:
        keys: one key a parent, in which no stage draws from the chunks' stream.
        parent: of each page.
        child: number of each slot's photon within its parent, or within a part of the parent.
        number: of that part.

    Gradient: none (integers).
    """
    chunk = (child[:, ::CHUNK] // CHUNK).astype(jnp.uint32) + jnp.uint32(_CHUNK_STREAM)
    key = rng.Words(keys.first[parent], keys.second[parent])
    found = rng.threefry2x32(key, number, chunk)
    return rng.Words(found.first.reshape(-1), found.second.reshape(-1))


def _by_sensor(values: Float[Array, "species *sensor"], n_sensors: int) -> Float[Array, "sensor species"]:
    """A table with a row a sensor, also where all sensors share one."""
    table = values if values.ndim == 2 else values[:, None]
    return jnp.broadcast_to(table, (values.shape[0], n_sensors)).T


def _rates(detector: Detector) -> Float[Array, "sensor species"]:
    """Mean afterpulses of a detected photon, which is 1 or 2 photoelectrons. Gradient: exact."""
    assert detector.afterpulses is not None
    per_pe = _by_sensor(detector.afterpulses.probability, detector.light.sensors.n_sensors)
    return per_pe * (1 + detector.electronics.double_pe_probability)


def count_afterpulses(keys: rng.Words, detector: Detector, hits: Hits) -> Int[Array, "chunk"]:
    """Afterpulses of each chunk of hits.

    Args:
        keys: one key a chunk.
        detector: of its parts the afterpulses and the double photoelectrons; that a photon with two of them
            has twice the afterpulses is taken on average only.
        hits: whose number is a multiple of `CHUNK`.

    Gradient: none; it is in the weight of each afterpulse.
    """
    rate = relax.stop(jnp.sum(_rates(detector), axis=1))
    mean = jnp.sum((rate[hits.sensor] * hits.valid).reshape(-1, CHUNK), axis=1)
    u, _ = rng.uniform_pair(keys, 0, _COUNT, dtype=mean.dtype)
    return relax.stop(relax.poisson(u, mean)).astype(jnp.int32)


def _choose(u: Float[Array, "row"], rates: Float[Array, "row choice"]) -> Int[Array, "row"]:
    """A choice with probability in proportion to its rate."""
    running = jnp.cumsum(rates, axis=1)
    below = jnp.sum(running <= u[:, None] * running[:, -1:], axis=1)
    return jnp.minimum(below, rates.shape[1] - 1)


def sample_afterpulses(
    keys: rng.Words, detector: Detector, hits: Hits, counts: Int[Array, "chunk"], *, n_rows: int
) -> Hits:
    """Sensor, time and charge of each afterpulse.

    Args:
        keys: as for `count_afterpulses`.
        detector: as for `count_afterpulses`; the electronics' spread of a photoelectron's charge.
        hits: as for `count_afterpulses`.
        counts: as from it.
        n_rows: hits to make, `counts.sum()` or more.

    Gradient: weight in the probability, pathwise in delay and charge, those of the parent's time and weight.
    """
    table = detector.afterpulses
    assert table is not None
    n_sensors, dtype = detector.light.sensors.n_sensors, hits.time_ns.dtype
    pages = ragged.paginate(counts, page_size=1, n_pages=n_rows)
    chunk, number, valid = pages.parent, pages.child[:, 0], pages.valid[:, 0]
    key = rng.Words(keys.first[chunk], keys.second[chunk])
    rates = _rates(detector)
    held = relax.stop(rates)

    u_slot, u_species = rng.uniform_pair(key, number, _CHOICE, dtype=dtype)
    slots = chunk[:, None] * CHUNK + jnp.arange(CHUNK)
    slot_rates = jnp.sum(held, axis=1)[hits.sensor[slots]] * hits.valid[slots]
    parent = chunk * CHUNK + _choose(u_slot, slot_rates)
    sensor = hits.sensor[parent]
    species = _choose(u_species, held[sensor])
    valid = valid & hits.valid[parent]

    def of(values):
        return _by_sensor(values, n_sensors)[sensor, species]

    u_delay, _ = rng.uniform_pair(key, number, _DELAY, dtype=dtype)
    z_delay, z_charge = rng.normal_pair(key, number, _CHARGE, dtype=dtype)
    delay_ns = of(table.delay_ns) + of(table.delay_spread_ns) * z_delay
    delay_ns = delay_ns + of(table.delay_width_ns) * (u_delay - 0.5)
    # a number of photoelectrons with its spread, each with the spread of the dynodes
    n_pe = of(table.charge_pe)
    variance = of(table.charge_spread_pe) ** 2 + n_pe * detector.electronics.spe_width**2
    charge = jnp.maximum(n_pe + relax.safe_sqrt(variance) * z_charge, 0.0)
    weight = hits.weight[parent] * relax.weight(rates[sensor, species])
    return Hits(
        event=hits.event[parent],
        sensor=sensor,
        time_ns=hits.time_ns[parent] + delay_ns,
        charge_pe=charge * valid,
        weight=weight * valid,
        signal=jnp.full(n_rows, Signal.AFTERPULSE.value, jnp.int32),
        deposit=jnp.full(n_rows, -1, jnp.int32),
        valid=valid,
        n_overflow=pages.n_overflow,
        n_events=hits.n_events,
    )


def _rows(path: Path) -> list[dict[str, str]]:
    """Rows of the table, with all columns that there must be."""
    if not path.is_file():
        raise ValueError(f"{path.name}: {'is a folder' if path.is_dir() else 'does not exist'}")
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = ("pmt", "type", "p", "dist", "t_mean_ns", "t_scale_ns", "low_ns", "high_ns")
    columns += ("amp_mean_pe", "amp_rms_pe")
    missing = [name for name in columns if not rows or name not in rows[0]]
    if missing:
        raise ValueError(
            f"{path.name} has no column {', '.join(missing)}, or no row: needs {', '.join(columns)}"
        )
    return rows


def read_afterpulses(path: str | Path, *, n_sensors: int, dtype=None) -> Afterpulses:
    """Afterpulses of each sensor from a CSV table.

    Args:
        path: a file with the columns pmt, type (the species), p, dist ("normal" or "uniform"), t_mean_ns,
            t_scale_ns, low_ns, high_ns, amp_mean_pe, amp_rms_pe; a uniform species has low and high for mean
            and scale, and no rms if it is of single photoelectrons.
        n_sensors: of the detector; a sensor that the file does not name has no afterpulses.
        dtype: of the leaves; JAX's default float if not given.

    Raises:
        ValueError: one line, for a file or a column that is missing, a sensor that is none, two rows of a
            species for one sensor, another distribution, or a number that is none or negative.

    Gradient: none.
    """
    where = Path(path).name
    rows = _rows(Path(path))
    species: list[str] = []
    for row in rows:
        if row["type"] not in species and float(row["p"]) > 0:
            species.append(row["type"])
    names = ("probability", "delay_ns", "delay_spread_ns", "delay_width_ns", "charge_pe", "charge_spread_pe")
    tables = {name: np.zeros((len(species), n_sensors)) for name in names}
    seen: dict[tuple[str, int], int] = {}
    for line, row in enumerate(rows, start=2):
        if row["type"] not in species:
            continue
        sensor = int(row["pmt"])
        if sensor < 0:
            raise ValueError(f"{where}, line {line}: pmt is {sensor}: must be 0 or more")
        if sensor >= n_sensors:
            continue  # of another volume, such as a veto
        if (before := seen.setdefault((row["type"], sensor), line)) != line:
            raise ValueError(
                f"{where}, line {line}: {row['type']} of pmt {sensor} is in line {before} already"
            )
        if row["dist"] == "normal":
            delay, spread, width = float(row["t_mean_ns"]), float(row["t_scale_ns"]), 0.0
        elif row["dist"] == "uniform":
            low, high = float(row["low_ns"]), float(row["high_ns"])
            delay, spread, width = (low + high) / 2, 0.0, high - low
        else:
            raise ValueError(f"{where}, line {line}: dist is {row['dist']!r}: must be normal or uniform")
        values = (float(row["p"]), delay, spread, width, float(row["amp_mean_pe"]))
        values += (float(row["amp_rms_pe"] or 0.0),)
        if not all(np.isfinite(values)) or min(values) < 0:
            raise ValueError(f"{where}, line {line}: has {values}: must be finite and 0 or more")
        for name, value in zip(names, values, strict=True):
            tables[name][species.index(row["type"]), sensor] = value
    dtype = jnp.result_type(float) if dtype is None else dtype
    return Afterpulses(**{name: jnp.asarray(table, dtype) for name, table in tables.items()})
