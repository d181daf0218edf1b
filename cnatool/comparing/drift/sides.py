"""The two sets of samples that are compared, and the tensors that both have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnatool._util.local_paths import real_path
from cnatool._util.names import advise_on_name, complete_name, match_names
from cnatool._util.text import list_names
from cnatool.errors import MetricError, UsageError
from cnatool.per_unit.select import find_axes
from cnatool.store.missing_rows import check_has_rows, describe_missing_rows, explain_missing_rows
from cnatool.store.reader import open_store
from cnatool.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from cnatool.records.store import TensorRecord
    from cnatool.records.unit_axis import UnitAxis
    from cnatool.store.store import Split


@dataclass(frozen=True, slots=True)
class TensorPair:
    """A tensor in both stores."""

    first: TensorRecord
    second: TensorRecord
    layer: int | None  # number of the linear operator that it belongs to
    axis: UnitAxis  # of the units, in either store
    axis2: UnitAxis


@dataclass(frozen=True, slots=True)
class Sides:
    """The two sets of samples, the reference first, and their tensors in execution order."""

    first: Split
    second: Split
    pairs: list[TensorPair]

    def notes(self) -> Iterator[str]:
        """Yield what is left out, and what else than the samples may differ."""
        first, second = self.first, self.second
        stores = [first.store] if second.store is first.store else [first.store, second.store]
        yield from filter(None, map(describe_missing_rows, stores))
        padded = [pair.first.name for pair in self.pairs if pair.first.padding == "counted"]
        if padded:
            yield f"values of {list_names(padded)} include those at padding"
        if len(stores) == 1:
            return
        if first.fingerprint is not None and first.fingerprint == second.fingerprint:
            yield (
                "raw inputs and labels of both are the same, byte for byte: `compare` compares "
                "them sample by sample"
            )
        if first.store.record.preprocessing != second.store.record.preprocessing:
            yield "the stores were dumped with different preprocessing, which drift may come from"
        for store, other in (stores, stores[::-1]):
            alone = [t.name for t in store.tensors if not other.has_tensor(t.name)]
            if alone:
                yield f"{store.path} alone has {list_names(alone)}, which is not compared"
        narrowed = [p.first.name for p in self.pairs if p.first.stored != p.second.stored]
        narrowed = [n for n in narrowed if None not in _stored(self, n)]
        if narrowed:
            yield (
                f"{list_names(narrowed)}: stored in different types, so that distances include "
                "the rounding of one of them"
            )


def _stored(sides: Sides, name: str) -> tuple[str | None, str | None]:
    return sides.first.store.tensor(name).stored, sides.second.store.tensor(name).stored


def select_sides(
    store: str | Path | Store,
    store2: str | Path | Store | None,
    splits: Sequence[str],
    tensors: str | Iterable[str],
    axes: Mapping[str, int | str | None],
    inputs: str | Path | Iterable[str | Path] = (),
) -> Sides:
    """Open stores, and select the two splits and the tensors; parameters as in `cnatool.drift`."""
    first = store if isinstance(store, Store) else open_store(store, inputs)
    second = first
    if store2 is not None:
        second = store2 if isinstance(store2, Store) else open_store(store2, inputs)
        if real_path(second.path) == real_path(first.path):
            second = first
    for opened in {id(first): first, id(second): second}.values():
        check_has_rows(opened)
    if len(splits) > 2:
        raise UsageError(f"`splits`: {len(splits)} splits are named, and two are compared.")
    names = _name_two(first, splits) if second is first else _name_one_each(first, second, splits)
    selected = []
    for opened, name in zip((first, second), names, strict=True):
        if name not in opened.splits:
            raise MetricError(
                f"{opened.path} has no split {name!r}; it has {list_names(opened.splits)}."
            )
        selected.append(opened.splits[name])
        if not len(selected[-1]):
            raise MetricError(
                f"{opened.path}: split {name!r} has no rows. "
                + ("" if opened.record.complete else explain_missing_rows(opened))
            )
    if second is not first:
        _check_same_model(first, second)
    return Sides(selected[0], selected[1], _pair_tensors(first, second, tensors, axes))


def _name_two(store: Store, splits: Sequence[str]) -> Sequence[str]:
    """Return the names of two splits of one store."""
    if len(splits) == 2:
        if splits[0] == splits[1]:
            raise UsageError(
                f"split {splits[0]!r} is named twice and cannot be compared with itself. Name two "
                "splits, or a store of other samples."
            )
        return splits
    if not splits and len(store.splits) == 2:
        return list(store.splits)
    which = list_names(store.splits)
    if len(store.splits) < 2:
        raise UsageError(
            f"{store.path} has the split {which} alone. Name a second store, which holds other "
            "samples of the same model, as `store2`."
        )
    raise UsageError(f"{store.path} has the splits {which}. Name two of them as `splits`.")


def _name_one_each(first: Store, second: Store, splits: Sequence[str]) -> Sequence[str]:
    """Return the name of a split of each of two stores."""
    if len(splits) == 2:
        return splits
    if len(splits) == 1:
        return [splits[0], splits[0]]
    if len(first.splits) == len(second.splits) == 1:
        return [*first.splits, *second.splits]
    common = [name for name in first.splits if name in second.splits]
    if len(common) == 1:
        return [common[0], common[0]]
    raise UsageError(
        f"{first.path} has the splits {list_names(first.splits)}, and {second.path} "
        f"{list_names(second.splits)}. Name one of each as `splits`, that of the first store "
        "first, or one that both have."
    )


def _check_same_model(first: Store, second: Store) -> None:
    """Refuse stores of different models."""
    models = first.record.model, second.record.model
    digests = [model and [file.sha256 for file in model.files] for model in models]
    if None not in digests and digests[0] != digests[1]:
        names = [model.name for model in models if model is not None]
        raise MetricError(
            f"{first.path} and {second.path} are stores of different models ({names[0]!r} and "
            f"{names[1]!r}, whose files differ), and drift is between samples of one model. "
            "`cnatool compare` compares models on the same samples."
        )
    for tensor in first.tensors:
        if not second.has_tensor(tensor.name):
            continue
        other = second.tensor(tensor.name)
        if len(tensor.shape) != len(other.shape) or tensor.dtype != other.dtype:
            raise MetricError(
                f"{first.path} and {second.path} are stores of different models: {tensor.name!r} "
                f"is {tensor.shape} {tensor.dtype} in one and {other.shape} {other.dtype} in the "
                "other, and drift is between samples of one model."
            )


def _pair_tensors(
    first: Store,
    second: Store,
    tensors: str | Iterable[str],
    axes: Mapping[str, int | str | None],
) -> list[TensorPair]:
    common = [tensor for tensor in first.tensors if second.has_tensor(tensor.name)]
    names = [tensor.name for tensor in common]
    if not names:
        raise MetricError(f"{first.path} and {second.path} have no tensor of the same name.")
    patterns = [tensors] if isinstance(tensors, str) else list(tensors)
    if patterns:
        known = names
        names, unmatched = match_names(known, [complete_name(known, each) for each in patterns])
        if unmatched:
            raise UsageError(
                f"`tensors={unmatched[0]!r}`: {first.path} has no such tensor. "
                f"{advise_on_name(unmatched[0], known, first.path)}"
            )
        if not names:
            raise UsageError("`tensors` leaves no tensor to compare.")
    elif any(tensor.role == "layer" for tensor in common):
        names = [t.name for t in common if t.role == "layer" or t.output is not None]
    layers: dict[str, int] = {}
    for layer in first.layers:
        layers.setdefault(layer.linear, layer.number)
        layers.setdefault(layer.preactivation, layer.number)
    sides = [[store.tensor(name) for name in names] for store in (first, second)]
    found = [
        find_axes(store.path, side, axes)
        for store, side in zip((first, second), sides, strict=True)
    ]
    return [
        TensorPair(tensor, tensor2, layers.get(name), found[0][name], found[1][name])
        for name, tensor, tensor2 in zip(names, *sides, strict=True)
    ]
