"""Measured bands: mean and width of log10(S2/S1) in bins of S1, read from text or CSV."""

import csv
from pathlib import Path

import equinox as eqx
import numpy as np
from jaxtyping import Float

_TEXT_COLUMNS = 6  # S1 bin centre, mean S1, mean log10(S2/S1), its error, width, its error
_CSV_COLUMNS = ("s1", "mean", "mean_error", "width", "width_error")


class Band(eqx.Module):
    """One band. Host arrays, ascending in S1."""

    s1: Float[np.ndarray, "bin"]  # bin centre, photons detected
    mean: Float[np.ndarray, "bin"]  # of log10(S2/S1)
    mean_error: Float[np.ndarray, "bin"]
    width: Float[np.ndarray, "bin"]  # standard deviation of log10(S2/S1)
    width_error: Float[np.ndarray, "bin"]

    def __len__(self) -> int:
        """Number of bins."""
        return self.s1.shape[0]

    @property
    def edges(self) -> Float[np.ndarray, "edge"]:
        """Bin edges, half way between the centres."""
        middle = (self.s1[1:] + self.s1[:-1]) / 2
        return np.concatenate([[2 * self.s1[0] - middle[0]], middle, [2 * self.s1[-1] - middle[-1]]])

    def between(self, low: float, high: float) -> "Band":
        """The bins with low <= centre <= high.

        Raises:
            ValueError: if the range is empty or holds fewer than two bins.
        """
        if not low < high:
            raise ValueError(f"S1 range {low:g} to {high:g} phd is empty: give the lower end first")
        keep = (self.s1 >= low) & (self.s1 <= high)
        if keep.sum() < 2:
            raise ValueError(
                f"S1 range {low:g} to {high:g} phd holds {keep.sum()} of the band's bins "
                f"({self.s1[0]:g} to {self.s1[-1]:g}): at least 2 are needed"
            )
        return Band(*(column[keep] for column in self._columns()))

    def _columns(self) -> tuple[np.ndarray, ...]:
        return self.s1, self.mean, self.mean_error, self.width, self.width_error


def read_band(path: str | Path) -> Band:
    """Read a band.

    Two layouts: six whitespace-separated numbers a line without a header (S1 bin centre, mean S1, mean
    log10(S2/S1), its error, width, its error; the second is not used), as NEST publishes its bands; or CSV
    with a header that names at least s1, mean, mean_error, width, width_error. Lines that are empty or start
    with # are skipped.

    Args:
        path: the file.

    Raises:
        ValueError: if the file cannot be read as one, with the line at fault and what would be right.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"band {path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    lines = [
        (number, line)
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        raise ValueError(f"band {path} is empty")
    rows = _csv_rows(path, lines) if "," in lines[0][1] else _text_rows(path, lines)
    table = np.asarray([row for _, row in rows])
    _validate(path, [number for number, _ in rows], table)
    return Band(*table.T)


def _numbers(path: Path, number: int, words: list[str]) -> list[float]:
    try:
        return [float(word) for word in words]
    except ValueError as error:
        raise ValueError(f"band {path}, line {number}: {error}") from None


def _text_rows(path: Path, lines: list[tuple[int, str]]) -> list[tuple[int, list[float]]]:
    rows = []
    for number, line in lines:
        values = _numbers(path, number, line.split())
        if len(values) != _TEXT_COLUMNS:
            raise ValueError(
                f"band {path}, line {number}: {len(values)} columns where {_TEXT_COLUMNS} are expected "
                "(S1 centre, mean S1, mean log10(S2/S1), error, width, error)"
            )
        rows.append((number, [values[0], *values[2:]]))
    return rows


def _csv_rows(path: Path, lines: list[tuple[int, str]]) -> list[tuple[int, list[float]]]:
    header = [word.strip() for word in next(csv.reader([lines[0][1]]))]
    missing = [name for name in _CSV_COLUMNS if name not in header]
    if missing:
        raise ValueError(
            f"band {path}, line {lines[0][0]}: no column {', '.join(missing)}; "
            f"a CSV band needs a header with {', '.join(_CSV_COLUMNS)}"
        )
    at = [header.index(name) for name in _CSV_COLUMNS]
    rows = []
    for number, line in lines[1:]:
        words = next(csv.reader([line]))
        if len(words) != len(header):
            raise ValueError(
                f"band {path}, line {number}: {len(words)} columns where the header has {len(header)}"
            )
        rows.append((number, _numbers(path, number, [words[i] for i in at])))
    if not rows:
        raise ValueError(f"band {path} has a header and no bins")
    return rows


def _validate(path: Path, numbers: list[int], table: np.ndarray) -> None:
    for number, row in zip(numbers, table, strict=True):
        for name, value in zip(_CSV_COLUMNS, row, strict=True):
            if not np.isfinite(value):
                raise ValueError(f"band {path}, line {number}: {name} is {value}, not a finite number")
            if name not in ("mean",) and value <= 0:
                raise ValueError(f"band {path}, line {number}: {name} is {value:g}, it must be positive")
    for number, step in zip(numbers[1:], np.diff(table[:, 0]), strict=True):
        if step <= 0:
            raise ValueError(f"band {path}, line {number}: S1 does not ascend")
    if len(table) < 2:
        raise ValueError(f"band {path} has {len(table)} bin: at least 2 are needed")
