import dataclasses
import json

import numpy as np
import pytest
from io_examples import assert_same, only_valid, random_events, random_peaks, random_records

from dmsim.io import strax_events, strax_peaks
from dmsim.io.provenance import provenance_of, write_provenance
from dmsim.io.strax_folders import CODECS, FolderReader, FolderWriter, find_folder, lineage_hash
from dmsim.io.strax_records import raw_record_dtype, records_to_strax
from dmsim.io.strax_runs import RecordsReader, StraxWriter, remove_strax_folders
from dmsim.strax_layout import POSITION_FIELDS

GAP_NS = 3_500_000


def two_batches(random):
    """Two chunks of consecutive events."""
    import equinox as eqx

    first = random_records(random, n=40)
    second = random_records(random, n=30)
    clock = second.event_time_ns - second.event_time_ns[0] + first.event_time_ns[-1] + 10_000_000
    second = eqx.tree_at(
        lambda r: (r.event_time_ns, r.first_event), second, (clock, first.first_event + first.n_events)
    )
    return first, second


def write_run(tmp_path, provenance, batches, run_id="run_1"):
    writer = StraxWriter(tmp_path, run_id, provenance, n_chunks=len(batches))
    for chunk, batch in enumerate(batches):
        writer.write_records(chunk, batch)
    writer.close()
    return writer


def test_records_round_trip(tmp_path, provenance, random):
    batches = two_batches(random)
    writer = write_run(tmp_path, provenance, batches)
    assert writer.n_overflow == 4
    reader = RecordsReader(writer.folder, gap_ns=GAP_NS)
    assert reader.has_events
    for found, expected in zip(reader, batches, strict=True):
        assert_same(found, only_valid(expected))


def test_strax_reads_ours(tmp_path, provenance, random):
    strax = pytest.importorskip("strax")
    from dmsim.io.strax_context import register

    batches = two_batches(random)
    write_run(tmp_path, provenance, batches)
    context = strax.Context(storage=[strax.DataDirectory(str(tmp_path), readonly=True)])
    names = ("raw_records", "record_events", "event_starts")
    register(context, *(find_folder(tmp_path, name) for name in names))
    expected = [np.concatenate(parts) for parts in zip(*map(records_to_strax, batches), strict=True)]
    for name, rows in zip(names, expected, strict=True):
        assert context.is_stored("run_1", name)
        found = context.get_array("run_1", name, progress_bar=False)
        assert found.tobytes() == rows.tobytes()
    # strax joins what is of one kind: records with the numbers of their events
    joined = context.get_array("run_1", ("raw_records", "record_events"), progress_bar=False)
    np.testing.assert_array_equal(joined["event"], expected[1]["event"])


@pytest.mark.parametrize("compressor", sorted(CODECS))
def test_strax_reads_every_compressor(compressor, tmp_path, random):
    strax = pytest.importorskip("strax")
    array = strax_peaks.peaks_to_strax(random_peaks(random, n=50))
    writer = FolderWriter(
        tmp_path, "r", "peaks", array.dtype, lineage={}, provenance={}, compressor=compressor
    )
    start = int(array["time"][0])
    end = int((array["time"] + array["length"].astype(np.int64) * array["dt"]).max())
    writer.write(array, start_ns=start, end_ns=end)
    writer.write(array[:0], start_ns=end, end_ns=end + 5)
    writer.close()
    chunks = list(strax.FileSytemBackend().loader(str(writer.folder)))
    assert [len(chunk) for chunk in chunks] == [50, 0]
    assert chunks[0].data.tobytes() == array.tobytes()
    assert np.concatenate(list(FolderReader(writer.folder))).tobytes() == array.tobytes()


