"""What was seen of a network that ran: its values, where they come from, and the steps between."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnatool.recorders.layer_rule import Step

# Two runs of different length tell which axis is the samples'; both are short.
PROBES = (2, 3)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a module gives a value: which call of it, and which of its results."""

    module: str
    call: int
    result: str = ""


@dataclass(frozen=True, slots=True)
class Origin:
    """Which operator made a value: the module call it ran in, and which of its kind it was there.

    Operators that a module calls within that call are counted with it.
    """

    module: str
    call: int
    operator: str
    number: int


@dataclass(slots=True)
class Value:
    """A tensor that depends on the network's input.

    Attributes
    ----------
    shape : tuple of int
        In the last run.
    floating : bool
        Its elements are floats.
    origin : Origin or None
        What made it; None for what the network was given.
    places : list of Place
        Where modules give it, the innermost first.
    operator : str
        What made it, as ONNX calls it.
    axis : int or None
        The samples' axis; None where there is none.
    """

    shape: tuple[int, ...]
    floating: bool
    origin: Origin | None = None
    places: list[Place] = field(default_factory=list)
    operator: str = ""
    axis: int | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """What a network did with its input.

    Attributes
    ----------
    steps : list of Step
        In execution order; their values are places in ``values``.
    values : list of Value
        In execution order.
    outputs : dict of str to int
        The values that the network gave, by name.
    """

    steps: list[Step]
    values: list[Value]
    outputs: dict[str, int]


def sample_axis(small: tuple[int, ...], large: tuple[int, ...]) -> int | None:
    """Return the one axis that has as many elements as there are samples."""
    if len(small) != len(large):
        return None
    moved = [axis for axis in range(len(small)) if small[axis] != large[axis]]
    if len(moved) != 1 or (small[moved[0]], large[moved[0]]) != PROBES:
        return None
    return moved[0]
