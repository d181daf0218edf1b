"""What each JSON Schema describes; apart from their records, for which no help should wait."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TITLES"]

TITLES: Mapping[str, str] = {
    "compare": "What `cnatool compare --json` prints",
    "dump": "What `cnatool dump --json` prints",
    "inspect": "What `cnatool inspect --json` prints",
    "landscape": "What `cnatool landscape --json` prints",
    "layers": "What `cnatool layers --json` prints",
    "preflight": "What `cnatool dump --dry-run --json` prints",
    "preprocess": "What `cnatool dump --preprocess` reads: how samples are prepared for a model",
    "score": "What `cnatool score --json` prints",
    "store": "The attribute `cnatool` at the root of a store",
    "study": "What `cnatool study --json` prints",
    "trajectory": "What `cnatool trajectory --json` prints",
    "verify": "What `cnatool verify --json` prints",
}
