"""numba's compiler, with its cache on disk in the user's cache folder.

numba keeps compiled code beside the source, in the installed package. Files there that the installer does not
know stay when the package is removed, and the folder that is left hides one installed in its place.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

_CONFIG: Any = numba.config  # values come from the environment and are not declared


def cache_folder() -> str:
    """NUMBA_CACHE_DIR if it is set, else `dmsim/numba` in the user's cache folder."""
    cache_home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return _CONFIG.CACHE_DIR or str(Path(cache_home) / "dmsim" / "numba")


def njit(**options: Any) -> Callable[[Callable], Any]:
    """`numba.njit`, for our own functions: where their cache lies is decided when they are decorated."""

    def compiled(function: Callable) -> Any:
        before = _CONFIG.CACHE_DIR
        _CONFIG.CACHE_DIR = cache_folder()
        try:
            return numba.njit(**options)(function)
        finally:
            _CONFIG.CACHE_DIR = before  # other packages keep their own

    return compiled
