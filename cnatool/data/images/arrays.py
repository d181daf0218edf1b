"""Arrays that hold pictures, resized and cropped as pictures in files are."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.data.images.batch import (
    DecodedBatch,
    collect_model_arrays,
    decode_batch,
    decode_threads,
    describe_image,
)
from cnatool.data.source import Block, InputSpec
from cnatool.data.wrappers import SourceWrapper
from cnatool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from cnatool.data.images.batch import Each
    from cnatool.data.source import ImageOptions, Source

_COLOURS = (1, 3)


def transform_source(source: Source, view: ImageOptions) -> Source:
    """Make of a source's pictures what a view says, where the source does not do so itself."""
    view = replace(view, keep_inputs=view.keep_inputs or "values")
    asked = view.geometry is not None or view.keep_inputs == "levels"
    if not asked or any(spec.transformed or spec.levels for spec in source.inputs):
        return source
    channels = {
        number: axis
        for number, spec in enumerate(source.inputs)
        if (axis := _channel_axis(source, spec, view)) is not None
    }
    if not channels:
        held = ", ".join(f"{spec.shape} {spec.dtype}" for spec in source.inputs)
        raise UsageError(
            f"{source.name} holds {held} a sample, which are no pictures: --resize, --crop, "
            "--colour and --keep-inputs levels are for arrays (height, width), (height, width, "
            "channels) or (channels, height, width)."
        )
    # All are of one shape, so that an empty one tells what becomes of them.
    pictures = {
        number: describe_image(spec.name, source.name, _empty(spec, channels[number]), view)
        for number, spec in enumerate(source.inputs)
        if number in channels
    }
    specs = tuple(
        _described(spec, pictures.get(number)) for number, spec in enumerate(source.inputs)
    )
    return _Viewed(source, view, specs, channels, pictures)


@dataclass(frozen=True, slots=True)
class _Viewed(SourceWrapper):
    """A source whose arrays of pictures are given as a view says.

    Of each input that is a picture, ``channels`` has the axis of its channels, counted from the
    first of a sample, -1 where there is none; ``pictures`` describes it with its channels last.
    """

    view: ImageOptions
    inputs: tuple[InputSpec, ...] = field()
    channels: Mapping[int, int]
    pictures: Mapping[int, InputSpec]

    def blocks(self, rows: int, limit: int | None = None) -> Iterator[Block]:
        with decode_threads() as each:
            for block in self.source.blocks(rows, limit):
                parts = [
                    self._developed(number, block.inputs[number], each)
                    for number in range(len(self.inputs))
                ]
                yield Block(
                    block.ids,
                    tuple(part.stored for part in parts),
                    block.labels,
                    collect_model_arrays(parts),
                    block.faults,
                )

    def _developed(self, number: int, values: NDArray[Any], each: Each) -> DecodedBatch:
        if number not in self.channels:
            return DecodedBatch(values, values, {})
        spec, axis = self.pictures[number], self.channels[number]

        def found(row: int) -> tuple[str, NDArray[Any]]:
            return self.name, _picture(values[row], axis)

        made = decode_batch(spec, self.view, len(values), found, each, self.name)
        # Stored as they came, and not with their channels last.
        return made if spec.levels else DecodedBatch(values, made.fed, made.faults)


def _described(spec: InputSpec, picture: InputSpec | None) -> InputSpec:
    if picture is None or picture.levels:
        return picture or spec
    return replace(spec, transformed=picture.for_model)


def _channel_axis(source: Source, spec: InputSpec, view: ImageOptions) -> int | None:
    """Find the channels of a picture: their axis, -1 without any, None if it is none."""
    shape = spec.shape
    if len(shape) == 2 and min(shape) > 1:
        return -1
    if len(shape) != 3 or math.prod(shape) == 1:
        return None
    if spec.layout == "hwc" or view.axes == "hwc":
        found = [2]
    elif view.axes == "chw":
        found = [0]
    else:
        found = [axis for axis in (0, 2) if shape[axis] in _COLOURS]
    if len(found) > 1:
        raise UsageError(
            f"{source.name} holds samples of {shape}, and which axis are the channels is in doubt: "
            "say --layout hwc->chw or chw->chw."
        )
    return found[0] if found else None


def _empty(spec: InputSpec, axis: int) -> NDArray[Any]:
    return _picture(np.zeros(spec.shape, spec.dtype), axis)


def _picture(values: NDArray[Any], axis: int) -> NDArray[Any]:
    """Give a sample with its channels last."""
    return values if axis < 0 else np.ascontiguousarray(np.moveaxis(values, axis, 2))
