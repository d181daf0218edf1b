"""A figure: its name, its source, its options and the function that draws it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from cnatool.metrics.convention import NO_OVERRIDES, Convention
from cnatool.studying.checksums import ResultKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from cnatool.plotting.style import Chart
    from cnatool.store.store import Store

SourceKind: TypeAlias = Literal["store"] | ResultKind


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `cnatool.plot`; None or empty where not given."""

    width: float  # of one panel, in pixels
    height: float
    test: str | Path | Store | None = None
    convention: str | None = None
    overrides: Mapping[str, object] = field(default_factory=lambda: NO_OVERRIDES)
    output: str | None = None
    inputs: tuple[Path, ...] = ()
    split: str | None = None
    sample: Sequence[str] = ()
    measure: Sequence[str] = ()
    by: str | None = None
    order: str | None = None
    coefficient: str | None = None

    def scoring(self) -> Convention:
        """Return the convention by which stores are scored."""
        return Convention.named(self.convention or "paper", self.overrides)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, drawn from one kind of source."""

    name: str
    kind: SourceKind
    shows: str  # a line of text
    draw: Callable[[Sequence[Any], Options], Chart]  # takes sources of one kind
    options: tuple[str, ...]  # fields of `Options` that it uses, besides width and height
    width: float  # default of one panel, in pixels, 96 per inch
    height: float
