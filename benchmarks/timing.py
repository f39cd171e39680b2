"""CPU time of a call, with its first pass apart. Standard library only: peers' interpreters run it, too."""

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any


def measure(call: Callable[[], Any], *, min_cpu_s: float = 2.0, min_passes: int = 3) -> dict[str, float]:
    """CPU-seconds of the first call, and the median of further ones.

    Args:
        call: one pass over the work; must not return before the work is done.
        min_cpu_s: passes are repeated until they have taken this long together.
        min_passes: and until there are so many.

    Returns:
        first_cpu_s, cpu_s (median of a pass), cpu_min_s, wall_s (median), n_passes.
    """
    start = time.process_time()
    call()
    first = time.process_time() - start
    cpu, wall = [], []
    while sum(cpu) < min_cpu_s or len(cpu) < min_passes:
        start_wall, start = time.perf_counter(), time.process_time()
        call()
        cpu.append(time.process_time() - start)
        wall.append(time.perf_counter() - start_wall)
    return {
        "first_cpu_s": first,
        "cpu_s": statistics.median(cpu),
        "cpu_min_s": min(cpu),
        "wall_s": statistics.median(wall),
        "n_passes": len(cpu),
    }


def peak_memory_mb() -> float:
    """Largest resident size of this process so far [MB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(**figures: Any) -> None:
    """The one line of JSON that a worker hands back."""
    sys.stdout.write(json.dumps({**figures, "peak_memory_mb": peak_memory_mb()}) + "\n")
