"""Events of the study of clustering, kept in a file: what is read back is what was simulated."""

import jax
import numpy as np
import pytest
from clustering_truth import batch

import dmsim


@pytest.fixture
def data(loaded):
    with loaded("clustering", "data") as module:
        yield module


def test_kept_events_are_those_simulated(data, tmp_path, monkeypatch):
    detector = dmsim.load_detector("xenonnt")
    made = {"first": [batch(detector, 1), batch(detector, 2)], "second": [batch(detector, 3)]}
    monkeypatch.setattr(data, "make", lambda *_: made)
    kept = [data.kept(tmp_path / "events.npz", {}, detector, 1, "test") for _ in range(2)]
    for found in kept:
        assert {name: len(of) for name, of in found.items()} == {"first": 2, "second": 1}
        for name, of in made.items():
            for one, other in zip(found[name], of, strict=True):
                leaves = [jax.tree.leaves((b.records, b.truth._asdict())) for b in (one, other)]
                for values in zip(*leaves, strict=True):
                    np.testing.assert_array_equal(*values)
                kinds = [jax.tree.structure((b.records, b.truth._asdict())) for b in (one, other)]
                assert kinds[0] == kinds[1]  # plain numbers too
