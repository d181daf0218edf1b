"""Imports all that commands of cnatool use, some of which they import where they need it."""

from __future__ import annotations

import gc
import importlib
import pkgutil
from contextlib import suppress

_IMPORTED = ("filelock", "polars", "rich.console", "rich.progress", "rich.table")
_OPTIONAL = ("distributed.cli.dask_scheduler", "distributed.cli.dask_worker")
# Recorders of frameworks are no part of any command.
_LEFT_OUT = ("cnatool.__main__", "cnatool.recorders.torch", "cnatool.recorders.keras")

for _module in pkgutil.walk_packages(importlib.import_module("cnatool").__path__, "cnatool."):
    if not _module.name.startswith(_LEFT_OUT):
        importlib.import_module(_module.name)
for _name in _IMPORTED:
    importlib.import_module(_name)
for _name in _OPTIONAL:
    with suppress(ImportError):
        importlib.import_module(_name)
# So that a fork does not copy what its garbage collector looks at.
gc.freeze()
