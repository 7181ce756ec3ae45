"""How far training can have moved weights, by what its log says, and how far they moved."""
