"""Tests of what networks do on the probes."""
