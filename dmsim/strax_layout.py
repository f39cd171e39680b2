"""Layouts of strax's arrays, without strax: what files, plugins and strax's own integers share.

Names, types and order of the fields are those of strax 2.2.3 (dtypes.py), without the titles.
"""

import numpy as np

SAMPLES_PER_RECORD = 110
N_WIDTHS = 11  # deciles 0 to 10
N_WAVEFORM = 200  # samples of a peak's waveform, at most
SUM_CHANNEL = -1  # in place of a channel, for what is summed over all
POSITION_FIELDS = ("x_mm", "y_mm", "x_error_mm", "y_error_mm", "xy_correlation", "xy_misfit")  # of `Peaks`

INTERVAL = [("time", "<i8"), ("length", "<i4"), ("dt", "<i2"), ("channel", "<i2")]
HIT_DTYPE = np.dtype(
    [
        *INTERVAL,
        ("area", "<f4"),
        ("left", "<i2"),
        ("right", "<i2"),
        ("left_integration", "<i2"),
        ("right_integration", "<i2"),
        ("record_i", "<i4"),
        ("threshold", "<f4"),
        ("height", "<f4"),
        ("max_time", "<i8"),
    ]
)


def raw_record_dtype(samples_per_record: int = SAMPLES_PER_RECORD) -> np.dtype:
    """Layout of strax's raw_records."""
    return np.dtype(
        [
            *INTERVAL,
            ("pulse_length", "<i4"),
            ("record_i", "<i2"),
            ("baseline", "<i2"),
            ("data", "<i2", samples_per_record),
        ]
    )


def record_dtype(samples_per_record: int = SAMPLES_PER_RECORD) -> np.dtype:
    """Layout of strax's records: baseline taken off, upright."""
    return np.dtype(
        [
            *INTERVAL,
            ("pulse_length", "<i4"),
            ("record_i", "<i2"),
            ("area", "<i4"),
            ("reduction_level", "u1"),
            ("baseline", "<f4"),
            ("baseline_rms", "<f4"),
            ("amplitude_bit_shift", "<i2"),
            ("data", "<i2", samples_per_record),
        ]
    )


def peak_dtype(n_channels: int, *, extra: bool = False) -> np.dtype:
    """Layout of strax's peaks, with its default lengths of waveform and widths.

    Args:
        n_channels: sensors.
        extra: append the fields that `Peaks` has and strax has not.
    """
    wide = "<f4", N_WAVEFORM
    fields = [
        ("time", "<i8"),
        ("length", "<i4"),
        ("dt", "<i4"),
        ("channel", "<i2"),
        ("type", "i1"),
        ("area", "<f4"),
        ("area_fraction_top", "<f4"),
        ("area_per_channel", "<f4", n_channels),
        ("n_hits", "<i4"),
        ("data_top", *wide),
        ("data_start", *wide),
        ("data", *wide),
        ("center_time", "<i8"),
        ("median_time", "<f4"),
        ("width", "<f4", N_WIDTHS),
        ("area_decile_from_midpoint", "<f4", N_WIDTHS),
        ("saturated_channel", "i1", n_channels),
        ("n_saturated_channels", "<i2"),
        ("tight_coincidence", "<i2"),
        ("max_gap", "<i4"),
        ("max_goodness_of_split", "<f4"),
        ("max_diff", "<i4"),
        ("min_diff", "<i4"),
        ("first_channel", "<i2"),
        ("last_channel", "<i2"),
    ]
    if extra:
        fields += [
            ("event", "<i8"),
            ("n_sensors", "<i4"),
            ("n_saturated", "<i4"),
            ("area_top", "<f4"),
            ("center_time_ns", "<f4"),
            ("decile_ns", "<f4", N_WIDTHS),
            *((name, "<f4") for name in POSITION_FIELDS),
        ]
    return np.dtype(fields)
