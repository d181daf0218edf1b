"""Arrays that hold images, resized and cropped as images in files are."""

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
from cnatool.records.ragged import Ragged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from cnatool.data.images.batch import Each
    from cnatool.data.selection import ImageOptions
    from cnatool.data.source import Source
    from cnatool.records.ragged import Rows

_COLOURS = (1, 3)


def transform_source(source: Source, options: ImageOptions) -> Source:
    """Transform the images of a source, unless the source does so itself."""
    options = replace(options, keep_inputs=options.keep_inputs or "values")
    needed = options.geometry is not None or options.keep_inputs == "levels"
    if not needed or any(spec.transformed or spec.levels for spec in source.inputs):
        return source
    channels = {
        number: axis
        for number, spec in enumerate(source.inputs)
        if (axis := _find_channel_axis(source, spec, options)) is not None
    }
    if not channels:
        shapes = ", ".join(f"{spec.form_text} {spec.dtype}" for spec in source.inputs)
        raise UsageError(
            f"{source.name} holds {shapes} per sample, which are not images: `resize`, `crop`, "
            "`colour` and `keep_inputs=levels` are for arrays (height, width), (height, width, "
            "channels) or (channels, height, width)."
        )
    # All have one shape, so that an empty image shows what becomes of them.
    images = {
        number: describe_image(
            spec.name,
            source.name,
            _channels_last(np.zeros(spec.shape, spec.dtype), channels[number]),
            options,
        )
        for number, spec in enumerate(source.inputs)
        if number in channels
    }
    specs = tuple(_describe(spec, images.get(number)) for number, spec in enumerate(source.inputs))
    return _TransformedSource(source, options, specs, channels, images)


@dataclass(frozen=True, slots=True)
class _TransformedSource(SourceWrapper):
    """A source with transformed arrays of images.

    For each input that is an image, ``channels`` has the axis of the channels of a sample, -1 if
    there is none, and ``images`` describes it with channels last.
    """

    options: ImageOptions
    inputs: tuple[InputSpec, ...] = field()
    channels: Mapping[int, int]
    images: Mapping[int, InputSpec]

    def blocks(self, rows: int, limit: int | None = None, start: int = 0) -> Iterator[Block]:
        with decode_threads() as each:
            for block in self.source.blocks(rows, limit, start):
                parts = [
                    self._transform(number, block.inputs[number], each)
                    for number in range(len(self.inputs))
                ]
                yield Block(
                    block.ids,
                    tuple(part.stored for part in parts),
                    block.labels,
                    collect_model_arrays(parts),
                    block.faults,
                )

    def _transform(self, number: int, values: Rows, each: Each) -> DecodedBatch:
        if number not in self.channels or isinstance(values, Ragged):
            return DecodedBatch(values, values, {})
        spec, axis = self.images[number], self.channels[number]

        def find(row: int) -> tuple[str, NDArray[Any]]:
            return self.name, _channels_last(values[row], axis)

        batch = decode_batch(spec, self.options, len(values), find, each, self.name)
        # Values are stored as they came, and not with channels last.
        return batch if spec.levels else DecodedBatch(values, batch.for_model, batch.faults)


def _describe(spec: InputSpec, image: InputSpec | None) -> InputSpec:
    if image is None or image.levels:
        return image or spec
    return replace(spec, transformed=image.for_model)


def _find_channel_axis(source: Source, spec: InputSpec, options: ImageOptions) -> int | None:
    """Find the axis of the channels of an image, -1 without any; None if it is no image."""
    shape = spec.shape
    if spec.ragged_axis is not None:
        return None
    if len(shape) == 2 and min(shape) > 1:
        return -1
    if len(shape) != 3 or math.prod(shape) == 1:
        return None
    if spec.layout == "hwc" or options.axes == "hwc":
        axes = [2]
    elif options.axes == "chw":
        axes = [0]
    else:
        axes = [axis for axis in (0, 2) if shape[axis] in _COLOURS]
    if len(axes) > 1:
        raise UsageError(
            f"{source.name} holds samples of {shape}, in which the axis of channels is ambiguous: "
            "choose `layout=hwc->chw` or `layout=chw->chw`."
        )
    return axes[0] if axes else None


def _channels_last(values: NDArray[Any], axis: int) -> NDArray[Any]:
    return values if axis < 0 else np.ascontiguousarray(np.moveaxis(values, axis, 2))
