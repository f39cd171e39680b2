"""Cuts and their acceptance, on Peaks and Events, will live here; there is none yet."""
