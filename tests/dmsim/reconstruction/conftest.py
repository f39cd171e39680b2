import numpy as np
import pytest

import dmsim


@pytest.fixture(scope="session")
def detector():
    return dmsim.load_detector("xenonnt")


@pytest.fixture
def random():
    return np.random.default_rng(7)
