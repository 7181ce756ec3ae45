"""The zoo's models, for tests of other parts: benchmarks/zoo/training.py trains and keeps them."""

from benchmarks.zoo.training import FAMILIES, VOCABULARY, Recipe, Tensors, loaded, retrained, trained
from benchmarks.zoo.training import batch_of as _batch

__all__ = ["FAMILIES", "VOCABULARY", "Recipe", "Tensors", "_batch", "loaded", "retrained", "trained"]