@pytest.mark.parametrize("compressor", sorted(CODECS))
def test_we_read_what_strax_wrote(compressor, tmp_path, random):
    strax = pytest.importorskip("strax")
    records = random_records(random, n=300, all_valid=True)
    raw = records_to_strax(records).raw_records
    cut = np.searchsorted(raw["time"], records.event_time_ns[3] - 10_000)
    border = int(records.event_time_ns[3] - 10_000)

    class Source(strax.Plugin):
        """Gives two chunks."""

        provides = ("raw_records",)
        depends_on = ()
        dtype = strax.raw_record_dtype()
        rechunk_on_save = False

        def is_ready(self, chunk_i):
            return chunk_i < 2

        def source_finished(self):
            return True

        def compute(self, chunk_i):
            rows = raw[:cut] if chunk_i == 0 else raw[cut:]
            start = int(raw["time"][0]) if chunk_i == 0 else border
            end = border if chunk_i == 0 else int(raw["time"][-1]) + 10_000
            out = np.zeros(len(rows), strax.raw_record_dtype())
            for name in rows.dtype.names:
                out[name] = rows[name]
            return self.chunk(start=start, end=end, data=out)

    Source.compressor = compressor
    context = strax.Context(storage=[strax.DataDirectory(str(tmp_path))], register=[Source])
    context.make("run_2", "raw_records", progress_bar=False)
    folder = find_folder(tmp_path, "raw_records")
    assert folder is not None
    assert folder.name.endswith(lineage_hash(FolderReader(folder).metadata["lineage"]))
    found = np.concatenate(list(FolderReader(folder)))
    assert found.astype(raw.dtype).tobytes() == raw.tobytes()

    reader = RecordsReader(folder, gap_ns=1_000_000)
    assert not reader.has_events
    batches = list(reader)
    assert len(batches) == 2
    assert int(batches[1].first_event) == batches[0].n_events
    event = np.concatenate([batch.event + batch.first_event for batch in batches])
    np.testing.assert_array_equal(event, records.event)
    np.testing.assert_array_equal(np.concatenate([batch.data for batch in batches]), records.data)


@pytest.mark.parametrize(
    "lineage",
    [
        {},
        {"peaks": ["Peaks", "0.1.0", {}]},
        {"b": ["B", "1", {"x": 1, "a": [1, 2.5]}], "a": ["A", "2", {"k": None}]},
    ],
)
def test_lineage_hash_is_that_of_strax(lineage):
    strax = pytest.importorskip("strax")
    assert lineage_hash(lineage) == strax.deterministic_hash(lineage)


def test_interrupted_run_goes_on(tmp_path, provenance, random):
    batches = two_batches(random)
    writer = StraxWriter(tmp_path, "run_1", provenance, n_chunks=2)
    writer.write_records(0, batches[0])
    # a kill here: a half-written file under its temporary name
    temporary = writer.folder.with_name(writer.folder.name + "_temp")
    (temporary / "raw_records-x-000001.tmp").write_bytes(b"half")
    assert find_folder(tmp_path, "raw_records") is None
    with pytest.raises(ValueError, match="was not finished"):
        FolderReader(temporary)
    again = StraxWriter(tmp_path, "run_1", provenance, n_chunks=2)
    assert again.has(0)
    assert not again.has(1)
    again.write_records(1, batches[1])
    again.close()
    found = list(RecordsReader(again.folder, gap_ns=GAP_NS))
    assert_same(found[1], only_valid(batches[1]))
    assert StraxWriter(tmp_path, "run_1", provenance, n_chunks=2).has(1)


def test_other_runs_get_other_folders(tmp_path, provenance, random):
    one = write_run(tmp_path, provenance, two_batches(random))
    two = write_run(tmp_path, dataclasses.replace(provenance, seed=7), two_batches(random))
    assert one.folder != two.folder
    with pytest.raises(ValueError, match="several folders of raw_records"):
        find_folder(tmp_path, "raw_records")


def test_overlapping_chunks_are_refused(tmp_path, provenance, random):
    first, _ = two_batches(random)
    writer = StraxWriter(tmp_path, "run_1", provenance, n_chunks=2)
    writer.write_records(0, first)
    with pytest.raises(ValueError, match=r"start \d+ ns before chunk 0 ends"):
        writer.write_records(1, first)


