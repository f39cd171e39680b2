"""Commands that need `inference`, for the command line of dmsim."""
