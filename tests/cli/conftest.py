"""The stores of the demo, made once for all tests of commands."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def demo(made_demo: tuple[Path, str]) -> Path:
    """A folder with `cnatool demo`'s stores in ``demo``; what tests write there has other names."""
    return made_demo[0]
