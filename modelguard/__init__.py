"""modelguard says, with numbers, whether a model is what its authors say it is."""

__version__ = "1.0.0.dev0"
