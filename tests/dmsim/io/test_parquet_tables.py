import dataclasses

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from io_examples import (
    assert_same,
    only_valid,
    random_areas,
    random_deposits,
    random_events,
    random_hits,
    random_peaks,
    random_records,
)

from dmsim.io import TableReader, TableWriter, read_reconstruction, tables
from dmsim.io.columns import TABLES
from dmsim.io.files import TEMPORARY_SUFFIX
from dmsim.io.parquet import read_table, remove_tables
from dmsim.records import TruePeaks

SEEDS = range(5)


def through_file(table, tmp_path):
    pq.write_table(table, tmp_path / "t.parquet")
    return read_table(tmp_path / "t.parquet")


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("clock", [True, False])
def test_truth_round_trip(seed, clock, tmp_path):
    truth = random_deposits(np.random.default_rng(seed), n=3 * seed, clock=clock)
    found = tables.unpack_truth(through_file(tables.pack_truth(*truth), tmp_path))
    for one, other in zip(found, truth, strict=True):
        assert_same(one, other)


@pytest.mark.parametrize("seed", SEEDS)
def test_true_peaks_round_trip(seed, tmp_path):
    random, n = np.random.default_rng(seed), 4 * seed
    whole = (random.integers(0, 5, n).astype(kind) for kind in (np.int32, np.int8, np.int32, np.int32))
    peaks = TruePeaks(*whole, *(random.normal(0, 100, n).astype(np.float32) for _ in range(8)))
    table = tables.pack_true_peaks(peaks, first_event=7, n_events=5)
    assert_same(tables.unpack_true_peaks(through_file(table, tmp_path)), peaks)


def test_double_precision_stays(tmp_path):
    with jax.enable_x64(True):
        deposits, quanta, detected = random_deposits(np.random.default_rng(1), dtype=np.float64)
        found = tables.unpack_truth(through_file(tables.pack_truth(deposits, quanta, detected), tmp_path))
        assert found[0].energy_kev.dtype == np.float64
        assert_same(found[0], deposits)


@pytest.mark.parametrize("seed", SEEDS)
def test_areas_hits_records_round_trip(seed, tmp_path):
    random = np.random.default_rng(seed)
    areas = random_areas(random)
    assert_same(tables.unpack_areas(through_file(tables.pack_areas(areas, first_event=7), tmp_path)), areas)
    hits = random_hits(random)
    found = tables.unpack_hits(through_file(tables.pack_hits(hits, first_event=7), tmp_path))
    assert_same(found, only_valid(hits))
    records = random_records(random, n=11 * seed, clock=seed % 2 == 0)
    found = tables.unpack_records(through_file(tables.pack_records(records), tmp_path))
    assert_same(found, only_valid(records))


@pytest.mark.parametrize("n", [0, 1, 17])
def test_peaks_and_events_round_trip(n, tmp_path, random):
    peaks = random_peaks(random, n)
    assert_same(tables.unpack_peaks(through_file(tables.pack_peaks(peaks), tmp_path)), peaks)
    events = random_events(random, n)
    assert_same(tables.unpack_events(through_file(tables.pack_events(events), tmp_path)), events)


def test_every_column_has_a_unit_in_the_file(tmp_path, random):
    schema = through_file(tables.pack_peaks(random_peaks(random)), tmp_path).schema
    for column in TABLES["peaks"]:
        assert schema.field(column.name).metadata[b"unit"].decode() == column.unit


def test_values_that_do_not_fit_are_refused(random):
    import equinox as eqx

    records = random_records(random, all_valid=True)
    wide = eqx.tree_at(lambda r: r.data, records, records.data.at[0, 0].set(40_000.0))
    with pytest.raises(ValueError, match="records.data has values from .* to 40000"):
        tables.pack_records(wide)
    nan = eqx.tree_at(lambda r: r.data, records, records.data.at[0, 0].set(np.nan))
    with pytest.raises(ValueError, match="records.data has values from nan"):
        tables.pack_records(nan)
    fraction = eqx.tree_at(lambda r: r.data, records, records.data.at[0, 0].set(0.5))
    with pytest.raises(ValueError, match="not whole numbers"):
        tables.pack_records(fraction)


