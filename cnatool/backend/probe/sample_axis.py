"""Where the samples are in an array, even merged with another axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnatool.records.store import Merged


@dataclass(frozen=True, slots=True)
class SampleAxis:
    """A way of reading an array as samples."""

    # None for an array that is one sample, without a sample axis.
    axis: int | None
    # T, the length of the axis that it is merged with; 1 where it is not.
    factor: int = 1
    # Which of the two is the outer one; None where it is not merged, or not known yet.
    merged: Merged | None = None

    @classmethod
    def of(cls, shape: tuple[int, ...], axis: int | None, merged: Merged | None) -> SampleAxis:
        """Make the sample axis of a tensor from its shape for one sample."""
        return cls(axis, 1 if merged is None or axis is None else shape[axis], merged)

    def holds(self, shape: tuple[int, ...], samples: int) -> bool:
        """Whether an array of this shape holds so many samples."""
        if self.axis is None:
            return samples == 1
        return len(shape) > self.axis and shape[self.axis] == samples * self.factor

    def rest(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of one sample in an array of some shape."""
        return self.samples_first(np.broadcast_to(np.False_, shape)).shape[1:]

    def samples_first(self, value: NDArray[Any], samples: int | None = None) -> NDArray[Any]:
        """Move the sample axis to the front, split from the one that it is merged with.

        How many samples there are has to be given where they may have no elements: then nothing
        in a merged axis says it. A ValueError is raised if the axis does not hold that many, or
        is not a multiple of ``factor``.
        """
        if self.axis is None:
            return value[None]
        if self.merged is None and self.axis == 0:
            return value
        if self.merged is None:
            return np.moveaxis(value, self.axis, 0)
        size = value.shape[self.axis]
        if samples is None:
            samples = size // self.factor if self.factor else 0
        if samples * self.factor != size:
            raise ValueError(
                f"axis {self.axis} of {value.shape} is not a multiple of {self.factor}"
            )
        before, after = value.shape[: self.axis], value.shape[self.axis + 1 :]
        # NumPy infers no length of an array without elements.
        if self.merged == "NT":
            parts = value.reshape(*before, samples, self.factor, *after)
            return np.moveaxis(parts, self.axis, 0)
        parts = value.reshape(*before, self.factor, samples, *after)
        return np.moveaxis(parts, self.axis + 1, 0)
