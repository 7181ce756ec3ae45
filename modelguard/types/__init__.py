"""The nouns. Frozen values, standard library only, shared by both wings."""
