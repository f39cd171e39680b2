"""Bytes of valid files are changed at random: readers give what they can read or one named error."""

import io
import json
import os
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import synthetic_run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dmsim
from dmsim.io.files import sha256_of_file
from dmsim.io.record_columns import check_columns
from dmsim.io.records_input import open_records
from dmsim.io.strax_folders import CODECS
from dmsim.reconstruction.settings import Settings, load_settings

FAST = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)

# a few edits: where (as a share of the file), what is done there, with which bytes
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1, exclude_max=True),
        st.sampled_from(["replace", "insert", "delete", "cut", "repeat"]),
        st.binary(min_size=1, max_size=9),
    ),
    min_size=1,
    max_size=4,
)
# what stands in metadata is changed to a value of another kind
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=20),
    st.lists(st.integers(-5, 5), max_size=3), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from(["[('time', '<i8')]", "[('data', '<i2', 10**12)]", "..", "../x", "", "\0", "O", "lz4"]),
)  # fmt: skip


def edited(content: bytes, edits) -> bytes:
    for share, what, new in edits:
        at = int(share * len(content))
        if what == "replace":
            content = content[:at] + new + content[at + len(new) :]
        elif what == "insert":
            content = content[:at] + new + content[at:]
        elif what == "delete":
            content = content[:at] + content[at + len(new) :]
        elif what == "cut":
            content = content[:at]
        else:
            content = content[:at] + content[at : at + 40] * 2 + content[at + 40 :]
    return content


