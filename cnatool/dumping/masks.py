"""Leaving the padding of samples out of sums and of what is stored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from cnatool.data.padded import UnpaddedSamples, leave_padding_out
from cnatool.data.wrappers import ReadableSamples, read_first_block
from cnatool.dumping.mask_search import describe_holes, find_mask
from cnatool.errors import UsageError
from cnatool.metrics.padding import LOOKED_AT
from cnatool.records.masks import MaskRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.data.source import Source
    from cnatool.dumping.feed import Feed

# The value of the option that lets padding count.
NONE = "none"


@dataclass(frozen=True, slots=True)
class MaskedSources:
    """The sources of a dump, and what says where their samples are padded."""

    sources: dict[str, Source]
    mask: MaskRecord | None
    note: str | None = None


def mask_sources(sources: Mapping[str, Source], feed: Feed, asked: str | None) -> MaskedSources:
    """Find the mask of padding among the inputs, and leave padding out of what is stored.

    Raises a UsageError where it is not clear which input is the mask, or what is asked for is none.
    """
    plain = MaskedSources(dict(sources), None)
    first = next(iter(sources.values()))
    names = tuple(step.input for step in feed.preprocessing)
    if any(plan is not None and plan.fixed is not None for plan in feed.lengths):
        return plain if asked == NONE else _mask_padded_here(plain, feed)
    if any(not spec.fed or spec.ragged_axis is not None for spec in first.inputs):
        return plain  # samples are as long as they are
    if asked == NONE or (len(names) < 2 and asked is None):
        return plain
    if any(spec.transformed is not None for spec in first.inputs):
        if asked is not None:
            raise UsageError(f"`mask={asked!r}`: samples that are made from images have no mask.")
        return plain
    inputs = _read_first(sources, names)
    if inputs is None:
        return plain
    mask, unpadded = find_mask(inputs, asked)
    if mask is None:
        watched = {names.index(each.input): each.padding for each in unpadded}
        return replace(_watch(plain, watched, names), note=describe_holes(inputs))
    masked = {name: leave_padding_out(each, mask, names) for name, each in sources.items()}
    return MaskedSources(masked, mask, _describe(mask, mask.find_real(inputs)))


def _mask_padded_here(plain: MaskedSources, feed: Feed) -> MaskedSources:
    """Take the mask that tells the model where samples are padded to the length that it takes."""
    plans = {
        step.input: plan
        for step, plan in zip(feed.preprocessing, feed.lengths, strict=True)
        if plan is not None and plan.fixed is not None
    }
    mask = next((each for each in feed.masks if each.source in plans), None)
    if mask is None:
        name, plan = next(iter(plans.items()))
        return replace(
            plain,
            note=f"padding counts: samples are padded to {plan.fixed}, and the model takes no mask "
            f"that says where, so that the sums of layers run over it. Export the model with a "
            f"dynamic axis for the length of {name!r}",
        )
    length = plans[mask.source].fixed or 0
    axes: dict[str, tuple[int, ...]] = {
        name: (plan.axis,) for name, plan in plans.items() if plan.fixed == length
    }
    for each in (*feed.derived, *feed.masks):
        along = tuple(axis - 1 for axis, size in enumerate(each.dims) if size == "length")
        if each.source == mask.source and along and each.dims[0] == "samples":
            axes[each.name] = along
    others = [name for name in plans if name not in axes]
    kind: Literal["mask", "lengths"] = "lengths" if mask.rule == "lengths" else "mask"
    note = f"padding does not count: sums run over the positions of samples, as {mask.name!r} says"
    if others:
        note += f"; but that of {', '.join(map(repr, others))}, of another length, counts"
    return replace(plain, mask=MaskRecord(mask.name, kind, 0, length, axes), note=note)


def _watch(plain: MaskedSources, watched: dict[int, int], names: tuple[str, ...]) -> MaskedSources:
    """Refuse samples with padding, where the first have none."""
    if not watched:
        return plain

    def wrap(source: Source) -> Source:
        if isinstance(source, ReadableSamples):
            return replace(source, source=UnpaddedSamples(source.source, watched, names))
        return UnpaddedSamples(source, watched, names)

    return replace(plain, sources={name: wrap(each) for name, each in plain.sources.items()})


def _read_first(
    sources: Mapping[str, Source], names: Sequence[str]
) -> dict[str, NDArray[Any]] | None:
    """Read the first samples of each split; None where samples differ in length already."""
    blocks = [read_first_block(source, LOOKED_AT).for_model for source in sources.values()]
    inputs = {}
    for name, parts in zip(names, zip(*blocks, strict=True), strict=False):
        arrays = [part for part in parts if isinstance(part, np.ndarray)]
        if len(arrays) < len(parts) or len({array.shape[1:] for array in arrays}) > 1:
            return None
        inputs[name] = np.concatenate(arrays)
    return inputs


def _describe(mask: MaskRecord, real: NDArray[np.bool_]) -> str:
    share = 1 - float(real.mean())
    where = (
        f"at or behind the length in {mask.input!r}"
        if mask.kind == "lengths"
        else f"where {mask.input!r} is {mask.padding or 0}"
    )
    return (
        f"padding does not count: {share:.0%} of the positions of the first samples are padding, "
        f"{where}. Sums run over the others, and only these are stored (`mask='none'` counts all)"
    )
