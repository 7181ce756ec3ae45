"""Tests of the zoo (benchmarks/zoo), and of what `compare` says of a part of it."""
