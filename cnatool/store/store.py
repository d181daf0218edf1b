"""An open store: its attribute and its splits."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cnatool._util.html import shown_by
from cnatool._util.names import find_full_name
from cnatool._util.text import count_text
from cnatool.errors import MetricError
from cnatool.records.layout import split_arrays
from cnatool.store.components import read_components
from cnatool.store.parts import PartedTree
from cnatool.store.split import AS_XARRAY, Split
from cnatool.store.split_names import SplitsByName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    import xarray
    from numpy.typing import NDArray

    from cnatool.records.store import LayerRecord, StoreRecord, TensorRecord
    from cnatool.store.format import ReadableArray, ReadableTree
    from cnatool.store.identity import Identity
    from cnatool.store.parts import MergedParts


class Store:
    """An open store.

    Attributes
    ----------
    path : Path
        Its path.
    record : StoreRecord
        Its attribute, as typed records.
    splits : mapping of str to Split
        Its splits, in the order of dumping; the KeyError of another name lists them.
    identity : Identity
        Identity of the file or folder when it was opened.
    reopen : callable
        Opens the store again, also in another process on this machine.
    """

    def __init__(
        self,
        path: Path,
        record: StoreRecord,
        tree: ReadableTree,
        identity: Identity,
        find_inputs: Callable[[Split], Split],
        reopen: Callable[[], Store],
    ) -> None:
        self.identity = identity
        self.reopen = reopen
        self.path = path
        self.record = record
        self._tree = tree
        self._find_inputs = find_inputs
        self._referred: dict[str, Split] = {}
        splits = {name: Split(self, name) for name in record.splits}
        self.splits: Mapping[str, Split] = SplitsByName(path, splits)
        self._tensors = {tensor.name: tensor for tensor in record.tensors}
        self._specs = {spec.key: spec for spec in split_arrays(record, labels=True)}

    def __repr__(self) -> str:
        splits = ", ".join(
            f"{name} ({count_text(len(split), 'row')})" for name, split in self.splits.items()
        )
        tensors = count_text(len(self._tensors), "tensor")
        return f"<cnatool store {str(self.path)!r}: {tensors}; {splits or 'no splits yet'}>"

    _repr_html_ = shown_by("cnatool.store.html", "store_html")

    @property
    def parts(self) -> MergedParts | None:
        """The parts that hold the rows of a merged store; None for other stores."""
        return self._tree.parts if isinstance(self._tree, PartedTree) else None

    def attribute(self) -> bytes:
        """Return the attribute as JSON."""
        return self._tree.attribute() or b""

    @property
    def tensors(self) -> tuple[TensorRecord, ...]:
        """The stored tensors, by number."""
        return self.record.tensors

    @property
    def layers(self) -> tuple[LayerRecord, ...]:
        """The network's linear operators in execution order."""
        return self.record.layers

    def to_xarray(self, tensors: str | Iterable[str] | None = None) -> xarray.DataTree:
        """Return the store as an xarray DataTree with one Dataset for each split.

        Parameters
        ----------
        tensors : str or iterable of str, optional
            As of `Split.to_xarray`.

        Raises
        ------
        UsageError, MetricError
            As by `Split.to_xarray`.
        """
        tree: xarray.DataTree = import_module(AS_XARRAY).build_tree(self, tensors)
        return tree

    def components(self, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return the mean and the principal components that a tensor was projected to.

        Parameters
        ----------
        name : str
            A tensor that was reduced to ``pca:K``, with its form: ``NAME:pca:64``.

        Returns
        -------
        mean : ndarray, (D,)
        components : ndarray, (K, D)
            What is stored of a sample is ``(x - mean) @ components.T``, where x are its D numbers.

        Raises
        ------
        MetricError
            If the store has no such tensor, or it was reduced to another form.
        StoreDamagedError
            If they are not those that were stored.
        """
        return read_components(self, self.tensor(name))

    def common_array(self, key: str) -> ReadableArray:
        """Open an array that belongs to all splits, by its key in the store."""
        return self._tree.array(key)

    def has_tensor(self, name: str) -> bool:
        """Whether a tensor, or statistics of it, are stored."""
        return name in self._tensors

    def tensor(self, name: str) -> TensorRecord:
        """Return the record of a tensor.

        Raises
        ------
        MetricError
            If the store contains no tensor of that name.
        """
        try:
            return self._tensors[name]
        except KeyError:
            full = find_full_name(self._tensors, name)
            hint = (
                f"One inside a subgraph is {full!r}."
                if full
                else f"`cnatool inspect {self.path}` lists the tensors."
            )
            raise MetricError(f"{self.path}: no tensor {name!r}. {hint}") from None