def test_foreign_tables_are_refused(tmp_path, random):
    with pytest.raises(ValueError, match="was not written by dmsim"):
        tables.unpack(pa.table({"a": [1]}), "peaks")
    events = tables.pack_events(random_events(random))
    with pytest.raises(ValueError, match="is a table of events: expected peaks"):
        tables.unpack_peaks(events)
    with pytest.raises(ValueError, match=r"has columns .* a table of events has"):
        tables.unpack_events(events.drop_columns(["s1_pe"]))
    text = events.set_column(
        events.schema.names.index("s1_pe"), pa.field("s1_pe", pa.string()), pa.array(["1"] * events.num_rows)
    ).replace_schema_metadata(events.schema.metadata)
    with pytest.raises(ValueError, match="column s1_pe has type string: expected float or double"):
        tables.unpack_events(text)
    (tmp_path / "x.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(ValueError, match=r"x.parquet is not a readable Parquet file"):
        read_table(tmp_path / "x.parquet")


def write_two(tmp_path, provenance, random):
    writer = TableWriter(tmp_path, "events", provenance, n_chunks=2)
    chunks = [tables.pack_events(random_events(random)) for _ in range(2)]
    for i, chunk in enumerate(chunks):
        writer.write(i, chunk)
    return chunks


def test_folder_round_trip_with_provenance(tmp_path, provenance, random):
    chunks = write_two(tmp_path, provenance, random)
    reader = TableReader(tmp_path / "events")
    assert reader.kind == "events"
    assert reader.n_chunks == 2
    for found, expected in zip(reader, chunks, strict=True):
        assert_same(tables.unpack_events(found), tables.unpack_events(expected))
        assert provenance.digest.encode() in found.schema.metadata[b"dmsim.provenance"]
    assert not list(tmp_path.rglob("*" + TEMPORARY_SUFFIX))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "truncated or foreign"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x"), "does not have the SHA-256"),
        (lambda path: path.unlink(), "is missing"),
    ],
)
def test_damaged_chunk_is_named(damage, message, tmp_path, provenance, random):
    write_two(tmp_path, provenance, random)
    damage(tmp_path / "events" / "000001.parquet")
    reader = TableReader(tmp_path / "events")
    reader.read(0)
    with pytest.raises(ValueError, match=rf"000001.parquet.*{message}"):
        reader.read(1)


def test_foreign_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="not a table folder of dmsim: it has no manifest.json"):
        TableReader(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="manifest.json is damaged"):
        TableReader(tmp_path)
    (tmp_path / "manifest.json").write_text('{"name": "web app"}')
    with pytest.raises(ValueError, match="is not a manifest of dmsim"):
        TableReader(tmp_path)


def test_unfinished_table_is_refused_and_continued(tmp_path, provenance, random):
    writer = TableWriter(tmp_path, "events", provenance, n_chunks=2)
    writer.write(0, tables.pack_events(random_events(random)))
    # what a kill in the middle of chunk 1 leaves
    (tmp_path / "events" / ("000001.parquet" + TEMPORARY_SUFFIX)).write_bytes(b"half")
    with pytest.raises(ValueError, match=r"1 of 2 chunks \(000001.parquet is the first missing\)"):
        TableReader(tmp_path / "events")
    again = TableWriter(tmp_path, "events", provenance, n_chunks=2)
    assert again.has(0)
    assert not again.has(1)
    again.write(1, tables.pack_events(random_events(random)))
    assert len(list(TableReader(tmp_path / "events"))) == 2
    assert not list(tmp_path.rglob("*" + TEMPORARY_SUFFIX))


def test_another_run_is_not_mixed_in(tmp_path, provenance, random):
    write_two(tmp_path, provenance, random)
    with pytest.raises(ValueError, match="holds a table of another run"):
        TableWriter(tmp_path, "events", dataclasses.replace(provenance, seed=2), n_chunks=2)


def test_overwriting_removes_only_our_files(tmp_path, provenance, random):
    write_two(tmp_path, provenance, random)
    (tmp_path / "events" / "notes.txt").write_text("keep me")
    (tmp_path / "peaks").mkdir()
    (tmp_path / "peaks" / "000000.parquet").write_text("no manifest beside it: not ours")
    remove_tables(tmp_path)
    left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["000000.parquet", "notes.txt"]


def test_reconstruction_is_read_whole(tmp_path, provenance, random):
    n_peaks = [4, 0, 6]
    writers = {kind: TableWriter(tmp_path, kind, provenance, n_chunks=3) for kind in ("peaks", "events")}
    peaks = [random_peaks(random, n) for n in n_peaks]
    for chunk, part in enumerate(peaks):
        rows = np.array([-1, 2]) if chunk != 1 else np.array([-1, -1])
        events = dataclasses.replace(random_events(random, 2), s1_peak=rows, s2_peak=rows[::-1])
        writers["peaks"].write(chunk, tables.pack_peaks(part))
        writers["events"].write(chunk, tables.pack_events(events))
    found, events = read_reconstruction(tmp_path)
    np.testing.assert_array_equal(found.area_pe, np.concatenate([part.area_pe for part in peaks]))
    np.testing.assert_array_equal(events.s1_peak, [-1, 2, -1, -1, -1, 6])
    np.testing.assert_array_equal(events.s2_peak, [2, -1, -1, -1, 6, -1])
    assert found.area_pe[events.s1_peak[-1]] == peaks[2].area_pe[2]
