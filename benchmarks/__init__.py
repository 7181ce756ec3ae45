"""Measurements that the documentation quotes. Each is run with `python -m benchmarks.<name>`, and prints ratios taken within one run."""
