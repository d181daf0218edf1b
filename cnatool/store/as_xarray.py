"""A split as an xarray Dataset: named variables and axes, which are read when they are used."""

from __future__ import annotations

import keyword
import uuid
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.errors import MetricError, StoreInUseError, StoreWarning, UsageError
from cnatool.records.axes import SAMPLE, TENSOR, add_sizes
from cnatool.records.layout import (
    IDS,
    LABELS,
    activation_key,
    input_key,
    is_input,
    output_key,
    split_arrays,
)
from cnatool.store.integrity import attribute_digest
from cnatool.store.ragged import RaggedArray
from cnatool.store.tensor_selection import select_tensors

try:
    import xarray
except ModuleNotFoundError as error:
    if error.name != "xarray":
        raise
    raise UsageError("xarray is not installed: python -m pip install 'cnatool[xarray]'") from None

from xarray.backends import BackendArray
from xarray.core import indexing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from cnatool.records.layout import ArraySpec
    from cnatool.records.store import TensorRecord
    from cnatool.store.store import Split, Store

ID = "id"
LABEL = "label"
_TEXTS = "texts"
# What a variable is, by the folder of its array.
_ROLES = {
    "activations": "activation",
    "inputs": "input",
    "outputs": "output",
    "statistics": "statistic",
    "tokens": "token",
}


class _Lengths:
    """The lengths of samples that differ in length, (n,)."""

    def __init__(self, array: RaggedArray) -> None:
        self._array = array
        self.shape = (len(array),)
        self.dtype = np.dtype(np.int64)
        self.block_rows = max(1, len(array))

    def __getitem__(self, index: Any) -> Any:
        return self._array.lengths[index]


class _Texts:
    """The texts of samples, (n,)."""

    def __init__(self, split: Split) -> None:
        self._split = split
        self.shape = (len(split),)
        self.dtype = np.dtype(object)
        self.block_rows = max(1, len(split))

    def __getitem__(self, index: Any) -> Any:
        rows = index[0] if isinstance(index, tuple) else index
        texts = np.empty(len(np.arange(len(self._split))[rows]), object)
        texts[:] = self._split.texts(rows)
        return texts


class LazyArray(BackendArray):
    """An array of a split, of which xarray reads what it needs.

    Of samples that differ in length, it is their lengths, and their values have a key of their own;
    the key `_TEXTS` is that of the texts that samples are.

    In another process, to which Dask sends it, it opens the store there.
    """

    def __init__(self, split: Split, key: str) -> None:
        self._split = split
        self._key = key
        self._array: Any
        if key == _TEXTS:
            self._array = _Texts(split)
        else:
            array = split.array(key)
            self._array = _Lengths(array) if isinstance(array, RaggedArray) else array
        self.shape = self._array.shape
        self.dtype = self._array.dtype

    @property
    def block_rows(self) -> int:
        """Rows to read at a time."""
        rows: int = self._array.block_rows
        return rows

    def __getitem__(self, key: indexing.ExplicitIndexer) -> NDArray[Any]:
        _check_bounds(key.tuple, self.shape)
        support = indexing.IndexingSupport.OUTER_1VECTOR
        values: NDArray[Any] = indexing.explicit_indexing_adapter(
            key, self.shape, support, self._read
        )
        return values

    def _read(self, key: tuple[Any, ...]) -> NDArray[Any]:
        """Index with integers, slices and at most one array, each for its own axis."""
        # Beside an array, NumPy takes an integer for another one and moves the axes of both.
        whole = tuple(
            slice(part % size, part % size + 1) if _is_integer(part) else part
            for part, size in zip(key, self.shape, strict=True)
        )
        values: NDArray[Any] = self._array[whole]
        return values[tuple(0 if _is_integer(part) else slice(None) for part in key)]

    def __reduce__(self) -> tuple[Any, ...]:
        store = self._split.store
        digest = attribute_digest(store.attribute())
        return _reopen_array, (store.reopen, digest, self._split.name, self._key)


def _reopen_array(reopen: Callable[[], Store], digest: str, split: str, key: str) -> LazyArray:
    store = reopen()
    if attribute_digest(store.attribute()) != digest:
        raise StoreInUseError(f"{store.path} has changed since it was opened. Open it again.")
    return LazyArray(store.splits[split], key)


