"""Matching layers of two stores, by name and by position in the network."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from cnatool.records.store import LayerRecord
    from cnatool.store.store import Store

# What exporters, optimisers and quantisers put around the name of a tensor or a weight.
_SUFFIX = re.compile(
    r"(_(De)?[Qq]uantizeLinear(_(Input|Output))?|_(de)?quantized|_QuantizeInput|_transposed|_fused"
    r"|_output_\d+|:\d+)(_\d+)?$"
)
_PREFIX = re.compile(r"^(Conv|Gemm|MatMul)[A-Za-z]*Fusion_[A-Z]_")
# Numbered by an exporter: two exports may give one number to different layers.
_NUMBERED = re.compile(r"^(onnx::\w+_|val_|r|t)?\d+$")

Place = tuple[int, int]


@dataclass(frozen=True, slots=True)
class AlignedLayers:
    """Layers of two stores, side by side."""

    by: Literal["name", "order"]  # "name" if names alone matched the layers
    places: list[Place]  # the layers' places in both lists, in the order of the first
    # Pre-activations of the first list that match several of the second; they are left out
    ambiguous: list[str]


def name_stem(name: str) -> str:
    """Strip from a name what optimisers and quantisers add to it."""
    stem = _PREFIX.sub("", name)
    while (shorter := _SUFFIX.sub("", stem)) != stem:
        stem = shorter
    return stem


def is_numbered(name: str) -> bool:
    """Whether an exporter numbered a tensor, and another export may number another one so."""
    return _NUMBERED.match(name) is not None


def tensor_size(store: Store, name: str) -> int:
    """Count a sample's elements of a tensor; -1 where it varies with the data."""
    tensor = store.tensor(name)
    return -1 if tensor.varies else math.prod(tensor.shape)


def align_layers(
    store: Store,
    store2: Store,
    layers: Sequence[LayerRecord],
    layers2: Sequence[LayerRecord],
    agree: Callable[[str, str], bool],
) -> AlignedLayers:
    """Pair layers by the stems of their names, then by size, path, shortcut and output.

    A name pairs two layers where each list has it once, and the layers are alike in size, shortcut
    and output; a name that is a number only if the paths are as long. The other layers are paired
    by size, path, shortcut and output where both lists have as many of each, else in execution
    order. Layers whose partner remains ambiguous, even by their values, are not paired.
    """
    sizes, sizes2 = (
        [tensor_size(each, layer.preactivation) for layer in own]
        for each, own in ((store, layers), (store2, layers2))
    )
    kinds, kinds2 = (
        [(size, layer.shortcut, layer.output) for size, layer in zip(each, own, strict=True)]
        for each, own in ((sizes, layers), (sizes2, layers2))
    )

    def alike(i: int, j: int) -> bool:
        return agree(layers[i].preactivation, layers2[j].preactivation)

    named: dict[int, int] = {}
    for names, names2 in zip(
        _layer_names(store, layers), _layer_names(store2, layers2), strict=True
    ):
        for i, j in _shared_names(names, names2):
            same_path = layers[i].path == layers2[j].path
            certain = same_path or not is_numbered(names[i])
            if i not in named and j not in named.values() and kinds[i] == kinds2[j] and certain:
                named[i] = j
    left = [i for i in range(len(layers)) if i not in named]
    left2 = [j for j in range(len(layers2)) if j not in named.values()]
    keys = {i: (*kinds[i], layers[i].path) for i in left}
    keys2 = {j: (*kinds2[j], layers2[j].path) for j in left2}
    if Counter(keys.values()) == Counter(keys2.values()):
        loose, doubtful = _pair_by_key(keys, keys2)
    else:
        loose, doubtful = _pair_by_order(
            left, left2, [kinds[i] for i in left], [kinds2[j] for j in left2]
        )
    loose = _untangle(loose, sizes, alike)
    ambiguous = [i for i, j in loose if i in doubtful and not alike(i, j)]
    pairs = [*named.items(), *((i, j) for i, j in loose if i not in ambiguous)]
    return AlignedLayers(
        by="name" if named and not loose else "order",
        places=sorted(pairs),
        ambiguous=[layers[i].preactivation for i in ambiguous],
    )


def _layer_names(store: Store, layers: Sequence[LayerRecord]) -> list[list[str]]:
    """Return three names of each layer: of its weights, its pre-activation, its own result."""
    weights = store.record.weights
    known = {} if weights is None else {layer.number: layer.name for layer in weights.layers}
    return [
        [name_stem(known.get(layer.number, "")) for layer in layers],
        [name_stem(layer.preactivation) for layer in layers],
        [name_stem(layer.linear) for layer in layers],
    ]


def _shared_names(names: Sequence[str], names2: Sequence[str]) -> Iterable[Place]:
    counts, counts2 = Counter(names), Counter(names2)
    places = {name: j for j, name in enumerate(names2)}
    for i, name in enumerate(names):
        if name and counts[name] == counts2[name] == 1:
            yield i, places[name]


def _pair_by_key(
    keys: Mapping[int, Hashable], keys2: Mapping[int, Hashable]
) -> tuple[list[Place], set[int]]:
    """Pair places of the same key in order; also return those whose key is not unique."""
    waiting: dict[Hashable, list[int]] = {}
    for j, key in keys2.items():
        waiting.setdefault(key, []).append(j)
    pairs = [(i, waiting[key].pop(0)) for i, key in keys.items()]
    counts = Counter(keys.values())
    return pairs, {i for i, key in keys.items() if counts[key] > 1}


def _pair_by_order(
    left: Sequence[int],
    left2: Sequence[int],
    kinds: Sequence[Hashable],
    kinds2: Sequence[Hashable],
) -> tuple[list[Place], set[int]]:
    """Pair by a longest common subsequence; also return the places where it is not unique."""
    first = _align(kinds, kinds2)
    backwards = _align(kinds[::-1], kinds2[::-1])
    last = {(len(kinds) - 1 - i, len(kinds2) - 1 - j) for i, j in backwards}
    doubtful = {left[i] for i, j in first if (i, j) not in last}
    return [(left[i], left2[j]) for i, j in first], doubtful


def _align(kinds: Sequence[Hashable], kinds2: Sequence[Hashable]) -> list[Place]:
    """Return the longest common subsequence, as places in both."""
    rows, columns = len(kinds), len(kinds2)
    longest = [[0] * (columns + 1) for _ in range(rows + 1)]
    for i in reversed(range(rows)):
        for j in reversed(range(columns)):
            longest[i][j] = (
                longest[i + 1][j + 1] + 1
                if kinds[i] == kinds2[j]
                else max(longest[i + 1][j], longest[i][j + 1])
            )
    pairs = []
    i = j = 0
    while i < rows and j < columns:
        if kinds[i] == kinds2[j]:
            pairs.append((i, j))
            i, j = i + 1, j + 1
        elif longest[i + 1][j] >= longest[i][j + 1]:
            i += 1
        else:
            j += 1
    return pairs


def _untangle(
    aligned: Sequence[Place], sizes: Sequence[int], alike: Callable[[int, int], bool]
) -> list[Place]:
    """Exchange partners among pairs that do not agree, where others of their size do."""
    pairs = list(aligned)
    loose = [place for place, pair in enumerate(pairs) if not alike(*pair)]
    for place in loose:
        i, j = pairs[place]
        for other in loose:
            i2, j2 = pairs[other]
            if other > place and sizes[i] == sizes[i2] and alike(i, j2):
                pairs[place], pairs[other] = (i, j2), (i2, j)
                break
    return pairs
