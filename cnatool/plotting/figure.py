"""What a figure is: its name, what it is drawn from, what can be chosen, and how it is drawn."""

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
    """What the user chose; None or empty where he did not.

    Attributes
    ----------
    test, convention, overrides, output, inputs
        As of `cnatool.score`.
    split : str or None
        The only split to draw.
    sample : sequence of str
        Ids of samples to draw.
    measure : sequence of str
        Columns of a study's networks to draw.
    by : str or None
        A tag that networks are coloured by, or the runs of a trajectory told by.
    order : str or None
        The tag that counts the steps of training.
    coefficient : str or None
        Of correlation.
    width, height : float
        Of one panel, in pixels.
    """

    width: float
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
        """Return the convention that stores are scored by."""
        return Convention.named(self.convention or "paper", self.overrides)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, drawn from one kind of source.

    Attributes
    ----------
    name : str
    kind : {"store", "study", "trajectory"}
        What it is drawn from.
    shows : str
        What is seen, in a line.
    draw : callable
        Takes the sources, all of one kind, and the options, and gives an Altair chart.
    options : tuple of str
        The fields of `Options` that it heeds, beside width and height.
    width, height : float
        Of one panel by default, in pixels, 96 an inch.
    """

    name: str
    kind: SourceKind
    shows: str
    draw: Callable[[Sequence[Any], Options], Chart]
    options: tuple[str, ...]
    width: float
    height: float
