"""What holds the repository together: pins, versions, commands, and the README's own code."""

import re
import tomllib
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

pytestmark = pytest.mark.quick_compile

ROOT = Path(__file__).parents[1]


def _project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def _unpinned(requirements: list[str], constraints: str) -> list[str]:
    """Requirements without a pin in the constraints, or with one that does not satisfy them."""
    pins = dict(re.findall(r"^([A-Za-z0-9_.-]+)==(\S+)$", constraints, flags=re.MULTILINE))
    pins = {re.sub(r"[-_.]+", "-", name).lower(): pin for name, pin in pins.items()}
    wrong = []
    for line in requirements:
        requirement = Requirement(line)
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        if name != "dmsim" and not (name in pins and requirement.specifier.contains(pins[name])):
            wrong.append(line)
    return wrong


def _requirements() -> list[str]:
    project = _project()
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *extras["test"], *extras["strax"], *extras["docs"]]


def test_every_requirement_of_the_checks_is_pinned():
    constraints = (ROOT / "constraints.txt").read_text()
    assert _unpinned(_requirements(), constraints) == []


def test_a_missing_or_too_old_pin_is_noticed():
    constraints = (ROOT / "constraints.txt").read_text()
    without = re.sub(r"(?m)^equinox==.*$", "", constraints)
    too_old = re.sub(r"(?m)^equinox==.*$", "equinox==0.1.0", constraints)
    for changed in (without, too_old):
        assert [Requirement(line).name for line in _unpinned(_requirements(), changed)] == ["equinox"]


def test_one_version_everywhere():
    cited = re.search(r"(?m)^version: (\S+)$", (ROOT / "CITATION.cff").read_text())
    assert cited
    assert cited[1] == _project()["version"] == version("dmsim")


@pytest.mark.parametrize("point", sorted(entry_points(group="dmsim.commands")), ids=lambda point: point.name)
def test_command_has_the_three_names(point):
    module = point.load()
    assert isinstance(module.HELP, str)
    assert callable(module.add_arguments)
    assert callable(module.run)


def test_readme_code_runs():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    assert blocks
    names: dict = {}
    for block in blocks:
        exec(block, names)  # the README is ours
    assert len(names["events"]) == names["deposits"].n_events
