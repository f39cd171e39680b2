"""The chains that are compared: dmsim with its settings or others, and straxen in its own interpreter."""

import json
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np
from matching import Found, nothing_found

import dmsim
from dmsim.detector import Detector
from dmsim.io import strax_records
from dmsim.reconstruction.corrections import delay_offset_ns
from dmsim.reconstruction.events import build_events
from dmsim.reconstruction.settings import Settings
from dmsim.records import RawRecords, Signal
from inference.tuning.clustering_samples import found_of


def ours(detector: Detector, records: RawRecords, settings: Settings) -> Found:
    """Peaks and events of dmsim; events are what triggers, as straxen has it, not what was simulated."""
    peaks, _ = dmsim.reconstruct(detector, records, settings=settings)
    events = build_events(detector, peaks, n_events=None, settings=settings)
    has_any = (events.s1_peak >= 0) | (events.s2_peak >= 0)
    return found_of(peaks)._replace(
        event_s1=np.asarray(events.s1_peak, np.int64)[has_any],
        event_s2=np.asarray(events.s2_peak, np.int64)[has_any],
        event_z_mm=np.asarray(events.z_mm, np.float64)[has_any],
    )


class Straxen:
    """straxen's chain, held ready in another process; a context manager."""

    def __init__(self, python: str, detector: Detector):
        self._detector = detector
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        (folder / "setup.json").write_text(json.dumps(setup_of(detector)))
        script = Path(__file__).with_name("peer_straxen.py")
        self._log = (folder / "stderr").open("w+")
        self._process = subprocess.Popen(
            [python, str(script), str(folder / "setup.json")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self.version = self._answer()

    def __enter__(self) -> "Straxen":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._log.close()
        self._folder.cleanup()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            self._log.seek(0)
            raise RuntimeError(f"straxen failed: {self._log.read().strip()[-1000:]}")
        return line

    def __call__(self, records: RawRecords) -> Found:
        """Peaks and events of the records."""
        raw = strax_records.records_to_strax(records).raw_records
        if not raw.size:
            return nothing_found()
        folder = Path(self._folder.name)
        source, target = folder / "records.npy", folder / "found.npz"
        np.save(source, raw)
        assert self._process.stdin is not None
        self._process.stdin.write(f"{source} {target}\n")
        self._process.stdin.flush()
        self._answer()
        with np.load(target) as columns:
            return from_straxen(self._detector, dict(columns))


def setup_of(detector: Detector) -> dict:
    """What straxen's plugins need to know of the detector."""
    sensors, length_mm = detector.light.sensors, float(detector.geometry.drift_length_mm)
    threshold = Settings().resolved(detector).hits.threshold_adc
    assert threshold is not None
    return {
        "n_sensors": sensors.n_sensors,
        "n_top": sensors.n_top,
        "adc_per_pe": float(detector.electronics.adc_per_pe),
        "hit_threshold_adc": float(threshold),
        "drift_length_cm": length_mm / 10,
        "drift_speed_cm_per_ns": length_mm / 10 / float(detector.electrons.drift_time_ns(-length_mm)),
        "sensor_x_cm": (np.asarray(sensors.x_mm, float)[: sensors.n_top] / 10).tolist(),
        "sensor_y_cm": (np.asarray(sensors.y_mm, float)[: sensors.n_top] / 10).tolist(),
    }


def from_straxen(detector: Detector, columns: dict[str, np.ndarray]) -> Found:
    """Its columns as ours. Depth: the drift time less the same delay, at the same drift speed."""
    start, end = columns["time"], columns["endtime"]
    rows = {}
    for name, kind in (("s1", Signal.S1), ("s2", Signal.S2)):
        wanted = np.stack([columns[f"event_{name}_time"], columns[f"event_{name}_endtime"]], axis=1)
        order = np.lexsort((end, start))
        place = {(int(start[i]), int(end[i])): i for i in order if columns["type"][i] == kind}
        has = columns[f"event_{name}_index"] >= 0
        rows[name] = np.array(
            [place[int(a), int(b)] if there else -1 for (a, b), there in zip(wanted, has, strict=True)],
            np.int64,
        )
    center = (columns["center_time"] - start).astype(np.float64)
    both = (rows["s1"] >= 0) & (rows["s2"] >= 0)
    drift = np.full(both.size, np.nan)
    s1, s2 = rows["s1"][both], rows["s2"][both]
    drift[both] = start[s2] - start[s1] + center[s2] - center[s1] - delay_offset_ns(detector)
    return Found(
        start_ns=start,
        end_ns=end,
        center_ns=center,
        area_pe=columns["area"].astype(np.float64),
        signal=columns["type"].astype(np.int64),
        x_mm=columns["x"] * 10.0,
        y_mm=columns["y"] * 10.0,
        event_s1=rows["s1"],
        event_s2=rows["s2"],
        event_z_mm=np.asarray(detector.electrons.z_mm(drift), np.float64),
    )
