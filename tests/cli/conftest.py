"""The stores of the demo, made once for all tests of commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command import run


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `cnatool demo`'s stores in ``demo``; what tests write there has other names."""
    folder = tmp_path_factory.mktemp("demo")
    run("demo", "-o", "demo", cwd=folder)
    return folder
