"""Fingerprints of known models, kept where a search finds them."""
