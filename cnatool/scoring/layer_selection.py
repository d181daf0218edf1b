"""The tensors of a store that are the layers of β, and their depths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cnatool._util.names import advise_on_name, match_names
from cnatool._util.text import count_text
from cnatool.errors import MetricError, UsageError
from cnatool.records.store import LayerRecord, TensorRecord, UnselectedTensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cnatool.metrics.convention import ConventionFields
    from cnatool.records.store import StoreRecord
    from cnatool.store.store import Store

_RULES = ("preactivation", "linear")

_T = TypeVar("_T", TensorRecord, UnselectedTensor)


@dataclass(frozen=True, slots=True)
class ScoredLayer:
    """A tensor that counts as a layer, and its depth d.

    ``path`` is the number of linear operators on the longest path to it; None for a layer that a
    name or glob selects.
    """

    tensor: TensorRecord
    operator: str
    depth: int
    path: int | None = None


def select_layers(store: Store, convention: ConventionFields) -> list[ScoredLayer]:
    """Select the layers that a convention names, in execution order."""
    if convention.layers in _RULES:
        return _layers_by_rule(store, convention)
    if convention.depth != "index":
        raise MetricError(
            f"`depth='{convention.depth}'` counts the layers on a path, which only the rules "
            f"{' and '.join(_RULES)} define; layers={convention.layers} needs depth=index."
        )
    if convention.layers == "all":
        tensors = [
            tensor
            for tensor in _drop_uncounted(store, convention, store.tensors)
            if "float" in tensor.dtype and not tensor.conditional and not tensor.reduction
        ]
    else:
        tensors = _tensors_by_name(store, convention, _patterns(convention.layers))
    return [
        ScoredLayer(tensor, tensor.operator, depth) for depth, tensor in enumerate(tensors, start=1)
    ]


def find_missing_layers(store: Store, convention: ConventionFields) -> list[str]:
    """List the tensors that ``all`` or globs would match in a store of all tensors.

    For a rule or a name that the store lacks, `select_layers` raises an error.
    """
    if convention.layers in _RULES:
        return []
    left_out = store.record.unselected
    if convention.layers != "all":
        names, _ = match_names([t.name for t in left_out], _patterns(convention.layers))
        left_out = tuple(tensor for tensor in left_out if tensor.name in names)
    return [t.name for t in _drop_uncounted(store, convention, left_out) if "float" in t.dtype]


def explain_left_out_layers(record: StoreRecord) -> Iterator[str]:
    """Describe the layers that are not applied once to each sample, which scores leave out."""
    conditional = {tensor.name for tensor in record.tensors if tensor.conditional}
    branched: list[LayerRecord] = []
    others: list[LayerRecord] = []
    for layer in record.layers:
        if not layer.per_sample:
            inside = not conditional.isdisjoint((layer.linear, layer.preactivation))
            (branched if inside else others).append(layer)
    reasons = {
        "in a branch that only some samples take": branched,
        "not applied once to each sample": others,
    }
    for reason, layers in reasons.items():
        if layers:
            one = len(layers) == 1
            yield (
                f"{count_text(len(layers), 'layer')}, first {layers[0].linear!r}, "
                f"{'is' if one else 'are'} {reason}: scores leave {'it' if one else 'them'} out"
            )


def _layers_by_rule(store: Store, convention: ConventionFields) -> list[ScoredLayer]:
    if not store.layers:
        raise MetricError(
            f"{store.path} lists no linear operators. Name the tensors that are layers with "
            "`layers='all'` or `layers='NAME,GLOB,…'`."
        )
    layers = [
        layer
        for layer in store.layers
        if (convention.include_output or not layer.output)
        and (convention.include_shortcut or not layer.shortcut)
        and layer.per_sample
    ]
    left_out = {tensor.name: tensor.reason for tensor in store.record.skipped}
    selected = []
    for index, layer in enumerate(layers, start=1):
        name = layer.linear if convention.layers == "linear" else layer.preactivation
        if name in left_out:
            raise MetricError(
                f"{store.path} holds nothing of layer {layer.number} (tensor {name!r}), which has "
                f"no row for each sample: {left_out[name]}. Choose among the other layers with "
                "`layers='NAME,GLOB,…'`."
            )
        if not store.has_tensor(name):
            raise MetricError(
                f"{store.path} holds nothing of layer {layer.number} (tensor {name!r}). "
                "Dump with `tensors='all'` or `tensors='layers'`, or choose among the stored "
                "tensors with `layers='NAME,GLOB,…'`."
            )
        dtype = store.tensor(name).dtype
        if "float" not in dtype:
            raise MetricError(
                f"{store.path}: layer {layer.number} (tensor {name!r}) holds quantised codes, "
                f"{dtype}, whose sum means nothing. Choose other tensors with "
                "`layers='NAME,GLOB,…'`."
            )
        depth = layer.path if convention.depth == "path" else index
        selected.append(ScoredLayer(store.tensor(name), layer.operator, depth, layer.path))
    return selected


def _drop_uncounted(store: Store, convention: ConventionFields, tensors: Sequence[_T]) -> list[_T]:
    """Drop the last layer and shortcut projections where the convention does not count them."""
    shortcuts = {n for r in store.layers if r.shortcut for n in (r.linear, r.preactivation)}
    return [
        tensor
        for tensor in tensors
        if (convention.include_output or tensor.role != "output")
        and (convention.include_shortcut or tensor.name not in shortcuts)
    ]


def _tensors_by_name(
    store: Store, convention: ConventionFields, patterns: Sequence[str]
) -> list[TensorRecord]:
    """Select tensors by a list: by name always, by glob if the convention counts them."""
    known = [tensor.name for tensor in store.tensors]
    names, unmatched = match_names(known, patterns)
    if unmatched:
        raise UsageError(
            f"`layers={unmatched[0]!r}`: {store.path} has no such tensor. "
            f"{advise_on_name(unmatched[0], known, store.path)}"
        )
    for tensor in store.tensors:
        if tensor.name in patterns and tensor.conditional:
            raise MetricError(
                f"{store.path}: tensor {tensor.name!r} is in a branch that only some samples "
                "take, so the others have no sum of it. Leave it out of `layers`."
            )
        if tensor.name in patterns and tensor.reduction:
            raise MetricError(
                f"{store.path}: tensor {tensor.name!r} was reduced from {tensor.reduction.source!r}"
                " and is no layer. Leave it out of `layers`."
            )
    tensors = map(store.tensor, names)
    matching = [tensor for tensor in tensors if not (tensor.conditional or tensor.reduction)]
    counted = _drop_uncounted(store, convention, matching)
    return [tensor for tensor in matching if tensor.name in patterns or tensor in counted]


def _patterns(layers: str) -> list[str]:
    if not layers.startswith("@"):
        return [word.strip() for word in layers.split(",") if word.strip()]
    path = Path(layers[1:])
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"`layers={layers!r}`: {path} cannot be read as text: {error}.") from None
    return [line.strip() for line in lines if line.strip()]
