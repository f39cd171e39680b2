"""Progress and wall time of the stages of a run."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stages:
    """Times what happens; shows a bar on a terminal and one line a stage elsewhere."""

    def __init__(self) -> None:
        """Start with no stage."""
        self.wall_s: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, *, total: int | None = None) -> Iterator[Callable[[], None]]:
        """Time a stage and say when it is done.

        Args:
            name: shown, and key of its wall time.
            total: steps, if the stage has any; the block calls what it gets once a step.
        """
        start = time.perf_counter()
        if sys.stdout.isatty():
            from rich.progress import Progress  # noqa: PLC0415 (a batch job need not load it)

            with Progress(transient=True) as progress:
                task = progress.add_task(name, total=total)
                yield lambda: progress.advance(task)
        else:
            yield lambda: None
        self.wall_s[name] = time.perf_counter() - start
        print(f"  {name:<44} {self.wall_s[name]:6.1f} s", flush=True)
