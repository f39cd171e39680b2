"""What all tests share: the --slow option, double precision, and public data releases.

A statistical test states its false-positive rate in a comment. Those of the whole suite add up to less than
1e-3, and seeds are fixed, so that a red test means a changed program.
"""

import ctypes
import os
import shutil
import tempfile
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

# Worker processes and the command lines under test compile the same kernels: they share one cache, which is
# new for each run. Set before jax is imported, inherited by every process that the run starts. It takes small
# programs too, of which there are tens of thousands: 42 CPU-ms to compile, 8 to read (2.5 GHz).
_OWN_CACHE = None
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _OWN_CACHE = tempfile.mkdtemp(prefix="dmsim-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _OWN_CACHE
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax
import matplotlib as mpl
import pytest

mpl.use("Agg")  # no test opens a window

_JAXLIB = tuple(int(number) for number in version("jaxlib").split(".")[:2])
_MOST_BYTES = 3 * 2**30  # of one worker, of which there may be four


def pytest_configure(config):
    quick = "quick_compile: of few events: its programs are not optimised, but for the slow run"
    config.addinivalue_line("markers", quick)
    # XLA's older code generator compiles in half the time what is not optimised, in 9/10 what is; the slow
    # run takes the usual one. XLA stops at flags that it does not know, as other versions may. It is read
    # when the first program is compiled, and inherited by processes.
    if not config.getoption("--slow") and (0, 7) <= _JAXLIB <= (0, 10):
        os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")


def pytest_unconfigure(config):
    if _OWN_CACHE is not None:
        shutil.rmtree(_OWN_CACHE, ignore_errors=True)


def pytest_addoption(parser):
    parser.addoption("--slow", action="store_true", help="run tests marked slow as well")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="minutes long: run with --slow")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


def _resident_bytes() -> int:
    """Memory of this process, 0 where the system does not say."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if status.exists() else 0


def _return_free_memory():
    """What was freed goes back to the system, where the C library can: it keeps most for itself."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        return


@pytest.fixture(scope="module", autouse=True)
def _bounded_memory():
    """Compiled kernels of hundreds of tests fill gigabytes: let them go between files, the cache has them."""
    yield
    if _resident_bytes() > _MOST_BYTES:
        _return_free_memory()
    if _resident_bytes() > _MOST_BYTES:
        jax.clear_caches()
        _return_free_memory()  # else every later file would find the memory full, and compile all anew


@contextmanager
def _compiler_of(request):
    """Quick to compile where a mark asks for it, as subprocesses then are; the slow run optimises all.

    A test of few events takes most of its time to compile; what programs compute does not depend on it. With
    many events unoptimised programs take longer, up to 20 times.
    """
    name = "jax_disable_most_optimizations"
    marked = any(request.node.iter_markers("quick_compile"))
    if not marked or request.config.getoption("--slow"):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name.upper(), "1")
        before = jax.config.read(name)
        jax.config.update(name, True)
        yield
        jax.config.update(name, before)


@pytest.fixture(scope="module", autouse=True)
def _compiler_of_module(request):
    with _compiler_of(request):
        yield


@pytest.fixture(autouse=True)
def _compiler_of_test(request, _compiler_of_module):
    with _compiler_of(request):
        yield


@pytest.fixture
def x64():
    """Double precision inside the test; float32 is restored after it."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture(scope="session")
def release_data() -> Path:
    """Folder of public data releases: `release` in DMSIM_DATA."""
    folder = os.environ.get("DMSIM_DATA")
    if not folder:
        pytest.skip("needs public data releases: set DMSIM_DATA to the folder that holds release/")
    release = Path(folder) / "release"
    if not release.is_dir():
        pytest.fail(f"DMSIM_DATA is set to {folder}, but there is no folder {release}")
    return release
