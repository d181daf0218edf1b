"""The drawing of a network: its layers in order, and what lies between them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from cnatool._util.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cnatool.records.store import LayerRecord, StoreRecord, TensorRecord
    from cnatool.scoring.results import LayerResult


class Step(msgspec.Struct, frozen=True):
    """One layer of the drawing.

    Attributes
    ----------
    name, operator : str
        Its tensor, and the linear operator, or what else makes the tensor.
    shape : tuple of int
        Of its tensor for one sample.
    size : int
        Elements of that tensor; 0 where the store does not hold it.
    counted : int or None
        Its place among the layers that β is computed over; None if it does not count.
    why : str or None
        Why it does not count.
    shortcut : bool
        Whether it is a projection on a residual bypass.
    path : int or None
        Linear operators on the longest path to it.
    weights : (int, int) or None
        Rows and columns of its weights as a matrix.
    frobenius, spectral : float or None
        Norms of its weights.
    then : tuple of str
        Operators of the tensors that follow, up to the next layer.
    """

    name: str
    operator: str
    shape: tuple[int, ...]
    size: int
    counted: int | None
    why: str | None
    shortcut: bool
    path: int | None
    weights: tuple[int, int] | None
    frobenius: float | None
    spectral: float | None
    then: tuple[str, ...]


def list_steps(record: StoreRecord, counted: Sequence[LayerResult]) -> tuple[Step, ...]:
    """List the layers of a network in execution order, with what follows each."""
    places = {layer.name: place for place, layer in enumerate(counted)}
    tensors = {tensor.name: tensor for tensor in record.tensors}
    layers = dict(_assign_tensors(record, places))
    names = _order_names(record, places, layers)
    steps = []
    for place, name in enumerate(names):
        following = names[place + 1] if place + 1 < len(names) else None
        steps.append(
            _describe(
                record,
                name,
                tensors.get(name),
                layers.get(name),
                places.get(name),
                _list_between(record, layers, name, following),
            )
        )
    return tuple(steps)


def _assign_tensors(
    record: StoreRecord, places: dict[str, int]
) -> Iterator[tuple[str, LayerRecord]]:
    """Yield the tensor that stands for each linear operator: one that counts, if it has one."""
    for layer in record.layers:
        first = layer.linear if layer.linear in places else layer.preactivation
        yield first, layer


def _order_names(
    record: StoreRecord, places: dict[str, int], layers: dict[str, LayerRecord]
) -> list[str]:
    """Order the tensors of the drawing: as they are stored, and those not stored by their layer."""
    order = {tensor.name: float(tensor.number) for tensor in record.tensors}
    last = -1.0
    for name in layers:
        last = order.setdefault(name, last)
    return sorted({**layers, **dict.fromkeys(places)}, key=lambda name: order[name])


def _list_between(
    record: StoreRecord, layers: dict[str, LayerRecord], name: str, following: str | None
) -> tuple[str, ...]:
    """List the operators between a layer and the next, without those that belong to a layer."""
    numbers = {tensor.name: tensor.number for tensor in record.tensors}
    if name not in numbers:
        return ()
    own = {each for layer in layers.values() for each in (layer.linear, layer.preactivation)}
    last = numbers.get(following or "", len(record.tensors))
    return tuple(
        printable(tensor.operator)
        for tensor in record.tensors[numbers[name] + 1 : last]
        if tensor.name not in own and not tensor.reduction
    )


def _describe(
    record: StoreRecord,
    name: str,
    tensor: TensorRecord | None,
    layer: LayerRecord | None,
    counted: int | None,
    then: tuple[str, ...],
) -> Step:
    shape = () if tensor is None else tensor.shape
    weights = None
    if layer is not None and record.weights is not None:
        weights = next((w for w in record.weights.layers if w.number == layer.number), None)
    return Step(
        name=printable(name),
        operator=printable(layer.operator if layer else tensor.operator if tensor else ""),
        shape=shape,
        size=0 if tensor is None else math.prod(shape),
        counted=counted,
        why=None if counted is not None else _explain(tensor, layer),
        shortcut=layer is not None and layer.shortcut,
        path=None if layer is None else layer.path,
        weights=None if weights is None else weights.shape,
        frobenius=None if weights is None else weights.frobenius,
        spectral=None if weights is None else weights.spectral,
        then=then,
    )


def _explain(tensor: TensorRecord | None, layer: LayerRecord | None) -> str:
    """Explain why a layer is not among those that β is computed over."""
    if layer is not None and layer.output:
        return "output layer"
    if layer is not None and layer.shortcut:
        return "projection on a residual bypass"
    return "not stored" if tensor is None else "not counted"
