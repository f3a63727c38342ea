"""Kopf and the official client, imported without the modules that the operator does not use.

Those would take 70 of 130 MB, and two thirds of the time to start:

- Kopf imports pykube-ng and the official client, if they are installed. It does so only to accept
  their objects as arguments.
- Each package of the official client imports all its modules. To find the cluster and the
  credentials, a dozen of two thousand are needed.

If the official client was imported before, this module imports both in the ordinary way.
"""

import contextlib
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from types import ModuleType
from typing import Any


@contextlib.contextmanager
def _modules(replaced: dict[str, ModuleType | None]) -> Iterator[None]:
    """Within the context, imports of these names return these modules. None: the import fails."""
    modules: dict[str, Any] = sys.modules
    if "kubernetes" in modules:
        yield
        return
    modules.update(replaced)
    try:
        yield
    finally:
        for name in replaced:
            del modules[name]


def _empty_packages(*names: str) -> dict[str, ModuleType | None]:
    """Returns packages that do not import their own modules, so that a single module of them can be
    imported. Each name is a package in the previous one."""
    packages: dict[str, ModuleType | None] = {}
    path: list[str] | None = None
    for name in names:
        spec = PathFinder.find_spec(name, path)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        packages[name] = module_from_spec(spec)
        path = spec.submodule_search_locations
    return packages


with _modules({"pykube": None, "kubernetes": None}):
    import kopf

with _modules(_empty_packages("kubernetes", "kubernetes.aio", "kubernetes.aio.client")):
    from kubernetes.aio.client.configuration import Configuration

    _client = sys.modules["kubernetes.aio.client"]
    # The loader imports both names from the package. It uses ApiClient only in functions that the
    # operator does not call.
    vars(_client).setdefault("Configuration", Configuration)
    vars(_client).setdefault("ApiClient", None)
    from kubernetes.aio import config

__all__ = ["Configuration", "config", "kopf"]