def places(value, path=()):
    """Every place in JSON."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def with_value(content, path, value):
    if not path:
        return value
    content = json.loads(json.dumps(content))
    at = content
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return content


def read_all(folder: Path) -> None:
    """What `dmsim reconstruct` does with a path before it computes."""
    with suppress(ValueError):  # the named error; anything else fails the test
        source = open_records(folder)
        assert source.is_stream in (True, False)
        for chunk in range(min(source.n_chunks, 3)):
            check_columns(source.read_span(chunk), n_sensors=494, n_bits=14, origin=source.path_of(chunk))
        if source.has_events:
            for chunk in range(min(source.n_chunks, 3)):
                source.read_events(chunk)


@pytest.fixture(scope="module")
def raw():
    return synthetic_run.synthetic_run(1, seconds=0.004, event_hz=500.0, s2_pe=30)[:120]


@pytest.fixture(scope="module")
def strax(raw, tmp_path_factory):
    folder = tmp_path_factory.mktemp("strax")
    return synthetic_run.write_strax(folder, raw, synthetic_run.pauses(raw)[5:6].tolist())


@pytest.fixture(scope="module")
def table(raw, tmp_path_factory):
    detector = dmsim.load_detector("xenonnt")
    return synthetic_run.write_tables(tmp_path_factory.mktemp("table"), raw, [60], detector)


class Fuzz:
    """One file at a time is changed, read, and put back."""

    def __init__(self, read):
        self.read, self.n_cases = read, 0

    def __call__(self, path: Path, new: bytes) -> None:
        old = path.read_bytes()
        try:
            path.write_bytes(new)
            self.n_cases += 1
            self.read()
        finally:
            path.write_bytes(old)


def fuzz_bytes(files, read):
    """A test that changes the bytes of one of some files."""
    fuzz = Fuzz(read)

    @FAST
    @given(st.sampled_from(files), EDITS)
    def changed(path, edits):
        fuzz(path, edited(path.read_bytes(), edits))

    return changed, fuzz


def fuzz_json(files, read):
    """A test that changes a value in one of some JSON files."""
    fuzz, drawn = Fuzz(read), {path: json.loads(path.read_text()) for path in files}

    @FAST
    @given(st.sampled_from(files), st.data(), VALUES)
    def changed(path, data, value):
        place = data.draw(st.sampled_from(list(places(drawn[path]))))
        fuzz(path, json.dumps(with_value(drawn[path], place, value)).encode())

    return changed, fuzz


def strax_without_checksums(strax):
    """As strax itself writes: garbled chunks reach the compressors."""
    (metadata,) = strax.glob("*metadata.json")
    content = json.loads(metadata.read_text())
    for chunk in content["chunks"]:
        chunk.pop("sha256", None)
        chunk.pop("filesize", None)
    metadata.write_text(json.dumps(content))
    return metadata


def campaigns(strax, table, tmp_path):
    """Every way in which files are changed."""
    metadata = strax_without_checksums(strax)
    chunks = sorted(path for path in strax.iterdir() if path != metadata)
    tables = sorted((table / "records").glob("*.parquet"))
    manifest, provenance = table / "records" / "manifest.json", table / "provenance.json"
    yield "strax metadata", fuzz_json([metadata], lambda: read_all(strax))
    yield "strax metadata bytes", fuzz_bytes([metadata], lambda: read_all(strax))
    yield "manifest", fuzz_json([manifest, provenance], lambda: read_all(table))
    yield "manifest bytes", fuzz_bytes([manifest, provenance], lambda: read_all(table))
    yield "table bytes", fuzz_bytes(tables, lambda: read_resigned(table))
    yield "table batch", fuzz_batch(table)
    yield "settings", fuzz_settings(tmp_path)
    raw = np.frombuffer(CODECS["blosc"].decompress(chunks[0].read_bytes(), _size(metadata)), np.uint8)
    for name, codec in CODECS.items():
        yield f"strax chunk, {name}", fuzz_chunk(strax, metadata, chunks[0], name, codec, raw.tobytes())


def _size(metadata):
    content = json.loads(metadata.read_text())
    return content["chunks"][0]["nbytes"]


def fuzz_chunk(strax, metadata, path, name, codec, raw):
    """Changed in packed form, and in the records themselves."""
    content = json.loads(metadata.read_text()) | {"compressor": name}
    packed = codec.compress(raw)

    def read():
        metadata.write_text(json.dumps(content))
        read_all(strax)

    fuzz = Fuzz(read)

    @FAST
    @given(EDITS, st.booleans())
    def changed(edits, inside):
        fuzz(path, codec.compress(edited(raw, edits)) if inside else edited(packed, edits))

    return changed, fuzz


def read_resigned(table):
    """With the checksums of what is there, so that it is not they that tell."""
    manifest = table / "records" / "manifest.json"
    old = manifest.read_bytes()
    content = json.loads(old)
    for name, entry in content["chunks"].items():
        path = manifest.with_name(name)
        entry |= {"n_bytes": path.stat().st_size, "sha256": sha256_of_file(path)}
    try:
        manifest.write_text(json.dumps(content))
        read_all(table)
    finally:
        manifest.write_bytes(old)


def fuzz_batch(table):
    """What stands beside the columns of a table."""
    path = table / "records" / "000000.parquet"
    found = pq.read_table(path)
    batch = json.loads(found.schema.metadata[b"dmsim.batch"])
    fuzz = Fuzz(lambda: read_resigned(table))

    @FAST
    @given(st.data(), VALUES)
    def changed(data, value):
        place = data.draw(st.sampled_from(list(places(batch))))
        new = json.dumps(with_value(batch, place, value)).encode()
        file = io.BytesIO()
        pq.write_table(found.replace_schema_metadata({**found.schema.metadata, b"dmsim.batch": new}), file)
        fuzz(path, file.getvalue())

    return changed, fuzz


def fuzz_settings(tmp_path):
    """A file of thresholds."""
    path = tmp_path / "settings.toml"
    lines = []
    for section, values in Settings().as_dict().items():
        lines.append(f"[{section}]")
        lines += [f"{name} = {json.dumps(value)}" for name, value in values.items() if value is not None]
    path.write_text("\n".join(lines) + "\n")
    load_settings(path)

    def read():
        with suppress(ValueError):
            load_settings(path)

    fuzz = Fuzz(read)

    @FAST
    @given(EDITS)
    def changed(edits):
        fuzz(path, edited(path.read_bytes(), edits))

    return changed, fuzz


def test_changed_files_give_a_named_error(strax, table, tmp_path):
    for _, (changed, fuzz) in campaigns(strax, table, tmp_path):
        changed()
        assert fuzz.n_cases >= 60


def test_an_unnamed_error_would_be_seen(strax):
    """The fuzzing can fail: a reader that trusts its input does."""
    metadata = strax_without_checksums(strax)
    changed, _ = fuzz_json([metadata], lambda: json.loads(metadata.read_text())["chunks"][0]["n"])
    with pytest.raises((TypeError, KeyError, IndexError, ExceptionGroup)):
        changed()


@pytest.mark.slow
def test_changed_files_for_minutes(strax, table, tmp_path):
    """DMSIM_FUZZ_SECONDS, or ten minutes; prints the number of cases."""
    end = time.monotonic() + float(os.environ.get("DMSIM_FUZZ_SECONDS", "600"))
    counts: dict[str, int] = {}
    everything = list(campaigns(strax, table, tmp_path))
    while time.monotonic() < end:
        for name, (changed, fuzz) in everything:
            changed()
            counts[name] = fuzz.n_cases
    print(f"{sum(counts.values())} cases: {counts}")
