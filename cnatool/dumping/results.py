"""The JSON documents of dumps, dry runs and inspections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from cnatool._util.documents import Document
from cnatool.dumping.narrowing_notes import split_errors
from cnatool.dumping.skipped_summary import is_lost, needs_no_storing
from cnatool.records.narrowing import NarrowingRecord
from cnatool.records.parts import PartRecord, PartReference
from cnatool.records.run import (
    BranchName,
    ConstantRecord,
    DerivedRecord,
    ModelRecord,
    Preprocessing,
    Rule,
    RuntimeRecord,
)
from cnatool.records.store import (
    LayerRecord,
    SkippedTensor,
    SplitRecord,
    TensorRecord,
    UnselectedTensor,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnatool.store.store import Store


class DumpedSplit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A split of a store that was dumped.

    Attributes
    ----------
    source : str
        Where its samples came from, by name.
    samples : int
        Samples that are stored.
    skipped : int
        Samples that could not be read.
    labels : bool
        Whether there are labels.
    classes : tuple of str or None
        Names of the label values, where the source has them.
    narrowed : dict of str to NarrowingRecord
        Errors of the tensors that were narrowed, by their names; absent without such tensors.
    """

    source: str
    samples: int
    skipped: int
    labels: bool
    classes: tuple[str, ...] | None
    narrowed: dict[str, NarrowingRecord] | msgspec.UnsetType = msgspec.UNSET


class DumpResult(Document, frozen=True, forbid_unknown_fields=True):
    """What a dump wrote.

    Attributes
    ----------
    schema : str
        Name and version of this format.
    store : str
        The store's path.
    complete : bool
        Whether every sample is stored.
    splits : dict of str to DumpedSplit
        The splits, in the order in which they were written.
    tensors, layers : int
        Tensors in the store, and layers of the model.
    without_samples : int
        Constants, results of shape arithmetic and random tensors, which are not stored.
    skipped_tensors : int
        Other tensors that cannot be stored; `cnatool inspect` lists them.
    notes : tuple of str
        Decisions and findings, as printed to standard error.
    part : PartRecord
        Which part of a dump it is; absent for a whole one.
    """

    schema: Literal["cnatool.dump/1"]
    store: str
    complete: bool
    splits: dict[str, DumpedSplit]
    tensors: int
    layers: int
    without_samples: int
    skipped_tensors: int
    notes: tuple[str, ...]
    part: PartRecord | msgspec.UnsetType = msgspec.UNSET


class ClusterEstimate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What each worker of a cluster takes for its share of a dump.

    Attributes
    ----------
    workers, parts : int
        Workers of the cluster, and parts of the dump.
    threads : int
        Threads that run the model on each worker.
    disk_bytes : int
        Bytes that each writes.
    memory_bytes : int
        Estimated peak memory of each.
    """

    workers: int
    parts: int
    threads: int
    disk_bytes: int
    memory_bytes: int


class WholeEstimate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all parts of a dump take together, if all run as this one.

    Attributes
    ----------
    part, parts : int
        Which part this is, from 1 on, and of how many.
    first : dict of str to int
        The row of each whole split that is the first of this part.
    samples : dict of str to int
        Samples of each whole split.
    disk_bytes : int
        Size of all parts.
    seconds : float
        Duration if all parts run at once, each on a machine like this.
    total_seconds : float
        Duration if they run one after the other.
    """

    part: int
    parts: int
    first: dict[str, int]
    samples: dict[str, int]
    disk_bytes: int
    seconds: float
    total_seconds: float


class PreflightResult(Document, frozen=True, forbid_unknown_fields=True):
    """Disk space, time and memory that a dump would take.

    Attributes
    ----------
    schema : str
        Name and version of this format.
    store : str
        Where the store would be written.
    fits : bool
        Whether the disk has room for it.
    samples : dict of str to int
        Samples of each split that are still to be written.
    committed : int
        Samples that are already committed in a store that is resumed.
    tensors : int
        Tensors in the store.
    sample_bytes : int
        Bytes stored per sample, before compression.
    disk_bytes : int
        Estimated size of the store.
    free_bytes : int or None
        Free space on its disk; null in a bucket, which does not report it.
    seconds : float
        Estimated duration.
    memory_bytes : int
        Estimated peak memory of the process.
    available_bytes : int or None
        Memory that is available to it; null where the system does not report it.
    ways : tuple of str
        Options with which the store would fit on the disk, if it does not.
    notes : tuple of str
        Decisions, as printed to standard error.
    cluster : ClusterEstimate, optional
        What each worker of a cluster takes; the other numbers are of all of them.
    whole : WholeEstimate
        What all parts take together; absent for a dump that is no part.
    """

    schema: Literal["cnatool.preflight/1"]
    store: str
    fits: bool
    samples: dict[str, int]
    committed: int
    tensors: int
    sample_bytes: int
    disk_bytes: int
    free_bytes: int | None
    seconds: float
    memory_bytes: int
    available_bytes: int | None
    ways: tuple[str, ...]
    notes: tuple[str, ...]
    cluster: ClusterEstimate | msgspec.UnsetType = msgspec.UNSET
    whole: WholeEstimate | msgspec.UnsetType = msgspec.UNSET


def dump_result(store: Store, notes: Sequence[str] = ()) -> DumpResult:
    """Summarise a store that was dumped."""
    record = store.record
    return DumpResult(
        schema="cnatool.dump/1",
        store=str(store.path),
        complete=record.complete,
        splits={
            name: DumpedSplit(
                split.record.source,
                len(split),
                len(split.record.skipped),
                split.record.labels,
                split.record.classes,
                split_errors(record, name) or msgspec.UNSET,
            )
            for name, split in store.splits.items()
        },
        tensors=len(record.tensors),
        layers=len(record.layers),
        without_samples=sum(map(needs_no_storing, record.skipped)),
        skipped_tensors=sum(map(is_lost, record.skipped)),
        notes=tuple(notes),
        part=record.part,
    )


class InspectedInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An input that a model declares.

    Attributes
    ----------
    name, dtype : str
        Name and element type.
    shape : tuple of (int, str or None), or None
        Declared shape with the sample axis: lengths, names of symbolic axes, null for axes without
        either. Null for a model that declares none.
    rule : str
        The rule that fills the input where data do not give it; absent if there is none.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None
    rule: Rule | msgspec.UnsetType = msgspec.UNSET


class InspectionResult(Document, frozen=True, forbid_unknown_fields=True):
    """The tensors and layers of a model or a store.

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
        Tensors of a store that were not selected.
    part : PartRecord
        Which part of a dump a store holds; absent unless it is one.
    parts : tuple of PartReference
        The stores that hold the rows of a merged one; absent for others.
    branches : dict of str to {"then_branch", "else_branch"}
        The branch that replaces an If of a model because every sample takes it, by name of the If;
        absent if there are none, and for a store, whose ``runtime`` names them.
    derived : tuple of DerivedRecord
        Model inputs of a store that were filled in by rule; absent if there are none.
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
    part: PartRecord | msgspec.UnsetType = msgspec.UNSET
    parts: tuple[PartReference, ...] | msgspec.UnsetType = msgspec.UNSET
    branches: dict[str, BranchName] | msgspec.UnsetType = msgspec.UNSET
    derived: tuple[DerivedRecord, ...] | msgspec.UnsetType = msgspec.UNSET


def store_inspection(store: Store) -> InspectionResult:
    """Describe a store as `inspect_model` does a model."""
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
        part=record.part,
        parts=record.parts,
        derived=record.derived,
    )
