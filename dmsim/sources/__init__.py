"""Sources of energy deposits, and deposits from the user's own arrays.

All but the decay chains take `Where`: how many events, at which rate, in which part of the active volume.
"""

import inspect
from collections.abc import Callable

from dmsim.records import Deposits
from dmsim.sources.argon import ar37 as ar37
from dmsim.sources.chains import Timeline as Timeline
from dmsim.sources.chains import rn220_chain as rn220_chain
from dmsim.sources.chains import rn222_chain as rn222_chain
from dmsim.sources.convection import Convection as Convection
from dmsim.sources.isolated import isolated_s1 as isolated_s1
from dmsim.sources.isolated import isolated_s2 as isolated_s2
from dmsim.sources.krypton import kr83m as kr83m
from dmsim.sources.mixture import mixture as mixture
from dmsim.sources.mixture import rn220_events, rn222_events
from dmsim.sources.own import deposits as deposits
from dmsim.sources.placement import Where as Where
from dmsim.sources.placement import place
from dmsim.sources.radon import alpha as alpha
from dmsim.sources.radon import rn220 as rn220
from dmsim.sources.recoils import ambe as ambe
from dmsim.sources.recoils import b8 as b8
from dmsim.sources.recoils import wimp as wimp
from dmsim.sources.scatters import multiple_scatter as multiple_scatter
from dmsim.sources.spectra import ch3t as ch3t
from dmsim.sources.spectra import er_flat as er_flat
from dmsim.sources.spectra import mono as mono
from dmsim.sources.spectra import nr_flat as nr_flat
from dmsim.sources.spectra import spectrum as spectrum

SOURCES: dict[str, Callable[..., Deposits]] = {
    source.__name__: source
    for source in (
        alpha,
        ambe,
        ar37,
        b8,
        ch3t,
        er_flat,
        isolated_s1,
        isolated_s2,
        kr83m,
        mono,
        multiple_scatter,
        nr_flat,
        rn220,
        wimp,
    )
} | {"rn220_chain": rn220_events, "rn222_chain": rn222_events}


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
