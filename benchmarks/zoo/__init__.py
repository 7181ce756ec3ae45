"""Small models that are trained for real, what is made of them, and what `compare` says of every pair: `python -m benchmarks.zoo`."""
