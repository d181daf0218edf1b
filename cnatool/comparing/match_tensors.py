"""The tensors of two stores that hold the same value of the same network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from cnatool.comparing.match_layers import align_layers, is_numbered, name_stem, tensor_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cnatool.records.store import LayerRecord, TensorRecord
    from cnatool.store.store import Store

# Operators that pass on the values of a linear operator, up to quantisation.
_SAME_VALUES = frozenset({"DequantizeLinear", "QuantizeLinear"})


@dataclass(frozen=True, slots=True)
class Pair:
    """A tensor of each store."""

    first: TensorRecord
    second: TensorRecord
    layer: int | None  # numbers of their layers
    layer2: int | None
    stands_for: Literal["preactivation", "linear", "tensor"]  # the rule that selects them


@dataclass(frozen=True, slots=True)
class Match:
    """The tensors of two stores, side by side."""

    by: Literal["name", "order"]  # how they were matched
    pairs: list[Pair]  # in execution order
    left: list[str]  # layers' pre-activations without a match
    left2: list[str]
    # Layers' pre-activations of the first store, of which one store alone holds the linear
    # operator's own result: the first alone, and the second alone
    folded: list[str]
    folded2: list[str]
    reordered: list[str]  # those that do not run in the same order in both stores
    # Layers' pre-activations of the first store that match several of the second
    ambiguous: list[str]
    codes: list[str]  # those that one store holds as quantised codes, and the other as values
    reduced: dict[str, str]  # reduced tensors of both that cannot be compared, with the reasons


def match_tensors(store: Store, store2: Store, agree: Callable[[str, str], bool]) -> Match:
    """Match tensors by name if every layer of one store has its namesakes in the other.

    Otherwise only layers are matched, by `align_layers`. `agree` takes the names of a tensor of
    each store, and returns whether their values seem to be the same.
    """
    layers, layers2 = (
        [layer for layer in each.layers if each.has_tensor(layer.preactivation)]
        for each in (store, store2)
    )
    if _has_namesakes(store, store2, layers) or _has_namesakes(store2, store, layers2):
        by_name = {layer.preactivation: number for number, layer in enumerate(layers2)}
        aligned = [
            (number, by_name[layer.preactivation])
            for number, layer in enumerate(layers)
            if layer.preactivation in by_name
        ]
        others = {
            t.name: t.name for t in store.tensors if _same_size(store, store2, t.name, t.name)
        }
        by: Literal["name", "order"] = "name"
        ambiguous: list[str] = []
    else:
        alignment = align_layers(store, store2, layers, layers2, agree)
        aligned, by, ambiguous = alignment.places, alignment.by, alignment.ambiguous
        # Layers in another order may come with other tensors of the same names.
        others = _match_stems(store, store2) if by == "name" else {}
    codes = [
        layers[i].preactivation
        for i, j in aligned
        if not _same_kind(store, store2, layers[i].preactivation, layers2[j].preactivation)
    ]
    aligned = [(i, j) for i, j in aligned if layers[i].preactivation not in codes]
    pairs: list[Pair] = []
    folded: list[str] = []
    folded2: list[str] = []
    for number, number2 in aligned:
        first, second = layers[number], layers2[number2]
        own, own2 = _has_own(store, first), _has_own(store2, second)
        sized = _same_size(store, store2, first.linear, second.linear)
        if own and own2 and sized and _same_kind(store, store2, first.linear, second.linear):
            pairs.append(_make_pair(store, store2, first, second, "linear"))
        elif own != own2:
            (folded2 if own else folded).append(first.preactivation)
        pairs.append(_make_pair(store, store2, first, second, "preactivation"))
    reduced = {name: _find_obstacle(store, store2, name, name2) for name, name2 in others.items()}
    matched = {pair.first.name for pair in pairs}
    pairs += [
        Pair(store.tensor(name), store2.tensor(name2), None, None, "tensor")
        for name, name2 in others.items()
        if name not in matched and reduced[name] is None and _same_kind(store, store2, name, name2)
    ]
    return Match(
        by=by,
        pairs=sorted(pairs, key=lambda pair: pair.first.number),
        left=_list_unmatched(layers, [number for number, _ in aligned]),
        left2=_list_unmatched(layers2, [number for _, number in aligned]),
        folded=folded,
        folded2=folded2,
        reordered=_list_reordered(layers, aligned),
        ambiguous=ambiguous,
        codes=codes,
        reduced={name: reason for name, reason in reduced.items() if reason is not None},
    )


def _find_obstacle(store: Store, store2: Store, name: str, name2: str) -> str | None:
    """Describe why tensors that were reduced cannot be compared; None if they can."""
    record, record2 = store.tensor(name).reduction, store2.tensor(name2).reduction
    if not record and not record2:
        return None
    if not record or not record2:
        return "one store holds a reduced tensor of this name, and the other one of the network"
    return record.find_obstacle(record2)


def _match_stems(store: Store, store2: Store) -> dict[str, str]:
    """Match values by the stems of their names and by operator, where that leaves one.

    A quantiser computes a nonlinearity as it rounds, and gives the linear operator its name: what
    the operator computed is then what is dequantised.
    """
    stems, stems2 = (_group_by_stem(each) for each in (store, store2))
    matched = {}
    for stem, tensors in stems.items():
        others = stems2.get(stem, ())
        for tensor in tensors:
            alike = [
                t for t in others if tensor_size(store2, t.name) == tensor_size(store, tensor.name)
            ]
            same = [t for t in alike if t.operator == tensor.operator]
            candidates = same or [t for t in alike if t.operator == "DequantizeLinear"]
            if len(candidates) == 1 and not is_numbered(tensor.name):
                matched[tensor.name] = candidates[0].name
    return matched


def _group_by_stem(store: Store) -> dict[str, list[TensorRecord]]:
    groups: dict[str, list[TensorRecord]] = {}
    for tensor in store.tensors:
        if tensor.reduction:
            continue
        groups.setdefault(name_stem(tensor.name), []).append(tensor)
    return groups


def _has_namesakes(store: Store, other: Store, layers: Sequence[LayerRecord]) -> bool:
    known = {layer.preactivation for layer in other.layers}
    return bool(layers) and all(
        layer.preactivation in known
        and _same_size(store, other, layer.preactivation, layer.preactivation)
        for layer in layers
    )


def _has_own(store: Store, layer: LayerRecord) -> bool:
    """Whether a store holds a layer's own result, and more than its codes behind it."""
    if layer.linear == layer.preactivation or not store.has_tensor(layer.linear):
        return False
    tensor = store.tensor(layer.preactivation)
    while tensor.operator in _SAME_VALUES and tensor.sources:
        tensor = store.tensors[tensor.sources[0]]
    return tensor.operator not in _SAME_VALUES and tensor.name != layer.linear


