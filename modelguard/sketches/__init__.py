"""Fingerprints of a few kB a block, and the search for relatives among many of them."""
