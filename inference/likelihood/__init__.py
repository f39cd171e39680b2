"""How probable data are for a detector."""
