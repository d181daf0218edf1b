"""Typed records of the store's attribute: ``cnatool`` of the root group.

One JSON object describes a store completely; the arrays contain only numbers. The records are that
object, field for field, and ``schemas/store.schema.json`` is generated from them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from cnatool.records.choices import InputKind, Kept
from cnatool.records.masks import MaskRecord
from cnatool.records.narrowing import NarrowingRecord
from cnatool.records.parts import PartRecord, PartReference
from cnatool.records.reductions import ReductionRecord
from cnatool.records.references import InputsReference
from cnatool.records.row_index import RowIndex
from cnatool.records.run import (
    ConstantRecord,
    DerivedRecord,
    ModelRecord,
    Preprocessing,
    RuntimeRecord,
)
from cnatool.records.sound import SoundRecord
from cnatool.records.units import UnitsRecord, UnitsState
from cnatool.records.weights import FlatnessRecord, WeightsRecord

Role = Literal["layer", "activation", "output", "other"]
Merged = Literal["NT", "TN"]
Padded = Literal["mixed", "counted"]


class ArrayRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A raw input or a model output.

    Attributes
    ----------
    name : str
        Name in the data or in the model.
    dtype : str
        Element type of the array as it is read.
    shape : tuple of int
        Shape for one sample; at ``ragged_axis``, a length typical of the first samples.
    levels : str or None
        If not null, the array contains, instead of the raw input of this element type, how often
        each of its values occurs, value 0 first, followed by the CRC-32 of the resized image:
        ``shape`` is (257,). So images of any size fit one array, and their entropy is known.
    ragged_axis : int
        The axis of ``shape`` along which samples differ in length: in place of one array there are
        ``values``, with this axis first, and ``offsets``. Absent if all samples have one shape.
    kind : {"text", "tokens", "sound"}
        What an input is: the bytes of a text's UTF-8, token ids, or amplitudes, from −1 to 1 if
        they are floating and over the range of their type if they are integers. Absent for others.
    special : tuple of int
        Of token ids, those of special tokens, which are not part of the text ([CLS], padding,
        the end of a text), ascending. Absent for other inputs.
    sound : SoundRecord
        Of sound, its rate and what decoded it. Absent for other inputs.
    stored : {"bfloat16"}
        What its values take in the store, 16 bits each, which hold them exactly. Absent where the
        stored array is of ``dtype``.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    levels: Literal["uint8"] | None = None
    # Absent, not null, so that other stores are those of earlier versions.
    ragged_axis: int | msgspec.UnsetType = msgspec.UNSET
    kind: InputKind | msgspec.UnsetType = msgspec.UNSET
    special: tuple[int, ...] | msgspec.UnsetType = msgspec.UNSET
    sound: SoundRecord | msgspec.UnsetType = msgspec.UNSET
    stored: Literal["bfloat16"] | msgspec.UnsetType = msgspec.UNSET


class TensorRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor of the network.

    Attributes
    ----------
    number : int
        Key of the array ``activations/<number>`` and column of every statistic.
    name, operator : str
        Name in the graph, and the operator that computes the tensor.
    role : {"layer", "activation", "output", "other"}
        ``layer``: a hidden layer under the rule ``preactivation`` or ``linear``; ``activation``:
        the result of a nonlinearity; ``output``: the last layer and everything after it.
    dtype : str
        Element type of the arrays that the runtime returns.
    shape : tuple of int
        Shape of one sample, without the sample axis; in the first batch if it ``varies``; at
        ``ragged_axis``, a length typical of the first samples.
    batch_axis : int or None
        The sample axis in the graph; in the store it is always the first. Null if the tensor has no
        sample axis: all of it belongs to one sample, on which the model ran alone, or an ``index``
        says which rows do.
    kept : {"full", "statistics"}
        Whether whole arrays are stored or only per-sample statistics.
    output : int or None
        Number of the model output that the tensor is, if any: its values are in ``outputs/<i>`` and
        not stored twice.
    stored : str or None
        Element type of the array ``activations/<number>``, possibly narrowed, or ``bfloat16``,
        which is read as float32; null without an array.
    onnx_type : str or None
        Element type in the graph by its ONNX name (``float``, ``bfloat16``, ``int4``), which
        differs from ``dtype`` if NumPy lacks the type and the values were cast.
    merged : {"NT", "TN"} or None
        If the graph merges the sample axis N with another axis of length T into one of N·T, the
        order of the two, outer first. ``shape`` has T at ``batch_axis``.
    varies : bool
        The shape depends on the data: ``statistics/count`` has the number of elements of each
        sample, and whole arrays are stored only with a ``ragged_axis``.
    ragged_axis : int
        As in `ArrayRecord`: the axis of ``shape`` along which stored samples differ in length.
    index : RowIndex
        For rows such as detections, what says which sample each is of; absent for other tensors.
    conditional : bool, optional
        True for a tensor in a branch that data decide about: ``statistics/count`` is 0 for samples
        that do not take it. Else left out.
    sources : tuple of int, optional
        Numbers of the nearest tensors in the store that it is computed from; left out where the
        graph is not known.
    unit_axis : int, optional
        The axis of ``shape`` along which its units lie, where the network tells another one than
        the shape alone suggests: channels first of (C, T), or last of (H, W, C).
    positions : tuple of int
        Axes of ``shape`` along which padding lies that does not count: statistics are those of the
        real positions, and whole arrays hold these alone. Absent without such.
    padding : {"mixed", "counted"}
        ``mixed``: values, also at real positions, depend on what the padding is, or that there is
        any. ``counted``: statistics and arrays include padding. Absent for other tensors.
    reduction : ReductionRecord
        Of a tensor that is no tensor of the network but was reduced from one: from which, and how.
        Its name is that of the tensor and the form, ``NAME:FORM``. Absent for other tensors.
    """

    number: int
    name: str
    operator: str
    role: Role
    dtype: str
    shape: tuple[int, ...]
    batch_axis: int | None
    kept: Kept
    output: int | None = None
    stored: str | None = None
    onnx_type: str | None = None
    merged: Merged | None = None
    varies: bool = False
    # Absent, not null, so that other stores are those of earlier versions.
    ragged_axis: int | msgspec.UnsetType = msgspec.UNSET
    index: RowIndex | msgspec.UnsetType = msgspec.UNSET
    conditional: bool | msgspec.UnsetType = msgspec.UNSET
    sources: tuple[int, ...] | msgspec.UnsetType = msgspec.UNSET
    unit_axis: int | msgspec.UnsetType = msgspec.UNSET
    positions: tuple[int, ...] | msgspec.UnsetType = msgspec.UNSET
    padding: Padded | msgspec.UnsetType = msgspec.UNSET
    reduction: ReductionRecord | msgspec.UnsetType = msgspec.UNSET


class TokensRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the arrays ``tokens/<name>`` of each split say of the tokens of a sample.

    Attributes
    ----------
    targets : {"next", "labels"}
        What the scores of a token are compared with: the token that follows it in the sample, or
        its label.
    input : str
        The model input that has the ids of the tokens.
    output : str
        The model output that has the scores, one for each class at each token.
    classes : int
        Number of classes: of the vocabulary, if tokens are predicted.
    kind : {"logits", "probabilities"}
        What the scores are.
    mask : str or None
        The model input that is 0 for tokens that are padding, which do not count; null if there is
        none.
    """

    targets: Literal["next", "labels"]
    input: str
    output: str
    classes: int
    kind: Literal["logits", "probabilities"]
    mask: str | None = None


class SkippedTensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor of the graph that cannot be stored, with the reason.

    Attributes
    ----------
    name, operator : str
        Name in the graph, and the operator that makes it.
    reason : str
        Why it is not stored.
    """

    name: str
    operator: str
    reason: str


class UnselectedTensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor that could be stored but was not selected.

    Attributes
    ----------
    name, operator : str
        Name in the graph, and the operator that makes it.
    role : {"layer", "activation", "output", "other"}
        Role in the network.
    dtype : str
        Element type.
    """

    name: str
    operator: str
    role: Role
    dtype: str


class LayerRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A linear operator of the network, in execution order.

    Attributes
    ----------
    number : int
        1 for the first linear operator.
    operator : str
        Conv, Gemm, MatMul, …
    linear, preactivation : str
        Names of the tensors of this layer under the two rules: the operator's own result with its
        bias, and the input of the nonlinearity.
    output : bool
        Whether its result is the model's output.
    shortcut : bool
        Whether it is a projection on a residual bypass.
    path : int
        Number of linear operators on the longest path from the input up to this one.
    leads_to : tuple of str
        The model outputs that its result reaches through changes of shape and conversions of
        scores to probabilities or classes only; empty if another layer follows.
    per_sample : bool
        Whether its tensors have one row per sample. False for a layer that is applied to objects in
        the samples, such as detections, whose number depends on the data, for one in a branch that
        only some samples take, and for one in a loop that cannot be stored by sample; scores
        ignore it.
    block : str
        The block that it lies in: the path of the module that is repeated, such as
        ``encoder.layer.0``, or a number where names say nothing; absent outside blocks.
    """

    number: int
    operator: str
    linear: str
    preactivation: str
    output: bool
    shortcut: bool
    path: int
    leads_to: tuple[str, ...] = ()
    per_sample: bool = True
    block: str | msgspec.UnsetType = msgspec.UNSET


