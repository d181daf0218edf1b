"""``cnatool demo``."""

from __future__ import annotations

__all__ = ["demo"]


def demo() -> None:
    """Dump and score small networks over handwritten digits, as they learn."""
