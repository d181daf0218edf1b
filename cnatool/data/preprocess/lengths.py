"""Samples that differ in length as a model takes them: as they are, or padded to its length."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cnatool.data.preprocess.apply import apply_preprocessing
from cnatool.errors import DataError
from cnatool.records.ragged import Ragged

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.inputs import ModelInput
    from cnatool.data.source import InputSpec
    from cnatool.records.ragged import Rows
    from cnatool.records.run import Preprocessing

_PADDING_ADVICE = "pad all to one length, with a mask if the model takes one, or "


@dataclass(frozen=True, slots=True)
class LengthPlan:
    """How the length of samples becomes an axis of a model's input."""

    source_axis: int  # of a sample in the data
    axis: int  # of a sample that the model receives
    # The length that the model takes, to which samples are padded; None if it takes any
    fixed: int | None
    padding: float
    exact: bool = False  # whether samples must have that length, and none is padded
    advice: str = ""  # what to do about samples of another length

    def with_length(self, spec: InputSpec) -> InputSpec:
        """Return an input whose samples are as long as the model takes them."""
        if self.fixed is None:
            return spec
        return replace(spec, shape=_resize(spec.shape, self.source_axis, self.fixed))


def plan_length(spec: InputSpec, target: ModelInput, *, masked: bool = False) -> LengthPlan | None:
    """Find the axis of a model's input that follows the length of samples.

    Samples are padded to a fixed length with what the source knows of, or with 0 where the model is
    told by a mask. Sound is not padded without one. None if samples have one shape. DataError if no
    axis follows the length, or any of several may.
    """
    if spec.ragged_axis is None:
        return None
    dims = target.shape
    if target.dims is None:
        dims = (None,) * len(spec.shape)
    if spec.sound is not None:
        _check_amplitudes(spec, target, dims)
    axes = set(_find_axes(spec.shape, spec.ragged_axis, dims))
    if not axes:
        raise DataError(
            f"samples of {spec.name} differ in length, {spec.form_text} each, and input {target} "
            "has no axis that could follow it. Check that the model takes such data, or reshape "
            "them."
        )
    # An axis of length 1 follows the length of no sample if another one may.
    axes = {place for place in axes if dims[place] != 1} or axes
    if len(axes) > 1:
        raise DataError(
            f"samples of {spec.name} differ in length, {spec.form_text} each, and several axes of "
            f"input {target} may follow it. Export the model with fixed sizes for the others, or "
            "give samples all the model's axes."
        )
    (axis,) = axes
    fixed = dims[axis]
    advice = "" if fixed is None else _advise_sound(spec, fixed)
    if fixed is not None and spec.padding is None and not masked:
        if spec.sound is not None and spec.shape == (fixed,):
            return LengthPlan(spec.ragged_axis, axis, fixed, 0.0, exact=True, advice=advice)
        raise DataError(
            f"samples of {spec.name} differ in length, {spec.form_text} each, and input {target} "
            f"takes {fixed}: {advice or _PADDING_ADVICE}export the model with a dynamic axis for "
            "the length."
        )
    return LengthPlan(spec.ragged_axis, axis, fixed, spec.padding or 0.0, advice=advice)


def _check_amplitudes(spec: InputSpec, target: ModelInput, dims: tuple[int | None, ...]) -> None:
    """Refuse to feed amplitudes to an input that has the axes of a spectrogram."""
    if sum(size != 1 for size in dims) > 1:
        raise DataError(
            f"a sample of {spec.name} is amplitudes, {spec.form_text}, but input {target} "
            "expects more axes, such as those of a spectrogram: pass the preprocessor_config.json "
            "of Whisper or AST as `preprocess`, or a recipe with `spectrogram`, or save "
            "spectrograms as arrays, for example with numpy.savez, and dump these."
        )


def _advise_sound(spec: InputSpec, fixed: int) -> str:
    """Return how sound gets the length that a model takes; nothing for other samples."""
    if spec.sound is None or spec.sound.sample_rate is None:
        return ""
    seconds = fixed / spec.sound.sample_rate
    return (
        f"`duration={seconds:.9g}` cuts sound to that, and continues shorter sound with zeros; or "
    )


def _find_axes(sample: tuple[int, ...], ragged: int, dims: tuple[int | None, ...]) -> Iterator[int]:
    """Yield the axes that may follow the length, where axes of length 1 may come or go."""
    more = len(dims) - len(sample)
    if more >= 0:
        for added in combinations(range(len(dims)), more):
            kept = [place for place in range(len(dims)) if place not in added]
            pairs = [(dims[place], size) for place, size in zip(kept, sample, strict=True)]
            if all(dims[place] in (None, 1) for place in added) and _fit(pairs, ragged):
                yield kept[ragged]
        return
    ones = [place for place, size in enumerate(sample) if size == 1 and place != ragged]
    for dropped in combinations(ones, -more):
        kept = [place for place in range(len(sample)) if place not in dropped]
        pairs = [(want, sample[place]) for want, place in zip(dims, kept, strict=True)]
        if _fit(pairs, kept.index(ragged)):
            yield kept.index(ragged)


def _fit(pairs: Sequence[tuple[int | None, int]], ragged: int) -> bool:
    return all(place == ragged or want in (None, size) for place, (want, size) in enumerate(pairs))


def record_length(step: Preprocessing, plan: LengthPlan) -> Preprocessing:
    """Record that samples differ in length; DataError if they cannot be rearranged then."""
    if "->" in step.layout:
        raise DataError(
            f"samples for input {step.input!r} differ in length, and `layout`, or one `mean` or "
            "`std` for each channel, is for images of one size: preprocess the data beforehand."
        )
    if plan.fixed is None:
        return msgspec.structs.replace(step, ragged_axis=plan.axis)
    return msgspec.structs.replace(step, padding=plan.padding)


def prepare_rows(rows: Rows, step: Preprocessing, plan: LengthPlan | None) -> NDArray[Any]:
    """Preprocess samples, (n, …), which are of one length unless the model pads them."""
    if plan is None or not isinstance(rows, Ragged):
        return apply_preprocessing(np.asarray(rows), step)
    values = _stack(rows, plan)
    if plan.fixed is None:
        length = values.shape[plan.source_axis + 1]
        step = msgspec.structs.replace(
            step, source_shape=values.shape[1:], shape=_resize(step.shape, plan.axis, length)
        )
    return apply_preprocessing(values, step)


def _stack(rows: Ragged, plan: LengthPlan) -> NDArray[Any]:
    """Return samples in one array, samples first, padded to the length that the model takes."""
    count, lengths = len(rows), rows.lengths
    if plan.fixed is None or (lengths == plan.fixed).all():
        length = int(lengths[0]) if count else 0
        stacked = rows.values.reshape(count, length, *rows.rest)
    else:
        stacked = np.full((count, plan.fixed, *rows.rest), plan.padding, rows.dtype)
        stacked[np.arange(plan.fixed) < lengths[:, None]] = rows.values
    return np.moveaxis(stacked, 1, plan.source_axis + 1)


def _resize(shape: tuple[int, ...], axis: int, size: int) -> tuple[int, ...]:
    return (*shape[:axis], size, *shape[axis + 1 :])
