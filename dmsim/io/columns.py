"""The Parquet tables' columns: names (those of the data records), types, units."""

from dataclasses import dataclass

BATCH_KEY = b"dmsim.batch"  # schema metadata: JSON of what belongs to the batch and not to a row


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    kind: str  # "float" keeps float32 or float64; else a NumPy integer type
    unit: str
    meaning: str
    is_list: bool = False  # a fixed number of values a row


_EVENT = Column("event", "int64", "1", "number of the event in its run")
_SIGNALS = "0 unknown, 1 S1, 2 S2, 3 delayed electrons' S2, 4 afterpulse, 5 dark count"

_PHOTONS = (
    _EVENT,
    Column("sensor", "int32", "channel", "photosensor"),
    Column("time_ns", "float", "ns", "anode signal, from the event's start"),
    Column("charge_pe", "float", "PE", "mean 1 a photoelectron"),
    Column("signal", "int8", "code", _SIGNALS),
    Column("deposit", "int32", "1", "number of the deposit in its event, -1 if it is of none"),
)

TABLES: dict[str, tuple[Column, ...]] = {
    "truth": (
        _EVENT,
        Column("interaction", "int8", "code", "0 er_beta, 1 er_gamma, 2 er_weighted, 3 nr, 4 kr83m, 5 alpha"),
        Column("energy_kev", "float", "keV", "deposited energy"),
        Column("x_mm", "float", "mm", "from the axis"),
        Column("y_mm", "float", "mm", "from the axis"),
        Column("z_mm", "float", "mm", "0 at the gate, negative below"),
        Column("time_ns", "float", "ns", "from the event's start"),
        Column("n_photons", "float", "1", "scintillation photons that leave the deposit"),
        Column("n_electrons", "float", "1", "electrons that leave the deposit"),
        Column("n_excitons", "float", "1", "photons of direct excitation among n_photons"),
        Column("n_s1_photons", "float", "1", "of n_photons, those that a sensor detects"),
        Column("n_extracted", "float", "1", "of n_electrons, those that reach the gas"),
        Column("drift_time_ns", "float", "ns", "mean, from the deposit to the gas"),
        Column("x_gas_mm", "float", "mm", "centroid of the electrons at the gas"),
        Column("y_gas_mm", "float", "mm", "centroid of the electrons at the gas"),
    ),
    "true_peaks": (
        _EVENT,
        Column("signal", "int8", "code", _SIGNALS),
        Column("deposit", "int32", "1", "number of the deposit in its event, -1 if it is of none"),
        Column("n_photons", "int32", "1", "detected photons"),
        Column("area_pe", "float", "PE", "their charge"),
        Column("area_top_pe", "float", "PE", "of it in the top array"),
        Column("first_time_ns", "float", "ns", "of the first photon, from the event's start"),
        Column("last_time_ns", "float", "ns", "of the last photon, from the event's start"),
        Column("mean_time_ns", "float", "ns", "of the photons, from the event's start"),
        Column("time_spread_ns", "float", "ns", "standard deviation of the photons' times"),
        Column("x_mm", "float", "mm", "charge-weighted mean of the top sensors, NaN if they saw none"),
        Column("y_mm", "float", "mm", "charge-weighted mean of the top sensors, NaN if they saw none"),
    ),
    "true_photons": _PHOTONS,
    "areas": (
        _EVENT,
        Column("s1_pe", "float", "PE", "S1 area, 0 if not seen"),
        Column("s2_pe", "float", "PE", "S2 area, 0 if not seen"),
        Column("cs1_pe", "float", "PE", "S1 corrected for light collection"),
        Column("cs2_pe", "float", "PE", "S2 corrected for electron lifetime"),
        Column("drift_time_ns", "float", "ns", "drift time"),
        Column("x_mm", "float", "mm", "as reconstructed"),
        Column("y_mm", "float", "mm", "as reconstructed"),
        Column("z_mm", "float", "mm", "as reconstructed"),
        Column("s1_acceptance", "float", "1", "probability that enough sensors see its photons"),
    ),
    "hits": _PHOTONS,
    "records": (
        _EVENT,
        Column("channel", "int16", "channel", "photosensor"),
        Column("start_sample", "int32", "sample", "from the event's start"),
        Column("length", "int32", "sample", "valid samples in data"),
        Column("pulse_length", "int32", "sample", "samples of the whole pulse"),
        Column("record_i", "int16", "1", "number of the fragment in its pulse"),
        Column("data", "int16", "ADC count", "samples, negative-going from the baseline", is_list=True),
    ),
    "peaks": (
        _EVENT,
        Column("time_ns", "int64", "ns", "start on the detector's clock"),
        Column("length_ns", "int64", "ns", "length"),
        Column("area_pe", "float", "PE", "area"),
        Column("area_top_pe", "float", "PE", "area in the top array"),
        Column("area_per_channel_pe", "float", "PE", "area in each photosensor", is_list=True),
        Column("n_hits", "int32", "1", "threshold crossings"),
        Column("n_sensors", "int32", "1", "sensors with a hit"),
        Column("tight_coincidence", "int32", "1", "sensors with a hit near the maximum"),
        Column("center_time_ns", "float", "ns", "area-weighted mean time, from the peak's start"),
        Column("decile_ns", "float", "ns", "when 0, 10, .. 100 % of the area have come", is_list=True),
        Column("width_ns", "float", "ns", "that the central 0, 10, .. 100 % of the area take", is_list=True),
        Column("goodness_of_split", "float", "1", "of natural breaks, largest; NaN: not searched"),
        Column("n_saturated", "int32", "1", "samples at the digitiser's floor; mode compat: channels"),
        Column("signal", "int8", "code", _SIGNALS),
        Column("x_mm", "float", "mm", "position, NaN unless S2"),
        Column("y_mm", "float", "mm", "position, NaN unless S2"),
        Column("x_error_mm", "float", "mm", "standard deviation of the position"),
        Column("y_error_mm", "float", "mm", "standard deviation of the position"),
        Column("xy_correlation", "float", "1", "of the two errors"),
        Column("xy_misfit", "float", "1", "of the light pattern, standard deviations above the expected"),
    ),
    "events": (
        _EVENT,
        Column("time_ns", "int64", "ns", "of the main S1, else S2, on the detector's clock"),
        Column("start_ns", "int64", "ns", "of the event's window on the detector's clock, -1 without peaks"),
        Column("end_ns", "int64", "ns", "of the event's window on the detector's clock, -1 without peaks"),
        Column("n_peaks", "int32", "1", "peaks in the event"),
        Column("n_s1", "int32", "1", "S1 peaks in the event"),
        Column("n_s2", "int32", "1", "S2 peaks in the event"),
        Column("n_triggers", "int32", "1", "S2s that would make an event alone; 2 or more: pile-up"),
        Column("s1_pe", "float", "PE", "area of the main S1, NaN if none"),
        Column("s2_pe", "float", "PE", "area of the main S2, NaN if none"),
        Column("cs1_pe", "float", "PE", "corrected S1"),
        Column("cs2_pe", "float", "PE", "corrected S2: top and bottom, each corrected by its own"),
        Column("cs2_bottom_pe", "float", "PE", "corrected S2 of the bottom array"),
        Column("drift_time_ns", "float", "ns", "S2 centre minus S1 centre"),
        Column("x_mm", "float", "mm", "of the deposit, a drift field's distortion undone"),
        Column("y_mm", "float", "mm", "of the deposit, a drift field's distortion undone"),
        Column("z_mm", "float", "mm", "of the deposit, 0 at the gate, negative below"),
        Column("x_error_mm", "float", "mm", "standard deviation of the main S2's place"),
        Column("y_error_mm", "float", "mm", "standard deviation of the main S2's place"),
        Column("xy_correlation", "float", "1", "of the two errors"),
        Column("xy_misfit", "float", "1", "of the light pattern, standard deviations above the expected"),
        Column("x_observed_mm", "float", "mm", "of the main S2 at the surface"),
        Column("y_observed_mm", "float", "mm", "of the main S2 at the surface"),
        Column("s1_area_fraction_top", "float", "1", "fraction of S1 in the top array"),
        Column("s2_area_fraction_top", "float", "1", "fraction of S2 in the top array"),
        Column("s2_width_50_ns", "float", "ns", "width of the main S2"),
        Column("energy_kev", "float", "keV", "of an electronic recoil: light and charge together"),
        Column("energy_light_kev", "float", "keV", "part from the S1"),
        Column("energy_charge_kev", "float", "keV", "part from the S2"),
        Column("alt_s1_pe", "float", "PE", "area of the alternate S1, NaN if none"),
        Column("alt_s2_pe", "float", "PE", "area of the alternate S2, NaN if none"),
        Column("alt_cs1_pe", "float", "PE", "corrected, at the main S2's place and drift time"),
        Column("alt_cs2_pe", "float", "PE", "corrected, at its own place and drift time"),
        Column("alt_s1_drift_time_ns", "float", "ns", "main S2 centre minus alternate S1 centre"),
        Column("alt_s2_drift_time_ns", "float", "ns", "alternate S2 centre minus main S1 centre"),
        Column("alt_s2_x_observed_mm", "float", "mm", "of the alternate S2 at the surface"),
        Column("alt_s2_y_observed_mm", "float", "mm", "of the alternate S2 at the surface"),
        Column("ambiguous_s1", "int8", "flag", "1 where the alternate S1 is nearly as large as the main one"),
        Column("ambiguous_s2", "int8", "flag", "1 where the alternate S2 is nearly as large as the main one"),
        Column("s2_before_pe", "float", "PE", "sum of S2s before the main one"),
        Column("largest_s2_before_pe", "float", "PE", "before the main S2, 0 if none"),
        Column("largest_s2_after_pe", "float", "PE", "after the main S2, 0 if none"),
        Column("largest_unknown_before_pe", "float", "PE", "before the main S1, else S2; 0 if none"),
        Column("largest_unknown_between_pe", "float", "PE", "between main S1 and S2; 0 if none"),
        Column("s1_peak", "int32", "row", "row in the chunk's peaks, -1 if none"),
        Column("s2_peak", "int32", "row", "row in the chunk's peaks, -1 if none"),
        Column("alt_s1_peak", "int32", "row", "row in the chunk's peaks, -1 if none"),
        Column("alt_s2_peak", "int32", "row", "row in the chunk's peaks, -1 if none"),
    ),
    "stream_events": (
        _EVENT,
        Column("window", "int64", "1", "readout window it starts in: the number of the event in records"),
        Column("time_ns", "int64", "ns", "start on the detector's clock"),
        Column("source", "int16", "code", "which of the sources in the provenance, from 0"),
    ),
    "salted_events": (
        _EVENT,
        Column("salted_into", "int64", "1", "number of the event of the output that it is in, -1: no trace"),
        Column("time_ns", "int64", "ns", "start of the salted event on the detector's clock"),
    ),
    "salted_records": (
        Column("row", "int64", "row", "of the records in the chunk, in order of event, start and channel"),
        Column("n_added", "int32", "sample", "in which simulated signal was added to data"),
        Column("n_new", "int32", "sample", "that the data did not have"),
    ),
}
