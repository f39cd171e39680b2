"""Tasks by number: here, in spawned processes, or on a Dask cluster. One function does the work in all three.

A task that fails is tried again after the others, and then given up; the others go on. A task whose process
is killed has failed. Nothing but the number goes to a worker and nothing but a small result comes back.
"""

import multiprocessing
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

Work = Callable[[int], Any]

# each worker keeps to one core; the library reads these when it is loaded
ONE_THREAD = {
    name: "1"
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS",
                 "BLOSC_NTHREADS", "ARROW_NUM_THREADS")
}  # fmt: skip


class Outcome(NamedTuple):
    """What became of a task."""

    task: int
    result: Any  # None if it was given up
    error: str | None
    n_attempts: int


class _Tried(NamedTuple):
    task: int
    n_attempts: int


def run_here(work: Work, tasks: Iterable[int], *, retries: int) -> Iterator[Outcome]:
    """One task after the other in this process.

    Args:
        work: does a task; ValueError and OSError are the task's failures, anything else is ours and ends all.
        tasks: numbers.
        retries: how often a failed task is tried again.
    """
    queue = deque(_Tried(task, 0) for task in tasks)
    while queue:
        task, before = queue.popleft()
        result, error = _attempt(work, task)
        if error is not None and before < retries:
            queue.append(_Tried(task, before + 1))
            continue
        yield Outcome(task, result, error, before + 1)


def _attempt(work: Work, task: int) -> tuple[Any, str | None]:
    try:
        return work(task), None
    except (ValueError, OSError) as error:
        return None, " ".join(str(error).split()) or type(error).__name__


class _Worker:
    """A spawned process and the pipe to it."""

    def __init__(self, work: Work):
        context = multiprocessing.get_context("spawn")  # JAX deadlocks in a forked process
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        with _environment(ONE_THREAD):
            self.process.start()
        theirs.close()
        self.current: _Tried | None = None

    def give(self, tried: _Tried) -> None:
        """Send a task; that the process is gone shows when its answer is asked for."""
        self.current = tried
        with suppress(ConnectionError):  # a broken pipe, or a reset one
            self.pipe.send(tried.task)

    def stop(self) -> None:
        """End the process, whatever it does."""
        self.process.terminate()
        self.process.join()
        self.pipe.close()


class _environment:
    """Variables that are set while a process is started; what the user set wins."""

    def __init__(self, values: dict[str, str]):
        self._new = {name: value for name, value in values.items() if name not in os.environ}

    def __enter__(self) -> None:
        os.environ.update(self._new)

    def __exit__(self, *_: object) -> None:
        for name in self._new:
            os.environ.pop(name, None)


def _serve(pipe: Connection, work: Work) -> None:
    """What a spawned process does: a task at a time until told to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while (task := pipe.recv()) is not None:
        try:
            pipe.send((*_attempt(work, task), None))
        except BaseException:  # a mistake of ours: the parent shall show it
            pipe.send((None, None, traceback.format_exc()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)  # it was killed: nobody waits for what we do


def run_spawned(work: Work, tasks: Iterable[int], *, n_workers: int, retries: int) -> Iterator[Outcome]:
    """Tasks in spawned processes, each on one core; results in the order in which they come.

    Args:
        work: as in `run_here`; it is pickled once for each process.
        tasks: numbers.
        n_workers: processes, >= 1.
        retries: how often a failed task is tried again.

    Raises:
        RuntimeError: with the worker's traceback if `work` has a mistake.
    """
    queue = deque(_Tried(task, 0) for task in tasks)
    workers = [_Worker(work) for _ in range(min(n_workers, len(queue)))]
    try:
        while queue or any(worker.current for worker in workers):
            for worker in workers:
                if worker.current is None and queue:
                    worker.give(queue.popleft())
            busy = {worker.pipe: worker for worker in workers if worker.current is not None}
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                assert worker.current is not None
                task, before = worker.current
                worker.current = None
                try:
                    result, error, mistake = worker.pipe.recv()
                except (EOFError, OSError):  # also in the middle of an answer
                    worker.process.join()
                    result, mistake = None, None
                    error = (
                        f"its process ended with status {worker.process.exitcode}: killed, or out of memory"
                    )
                    worker.pipe.close()
                    workers[workers.index(worker)] = _Worker(work)
                if mistake is not None:
                    raise RuntimeError(f"task {task} failed in its process:\n{mistake}")
                if error is not None and before < retries:
                    queue.append(_Tried(task, before + 1))
                    continue
                yield Outcome(task, result, error, before + 1)
    finally:
        for worker in workers:
            worker.stop()


def run_on_cluster(work: Work, tasks: Iterable[int], *, address: str, retries: int) -> Iterator[Outcome]:
    """Tasks on the workers of a Dask scheduler, which see the same files under the same paths.

    Args:
        work: as in `run_here`.
        tasks: numbers.
        address: of the scheduler, such as tcp://host:8786, or the path of its scheduler file (JSON).
        retries: how often a failed task is tried again.

    Raises:
        ValueError: if Dask is not installed or the scheduler does not answer.
    """
    try:
        from dask.distributed import Client, as_completed
        from distributed.scheduler import KilledWorker
    except ImportError as error:
        raise ValueError(f"--scheduler needs Dask ({error}): pip install 'dmsim[cluster]'") from None
    if address.endswith(".json") and not os.path.isfile(address):  # Dask would wait for it without end
        raise ValueError(f"--scheduler {address}: no Dask scheduler answers there (there is no such file)")
    where: dict[str, Any] = {"scheduler_file": address} if address.endswith(".json") else {"address": address}
    try:
        client = Client(**where, timeout=10, set_as_default=False)
    except Exception as error:  # each transport raises its own
        line = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"--scheduler {address}: no Dask scheduler answers there ({line})") from None
    try:
        attempts = dict.fromkeys(tasks, 0)
        futures = {client.submit(_attempt, work, task, pure=False): task for task in attempts}
        completed = as_completed(list(futures), loop=client.loop)
        for future in completed:
            task = futures.pop(future)
            attempts[task] += 1
            try:
                result, error = future.result()
            except KilledWorker as killed:
                result, error = None, f"its workers were killed, or ran out of memory ({killed.last_worker})"
            if error is not None and attempts[task] <= retries:
                again = client.submit(_attempt, work, task, pure=False)
                futures[again] = task
                completed.add(again)
                continue
            yield Outcome(task, result, error, attempts[task])
    finally:
        client.close()
