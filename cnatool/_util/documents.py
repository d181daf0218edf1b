"""Results that are written as one JSON document."""

from __future__ import annotations

import msgspec

from cnatool._util.text import escape_json


class Document(msgspec.Struct, frozen=True):
    """A result whose fields are those of a JSON document."""

    def to_json(self) -> str:
        """Encode the result as one JSON document; the same result gives the same bytes.

        Hidden characters are written as JSON escapes.
        """
        document = msgspec.json.format(msgspec.json.encode(self), indent=2).decode()
        return escape_json(document) + "\n"
