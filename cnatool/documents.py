"""Results that are printed or written as one JSON document."""

from __future__ import annotations

import msgspec

__all__ = ["Document"]


class Document(msgspec.Struct, frozen=True):
    """A result whose fields are those of a JSON document."""

    def to_json(self) -> str:
        """Write the result as one JSON document; the same result gives the same bytes."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2).decode() + "\n"
