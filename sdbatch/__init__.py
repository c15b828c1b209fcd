"""sdbatch turns manifests of prompts into datasets of pictures."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdbatch.api import load_model, open_dataset, plan, render

try:
    __version__ = version("sdbatch")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "source"

__all__ = ["__version__", "load_model", "open_dataset", "plan", "render"]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: importing the package costs nothing."""
    if name in __all__:
        return getattr(import_module("sdbatch.api"), name)
    raise AttributeError(f"module 'sdbatch' has no attribute '{name}'")
