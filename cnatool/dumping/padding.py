"""Tensors with padding: where it lies in each, as runs of padded samples show."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cnatool._util.text import count_text
from cnatool.backend.probe.positions import choose_padded, find_positions
from cnatool.backend.statistics.real_positions import FIRST_OPSET
from cnatool.data.wrappers import read_first_block
from cnatool.errors import ModelError
from cnatool.metrics.padding import LOOKED_AT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.inputs import Samples
    from cnatool.backend.network import Network, ProbedNetwork
    from cnatool.backend.probe.positions import Positions
    from cnatool.data.source import Source
    from cnatool.dumping.feed import Feed
    from cnatool.records.masks import MaskRecord
    from cnatool.records.store import TensorRecord


@dataclass(frozen=True, slots=True)
class PaddedTensors:
    """The tensors of a network, and which of their axes have padding that does not count."""

    tensors: Sequence[TensorRecord]
    probed: ProbedNetwork

    @classmethod
    def find(
        cls,
        network: Network,
        probed: ProbedNetwork,
        feed: Feed,
        sources: Mapping[str, Source],
        bound: int | None,
        note: Callable[[str], None],
    ) -> PaddedTensors:
        """Find where padding lies in each tensor, if any input says where samples are padded."""
        if feed.mask is None or not probed.tensors:
            return cls(probed.tensors, probed)
        if network.graph.opset < FIRST_OPSET:
            raise ModelError(
                f"{network.graph.path}: padding can be excluded only in models of opset "
                f"{FIRST_OPSET} or later, but this one has opset {network.graph.opset}. Export it "
                "anew, or pass `mask='none'` to count padding."
            )
        samples = _read_padded(feed, feed.mask, sources)
        found = find_positions(
            network.graph, probed.tensors, samples, feed.mask, bound=bound, run=probed.run
        )
        tensors = [_describe(tensor, found) for tensor in probed.tensors]
        for line in _describe_effects(tensors, found, feed.mask):
            note(line)
        reference = probed.reference | found.reference
        return cls(tensors, replace(probed, reference=reference))


def _read_padded(feed: Feed, mask: MaskRecord, sources: Mapping[str, Source]) -> Samples:
    """Read samples with padding, from the first of each split; make some if none is padded."""
    for source in sources.values():
        block = read_first_block(source, LOOKED_AT)
        samples = feed.prepare(block, range(len(block.ids)))
        rows = choose_padded(mask.find_real(samples.feeds()))
        if rows:
            return feed.prepare(block, np.array(rows))
    values = dict(samples.first(1).values)
    values[mask.input] = _pad_half(values[mask.input], mask)
    return replace(samples.first(1), values=values)


def _pad_half(said: NDArray[Any], mask: MaskRecord) -> NDArray[Any]:
    """Change what a mask says of a sample without padding: its second half is padding."""
    half = mask.length // 2
    if mask.kind == "lengths":
        return np.full_like(said, half)
    flat = said.reshape(-1, mask.length).copy()
    flat[:, half:] = mask.padding
    return flat.reshape(said.shape)


def _describe(tensor: TensorRecord, found: Positions) -> TensorRecord:
    """Describe a tensor with its positions, along the only axis of which its samples differ."""
    axes = found.axes.get(tensor.name)
    name = tensor.name
    padding: Any = "counted" if name in found.counted else msgspec.UNSET
    padding = "mixed" if name in found.mixed else padding
    if axes is None:
        return msgspec.structs.replace(tensor, padding=padding)
    return msgspec.structs.replace(
        tensor,
        varies=True,
        ragged_axis=axes[0] if len(axes) == 1 else msgspec.UNSET,
        positions=axes,
        padding=padding,
    )


def _describe_effects(
    tensors: Sequence[TensorRecord], found: Positions, mask: MaskRecord
) -> Iterator[str]:
    """Describe what padding still changes."""
    mixed = [tensor for tensor in tensors if tensor.name in found.mixed]
    counted = [tensor for tensor in tensors if tensor.name in found.counted]
    if mixed:
        first = mixed[0]
        compared = (
            "a padded sample has other values there than alone"
            if found.free
            else "other padding changes them"
        )
        yield (
            f"the model mixes padding into real positions: {count_text(len(mixed), 'tensor')}, "
            f"first {first.name!r} ({first.operator}), depend{'s' * (len(mixed) == 1)} on it "
            f"({compared}), so that scores still depend on the length that samples are padded to. "
            "Dump unpadded samples, or export a model that applies its mask"
        )
    if counted:
        yield (
            f"padding counts in {count_text(len(counted), 'tensor')}, first {counted[0].name!r} "
            f"({counted[0].operator}), where positions are not those of {mask.input!r}: these "
            "were merged, thinned out or computed in a loop"
        )
