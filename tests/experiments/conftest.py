"""The scripts of studies as modules."""

import importlib.util
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "experiments"


@contextmanager
def _loaded(study, script="run"):
    """Its neighbours are forgotten again, whose names other studies use; so is the path to them."""
    folder, path = FOLDER / study, list(sys.path)
    before = {file.stem: sys.modules.pop(file.stem, None) for file in FOLDER.glob("*/*.py")}
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location(f"{study}_{script}", folder / f"{script}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path[:] = path
        for name, kept in before.items():
            sys.modules.pop(name, None)
            if kept is not None:
                sys.modules[name] = kept


@pytest.fixture(scope="session")
def loaded():
    """`with loaded(study, script) as module`."""
    return _loaded
