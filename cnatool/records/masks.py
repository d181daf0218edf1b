"""Which positions of padded samples are real, as an input of the model says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


class MaskRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The input that says which positions of the samples are real and which are padding.

    Attributes
    ----------
    input : str
        Name of the input.
    kind : {"mask", "lengths"}
        ``mask``: the input has a number for each position; ``lengths``: it is the number of real
        positions, which come first.
    padding : int
        The number that a mask has where padding is: 0, or 1 where any other number is real. 0 for
        lengths.
    length : int
        Length to which samples are padded.
    axes : dict of str to tuple of int
        The axes of one sample along which padding lies, for each input that has such. Inputs with
        one such axis, but for the mask, are stored without padding, as rows of varying length.
    """

    input: str
    kind: Literal["mask", "lengths"]
    padding: int
    length: int
    axes: dict[str, tuple[int, ...]]

    def find_real(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
        """Return which positions are real, (n, length), from the inputs of n samples, by name."""
        said = inputs[self.input].reshape(len(inputs[self.input]), -1)
        if self.kind == "lengths":
            return np.asarray(np.arange(self.length) < said)
        return np.asarray((said != 0) != bool(self.padding))

    def stored_axis(self, name: str) -> int | None:
        """Return the axis along which an input is stored without padding; None if it is whole."""
        axes = self.axes.get(name, ())
        return axes[0] if len(axes) == 1 and name != self.input else None
