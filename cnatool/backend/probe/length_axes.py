"""Axes that follow the length of samples, found by probes of samples of other lengths.

An axis follows the length if its size differs between two lengths, whatever the relation: that of a
convolution over time may be half the length, or less by two. So no axis is taken for another that
happens to be as long.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from cnatool.records.store import SkippedTensor

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from cnatool.backend.inputs import Samples
    from cnatool.records.store import TensorRecord


def resize_samples(
    samples: Samples, axes: Mapping[str, int], lengths: Mapping[str, int]
) -> Samples:
    """Cut samples to other lengths, or continue them from their beginning.

    Parameters
    ----------
    samples : Samples
    axes : dict of str to int
        The axis of one sample along which each input has a length; other inputs stay.
    lengths : dict of str to int
        The new lengths, at least 1.
    """
    values = dict(samples.values)
    for name, axis in axes.items():
        places = np.arange(lengths[name])
        values[name] = np.take(values[name], places, axis=axis + 1, mode="wrap")
    return replace(samples, values=values)


def find_length_axes(probes: Sequence[Sequence[TensorRecord]]) -> dict[str, frozenset[int]]:
    """Find the axes of each tensor, by name, that follow the length of samples.

    Parameters
    ----------
    probes : sequence of sequence of TensorRecord
        What probes of the same model found, each with samples of another length.

    Returns
    -------
    dict of str to frozenset of int
        Axes of the shape of one sample; none for a tensor of fixed shape. Tensors that have the
        same sample axis in no other probe are left out; in one of very short samples, axes of
        length 1 may hide it.
    """
    first, *others = ({tensor.name: tensor for tensor in probe} for probe in probes)
    found = {}
    for name, tensor in first.items():
        same = [other[name] for other in others if name in other and _is_alike(tensor, other[name])]
        if same or not others:
            found[name] = frozenset(
                axis
                for axis, size in enumerate(tensor.shape)
                if any(other.shape[axis] != size for other in same)
            )
    return found


def _is_alike(tensor: TensorRecord, other: TensorRecord) -> bool:
    return (
        tensor.batch_axis == other.batch_axis
        and tensor.merged == other.merged
        and len(tensor.shape) == len(other.shape)
        and tensor.index == other.index
    )


def add_length_axes(
    probes: Sequence[Sequence[TensorRecord]], inner: Collection[str] = ()
) -> tuple[list[TensorRecord], list[SkippedTensor]]:
    """Return the tensors of the first probe, which say along which axes samples differ in length.

    Those that cannot be told by sample for all lengths come second, with the reason. ``inner`` are
    tensors inside If, Loop and Scan.
    """
    axes = find_length_axes(probes)
    tensors, skipped = [], []
    for tensor in probes[0]:
        if tensor.name not in axes:
            reason = "its number of axes, or which of them holds the samples, depends on the length"
            skipped.append(SkippedTensor(tensor.name, tensor.operator, reason))
        elif axes[tensor.name] and tensor.merged and tensor.name in inner:
            reason = "samples of any length are merged with another axis in a subgraph"
            skipped.append(SkippedTensor(tensor.name, tensor.operator, reason))
        elif axes[tensor.name]:
            tensors.append(_vary(tensor, axes[tensor.name]))
        else:
            tensors.append(tensor)
    return [
        msgspec.structs.replace(tensor, number=number) for number, tensor in enumerate(tensors)
    ], skipped


def _vary(tensor: TensorRecord, axes: frozenset[int]) -> TensorRecord:
    """Let the shape of a tensor vary along some axes, besides those that depend on values."""
    known = tensor.ragged_axis
    if known is not msgspec.UNSET:
        axes = axes | {known}
    only = len(axes) == 1 and (known is not msgspec.UNSET or not tensor.varies)
    return msgspec.structs.replace(
        tensor, varies=True, ragged_axis=next(iter(axes)) if only else msgspec.UNSET
    )