def _check_bounds(key: tuple[Any, ...], shape: tuple[int, ...]) -> None:
    """Refuse an index outside an axis, which xarray does not check."""
    for axis, (part, size) in enumerate(zip(key, shape, strict=False)):
        if isinstance(part, slice):
            continue
        places = np.asarray(part)
        if ((places < -size) | (places >= size)).any():
            raise IndexError(f"index {part} is out of bounds for axis {axis} with size {size}")


def _is_integer(part: object) -> bool:
    return not isinstance(part, slice) and getattr(part, "ndim", 0) == 0


@dataclass(frozen=True, slots=True)
class _Variable:
    """An array that becomes a variable."""

    spec: ArraySpec
    role: str
    name: str
    title: str  # what it is called in the network


def build_tree(store: Store, tensors: str | Iterable[str] | None) -> xarray.DataTree:
    """Build the DataTree of a store; see `cnatool.Store.to_xarray`."""
    datasets = {name: build_dataset(split, tensors) for name, split in store.splits.items()}
    return xarray.DataTree.from_dict(datasets, name=store.path.name)


def build_dataset(split: Split, tensors: str | Iterable[str] | None) -> xarray.Dataset:
    """Build the Dataset of a split; see `cnatool.Split.to_xarray`."""
    specs = {spec.key: spec for spec in split_arrays(split.store.record, labels=True)}
    wanted = _select(split, tensors, specs)
    variables = _name_variables(split, wanted)
    sizes: dict[str, set[int]] = {}
    for variable in variables:
        spec = _row_spec(variable.spec)
        for axis, size in zip(spec.axes, spec.shape, strict=True):
            sizes.setdefault(axis, set()).add(size)
    opened: dict[str, Any] = {}
    for variable in variables:
        opened |= _open_variable(split, variable, sizes)
        if _holds_text(split, variable):
            lazy = indexing.LazilyIndexedArray(LazyArray(split, _TEXTS))
            title = {"long_name": f"{variable.title} as text", "role": variable.role}
            opened[f"{variable.name}_string"] = xarray.Variable((SAMPLE,), lazy, title)
    # At once: adding one compares it with all that are there.
    dataset = xarray.Dataset(
        opened,
        attrs={"store": str(split.path), "split": split.name},
    )
    dataset.coords[ID] = _open_coordinate(split, IDS, "origin of the sample")
    if split.record.labels:
        if split.store.record.label_lists:
            lists = _Variable(specs[LABELS], "label", LABEL, "labels")
            dataset = dataset.assign_coords(_open_variable(split, lists, sizes))
        else:
            dataset.coords[LABEL] = _open_coordinate(split, LABELS, "label")
        if split.record.classes is not None:
            dataset.coords[LABEL].attrs["classes"] = list(split.record.classes)
    if TENSOR in dataset.dims:
        dataset.coords[TENSOR] = [tensor.name for tensor in split.store.tensors]
    return dataset


def _holds_text(split: Split, variable: _Variable) -> bool:
    """Whether a variable is the raw input that `Split.texts` decodes."""
    kinds = [array.kind for array in split.store.record.inputs]
    return "text" in kinds and variable.spec.key == input_key(kinds.index("text"))


def _select(
    split: Split, tensors: str | Iterable[str] | None, specs: dict[str, ArraySpec]
) -> list[ArraySpec]:
    """Return the arrays that become variables."""
    if tensors is None:
        keys = [key for key in specs if key not in (IDS, LABELS)]
        if split.record.inputs_from is not None and any(map(is_input, keys)):
            try:
                split.inputs_split()
            except MetricError as error:
                warnings.warn(f"without raw inputs: {error}", StoreWarning, stacklevel=4)
                keys = [key for key in keys if not is_input(key)]
        return [specs[key] for key in keys]
    keys_by_tensor = {t.name: _tensor_key(t) for t in split.store.tensors}
    names = select_tensors(split.path, list(keys_by_tensor), tensors)
    for name in names:
        if keys_by_tensor[name] not in specs:
            split.activations(name)  # says that only statistics are stored
    return [specs[keys_by_tensor[name]] for name in names]


def _tensor_key(tensor: TensorRecord) -> str:
    if tensor.stored is None and tensor.output is not None:
        return output_key(tensor.output)
    return activation_key(tensor.number)