def damage_metadata(folder, **changes):
    (path,) = folder.glob("*-metadata.json")
    metadata = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in metadata.items() if value is not None}))


def truncate(folder):
    path = next(folder.glob("*-000001"))
    path.write_bytes(path.read_bytes()[:-10])


def replace(folder):
    path = next(folder.glob("*-000001"))
    path.write_bytes(bytes(path.stat().st_size))


def unsign(folder):
    # as strax writes them: without our checksums and sizes
    chunks = FolderReader(folder).metadata["chunks"]
    for chunk in chunks:
        del chunk["sha256"], chunk["filesize"]
    damage_metadata(folder, chunks=chunks)


def climb(folder):
    chunks = FolderReader(folder).metadata["chunks"]
    chunks[1]["filename"] = "../../secret"
    damage_metadata(folder, chunks=chunks)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ([truncate], "bytes and was written with"),
        ([replace], "does not have the SHA-256"),
        ([unsign, truncate], "raw_records.* (is not readable as blosc|rows of .* are expected)"),
        ([unsign, replace], "raw_records.* (is not readable as blosc|rows of .* are expected)"),
        ([lambda f: next(f.glob("*-000001")).unlink()], "is missing"),
        ([climb], "not one of the folder"),
        ([lambda f: damage_metadata(f, dtype="__import__('os').getcwd()")], "not a list of fields"),
        ([lambda f: damage_metadata(f, dtype="[('time', 'O')]")], "plain numbers"),
        (
            [lambda f: damage_metadata(f, dtype="[('time', '<i8')]")],
            "not hold raw_records: fields length",
        ),
        ([lambda f: damage_metadata(f, compressor="pickle")], "compressor 'pickle' is not one of"),
        ([lambda f: damage_metadata(f, chunks=None)], "it has no chunks"),
        ([lambda f: next(f.glob("*-metadata.json")).unlink()], "it has no raw_records-.*-metadata.json"),
        ([lambda f: next(f.glob("*-metadata.json")).write_text("{")], "is damaged"),
    ],
)
def test_damaged_folders_are_refused(damage, message, tmp_path, provenance, random):
    folder = write_run(tmp_path, provenance, two_batches(random)).folder
    for step in damage:
        step(folder)
    with pytest.raises(ValueError, match=message):
        list(RecordsReader(folder, gap_ns=GAP_NS))


@pytest.mark.parametrize("run_id", ["a-b", "_a", "", "a/b"])
def test_run_ids_that_strax_does_not_understand(run_id, tmp_path, provenance):
    with pytest.raises(ValueError, match="run id"):
        StraxWriter(tmp_path, run_id, provenance, n_chunks=1)


def test_rows_out_of_order_are_refused(tmp_path):
    dtype = raw_record_dtype()
    rows = np.zeros(2, dtype)
    rows["time"], rows["length"], rows["dt"] = [20, 0], 1, 10
    writer = FolderWriter(tmp_path, "r", "raw_records", dtype, lineage={}, provenance={})
    with pytest.raises(ValueError, match="not sorted by time"):
        writer.write(rows, start_ns=0, end_ns=100)
    with pytest.raises(ValueError, match="reach out of 0 to 25 ns"):
        writer.write(rows[::-1], start_ns=0, end_ns=25)


def test_removing_leaves_what_strax_wrote(tmp_path, provenance, random):
    ours = write_run(tmp_path, provenance, two_batches(random)).folder
    foreign = tmp_path / "run_1-raw_records-aaaaaaaaaa"
    foreign.mkdir()
    (foreign / "raw_records-aaaaaaaaaa-metadata.json").write_text("{}")
    remove_strax_folders(tmp_path)
    assert not ours.exists()
    assert [path.name for path in tmp_path.iterdir()] == [foreign.name]


