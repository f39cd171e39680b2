"""Sources of energy deposits, and deposits from the user's own arrays."""

from collections.abc import Callable

from dmsim.records import Deposits
from dmsim.sources.krypton import kr83m as kr83m
from dmsim.sources.own import deposits as deposits
from dmsim.sources.spectra import ch3t as ch3t
from dmsim.sources.spectra import er_flat as er_flat
from dmsim.sources.spectra import mono as mono
from dmsim.sources.spectra import nr_flat as nr_flat

SOURCES: dict[str, Callable[..., Deposits]] = {
    source.__name__: source for source in (ch3t, er_flat, kr83m, mono, nr_flat)
}


def named(name: str) -> Callable[..., Deposits]:
    """The source called `name`.

    Raises:
        ValueError: if there is none.
    """
    if name not in SOURCES:
        raise ValueError(f"source {name!r} is not known: choose one of {', '.join(SOURCES)}")
    return SOURCES[name]