def _same_kind(store: Store, store2: Store, name: str, name2: str) -> bool:
    """Whether both tensors hold values, or both hold codes."""
    return ("float" in store.tensor(name).dtype) == ("float" in store2.tensor(name2).dtype)


def _same_size(store: Store, store2: Store, name: str, name2: str) -> bool:
    both = store.has_tensor(name) and store2.has_tensor(name2)
    return both and tensor_size(store, name) == tensor_size(store2, name2)


def _make_pair(
    store: Store,
    store2: Store,
    first: LayerRecord,
    second: LayerRecord,
    rule: Literal["preactivation", "linear"],
) -> Pair:
    tensor, tensor2 = (
        each.tensor(layer.linear if rule == "linear" else layer.preactivation)
        for each, layer in ((store, first), (store2, second))
    )
    return Pair(tensor, tensor2, first.number, second.number, rule)


def _list_reordered(layers: Sequence[LayerRecord], aligned: Sequence[tuple[int, int]]) -> list[str]:
    """List the layers that run before another in one store and after it in the other."""
    return [
        layers[i].preactivation
        for i, j in aligned
        if any((i < k) != (j < m) for k, m in aligned if k != i)
    ]


def _list_unmatched(layers: Sequence[LayerRecord], matched: Sequence[int]) -> list[str]:
    return [layer.preactivation for number, layer in enumerate(layers) if number not in matched]
