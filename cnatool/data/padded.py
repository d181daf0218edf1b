"""Padded samples, of which only the real positions are stored."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from cnatool.data.wrappers import ReadableSamples, SourceWrapper
from cnatool.errors import DataError
from cnatool.records.ragged import Ragged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from cnatool.data.source import Block, InputSpec, Source
    from cnatool.records.masks import MaskRecord
    from cnatool.records.ragged import Rows


def leave_padding_out(source: Source, mask: MaskRecord, names: tuple[str, ...]) -> Source:
    """Let a source give its samples without padding, beside what the model receives.

    ``names`` are those of the model's inputs, in the order of the source's.
    """
    if isinstance(source, ReadableSamples):
        # It counts samples as the source inside does.
        return replace(source, source=PaddedSamples(source.source, mask, names))
    return PaddedSamples(source, mask, names)


@dataclass(frozen=True, slots=True)
class PaddedSamples(SourceWrapper):
    """Samples whose real positions are stored, while the model receives them padded.

    Attributes
    ----------
    source : Source
    mask : MaskRecord
        What says which positions are real.
    names : tuple of str
        Names of the model's inputs that the source's feed.
    """

    mask: MaskRecord = field()
    names: tuple[str, ...]

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """Inputs of varying length where padding is left out."""
        return tuple(map(self._spec, self.names, self.source.inputs))

    def blocks(self, rows: int, limit: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield the blocks of the source."""
        for block in self.source.blocks(rows, limit, start):
            yield self._leave_out(block)

    def _spec(self, name: str, spec: InputSpec) -> InputSpec:
        axis = self.mask.stored_axis(name)
        if axis is None:
            return spec
        return replace(spec, ragged_axis=axis, transformed=spec.for_model)

    def _leave_out(self, block: Block) -> Block:
        if not block.ids:
            return block
        padded = block.for_model
        arrays = {
            name: rows
            for name, rows in zip(self.names, padded, strict=True)
            if isinstance(rows, np.ndarray)
        }
        real = self.mask.find_real(arrays)
        inputs = tuple(
            _keep_real(rows, real, self.mask.stored_axis(name))
            for name, rows in zip(self.names, block.inputs, strict=True)
        )
        return replace(block, inputs=inputs, transformed=padded)


def _keep_real(rows: Rows, real: NDArray[np.bool_], axis: int | None) -> Rows:
    """Keep the real positions along an axis of samples."""
    if axis is None or isinstance(rows, Ragged):
        return rows
    along = np.moveaxis(rows, axis + 1, 1)
    return Ragged.from_lengths(along[real], real.sum(axis=1), axis)


@dataclass(frozen=True, slots=True)
class UnpaddedSamples(SourceWrapper):
    """Samples of which the first have no padding; those with padding are refused.

    Attributes
    ----------
    source : Source
    masks : dict of str to int
        The number that stands for padding in each mask, by the place of its input.
    names : tuple of str
        Names of the model's inputs that the source's feed.
    """

    masks: Mapping[int, int] = field()
    names: tuple[str, ...]

    def blocks(self, rows: int, limit: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield the blocks of the source; DataError at the first sample with padding."""
        for block in self.source.blocks(rows, limit, start):
            for place, padding in self.masks.items():
                values = block.for_model[place] if block.ids else np.ones((0, 1))
                if isinstance(values, np.ndarray) and (values == padding).any():
                    flat = values.reshape(len(values), -1) == padding
                    row, name = int(flat.any(axis=1).argmax()), self.names[place]
                    raise DataError(
                        f"{self.source.name}: sample {block.ids[row]} is padded, since {name!r} "
                        f"is {padding} at {int(flat[row].sum())} of its {flat.shape[1]} positions, "
                        f"and none of the first samples is: pass `mask={name!r}` to leave padding "
                        "out of sums and of what is stored, or `mask='none'` to count it."
                    )
            yield block
