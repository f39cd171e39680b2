"""Tasks for the tests of workers, in a module that a spawned process can import; without JAX."""

import os
import signal
from pathlib import Path


def square(task):
    return task * task


def fails_at_first(folder, task):
    """Fails the first time of each odd task."""
    seen = Path(folder) / f"{task}.seen"
    if task % 2 and not seen.exists():
        seen.touch()
        raise OSError(f"task {task} is not ready")
    return task


def killed_at_first(folder, task):
    """Is killed the first time of task 1."""
    seen = Path(folder) / f"{task}.seen"
    if task == 1 and not seen.exists():
        seen.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def killed_always(task):
    if task == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def mistaken(task):
    return {}[task]


def environment(_task):
    return os.environ.get("OMP_NUM_THREADS")
