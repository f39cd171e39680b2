"""Sources of energy deposits, and deposits from the user's own arrays.

All of them take `Where`: how many events, at which rate, in which part of the active volume.
"""

import inspect
from collections.abc import Callable

from dmsim.records import Deposits
from dmsim.sources.krypton import kr83m as kr83m
from dmsim.sources.own import deposits as deposits
from dmsim.sources.placement import Where as Where
from dmsim.sources.placement import place
from dmsim.sources.spectra import ch3t as ch3t
from dmsim.sources.spectra import er_flat as er_flat
from dmsim.sources.spectra import mono as mono
from dmsim.sources.spectra import nr_flat as nr_flat
from dmsim.sources.spectra import spectrum as spectrum

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


def options(source: Callable[..., Deposits]) -> dict[str, inspect.Parameter]:
    """The keyword options of a source by name: its own, then those that all take."""
    own = inspect.signature(source).parameters.values()
    shared = inspect.signature(place).parameters.values()
    takes_shared = any(parameter.kind is parameter.VAR_KEYWORD for parameter in own)
    parameters = [*own, *(shared if takes_shared else ())]
    return {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}
