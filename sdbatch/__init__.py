"""sdbatch turns manifests of prompts into datasets of pictures."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdbatch.api import (
        bench,
        export,
        fetch_model,
        grid,
        list_models,
        load_model,
        open_dataset,
        plan,
        preview,
        push,
        render,
        repair,
        report,
        retry,
        score,
        where_model,
    )  # fmt: skip

try:
    __version__ = version("sdbatch")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "source"

__all__ = [
    "__version__", "bench", "export", "fetch_model", "grid", "list_models", "load_model",
    "open_dataset", "plan", "preview", "push", "render", "repair", "report", "retry", "score",
    "where_model",
]  # fmt: skip


class _Package(ModuleType):
    """The package, whose doors load when first used and keep their names.

    The folders `render/` and `plan/` are called like two of the doors. The import system
    hangs a folder onto its package under that name; here that changes nothing.
    """


def _door(name: str) -> property:
    def get(_: ModuleType) -> Any:
        return getattr(import_module("sdbatch.api"), name)

    def ignore(_: ModuleType, value: object) -> None:
        """Let the import system believe it has hung its folder here."""

    return property(get, ignore)


for _name in __all__[1:]:
    setattr(_Package, _name, _door(_name))
sys.modules[__name__].__class__ = _Package
