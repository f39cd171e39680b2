"""Plugins that run our reconstruction inside a strax context; of the pipeline, this module alone needs strax.

    raw_records -> dmsim_raw_records -> dmsim_peaks -> dmsim_events
                                     -> peaklets, lone_hits      (in place of straxen's, where asked for)

`dmsim_raw_records` are the same records, in chunks that end in silences long enough that no peak reaches over
a border: peaks and events do not depend on how a run was cut, but for events whose joined windows are
longer than the overlap that strax carries over a border (10 ms).
"""

import multiprocessing
from collections.abc import Iterator
from dataclasses import fields
from functools import lru_cache
from typing import Any

import numpy as np
import strax

from dmsim.charge import prepare
from dmsim.detector import Detector
from dmsim.detector.presets_io import load_detector
from dmsim.io.provenance import tree_sha256
from dmsim.io.strax_events import EVENT_FIELDS, events_to_strax
from dmsim.io.strax_peaks import peaks_from_strax, peaks_to_strax
from dmsim.reconstruction.event_building import reach_ns
from dmsim.reconstruction.events import build_events
from dmsim.reconstruction.islands import quiet_ns, split_islands
from dmsim.reconstruction.peaks import peaks_of
from dmsim.reconstruction.settings import Settings, settings_from
from dmsim.reconstruction.tables import record_table_from_columns
from dmsim.strax_layout import HIT_DTYPE, peak_dtype

MODES = ("fast", "compat")
_EVENTS_ONLY = ("events",)


def _option_name(section: str, name: str) -> str:
    return f"dmsim_{section}_{name}"


def _options(*, events: bool) -> tuple[strax.Option, ...]:
    """One flat option a setting, so that each is in the lineage; and what names the detector."""
    options = [
        strax.Option("dmsim_detector", type=str, default="xenonnt", help="preset or path of a TOML file"),
        strax.Option(
            "dmsim_detector_sha256", type=str, default="", help="of its parameters; set by register"
        ),
        strax.Option("dmsim_mode", type=str, default="fast", help="fast, or compat: strax's integers"),
    ]
    defaults = Settings()
    for section in fields(Settings):
        if section.name in _EVENTS_ONLY and not events:
            continue
        group: Any = getattr(defaults, section.name)
        options += [
            strax.Option(
                _option_name(section.name, field.name),
                default=_flat(getattr(group, field.name)),
                help=field.metadata["help"],
            )
            for field in fields(group)
        ]
    return tuple(options)


def _flat(value: Any) -> Any:
    """A number, a word, or a tuple of numbers."""
    return tuple(float(one) for one in value) if isinstance(value, tuple) else value


_OF_PEAKS, _OF_EVENTS = _options(events=False), _options(events=True)


@lru_cache(maxsize=4)
def _detector(name: str, sha256: str) -> Detector:
    detector = load_detector(name)
    found = tree_sha256(detector)
    if sha256 not in ("", found):
        raise ValueError(
            f"detector {name} has changed since this context was set up (SHA-256 {found[:12]}, {sha256[:12]} "
            "in the configuration): register the plugins again"
        )
    return prepare(detector)


class _Configured:
    """What the plugins share: detector and settings from the flat options."""

    config: dict[str, Any]

    def __getstate__(self) -> dict[str, Any]:
        """Without the plugins that this one depends on: a worker needs none, and not all can be pickled."""
        return {**self.__dict__, "deps": {}, "input_buffer": {}}

    def detector(self) -> Detector:
        """The detector that the configuration names."""
        _refuse_fork()
        return _detector(self.config["dmsim_detector"], self.config["dmsim_detector_sha256"])

    def settings(self) -> Settings:
        """The settings that the configuration holds; those of events at their defaults where it has none."""
        values = {
            section.name: {
                field.name: self.config[_option_name(section.name, field.name)]
                for field in fields(section.default_factory)  # type: ignore
                if _option_name(section.name, field.name) in self.config
            }
            for section in fields(Settings)
        }
        return settings_from(values, where="strax configuration").resolved(self.detector())


def _refuse_fork() -> None:
    """JAX's threads do not survive a fork: a forked worker hangs."""
    if multiprocessing.parent_process() is not None and multiprocessing.get_start_method() == "fork":
        raise RuntimeError(
            "dmsim's plugins cannot run in forked processes: call multiprocessing.set_start_method('spawn') "
            "before strax starts its workers, or leave allow_multiprocess off"
        )


