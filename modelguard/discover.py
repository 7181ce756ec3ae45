"""Plug-ins are the modules of our own packages, in name order; nothing installed or committed beside us is ever imported."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from types import ModuleType


@cache
def modules(package: ModuleType, *, having: str) -> tuple[ModuleType, ...]:
    """The modules of `package` that define the attribute `having`, in name order."""
    names = sorted(entry.name for entry in pkgutil.iter_modules(package.__path__))
    loaded = (importlib.import_module(f"{package.__name__}.{name}") for name in names)
    return tuple(module for module in loaded if hasattr(module, having))
