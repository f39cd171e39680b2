"""Reconstructed peaks and events against what was simulated.

`inference.tuning.truth_matching` states what is counted for peaks, `event_matching` for events.
"""

from event_matching import match_events

from inference.tuning.truth_matching import (
    KINDS,
    Columns,
    Found,
    Light,
    Rules,
    light_of,
    match_peaks,
    neighbours,
    nothing_found,
)

__all__ = ["KINDS", "Found", "Light", "Rules", "light_of", "match", "neighbours", "nothing_found"]


def match(light: Light, found: Found, rules: Rules) -> dict[str, Columns]:
    """Tables of true signals, of peaks, of true events and of built events."""
    signals, peaks = match_peaks(light, found, rules)
    index = {"s1": found.event_s1, "s2": found.event_s2, "z_mm": found.event_z_mm}
    true_events, built = match_events(light.events, signals, peaks, index)
    return {"signals": signals, "peaks": peaks, "events": true_events, "built": built}
