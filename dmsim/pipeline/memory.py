"""How much memory a process has used at most."""

import resource
import sys
from pathlib import Path


def peak_memory_mb() -> int:
    """Largest resident memory of this process so far [MB], as far as the system tells."""
    status = Path("/proc/self/status")
    if status.is_file():
        # of this program alone; getrusage counts what its parent had when it was started
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return round(int(line.split()[1]) * 1024 / 1e6)
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2): bytes on macOS, kB on Linux
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)
