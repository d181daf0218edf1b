"""Results that are written as one JSON document."""

from __future__ import annotations

from typing import Any

import msgspec

from cnatool._util.spelling import spell
from cnatool._util.text import escape_json

# Keys of texts that may name parameters end in one of these.
_EXPLANATIONS = ("notes", "reason", "ways", "differences", "problem")


class Document(msgspec.Struct, frozen=True):
    """A result whose fields are those of a JSON document."""

    def to_json(self) -> str:
        """Encode the result as one JSON document; the same result gives the same bytes.

        Hidden characters are written as JSON escapes.
        """
        encoded = msgspec.json.encode(self)
        if b"`" in encoded:
            encoded = msgspec.json.encode(_spell_all(msgspec.json.decode(encoded)))
        return escape_json(msgspec.json.format(encoded, indent=2).decode()) + "\n"


def _spell_all(value: Any, key: str = "") -> Any:
    """Spell the parameters in those texts of a JSON document that explain something."""
    if isinstance(value, dict):
        return {name: _spell_all(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_spell_all(item, key) for item in value]
    return spell(value) if isinstance(value, str) and key.endswith(_EXPLANATIONS) else value
