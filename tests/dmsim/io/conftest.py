import numpy as np
import pytest

from dmsim.io import Provenance


@pytest.fixture
def provenance():
    return Provenance(
        command="simulate",
        settings={"source": "mono"},
        detector="xenonnt",
        detector_sha256="0" * 64,
        seed=1,
        chunks={"n_events": 4, "events_per_chunk": 2},
    )


@pytest.fixture
def random():
    return np.random.default_rng(20)
