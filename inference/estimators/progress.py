"""How far a training is, where somebody looks at it."""

import sys

from inference.estimators.training import History


class Progress:
    """A bar with the losses and the time left, on a terminal; nothing elsewhere.

    Args:
        n_epochs: in all.
        n_done: before this start.
    """

    def __init__(self, n_epochs: int, n_done: int):
        self._bar = None
        if sys.stdout.isatty():
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn  # noqa: PLC0415
            from rich.progress import Progress as Bar  # noqa: PLC0415

            columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Bar(TextColumn("{task.description}"), *columns, transient=True)
            self._task = self._bar.add_task("training", total=n_epochs, completed=n_done)

    def __enter__(self) -> "Progress":
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, history: History) -> None:
        """One more epoch is done."""
        if self._bar is not None:
            text = f"loss {history.training[-1]:.3f}, validation {history.validation[-1]:.3f}"
            self._bar.update(self._task, completed=len(history.steps), description=text)
