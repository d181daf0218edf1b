"""The store's attribute as typed records: what ``/`` carries under the name ``cnatool``.

One JSON object describes a store completely; the arrays beside it hold only numbers. The records
here are that object, field for field, and ``schemas/store.schema.json`` is generated from them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from cnatool.records.choices import Kept
from cnatool.records.image_transform import Geometry
from cnatool.records.references import InputsReference
from cnatool.records.weights import FlatnessRecord, WeightsRecord

Role = Literal["layer", "activation", "output", "other"]
Merged = Literal["NT", "TN"]


class ArrayRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A raw input or a model output.

    Attributes
    ----------
    name : str
        Its name in the data, or in the model.
    dtype : str
        Element type of the stored array.
    shape : tuple of int
        Shape for one sample.
    levels : str or None
        Where not null, the array does not hold the raw input, whose element type this is, but how
        often each of its values occurs, value 0 first, and then the CRC-32 of the picture as it
        was after resizing: ``shape`` is (257,). So pictures of any size have a place in one array,
        and their entropy with it.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    levels: Literal["uint8"] | None = None


class TensorRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tensor of the network.

    Attributes
    ----------
    number : int
        Key of the array ``activations/<number>`` and column of every statistic.
    name, operator : str
        Name in the graph, and the operator that makes it.
    role : {"layer", "activation", "output", "other"}
        ``layer``: a hidden layer under the rule ``preactivation`` or ``linear``; ``activation``:
        what a nonlinearity gives; ``output``: the last layer and what follows it.
    dtype : str
        Element type of the arrays that the runtime gave.
    shape : tuple of int
        Shape for one sample, the sample axis left out. Of a tensor that ``varies``, the shape in
        the first batch that was run.
    batch_axis : int or None
        Where the sample axis was in the graph; in the store it is always the first. Null where the
        model ran on one sample at a time and the tensor has no sample axis: all of it belongs to
        that sample.
    kept : {"full", "statistics"}
        Whether whole arrays are stored, or the per-sample statistics alone.
    output : int or None
        If the tensor is a model output, that output's number: its values are in ``outputs/<i>``
        and are not stored a second time.
    stored : str or None
        Element type of the array ``activations/<number>``, which ``--dtype`` may have narrowed;
        null where there is none.
    onnx_type : str or None
        Element type in the graph as ONNX names it (``float``, ``bfloat16``, ``int4``), which
        differs from ``dtype`` where NumPy has no such type and the values were cast.
    merged : {"NT", "TN"} or None
        Where the graph merges the sample axis N with another, T long, into one of N·T: which of
        the two is the outer. ``shape`` has T at ``batch_axis``.
    varies : bool
        The shape depends on the data: there are statistics only, and ``statistics/count`` says
        how many elements each sample had.
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


class SkippedTensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor of the graph that is not in the store, and why.

    Attributes
    ----------
    name, operator : str
        Name in the graph, and the operator that makes it.
    reason : str
        Why it is left out.
    """

    name: str
    operator: str
    reason: str


class UnselectedTensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor that could have been stored, and was not chosen.

    Attributes
    ----------
    name, operator : str
        Name in the graph, and the operator that makes it.
    role : {"layer", "activation", "output", "other"}
        What it is in the network.
    dtype : str
        Element type.
    """

    name: str
    operator: str
    role: Role
    dtype: str


class LayerRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One linear operator of the network, in execution order.

    Attributes
    ----------
    number : int
        1 for the first linear operator.
    operator : str
        Conv, Gemm, MatMul, …
    linear, preactivation : str
        Names of the tensors that stand for this layer under the two rules: the operator's own
        result with its bias, and what enters the nonlinearity.
    output : bool
        The operator whose result is the model's output.
    shortcut : bool
        A projection on a residual bypass.
    path : int
        Number of linear operators on the longest path from the input up to this one.
    leads_to : tuple of str
        The model outputs that its result reaches through changes of shape and what turns scores
        into probabilities or classes; empty where another layer follows.
    per_sample : bool
        Its tensors have a row a sample. False for a layer that is applied to what is found in the
        samples, such as detections, whose number depends on the data; no score counts it.
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


class FileRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file the model consists of.

    Attributes
    ----------
    name : str
        Name of the file, without its folder.
    bytes : int
        Its size.
    sha256 : str
        SHA-256 of its content, in hexadecimal.
    """

    name: str
    bytes: int
    sha256: str


class ModelRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ran: the model's files, and what it declares.

    Attributes
    ----------
    name : str
        Name of the model's file.
    files : tuple of FileRecord
        That file, then the files of its external weights.
    producer : str
        What exported it.
    opsets : dict of str to int
        Versions of the operator sets, by domain.
    inputs, outputs : tuple of str
        Names that the graph declares.
    """

    name: str
    files: tuple[FileRecord, ...]
    producer: str
    opsets: dict[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class ConstantRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model input that was the same at every run.

    Attributes
    ----------
    input : str
        The model's input.
    dtype : str
        Element type that it received.
    shape : tuple of int
        Its shape; length 1 along an axis that was repeated for each sample.
    value : float or None
        Its one value; null where it has several.
    sha256 : str
        SHA-256 of its bytes, C-contiguous, little-endian, in hexadecimal.
    """

    input: str
    dtype: str
    shape: tuple[int, ...]
    value: float | None
    sha256: str


class RuntimeRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ran the model, and how.

    Attributes
    ----------
    name, version : str
        The runtime.
    provider : str
        The execution provider that was really used.
    optimization : str
        The graph optimisation level.
    batch_size : int
        Samples of one run.
    threads : int
        Threads of one operator; 0 where the runtime chose.
    """

    name: str
    version: str
    provider: str
    optimization: str
    batch_size: int
    threads: int


class Preprocessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a raw sample became the model's input.

    Resized and cropped, then arranged, then ``(x * scale - mean) / std``.

    Attributes
    ----------
    input : str
        The model input that is fed.
    source_dtype, source_shape : str, tuple of int
        One raw sample; where ``geometry`` is not null, after that.
    layout : str
        How its elements were arranged: ``as is``, ``reshape``, or ``SOURCE->TARGET`` with
        ``chw``, ``hwc``, ``flat-chw``, ``flat-hwc``.
    shape, dtype : tuple of int, str
        One sample as the model receives it.
    scale : float
        Factor applied first; 1/255 for 8-bit pictures unless told otherwise.
    mean, std : tuple of float
        Empty, one value, or one value a channel; applied after the scale.
    geometry : Geometry or None
        How pictures were resized and cropped, and their colours changed; null where they were not.
    resized_by : str or None
        What did so, with its version: results differ between versions in the last levels.
    """

    input: str
    source_dtype: str
    source_shape: tuple[int, ...]
    layout: str
    shape: tuple[int, ...]
    dtype: str
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    geometry: Geometry | None = None
    resized_by: str | None = None


class SkippedSample(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sample of the source that has no row, since it could not be read.

    Attributes
    ----------
    id : str
        Where it came from.
    reason : str
        Why it could not be read.
    """

    id: str
    reason: str


class ChunkChecksums(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Checksums of the committed rows of one array, by which rows of other arrays are noticed.

    Attributes
    ----------
    rows : int
        Rows of a chunk; the last one may have fewer.
    crc32c : str
        CRC-32C of each chunk's rows in order, eight hexadecimal digits each: of their bytes before
        compression, C-contiguous and little-endian; of text, of each one's UTF-8 behind its length
        in bytes (four bytes, little-endian).
    """

    rows: int
    crc32c: str

    def __len__(self) -> int:
        return len(self.crc32c) // 8

    def __getitem__(self, number: int) -> bytes:
        return bytes.fromhex(self.crc32c[8 * number : 8 * number + 8])


class SplitRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One split: how many rows it will have, and which of them are safely on disk.

    Attributes
    ----------
    rows : int
        Rows the split's arrays have room for.
    committed : tuple of (int, int)
        Half-open row ranges whose chunks are all written, ascending, disjoint. Only these rows
        exist for a reader: a chunk that was never written reads as zeros.
    complete : bool
        Every row is committed.
    labels : bool
        Whether there is an array ``labels``.
    source : str
        Where the samples came from, by name.
    fingerprint : str or None
        SHA-256 over the SHA-256 digests of each raw input's and then the labels' bytes, rows in
        order, C-contiguous; null until the split is complete.
    classes : tuple of str or None
        Names of the label values, where the source names them.
    available : int or None
        Samples of the source, of which those of the split are the first; null where that is not
        known.
    skips : bool
        Samples that cannot be read have no row. Until the split is complete ``rows`` counts them.
    skipped : tuple of SkippedSample
        Those that were found so far.
    inputs_from : InputsReference or None
        The store that has the raw inputs, row for row; null where they are here.
    checksums : dict of str to ChunkChecksums, or None
        Of each array of the split by its key, such as ``activations/3``; null, or without an array,
        where nobody took them.
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

    @property
    def taken(self) -> int:
        """Samples that were, or are, to have rows: those that were skipped are among them."""
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
        The tensors that something is stored of, by number.
    layers : tuple of LayerRecord
        The linear operators in execution order, whether or not their tensors are stored.
    statistics : tuple of str
        Names of the arrays ``statistics/<s>``; each has a column for each tensor. Over the elements
        of one sample: ``sum``, ``abs_sum`` (of absolute values), ``square_sum``, ``positive_sum``
        (of the positive ones), ``nonzero_count``, ``min``, ``max``; and ``count``, the number of
        elements, where a shape varies.
    splits : dict of str to SplitRecord
        The splits, in the order in which they were written.
    skipped : tuple of SkippedTensor
        Tensors of the graph that could not be stored.
    unselected : tuple of UnselectedTensor
        Tensors of the graph that were not asked for.
    model : ModelRecord or None
        The model; null where no exported model was run.
    runtime : RuntimeRecord or None
        What ran it.
    preprocessing : tuple of Preprocessing
        How each raw input became the model's input.
    constants : tuple of ConstantRecord
        The model inputs that data did not feed.
    tags : dict of str to str
        Words of the user's own.
    initial : ModelRecord or None
        The same network before training, to which the distances in ``weights`` are; null where
        none was given.
    weights : WeightsRecord or None
        Norms of the network's weights, which need the model; null where nobody gave them.
    flatness : FlatnessRecord or None
        How much noise on its weights the network bears; null where nobody asked for it.
    magnitudes : tuple of float or None
        For each tensor, by number, the mean over the first few samples of the sum of its elements'
        absolute values, which tells how far rounding reaches; null where it was not taken.
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
