"""Progress bars of the steps of an inference, where somebody looks at them."""

import sys


class Bars:
    """Called with what is being done, done and to do; shows nothing where the output is no terminal."""

    def __enter__(self) -> "Bars":
        self._progress, self._tasks = None, {}
        if sys.stdout.isatty():
            from rich.progress import Progress

            self._progress = Progress(transient=True)
            self._progress.start()
        return self

    def __call__(self, what: str, done: int, total: int) -> None:
        """Say how far a step is."""
        if self._progress is None:
            return
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what, total=total)
        self._progress.update(self._tasks[what], completed=done, total=total)

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()
