"""Figures, with matplotlib; a leaf that only commands import."""
