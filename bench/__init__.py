"""Measuring the daemon, and its peers beside it; never part of a wheel."""
