"""What a source passes on of the one that it wraps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnatool.data.source import InputSpec, Source

__all__ = ["Forwarded"]


@dataclass(frozen=True, slots=True)
class Forwarded:
    """A source described as the one that it wraps; what reads it gives blocks of its own.

    Attributes
    ----------
    source : Source
        The wrapped source.
    """

    source: Source

    @property
    def name(self) -> str:
        """As of the source."""
        return self.source.name

    @property
    def rows(self) -> int:
        """As of the source."""
        return self.source.rows

    @property
    def id_bytes(self) -> int:
        """As of the source."""
        return self.source.id_bytes

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """As of the source."""
        return self.source.inputs

    @property
    def labelled(self) -> bool:
        """As of the source."""
        return self.source.labelled

    @property
    def classes(self) -> tuple[str, ...] | None:
        """As of the source."""
        return self.source.classes
