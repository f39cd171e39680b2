"""Areas of windows, against a plain sum over the samples inside."""

import numpy as np

from dmsim.reconstruction.clustering import Windows
from dmsim.reconstruction.integrate import integrate
from dmsim.reconstruction.pulses import Table


def test_record_in_two_windows_next_to_one_in_none():
    # rows of the overlaps are 0, 1, 1, 3: as many as from 0 to 3, and yet not the rows 0, 1, 2, 3
    n_samples, nominal = 40, 16000
    start, length = np.array([0, 10, 16, 30]), np.array([8, 25, 3, 8])
    column, channel = np.arange(n_samples), np.arange(4)
    depth = np.array([3.0, 5.0, 100.0, 7.0], np.float32)
    data = np.where(column < length[:, None], nominal - depth[:, None], 0).astype(np.float32)
    event = np.zeros(4, np.int64)
    table = Table(event, channel, start, length, np.arange(4), np.arange(4), data)
    windows = Windows(event=np.zeros(2, np.int64), start=np.array([0, 28]), end=np.array([14, 40]))
    got = integrate(table, np.zeros(4, np.float32), windows, nominal, 4)
    time = start[:, None] + column
    inside = [(time >= a) & (time < b) & (column < length[:, None]) for a, b in ((0, 14), (28, 40))]
    expected = [(w * depth[:, None]).sum(axis=1) for w in inside]
    np.testing.assert_allclose(got.area, expected)
    assert got.n_saturated.tolist() == [0, 0]