@strax.takes_config(*_OF_PEAKS)
class DmsimRawRecords(_Configured, strax.Plugin):
    """The raw_records, in chunks that end in silence. Never stored."""

    __version__ = "1.0.0"
    depends_on = ("raw_records",)
    provides = ("dmsim_raw_records",)
    data_kind = "dmsim_raw_records"
    save_when = strax.SaveWhen.NEVER
    parallel = False  # keeps what follows the last silence

    _kept: strax.Chunk | None = None

    def infer_dtype(self) -> np.dtype:
        """That of raw_records."""
        return self.deps["raw_records"].dtype_for("raw_records")

    def iter(self, iters: Any, executor: Any = None) -> Iterator[Any]:
        """Chunks, and in the end what was kept."""
        self._kept = None
        yield from super().iter(iters, executor=executor)
        if self._kept is not None:
            yield super().do_compute(raw_records=self._kept)

    def do_compute(self, chunk_i: int | None = None, **kwargs: strax.Chunk) -> Any:
        """Send what ends in silence, keep the rest."""
        chunk = kwargs["raw_records"]
        if self._kept is not None:
            chunk = strax.Chunk.concatenate([self._kept, chunk], self.allow_superrun)
        border = _last_silence(chunk.data, chunk.start, chunk.end, quiet_ns(self.settings()))
        done, self._kept = chunk.split(t=border, allow_early_split=True)
        return super().do_compute(chunk_i=chunk_i, raw_records=done)

    def compute(self, raw_records: np.ndarray) -> np.ndarray:
        """As they are."""
        return raw_records


def _last_silence(raw: np.ndarray, start_ns: int, end_ns: int, quiet: int) -> int:
    """Middle of the last silence of a chunk, or of the last gap at which a long island is cut."""
    if not len(raw):
        return end_ns - min(quiet, end_ns - start_ns) // 2
    ends = strax.endtime(raw)
    reach = int(ends.max())
    if end_ns - reach > quiet:
        return end_ns - quiet // 2
    first = split_islands(raw["time"], ends, quiet_ns=quiet).first[-1]
    if first == 0:
        return start_ns
    return (int(ends[:first].max()) + int(raw["time"][first])) // 2


@strax.takes_config(*_OF_PEAKS)
class DmsimPeaks(_Configured, strax.Plugin):
    """Peaks, classified, with S2s joined and placed: strax's fields, and our own behind them."""

    __version__ = "1.1.0"
    depends_on = ("dmsim_raw_records",)
    provides = ("dmsim_peaks",)
    data_kind = "dmsim_peaks"
    parallel = "process"

    def infer_dtype(self) -> np.dtype:
        """Layout of strax's peaks, with our fields."""
        return self._dtype()

    def _dtype(self) -> np.dtype:
        return peak_dtype(self.detector().light.sensors.n_sensors, extra=True)

    def setup(self) -> None:
        """Refuse a mode that is not there."""
        _check_mode(self.config["dmsim_mode"])

    def compute(self, dmsim_raw_records: np.ndarray, start: int, end: int) -> np.ndarray:
        """Each island by itself if one was cut, else all at once: they know nothing of each other."""
        raw, settings = dmsim_raw_records, self.settings()
        islands = split_islands(raw["time"], strax.endtime(raw), quiet_ns=quiet_ns(settings))
        first = islands.first if islands.n_cut else islands.first[:1]
        parts = [self._island(raw[rows], settings) for rows in _ranges(first, len(raw))]
        return _inside(np.concatenate(parts), start, end) if parts else np.zeros(0, self._dtype())

    def _island(self, raw: np.ndarray, settings: Settings) -> np.ndarray:
        detector = self.detector()
        if self.config["dmsim_mode"] == "compat":
            from dmsim.reconstruction import compat  # noqa: PLC0415  numba only when it is used

            return peaks_to_strax(compat.peaks_of(detector, raw, settings=settings))
        sample_ns = detector.electronics.sample_ns
        if (raw["dt"] != sample_ns).any():
            raise ValueError(
                f"raw_records.dt is {np.unique(raw['dt']).tolist()} ns and detector {detector.name} samples "
                f"every {sample_ns} ns: set dmsim_detector to the one that took them"
            )
        table = record_table_from_columns(
            *(np.ascontiguousarray(raw[name]) for name in ("time", "channel", "length", "record_i", "data")),
            dt=sample_ns,
            baseline_adc=detector.electronics.baseline_adc,
            n_sensors=detector.light.sensors.n_sensors,
        )
        return peaks_to_strax(peaks_of(detector, table, settings=settings))


