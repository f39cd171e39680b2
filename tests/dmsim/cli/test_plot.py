from dataclasses import replace

import numpy as np
import pytest

import dmsim
from dmsim.cli.event_view import _decisions
from dmsim.cli.main import main
from dmsim.io.reconstruction import read_reconstruction
from dmsim.plot.waveforms import summed_samples
from dmsim.reconstruction import Settings
from dmsim.reconstruction.classify import classify
from dmsim.records import Peaks, Signal

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
        assert main([*simulate, "--chunk-events", "2", "-o", str(folder / "records")]) == 0
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


def peaks_of(area, rise, top, sensors, at_once, settings):
    """Peaks with these quantities, and our classes of them."""
    area, rise, top = (np.asarray(values, float) for values in (area, rise, top))
    sensors, at_once = np.asarray(sensors), np.asarray(at_once)
    columns = {name: np.zeros(len(area)) for name in Peaks.__dataclass_fields__}
    decile = np.zeros((len(area), 11))
    decile[:, 5] = rise
    columns |= {
        "area_pe": area, "area_top_pe": area * top, "decile_ns": decile, "n_sensors": sensors,
        "tight_coincidence": at_once, "goodness_of_split": np.full(len(area), np.nan),
        "signal": classify(
            settings.classification, area_pe=area, area_fraction_top=top, rise_time_ns=rise,
            n_sensors=sensors, tight_coincidence=at_once,
        ),
    }  # fmt: skip
    return Peaks(**columns)


def test_what_is_red_is_what_spoke_against_a_class():
    """A class is S1 or S2 where nothing is red, and unknown where something is: of peaks all over."""
    settings = Settings().resolved(dmsim.load_detector("xenonnt"))
    random = np.random.default_rng(1)
    n = 3000
    peaks = peaks_of(
        10 ** random.uniform(0, 4, n), 10 ** random.uniform(1, 3.5, n), random.random(n),
        random.integers(2, 8, n), random.integers(0, 6, n), settings,
    )  # fmt: skip
    rows = _decisions(settings, peaks, [""] * n, np.zeros(n))
    red = np.array([any(cell.held is False for cell in row) for row in rows])
    np.testing.assert_array_equal(red, peaks.signal == int(Signal.UNKNOWN))
    assert {int(signal) for signal in peaks.signal} == {0, 1, 2}
    # large and slower than a small S1 may be: an S1 by the bound for large ones
    (row,) = _decisions(settings, peaks_of([400], [100], [0.3], [200], [100], settings), ["S1"], np.zeros(1))
    assert [cell.text for cell in row][3] == "100 (<= 120)"
    assert row[-1].text == "s1"


def test_a_waveform_takes_the_gain_of_each_sensor():
    detector = dmsim.load_detector("xams")
    n = detector.light.sensors.n_sensors
    factor = np.ones(n)
    factor[1], factor[2] = 2.0, 0.0
    electronics = replace(detector.electronics, gain=detector.electronics.gain * factor)
    of_each = replace(detector, electronics=electronics)
    start, channel, length = np.array([4, 5, 5]), np.array([0, 1, 2]), np.array([3, 2, 3])
    data = np.full((3, 3), detector.electronics.baseline_adc - 10)
    baseline = detector.electronics.baseline_adc
    found = summed_samples(of_each, start, channel, length, data, baseline_adc=baseline)
    one = 10 / float(detector.electronics.adc_per_pe)
    np.testing.assert_allclose(found, [one, 1.5 * one, 1.5 * one, 0], rtol=1e-6)
