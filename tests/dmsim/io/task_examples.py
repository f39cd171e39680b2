"""Tasks for the tests of workers, in a module that a spawned process can import; without JAX."""

import gc
import os
import signal
from multiprocessing.connection import Connection
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


def killed_in_its_answer(folder, task):
    """Is killed when the first answer to task 1 is half on its way."""
    seen = Path(folder) / f"{task}.seen"
    if task == 1 and not seen.exists():
        seen.touch()
        (pipe,) = (thing for thing in gc.get_objects() if isinstance(thing, Connection))
        os.write(pipe.fileno(), (100).to_bytes(4, "big") + b"half")  # 100 bytes are announced
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
