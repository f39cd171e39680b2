import pytest

from dmsim.cli.main import main
from dmsim.io.reconstruction import read_reconstruction
from dmsim.records import Signal

pytestmark = pytest.mark.quick_compile

N_EVENTS = 4


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Records, and both ways to make events of them."""
    folder = tmp_path_factory.mktemp("plot")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("COMPILATION_CACHE_DIR", "PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
                     "PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"):  # fmt: skip
            patch.setenv(f"JAX_{name}", "1")
        simulate = ["simulate", "-d", "xams", "-s", "kr83m", "-n", str(N_EVENTS), "--seed", "4"]
        assert main([*simulate, "--chunk-events", "3", "-o", str(folder / "records")]) == 0
        for events in ("numbered", "triggered"):
            arguments = [str(folder / "records"), "-o", str(folder / events), "--events", events]
            assert main(["reconstruct", *arguments]) == 0
    return folder


@pytest.mark.parametrize("kind", ["numbered", "triggered"])
def test_every_event_is_drawn_and_its_peaks_are_listed(made, dmsim_command, tmp_path, kind):
    peaks, events = read_reconstruction(made / kind)
    assert 1 < len(events) <= N_EVENTS  # a small S2 beside larger ones triggers nothing
    last = len(events) - 1
    path = tmp_path / "event.png"
    arguments = ("plot", "event", made / kind, "--records", made / "records", "-o", path)
    status, output, error = dmsim_command(*arguments, "--event", last)
    assert (status, error) == (0, "")
    assert path.read_bytes().startswith(b"\x89PNG")
    main_s2 = peaks.area_pe[events.s2_peak[last]]
    (row,) = [line for line in output.splitlines() if line.split()[:1] == ["S2"]]
    assert f"{main_s2:,.1f}" in row
    assert row.endswith(Signal.S2.name.lower())


def test_what_cannot_be_drawn_is_said_in_one_line(made, dmsim_command, tmp_path):
    run, records = made / "numbered", made / "records"
    for arguments, message in (
        ((run, "-r", records, "-e", 99), f"has no event 99: its events are 0 to {N_EVENTS - 1}"),
        ((records, "-r", records, "-e", 0), "is not an output of dmsim reconstruct"),
        ((tmp_path, "-r", records, "-e", 0), "has no provenance.json"),
        ((run, "-r", run, "-e", 0), "holds no records"),
        ((run, "-r", records, "-e", 0, "-d", "xenonnt"), "a detector xams of other parameters"),
        ((run, "-r", records, "-e", 0, "-o", tmp_path / "event.txt"), "must end with one of .png"),
    ):
        status, output, error = dmsim_command("plot", "event", *arguments)
        assert (status, output) == (1, "")
        assert message in error
        assert error.count("\n") == 1