class SkippedSample(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sample of the source without a row, because it could not be read.

    Attributes
    ----------
    id : str
        Its origin.
    reason : str
        Why it could not be read.
    """

    id: str
    reason: str


class SourceObject(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An object in a bucket that samples are read from.

    Attributes
    ----------
    url : str
        Its URL, without any credential.
    bytes : int
        Its size.
    etag : str
        The entity tag of its version; empty if the server has none.
    """

    url: str
    bytes: int
    etag: str


class ChunkChecksums(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Checksums of the committed rows of one array, which reveal rows of another array.

    Attributes
    ----------
    rows : int
        Rows per chunk; the last one may have fewer.
    crc32c : str
        CRC-32C of the rows of each chunk in order, eight hexadecimal digits each: of their bytes
        before compression, C-contiguous and little-endian; for text, of the length in bytes (four
        bytes, little-endian) and the UTF-8 of each string.
    """

    rows: int
    crc32c: str

    def __len__(self) -> int:
        return len(self.crc32c) // 8

    def __getitem__(self, number: int) -> bytes:
        return bytes.fromhex(self.crc32c[8 * number : 8 * number + 8])


class SplitRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One split: its rows, and which of them are safely on disk.

    Attributes
    ----------
    rows : int
        Rows of the complete split, for which the arrays have room.
    committed : tuple of (int, int)
        Half-open row ranges that are safely written, ascending and disjoint. Readers see only these
        rows.
    complete : bool
        Whether every row is committed.
    labels : bool
        Whether the split has an array ``labels``.
    source : str
        Name of the samples' origin.
    fingerprint : str or None
        SHA-256 over the SHA-256 digests of the bytes of each raw input, then of the labels, rows in
        order, C-contiguous; null until the split is complete, and in a store made of parts.
    classes : tuple of str or None
        Names of the label values, if the source has them.
    available : int or None
        Number of samples in the source, the first of which form the split; null if unknown.
    skips : bool
        Whether samples that cannot be read are skipped. ``rows`` counts them until the split is
        complete.
    skipped : tuple of SkippedSample
        The samples skipped so far.
    inputs_from : InputsReference or None
        The store that contains the raw inputs, row for row; null if they are in this store.
    checksums : dict of str to ChunkChecksums, or None
        Checksums of each array of the split by its key, such as ``activations/3`` or
        ``activations/3/values``; null, or without an array, if they were not computed.
    objects : tuple of SourceObject
        The objects that the samples are read from; absent if these are not in a bucket.
    units : UnitsState
        Statistics of units over the rows; absent if none are measured, until the first are safe,
        and in a store made of parts, which have them.
    narrowed : dict of str to NarrowingRecord
        Of each tensor whose values were narrowed on write, the errors over the committed rows, by
        the key of its array; absent without such tensors.
    """

    rows: int
    committed: tuple[tuple[int, int], ...]
    complete: bool
    labels: bool
    source: str
    fingerprint: str | None = None
    classes: tuple[str, ...] | None = None
    available: int | None = None
    skips: bool = False
    skipped: tuple[SkippedSample, ...] = ()
    inputs_from: InputsReference | None = None
    checksums: dict[str, ChunkChecksums] | None = None
    # Absent, not null, so that other stores are those of earlier versions.
    objects: tuple[SourceObject, ...] | msgspec.UnsetType = msgspec.UNSET
    units: UnitsState | msgspec.UnsetType = msgspec.UNSET
    narrowed: dict[str, NarrowingRecord] | msgspec.UnsetType = msgspec.UNSET

    @property
    def taken(self) -> int:
        """Samples taken from the source, including skipped ones."""
        return self.rows + (len(self.skipped) if self.complete else 0)


class StoreRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The attribute ``cnatool`` of a store's root.

    Attributes
    ----------
    schema : str
        Name and version of this format.
    created_by : str
        The program that wrote the store, with its version.
    inputs : tuple of ArrayRecord
        The raw inputs, in the order of the arrays ``inputs/<i>``.
    outputs : tuple of ArrayRecord
        The model's outputs, in the order of the arrays ``outputs/<i>``.
    tensors : tuple of TensorRecord
        The tensors that are stored, whole or as statistics, by number.
    layers : tuple of LayerRecord
        The linear operators in execution order, whether or not their tensors are stored.
    statistics : tuple of str
        Names of the arrays ``statistics/<s>``, which have a column for each tensor. Over the
        elements of one sample: ``sum``, ``abs_sum`` (of absolute values), ``square_sum``,
        ``positive_sum`` (of the positive elements), ``nonzero_count``, ``min``, ``max``; and
        ``count``, the number of elements, if a shape varies.
    splits : dict of str to SplitRecord
        The splits, in the order of writing.
    skipped : tuple of SkippedTensor
        Tensors of the graph that could not be stored.
    unselected : tuple of UnselectedTensor
        Tensors of the graph that were not selected.
    model : ModelRecord or None
        The model; null if the store was recorded without an exported model.
    runtime : RuntimeRecord or None
        The runtime of the model.
    preprocessing : tuple of Preprocessing
        Preprocessing of each raw input that the model receives: all but the bytes of a text beside
        its tokens.
    constants : tuple of ConstantRecord
        The model inputs without data.
    tags : dict of str to str
        Tags set by the user.
    initial : ModelRecord or None
        The network before training, from which distances in ``weights`` are measured; null if there
        is none.
    weights : WeightsRecord or None
        Norms of the network's weights; null if they were not computed.
    flatness : FlatnessRecord or None
        Tolerance of the network to noise on its weights; null if it was not measured.
    magnitudes : tuple of float or None
        For each tensor, by number, the mean over the first few samples of the sum of its elements'
        absolute values, the scale of rounding errors; null if it was not computed.
    part : PartRecord
        Which part of a dump the store holds; absent unless it is one.
    parts : tuple of PartReference
        The stores that hold the rows of this one, in order; absent unless it was merged from them.
    derived : tuple of DerivedRecord
        The model inputs that were filled in by rule; absent if there are none.
    mask : MaskRecord
        What says which positions of the samples are real; absent unless padding does not count.
    tokens : TokensRecord
        Scores of tokens that were compared while the model ran, in the arrays ``tokens/loss``,
        ``tokens/correct`` and ``tokens/count``; absent without these.
    label_lists : bool
        True if a sample has a list of labels instead of one: ``labels`` consists of ``values`` and
        ``offsets``. Else absent.
    units : UnitsRecord
        Which statistics of units were gathered while the model ran; absent if none were.
    """

    schema: Literal["cnatool.store/1"]
    created_by: str
    inputs: tuple[ArrayRecord, ...]
    outputs: tuple[ArrayRecord, ...]
    tensors: tuple[TensorRecord, ...]
    layers: tuple[LayerRecord, ...]
    statistics: tuple[str, ...]
    splits: dict[str, SplitRecord]
    skipped: tuple[SkippedTensor, ...] = ()
    unselected: tuple[UnselectedTensor, ...] = ()
    model: ModelRecord | None = None
    runtime: RuntimeRecord | None = None
    preprocessing: tuple[Preprocessing, ...] = ()
    constants: tuple[ConstantRecord, ...] = ()
    tags: dict[str, str] = {}
    initial: ModelRecord | None = None
    weights: WeightsRecord | None = None
    flatness: FlatnessRecord | None = None
    magnitudes: tuple[float | None, ...] = ()
    # Absent, not null, so that other stores are those of earlier versions.
    part: PartRecord | msgspec.UnsetType = msgspec.UNSET
    parts: tuple[PartReference, ...] | msgspec.UnsetType = msgspec.UNSET
    derived: tuple[DerivedRecord, ...] | msgspec.UnsetType = msgspec.UNSET
    mask: MaskRecord | msgspec.UnsetType = msgspec.UNSET
    tokens: TokensRecord | msgspec.UnsetType = msgspec.UNSET
    label_lists: bool | msgspec.UnsetType = msgspec.UNSET
    units: UnitsRecord | msgspec.UnsetType = msgspec.UNSET

    @property
    def steps(self) -> tuple[Preprocessing | None, ...]:
        """The preprocessing of each raw input; None for one that the model does not receive."""
        fed = [array.kind != "text" or array.levels is not None for array in self.inputs]
        if len(self.preprocessing) == len(self.inputs):
            return self.preprocessing
        steps = iter(self.preprocessing)
        return tuple(next(steps, None) if each else None for each in fed)

    @property
    def complete(self) -> bool:
        """Whether every row of every split is committed; a store without splits has none yet."""
        return bool(self.splits) and all(split.complete for split in self.splits.values())
