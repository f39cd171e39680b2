"""Readout windows of continuous detector time: which events are looked at together."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from dmsim.detector import Detector
from dmsim.records import Deposits

_LONG_AGO = np.iinfo(np.int64).min // 2
LONGEST_NS = 5e7  # of a window by default: 20 drift times of the largest detectors


class Windows(NamedTuple):
    """Readout windows of a stream. Samples count on the detector's clock."""

    start_sample: Int[np.ndarray, "window"]  # start of its first event
    first_event: Int[np.ndarray, "window"]  # position of that event among the deposits' events
    event_sample: Int[np.ndarray, "event"]  # start of each event
    lead: int  # samples by which a pulse may start before its event
    n_cut: int  # windows that were cut because they would have been too long

    @property
    def window_of_event(self) -> Int[np.ndarray, "event"]:
        """Number of each event's window."""
        return np.searchsorted(self.first_event, np.arange(self.event_sample.size), "right") - 1


def stream_windows(
    detector: Detector, deposits: Deposits, *, pile_up: bool = True, longest_ns: float = LONGEST_NS
) -> Windows:
    """The readout windows of a stream: events of which one starts before the signals of another have ended.

    Args:
        detector: gives the length of the signals: drift time, afterpulses and photoionisation.
        deposits: in order of time.
        pile_up: False makes each event a window.
        longest_ns: above 0, at most 1e9; a window that would be longer is cut before the event that makes
            it so.

    Raises:
        ValueError: if events have no times, or are not in order of them, or longest_ns is out of range.

    Gradient: none (integers).
    """
    sample_ns = detector.electronics.sample_ns
    if not 0 < longest_ns <= 1e9:
        raise ValueError(f"longest_ns is {longest_ns} ns: must be above 0 and at most 1e9 ns")
    if deposits.event_time_ns is None:
        raise ValueError("deposits.event_time_ns is None: a stream needs the events' times")
    start = np.asarray(deposits.event_time_ns, np.int64) // sample_ns
    if np.any(np.diff(start) < 0):
        event = int(np.argmax(np.diff(start) < 0)) + 1
        raise ValueError(
            f"deposits.event_time_ns goes back at event {event}: bring the events into the order of time"
        )
    lead, length = _lead(detector), signal_samples(detector)
    if not pile_up:
        return Windows(start, np.arange(start.size), start, lead, 0)
    last = np.zeros(start.size)
    np.maximum.at(last, np.asarray(deposits.event), np.asarray(deposits.time_ns, np.float64))
    end = np.maximum.accumulate(start + np.ceil(last / sample_ns).astype(np.int64) + length)
    first, n_cut = [], 0
    begins, ends = start.tolist(), end.tolist()
    for event, begin in enumerate(begins):
        apart = event == 0 or begin - lead > ends[event - 1]
        if apart or begin - begins[first[-1]] > longest_ns / sample_ns:
            first.append(event)
            n_cut += not apart
    first_event = np.asarray(first, np.int64)
    return Windows(start[first_event], first_event, start, lead, n_cut)


def _lead(detector: Detector) -> int:
    """Samples by which a pulse can start before its event: readout, transit time, dark counts."""
    electronics, dark = detector.electronics, detector.dark_counts
    early_ns = 6 * float(electronics.transit_time_spread_ns) + (
        0.0 if dark is None else float(dark.before_ns)
    )
    return int(np.ceil(early_ns / electronics.sample_ns)) + electronics.zle_samples_before


def signal_samples(detector: Detector) -> int:
    """Samples from a deposit to the end of its signals, but for delayed electrons and rare late light.

    It bounds windows only; how photons make pulses does not depend on it.
    """
    electronics = detector.electronics
    length_ns = float(detector.electrons.drift_time_ns(-detector.geometry.drift_length_mm)) + 2500.0
    if detector.photoionisation is not None:
        length_ns += float(detector.photoionisation.cutoff_ns)
    if detector.afterpulses is not None:
        after = detector.afterpulses
        length_ns += float(np.max(after.delay_ns + 4 * after.delay_spread_ns + after.delay_width_ns))
    if detector.dark_counts is not None:
        length_ns = max(length_ns, float(detector.dark_counts.after_ns))
    after_pulse = electronics.pulse_samples + electronics.zle_samples_after
    return int(np.ceil(length_ns / electronics.sample_ns)) + after_pulse


def dark_from(detector: Detector, deposits: Deposits, windows: Windows) -> np.ndarray | None:
    """Dark counts are drawn around each event: where that has been done for an earlier one, not again."""
    dark = detector.dark_counts
    if dark is None:
        return None
    seen = np.asarray(deposits.energy_kev) > 0
    last = np.full(deposits.n_events, -np.inf)
    np.maximum.at(last, np.asarray(deposits.event)[seen], np.asarray(deposits.time_ns, np.float64)[seen])
    has_any = np.isfinite(last)
    samples = np.ceil((np.where(has_any, last, 0.0) + float(dark.after_ns)) / detector.electronics.sample_ns)
    end = np.where(has_any, windows.event_sample + samples.astype(np.int64), _LONG_AGO)
    return np.concatenate([[_LONG_AGO], np.maximum.accumulate(end)[:-1]])
