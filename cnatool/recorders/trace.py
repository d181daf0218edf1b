"""Trace of a network: its values, their origins, and the steps between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnatool.recorders.layer_rule import Step

# Samples of the two runs whose shapes reveal the sample axis.
PROBES = (2, 3)


@dataclass(frozen=True, slots=True)
class Place:
    """A result of a module: which call of it, and which part of the result."""

    module: str
    call: int
    result: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """The operator that computed a value: its module call, and its number among equal ones there.

    Operators of modules inside that call count too.
    """

    module: str
    call: int
    operator: str
    number: int


@dataclass(slots=True)
class Value:
    """A tensor that depends on the network's input."""

    shape: tuple[int, ...]  # in the last run
    floating: bool
    origin: Origin | None = None  # None for an input of the network
    places: list[Place] = field(default_factory=list)  # modules that return it, innermost first
    operator: str = ""  # ONNX name
    axis: int | None = None  # of the samples


@dataclass(frozen=True, slots=True)
class Trace:
    """What a network computes from its input, in execution order."""

    steps: list[Step]  # their values are indices into `values`
    values: list[Value]
    outputs: dict[str, int]  # indices of the network's results by name


def sample_axis(small: tuple[int, ...], large: tuple[int, ...]) -> int | None:
    """Return the only axis whose length is the number of samples, by the shapes of two runs."""
    if len(small) != len(large):
        return None
    moved = [axis for axis in range(len(small)) if small[axis] != large[axis]]
    if len(moved) != 1 or (small[moved[0]], large[moved[0]]) != PROBES:
        return None
    return moved[0]
