"""Cuts and their acceptance, on Peaks and Events."""