def test_peaks_for_strax_and_back(tmp_path, provenance, random):
    strax = pytest.importorskip("strax")
    from dmsim.io.strax_context import register

    peaks = random_peaks(random, n=40)
    folder = strax_peaks.write_peaks(tmp_path, "run_1", peaks, provenance=provenance)
    assert_same(strax_peaks.read_peaks(folder), peaks)
    context = strax.Context(storage=[strax.DataDirectory(str(tmp_path), readonly=True)])
    register(context, folder)
    found = context.get_array("run_1", "peaks", progress_bar=False)
    assert found.tobytes() == strax_peaks.peaks_to_strax(peaks).tobytes()
    np.testing.assert_array_equal(found["area"], peaks.area_pe)
    np.testing.assert_array_equal(strax.endtime(found), peaks.time_ns + peaks.length_ns)
    with pytest.raises(ValueError, match="has peaks already"):
        strax_peaks.write_peaks(tmp_path, "run_1", peaks, provenance=provenance)


def test_events_for_strax_and_back(tmp_path, provenance, random):
    strax = pytest.importorskip("strax")
    from dmsim.io.strax_context import register

    peaks, events = random_peaks(random, n=40), random_events(random, n=12)
    rows = {f"{name}_peak": random.integers(-1, 40, 12) for name in ("s1", "s2", "alt_s1", "alt_s2")}
    events = dataclasses.replace(events, **rows)
    folder = strax_events.write_events(tmp_path, "run_1", events, peaks, provenance=provenance)
    assert_same(strax_events.read_events(folder), events, except_for=rows)
    context = strax.Context(storage=[strax.DataDirectory(str(tmp_path), readonly=True)])
    register(context, folder)
    found = context.get_array("run_1", "events", progress_bar=False)
    np.testing.assert_array_equal(strax.endtime(found), events.end_ns)
    for name, row in rows.items():
        expected = np.where(row >= 0, peaks.time_ns[row], -1)
        np.testing.assert_array_equal(found[name.replace("_peak", "_time")], expected)
    write_provenance(tmp_path / "run", provenance)
    assert provenance_of(tmp_path / "run").as_dict() == provenance.as_dict()
    with pytest.raises(ValueError, match="has events already"):
        strax_events.write_events(tmp_path, "run_1", events, peaks, provenance=provenance)
    empty = dataclasses.replace(events, start_ns=np.full(12, -1))
    with pytest.raises(ValueError, match="event 0 has no peaks"):
        strax_events.write_events(tmp_path, "run_2", empty, peaks, provenance=provenance)
    with pytest.raises(ValueError, match="does not hold dmsim's events: it has no fields alt_cs1_pe"):
        strax_events.read_events(strax_peaks.write_peaks(tmp_path, "run_3", peaks, provenance=provenance))


def test_peaks_that_strax_wrote(tmp_path, random):
    strax = pytest.importorskip("strax")
    peaks = random_peaks(random, n=40)
    array = strax_peaks.peaks_to_strax(peaks, extra=False)
    rows = np.zeros(40, strax.peak_dtype(12))
    for name in array.dtype.names:
        rows[name] = array[name]

    class Peaks(strax.Plugin):
        """Gives one chunk."""

        provides = ("peaks",)
        depends_on = ()
        dtype = strax.peak_dtype(12)

        def is_ready(self, chunk_i):
            return chunk_i < 1

        def source_finished(self):
            return True

        def compute(self, chunk_i):
            return self.chunk(start=int(rows["time"][0]), end=int(strax.endtime(rows).max()), data=rows)

    context = strax.Context(storage=[strax.DataDirectory(str(tmp_path))], register=[Peaks])
    context.make("run_3", "peaks", progress_bar=False)
    found = strax_peaks.read_peaks(find_folder(tmp_path, "peaks"))
    lost = (
        "event",
        "n_sensors",
        "n_saturated",
        "area_top_pe",
        "center_time_ns",
        "decile_ns",
        *POSITION_FIELDS,
    )
    assert_same(found, peaks, except_for=lost)


def test_other_data_are_not_peaks(tmp_path, provenance, random):
    folder = write_run(tmp_path, provenance, two_batches(random)).folder
    with pytest.raises(ValueError, match="does not hold peaks: it has no fields area"):
        strax_peaks.read_peaks(folder)
