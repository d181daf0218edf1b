"""Which tensors of two stores stand for the same value of the same network."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cnatool.store.reader import Store
    from cnatool.store.records import LayerRecord, TensorRecord

__all__ = ["Match", "Pair", "matched"]


@dataclass(frozen=True, slots=True)
class Pair:
    """A tensor of each store.

    Attributes
    ----------
    one, two : TensorRecord
        The tensors.
    layer, layer2 : int or None
        Layers that they stand for.
    stands_for : {"preactivation", "linear", "tensor"}
        Under which rule.
    """

    one: TensorRecord
    two: TensorRecord
    layer: int | None
    layer2: int | None
    stands_for: Literal["preactivation", "linear", "tensor"]


@dataclass(frozen=True, slots=True)
class Match:
    """The tensors of two stores, side by side.

    Attributes
    ----------
    by : {"name", "order"}
        How they were matched.
    pairs : list of Pair
        In execution order.
    left, left2 : list of str
        Layers' pre-activations that were matched with none.
    reordered : list of str
        Those that do not run in the same order in both stores.
    folded, folded2 : list of str
        Layers' pre-activations of the first store, of which one store alone holds the linear
        operator's own result: the first alone, and the second alone.
    """

    by: Literal["name", "order"]
    pairs: list[Pair]
    left: list[str]
    left2: list[str]
    folded: list[str]
    folded2: list[str]
    reordered: list[str]


def matched(store: Store, store2: Store, agree: Callable[[str, str], bool]) -> Match:
    """Match tensors by name if every layer of one store has its namesakes in the other.

    Else layers are matched in execution order, as many as have tensors of the same size. Parallel
    branches may run in either order: where two layers do not agree, others of the same size
    that do are matched.

    Parameters
    ----------
    store, store2 : Store
    agree : callable
        Says of a tensor of each store whether their values seem to be the same.
    """
    layers, layers2 = (
        [layer for layer in each.layers if each.has_tensor(layer.preactivation)]
        for each in (store, store2)
    )
    reordered: list[str] = []
    if _namesakes(store, store2, layers) or _namesakes(store2, store, layers2):
        by_name = {layer.preactivation: number for number, layer in enumerate(layers2)}
        aligned = [
            (number, by_name[layer.preactivation])
            for number, layer in enumerate(layers)
            if layer.preactivation in by_name
        ]
        others = [t for t in store.tensors if _same_size(store, store2, t.name, t.name)]
        by: Literal["name", "order"] = "name"
    else:
        sizes, sizes2 = (
            [_size(each, layer.preactivation) for layer in found]
            for each, found in ((store, layers), (store2, layers2))
        )
        in_order = _aligned(sizes, sizes2)
        aligned = _untangled(
            in_order,
            sizes,
            lambda i, j: agree(layers[i].preactivation, layers2[j].preactivation),
        )
        reordered = [
            layers[after[0]].preactivation
            for before, after in zip(in_order, aligned, strict=True)
            if before != after
        ]
        others, by = [], "order"
    pairs: list[Pair] = []
    folded: list[str] = []
    folded2: list[str] = []
    for number, number2 in aligned:
        one, two = layers[number], layers2[number2]
        own, own2 = _has_own(store, one), _has_own(store2, two)
        if own and own2 and _same_size(store, store2, one.linear, two.linear):
            pairs.append(_pair(store, store2, one, two, "linear"))
        elif own != own2:
            (folded2 if own else folded).append(one.preactivation)
        pairs.append(_pair(store, store2, one, two, "preactivation"))
    taken = {pair.one.name for pair in pairs}
    pairs += [
        Pair(t, store2.tensor(t.name), None, None, "tensor") for t in others if t.name not in taken
    ]
    return Match(
        by=by,
        pairs=sorted(pairs, key=lambda pair: pair.one.number),
        left=_left(layers, [number for number, _ in aligned]),
        left2=_left(layers2, [number for _, number in aligned]),
        folded=folded,
        folded2=folded2,
        reordered=reordered,
    )


def _namesakes(store: Store, other: Store, layers: Sequence[LayerRecord]) -> bool:
    known = {layer.preactivation for layer in other.layers}
    return bool(layers) and all(
        layer.preactivation in known
        and _same_size(store, other, layer.preactivation, layer.preactivation)
        for layer in layers
    )


def _has_own(store: Store, layer: LayerRecord) -> bool:
    return layer.linear != layer.preactivation and store.has_tensor(layer.linear)


def _size(store: Store, name: str) -> int:
    tensor = store.tensor(name)
    # What varies is as large as the data make it.
    return -1 if tensor.varies else math.prod(tensor.shape)


def _same_size(store: Store, store2: Store, name: str, name2: str) -> bool:
    both = store.has_tensor(name) and store2.has_tensor(name2)
    return both and _size(store, name) == _size(store2, name2)


def _pair(
    store: Store,
    store2: Store,
    one: LayerRecord,
    two: LayerRecord,
    rule: Literal["preactivation", "linear"],
) -> Pair:
    tensor, tensor2 = (
        each.tensor(layer.linear if rule == "linear" else layer.preactivation)
        for each, layer in ((store, one), (store2, two))
    )
    return Pair(tensor, tensor2, one.number, two.number, rule)


def _aligned(sizes: Sequence[int], sizes2: Sequence[int]) -> list[tuple[int, int]]:
    """Give the longest common subsequence, as places in both."""
    rows, columns = len(sizes), len(sizes2)
    longest = [[0] * (columns + 1) for _ in range(rows + 1)]
    for i in reversed(range(rows)):
        for j in reversed(range(columns)):
            longest[i][j] = (
                longest[i + 1][j + 1] + 1
                if sizes[i] == sizes2[j]
                else max(longest[i + 1][j], longest[i][j + 1])
            )
    found = []
    i = j = 0
    while i < rows and j < columns:
        if sizes[i] == sizes2[j]:
            found.append((i, j))
            i, j = i + 1, j + 1
        elif longest[i + 1][j] >= longest[i][j + 1]:
            i += 1
        else:
            j += 1
    return found


def _untangled(
    aligned: Sequence[tuple[int, int]], sizes: Sequence[int], agree: Callable[[int, int], bool]
) -> list[tuple[int, int]]:
    """Exchange partners among pairs that do not agree, where others of their size do."""
    found = list(aligned)
    loose = [place for place, pair in enumerate(found) if not agree(*pair)]
    for place in loose:
        one, two = found[place]
        for other in loose:
            one2, two2 = found[other]
            if other > place and sizes[one] == sizes[one2] and agree(one, two2):
                found[place], found[other] = (one, two2), (one2, two)
                break
    return found


def _left(layers: Sequence[LayerRecord], taken: Sequence[int]) -> list[str]:
    return [layer.preactivation for number, layer in enumerate(layers) if number not in taken]
