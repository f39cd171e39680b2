"""The demonstration: a calibration that is simulated, reconstructed and fitted."""
