"""Changing what a store says of itself, as a foreign writer could have written it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["changed_attribute"]


@contextmanager
def changed_attribute(store: Path) -> Iterator[dict[str, Any]]:
    """Give a Zarr store's attribute to change; its checksum goes, as it does not fit any more."""
    path = store / "zarr.json"
    content = json.loads(path.read_text())
    content["attributes"].pop("cnatool_crc32c", None)
    yield content["attributes"]["cnatool"]
    path.write_text(json.dumps(content))
