"""`Peaks` in strax's layout, without strax."""

from pathlib import Path

import numpy as np

from dmsim.io.provenance import Provenance
from dmsim.io.strax_folders import FolderReader, FolderWriter, endtime_ns
from dmsim.io.strax_records import whole_numbers
from dmsim.records import Peaks
from dmsim.strax_layout import N_WAVEFORM, N_WIDTHS, POSITION_FIELDS, peak_dtype

_EXTRA = ("event", "n_sensors", "n_saturated", "area_top", "center_time_ns", "decile_ns", *POSITION_FIELDS)


def _sampling(length_ns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Samples (at most strax's 200) and their width, whose product is exactly the peak's length."""
    n_samples = np.zeros_like(length_ns)
    for n in range(N_WAVEFORM, 0, -1):
        n_samples[(n_samples == 0) & (length_ns % n == 0) & (length_ns > 0)] = n
    return n_samples, np.where(n_samples > 0, length_ns // np.maximum(n_samples, 1), 1)


def peaks_to_strax(peaks: Peaks, *, extra: bool = True) -> np.ndarray:
    """Peaks in strax's layout.

    With the extra fields nothing of a float32 `Peaks` is lost. Without them the event number, the position,
    the number of sensors, that of saturated samples and fractions of a ns of the centre are, and deciles are
    rounded. What `Peaks` does not hold is zero (waveforms, saturated_channel) or -1 (channels, gaps, and
    n_saturated_channels where some sample is saturated).

    Args:
        peaks: sorted by time.
        extra: append the fields that strax has not.
    """
    n_channels = peaks.area_per_channel_pe.shape[1]
    out = np.zeros(len(peaks), peak_dtype(n_channels, extra=extra))
    out["time"] = peaks.time_ns
    out["length"], out["dt"] = _sampling(np.asarray(peaks.length_ns, np.int64))
    out["type"] = peaks.signal
    out["area"] = peaks.area_pe
    with np.errstate(divide="ignore", invalid="ignore"):
        out["area_fraction_top"] = peaks.area_top_pe / peaks.area_pe
    out["area_per_channel"] = peaks.area_per_channel_pe
    out["n_hits"] = peaks.n_hits
    out["center_time"] = peaks.time_ns + np.nan_to_num(np.rint(peaks.center_time_ns)).astype(np.int64)
    out["median_time"] = peaks.median_time_ns
    out["width"] = peaks.width_ns
    out["area_decile_from_midpoint"] = peaks.decile_ns - peaks.median_time_ns[:, None]
    out["max_goodness_of_split"] = peaks.goodness_of_split
    # `Peaks` counts samples, not channels
    out["n_saturated_channels"] = np.where(np.asarray(peaks.n_saturated) > 0, -1, 0)
    out["tight_coincidence"] = whole_numbers("tight_coincidence", np.asarray(peaks.tight_coincidence), "<i2")
    for name in ("channel", "max_gap", "max_diff", "min_diff", "first_channel", "last_channel"):
        out[name] = -1
    if extra:
        out["area_top"] = peaks.area_top_pe
        for name in ("event", "n_sensors", "n_saturated", "center_time_ns", "decile_ns", *POSITION_FIELDS):
            out[name] = getattr(peaks, name)
    return out


def peaks_from_strax(array: np.ndarray) -> Peaks:
    """Peaks from strax's layout, with or without our extra fields.

    Without them: event -1, positions NaN, n_sensors counts channels with area, n_saturated is the number of
    saturated channels, and the top area and the centre come from strax's rounded fields.
    """
    names = set(array.dtype.names or ())
    has_extra = set(_EXTRA) <= names
    time, area = array["time"].copy(), array["area"].copy()
    nan = np.full(array.size, np.nan, np.float32)
    return Peaks(
        event=array["event"].copy() if has_extra else np.full(array.size, -1, np.int64),
        time_ns=time,
        length_ns=array["length"].astype(np.int64) * array["dt"],
        area_pe=area,
        area_top_pe=array["area_top"].copy() if has_extra else area * array["area_fraction_top"],
        area_per_channel_pe=array["area_per_channel"].copy(),
        n_hits=array["n_hits"].copy(),
        n_sensors=(
            array["n_sensors"].copy()
            if has_extra
            else np.count_nonzero(array["area_per_channel"] > 0, axis=1).astype(np.int32)
        ),
        tight_coincidence=array["tight_coincidence"].astype(np.int32),
        center_time_ns=(
            array["center_time_ns"].copy() if has_extra else (array["center_time"] - time).astype(np.float32)
        ),
        decile_ns=(
            array["decile_ns"].copy()
            if has_extra
            else array["area_decile_from_midpoint"] + array["median_time"][:, None]
        ),
        width_ns=array["width"].copy(),
        goodness_of_split=(
            array["max_goodness_of_split"].copy() if "max_goodness_of_split" in names else nan.copy()
        ),
        n_saturated=array["n_saturated" if has_extra else "n_saturated_channels"].astype(np.int32),
        signal=array["type"].astype(np.int32),
        **{name: array[name].copy() if has_extra else nan.copy() for name in POSITION_FIELDS},
    )


def write_peaks(out: Path, run_id: str, peaks: Peaks, *, provenance: Provenance, extra: bool = True) -> Path:
    """Write peaks as one strax folder of one chunk.

    Args:
        out: the folder that holds the runs' folders.
        run_id: name of the run.
        peaks: sorted by time.
        provenance: of the run.
        extra: append the fields that strax has not.

    Returns:
        The folder.

    Raises:
        ValueError: if the peaks are not sorted, or the folder is there already.
    """
    array = peaks_to_strax(peaks, extra=extra)
    writer = FolderWriter(
        out,
        run_id,
        "peaks",
        array.dtype,
        lineage={"peaks": ["DmsimPeaks", f"{provenance.version}+{provenance.digest[:12]}", {}]},
        provenance=provenance.as_dict(),
    )
    if writer.n_chunks:
        raise ValueError(f"{writer.folder} has peaks already: give another folder")
    start = int(array["time"].min()) if array.size else 0
    writer.write(array, start_ns=start, end_ns=int(endtime_ns(array).max()) if array.size else 0)
    writer.close()
    return writer.folder


def read_peaks(folder: Path) -> Peaks:
    """All peaks of a strax folder, written by dmsim or by strax.

    Raises:
        ValueError: if it is not a whole strax folder of peaks.
    """
    reader = FolderReader(folder)
    names = set(peak_dtype(2).names or ()) - _UNUSED
    missing = sorted(names - set(reader.dtype.names or ()))
    if missing:
        raise ValueError(f"{folder} does not hold peaks: it has no fields {', '.join(missing)}")
    width = reader.dtype["width"].shape
    if width != (N_WIDTHS,):
        raise ValueError(f"{folder} has widths of shape {width}: {N_WIDTHS} deciles are needed")
    return peaks_from_strax(np.concatenate(list(reader)) if reader.n_chunks else np.empty(0, reader.dtype))


# strax stores these only if asked to, and Peaks does not take them
_UNUSED = {
    *("data", "data_top", "data_start", "saturated_channel", "channel", "max_gap", "max_goodness_of_split"),
    *("max_diff", "min_diff", "first_channel", "last_channel"),
}
