"""Kinds of derivation, each recognised from the weights: one file a kind, found like the rules are."""
