"""Band files: two layouts, and one clear line for each way to be wrong."""

import numpy as np
import pytest

from inference.likelihood.band_data import read_band

GOOD = "2 1.5 2.66 0.005 0.12 0.003\n3 2.5 2.56 0.005 0.11 0.003\n4\t3.5 2.45 0.005 0.10\t0.003\n"


def write(tmp_path, text):
    path = tmp_path / "band.txt"
    path.write_text(text)
    return path


def test_text(tmp_path):
    band = read_band(write(tmp_path, "# a comment\n\n" + GOOD))
    assert len(band) == 3
    assert band.s1.tolist() == [2, 3, 4]
    assert band.mean.tolist() == [2.66, 2.56, 2.45]
    assert band.width_error.tolist() == [0.003] * 3
    assert band.edges.tolist() == [1.5, 2.5, 3.5, 4.5]


def test_csv_columns_by_name(tmp_path):
    text = "width,n,s1,mean,mean_error,width_error\n0.12,7,2,2.66,0.005,0.003\n0.11,8,4,2.56,0.006,0.003\n"
    band = read_band(write(tmp_path, text))
    assert band.s1.tolist() == [2, 4]
    assert band.width.tolist() == [0.12, 0.11]
    assert band.mean_error.tolist() == [0.005, 0.006]


def test_range(tmp_path):
    band = read_band(write(tmp_path, GOOD))
    assert band.between(2.5, 50).s1.tolist() == [3, 4]
    with pytest.raises(ValueError, match="holds 1 of the band's bins"):
        band.between(4, 50)
    with pytest.raises(ValueError, match="empty"):
        band.between(50, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (GOOD.splitlines()[0], "1 bin"),
        (GOOD + "5 4.5 2.4 0.005 0.1\n", "line 4: 5 columns where 6"),
        (GOOD + "5 4.5 nan 0.005 0.1 0.003\n", "line 4: mean is nan"),
        (GOOD + "5 4.5 2.4 0 0.1 0.003\n", "line 4: mean_error is 0"),
        (GOOD + "5 4.5 2.4 0.005 0.1 -1\n", "line 4: width_error is -1"),
        (GOOD + "3.5 4.5 2.4 0.005 0.1 0.003\n", "line 4: S1 does not ascend"),
        (GOOD + "5 4.5 two 0.005 0.1 0.003\n", "line 4: could not convert"),
        ("s1,mean\n2,3\n", "no column mean_error, width, width_error"),
        ("s1,mean,mean_error,width,width_error\n", "no bins"),
        ("s1,mean,mean_error,width,width_error\n2,3\n", "line 2: 2 columns"),
    ],
)
def test_bad_files(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_band(write(tmp_path, text))


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        read_band(tmp_path / "none.txt")
    path = tmp_path / "binary"
    path.write_bytes(np.arange(50, dtype=np.float64).tobytes() + b"\xff\xfe")
    with pytest.raises(ValueError, match="cannot be read|expected|convert"):
        read_band(path)