def _check_mode(mode: str) -> None:
    if mode not in MODES:
        raise ValueError(f"dmsim_mode is {mode!r}: choose from {', '.join(MODES)}")


def _ranges(first: np.ndarray, n: int) -> Iterator[slice]:
    if n:
        yield from map(slice, first, np.append(first[1:], n))


def _inside(peaks: np.ndarray, start: int, end: int) -> np.ndarray:
    """Peaks cut at the borders of their chunk: only where an island was cut does one reach over."""
    stop = np.minimum(strax.endtime(peaks), end)
    over = (peaks["time"] < start) | (strax.endtime(peaks) > end)
    if over.any():
        peaks["time"] = np.maximum(peaks["time"], start)
        peaks["length"][over] = np.maximum((stop - peaks["time"])[over] // peaks["dt"][over], 1)
    return peaks


@strax.takes_config(*_OF_PEAKS)
class DmsimPeaklets(_Configured, strax.Plugin):
    """Peaklets and lone hits in strax's layout and with its integers, for plugins made for straxen's."""

    __version__ = "1.0.0"
    depends_on = ("dmsim_raw_records",)
    provides = ("peaklets", "lone_hits")
    data_kind = {"peaklets": "peaklets", "lone_hits": "lone_hits"}
    parallel = "process"

    def infer_dtype(self) -> dict[str, np.dtype]:
        """Layouts of strax."""
        n_sensors = self.detector().light.sensors.n_sensors
        return {"peaklets": peak_dtype(n_sensors), "lone_hits": HIT_DTYPE}

    def compute(self, dmsim_raw_records: np.ndarray, start: int, end: int) -> dict[str, np.ndarray]:
        """Hits and peaks with strax's integers; the type is that of our classification."""
        from dmsim.reconstruction import compat  # noqa: PLC0415  numba only when it is used

        settings = self.settings()
        chunk = int(start), int(end)
        found = compat.find(self.detector(), dmsim_raw_records, settings=settings, chunk_ns=chunk)
        found.peaks["type"] = compat.signals(found.peaks, settings)
        return {"peaklets": found.peaks, "lone_hits": found.lone_hits}


@strax.takes_config(*_OF_EVENTS)
class DmsimEvents(_Configured, strax.OverlapWindowPlugin):
    """Events around triggering S2s: main and alternate signals, place, corrected areas, energy."""

    __version__ = "1.0.1"
    depends_on = ("dmsim_peaks",)
    provides = ("dmsim_events",)
    data_kind = "dmsim_events"

    def infer_dtype(self) -> list[Any]:
        """Start and end, our columns, and the starts of the signals, -1 if there is none."""
        return [*strax.time_fields, *EVENT_FIELDS]

    def get_window_size(self) -> int:
        """As far as a peak can matter to an event that it is not in [ns]."""
        return reach_ns(self.detector(), self.settings().events)

    def compute(self, dmsim_peaks: np.ndarray, start: int, end: int) -> np.ndarray:
        """Events of these peaks."""
        peaks = peaks_from_strax(dmsim_peaks)
        events = build_events(self.detector(), peaks, n_events=None, settings=self.settings())
        array = events_to_strax(events, peaks)
        out = np.zeros(len(events), np.dtype(self.infer_dtype()))
        for name in array.dtype.names or ():
            out[name] = array[name]
        for name in ("time", "endtime"):
            out[name] = np.clip(out[name], start, end)
        return out


def register(
    context: strax.Context,
    *,
    detector: str = "xenonnt",
    settings: Settings | None = None,
    mode: str = "fast",
    peaklets: bool = False,
) -> None:
    """Make a strax context know our plugins, and configure them.

    Args:
        context: with raw_records, from a plugin or a folder.
        detector: preset or path of a TOML file; its hash is part of the configuration.
        settings: the defaults if None. Each is an option, such as `dmsim_clustering_gap_ns`.
        mode: "fast" or "compat", of `dmsim_peaks`.
        peaklets: give `peaklets` and `lone_hits`, too, with strax's integers whatever the mode.

    Raises:
        ValueError: if the detector or the mode is unknown.
    """
    _check_mode(mode)
    config = {
        "dmsim_detector": detector,
        "dmsim_detector_sha256": tree_sha256(load_detector(detector)),
        "dmsim_mode": mode,
    }
    for section, values in (settings or Settings()).as_dict().items():
        config |= {
            _option_name(section, name): tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
    context.register([DmsimRawRecords, DmsimPeaks, DmsimEvents, *([DmsimPeaklets] if peaklets else [])])
    context.set_config(config)
