"""Numbers about weights and activations: exact differences and tests with a stated null."""
