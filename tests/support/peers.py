"""Libraries that tests compare with where they are installed, and work."""

from __future__ import annotations

import importlib
from typing import Any

import pytest


def peer(name: str) -> Any:
    """Import a module, or skip: it is not there, or not fit for what else is installed."""
    try:
        return importlib.import_module(name)
    # torchvision raises RuntimeError beside a torch that it was not built for.
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{name} cannot be imported ({str(error)[:80]})")