def _name_variables(split: Split, specs: Sequence[ArraySpec]) -> list[_Variable]:
    """Name each array by a unique identifier; tensors choose first."""
    outputs = {f"outputs/{t.output}": t.name for t in split.store.tensors if t.output is not None}
    rows = [_row_spec(spec) for spec in specs]
    taken = {ID, LABEL, SAMPLE, TENSOR, *(axis for spec in rows for axis in spec.axes)}
    taken |= {size for spec in rows for size in add_sizes(spec.axes, spec.shape)}
    named: dict[str, _Variable] = {}
    order = ("statistics", "activations", "outputs", "inputs", "tokens")
    for spec in sorted(specs, key=lambda spec: order.index(spec.key.partition("/")[0])):
        folder, _, number = spec.key.partition("/")
        role = _ROLES[folder]
        title = outputs.get(spec.key) or spec.name or number
        if folder == "tokens":
            title = f"token_{number}"
        plain = to_identifier(title) or f"{role}_{number}"
        names = (plain, f"{plain}_{role}", *(f"{plain}_{role}_{i}" for i in range(len(specs))))
        name = next(name for name in names if taken.isdisjoint(_own_names(spec, name)))
        taken |= _own_names(spec, name)
        named[spec.key] = _Variable(spec, role, name, title)
    return [named[spec.key] for spec in specs]


def _row_spec(spec: ArraySpec) -> ArraySpec:
    """Describe the rows of a variable: of samples that differ in length, their values."""
    return spec if spec.ragged_axis is None else spec.values


# What a variable of samples that differ in length may have beside it.
_OWN = ("row", "length", "string")


def _own_names(spec: ArraySpec, name: str) -> set[str]:
    """Return the names of variables and axes that belong to an array alone."""
    return {name} if spec.ragged_axis is None else {name, *(f"{name}_{part}" for part in _OWN)}


def to_identifier(name: str) -> str:
    """Turn a name into an identifier, with ``_`` for all characters that none can contain."""
    plain = "".join(c if f"a{c}".isidentifier() else "_" for c in name).strip("_")
    if plain and (not plain.isidentifier() or keyword.iskeyword(plain)):
        plain = f"t_{plain}"
    return plain


def _open_variable(split: Split, variable: _Variable, sizes: dict[str, set[int]]) -> dict[str, Any]:
    """Open an array as a variable: in Dask's chunks if Dask is installed.

    Samples that differ in length are two, in the form that the CF conventions call a contiguous
    ragged array: their values along an axis of their own, and how many belong to each sample.
    """
    if variable.spec.ragged_axis is None:
        return {variable.name: _open_rows(split, variable, variable.spec, SAMPLE, sizes)}
    row = f"{variable.name}_row"
    lengths = indexing.LazilyIndexedArray(LazyArray(split, variable.spec.key))
    attributes = {"long_name": f"length of {variable.title}", "sample_dimension": row}
    return {
        variable.name: _open_rows(split, variable, variable.spec.values, row, sizes),
        f"{variable.name}_length": xarray.Variable((SAMPLE,), lengths, attributes),
    }


def _open_rows(
    split: Split, variable: _Variable, spec: ArraySpec, along: str, sizes: dict[str, set[int]]
) -> Any:
    array = LazyArray(split, spec.key)
    axes = zip(spec.axes, add_sizes(spec.axes, spec.shape), strict=True)
    names = (axis if len(sizes[axis]) == 1 else sized for axis, sized in axes)
    attributes = {"long_name": variable.title, "role": variable.role}
    lazy = indexing.LazilyIndexedArray(array)
    opened = xarray.Variable((along, *names), lazy, attributes)
    if not _has_dask():
        return opened
    # Without a name, Dask would read the array to derive one.
    name = f"cnatool-{split.name}-{spec.key}-{uuid.uuid4().hex}"
    return opened.chunk({along: array.block_rows}, name=name)


def _has_dask() -> bool:
    try:
        import dask.array  # noqa: F401
    except ImportError:
        return False
    return True


def _open_coordinate(split: Split, key: str, title: str) -> xarray.Variable:
    """Open ids or labels, which are read whole when they are used."""
    lazy = indexing.LazilyIndexedArray(LazyArray(split, key))
    return xarray.Variable((SAMPLE,), lazy, {"long_name": title})
