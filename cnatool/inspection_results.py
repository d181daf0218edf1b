"""What `cnatool inspect --json` prints: what is in a model or a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from cnatool.documents import Document
from cnatool.store.records import (
    ConstantRecord,
    LayerRecord,
    ModelRecord,
    Preprocessing,
    RuntimeRecord,
    SkippedTensor,
    SplitRecord,
    TensorRecord,
    UnselectedTensor,
)

if TYPE_CHECKING:
    from cnatool.store.reader import Store

__all__ = ["InspectedInput", "InspectionResult", "store_inspection"]


class InspectedInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An input that a model declares.

    Attributes
    ----------
    name, dtype : str
        Name and element type.
    shape : tuple of (int, str or None), or None
        Declared shape with the sample axis: lengths, names of symbolic axes, null for axes without
        either. Null for a model that declares none.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


class InspectionResult(Document, frozen=True, forbid_unknown_fields=True):
    """What is in a model or a store.

    Attributes
    ----------
    schema : str
        Name and version of this format.
    path : str
        The file or folder.
    kind : {"model", "store"}
        What it is.
    model : ModelRecord or None
        The model; null for a store that was recorded without an exported one.
    runtime : RuntimeRecord or None
        What ran the model; null for a model.
    inputs : tuple of InspectedInput
        Inputs that a model declares; empty for a store, whose ``preprocessing`` names them.
    preprocessing : tuple of Preprocessing
        How each raw input of a store became the model's input.
    constants : tuple of ConstantRecord
        Model inputs that data did not feed, of a store.
    tags : dict of str to str
        Tags of a store.
    splits : dict of str to SplitRecord
        Splits of a store.
    tensors : tuple of TensorRecord
        Tensors with a value for each sample, in execution order.
    layers : tuple of LayerRecord
        Linear operators in execution order.
    skipped : tuple of SkippedTensor
        Tensors that cannot be stored, each with the reason.
    unselected : tuple of UnselectedTensor
        Tensors that ``--tensors`` did not select, of a store.
    """

    schema: Literal["cnatool.inspect/1"]
    path: str
    kind: Literal["model", "store"]
    model: ModelRecord | None
    runtime: RuntimeRecord | None
    inputs: tuple[InspectedInput, ...]
    preprocessing: tuple[Preprocessing, ...]
    constants: tuple[ConstantRecord, ...]
    tags: dict[str, str]
    splits: dict[str, SplitRecord]
    tensors: tuple[TensorRecord, ...]
    layers: tuple[LayerRecord, ...]
    skipped: tuple[SkippedTensor, ...]
    unselected: tuple[UnselectedTensor, ...]


def store_inspection(store: Store) -> InspectionResult:
    """Give what `cnatool inspect --json` prints of a store."""
    record = store.record
    return InspectionResult(
        schema="cnatool.inspect/1",
        path=str(store.path),
        kind="store",
        model=record.model,
        runtime=record.runtime,
        inputs=(),
        preprocessing=record.preprocessing,
        constants=record.constants,
        tags=record.tags,
        splits=record.splits,
        tensors=record.tensors,
        layers=record.layers,
        skipped=record.skipped,
        unselected=record.unselected,
    )
