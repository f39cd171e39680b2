"""A progress bar where somebody looks at it."""

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def track(items: Iterable[Item], *, total: int, what: str) -> Iterator[Item]:
    """Yield the items; show how far they are if standard output is a terminal."""
    if not sys.stdout.isatty():
        yield from items
        return
    from rich.progress import Progress

    with Progress(transient=True) as progress:
        yield from progress.track(items, total=total, description=what)
