"""Peak windows: groups of hits of all sensors that no gap separates."""

import numpy as np

from dmsim.reconstruction.host import windows as host
from dmsim.reconstruction.settings import Clustering
from dmsim.reconstruction.tables import HitTable, Windows


def cluster(settings: Clustering, hits: HitTable, *, dt: int, n_sensors: int) -> Windows:
    """Group hits by gaps, in whole samples: extensions are rounded up, so that windows never shrink.

    A group that would be longer than `max_duration_ns` is cut before the hit that makes it so.

    Args:
        settings: gap, extensions, least number of sensors.
        hits: sorted by time.
        dt: ns a sample.
        n_sensors: of the detector.
    """
    left, right = (
        int(np.ceil(ns / dt)) * dt for ns in (settings.left_extension_ns, settings.right_extension_ns)
    )
    limits = host.Limits(float(settings.gap_ns), float(settings.max_duration_ns), int(settings.min_sensors))
    start, end = host.cluster(hits.time_ns, hits.end_ns, hits.channel, n_sensors, limits, left, right)
    return Windows(start, end)
