"""Plays three pull requests on real weights: `python -m demo`."""
