"""Typed records of the model that ran, and of how it ran."""

from __future__ import annotations

from typing import Literal

import msgspec

from cnatool.records.image_transform import Geometry
from cnatool.records.sound import SoundTransform

BranchName = Literal["then_branch", "else_branch"]


class FileRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the model.

    Attributes
    ----------
    name : str
        Name of the file, without its folder.
    bytes : int
        Size of the file.
    sha256 : str
        SHA-256 of the content, in hexadecimal.
    """

    name: str
    bytes: int
    sha256: str


class ModelRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The model that ran: its files and its interface.

    Attributes
    ----------
    name : str
        Name of the model's file.
    files : tuple of FileRecord
        The model's file, then the files of external weights.
    producer : str
        Program that exported the model.
    opsets : dict of str to int
        Versions of the operator sets, by domain.
    inputs, outputs : tuple of str
        Names of the inputs and outputs of the graph.
    """

    name: str
    files: tuple[FileRecord, ...]
    producer: str
    opsets: dict[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class ConstantRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model input that was the same in every run.

    Attributes
    ----------
    input : str
        The model's input.
    dtype : str
        Element type of the value.
    shape : tuple of int
        Shape of the value; length 1 along an axis that was repeated for each sample.
    value : float or None
        The single value of all elements; null if they differ.
    sha256 : str
        SHA-256 of its bytes, C-contiguous, little-endian, in hexadecimal.
    """

    input: str
    dtype: str
    shape: tuple[int, ...]
    value: float | None
    sha256: str


Rule = Literal[
    "mask",
    "causal mask",
    "positions",
    "zeros",
    "empty",
    "false",
    "all positions",
    "last position",
    "total length",
    "lengths",
]


class DerivedRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model input that was filled in by rule in every run.

    Attributes
    ----------
    input : str
        The model's input.
    rule : str
        What filled it: ``mask`` (1 at each token), ``causal mask`` (each token attends to itself
        and to those before it), ``positions`` (0, 1, 2, …), ``zeros``, ``empty`` (a past without
        tokens), ``false``, ``all positions`` (0, which keeps the logits of all), ``last position``
        (of each sample), ``total length`` (of the run), ``lengths`` (of each sample).
    dtype : str
        Its element type.
    dims : tuple of int, "samples" or "length"
        Its shape in a run; "length" is that of the longest sample.
    """

    input: str
    rule: Rule
    dtype: str
    dims: tuple[int | Literal["samples", "length"], ...]


class RuntimeRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The runtime of the model, and its settings.

    Attributes
    ----------
    name, version : str
        The runtime.
    provider : str
        The execution provider in use.
    optimization : str
        The graph optimisation level.
    batch_size : int
        Samples per run.
    threads : int
        Threads per operator; 0 if the runtime chooses.
    provider_options : dict of str to str
        Options of the provider that change numbers; absent if there are none.
    branches : dict of str to {"then_branch", "else_branch"}
        The branch that replaced an If because every sample takes it, by name of the If; absent if
        there are none.
    """

    name: str
    version: str
    provider: str
    optimization: str
    batch_size: int
    threads: int
    provider_options: dict[str, str] = {}
    branches: dict[str, BranchName] = {}


class TokenizerRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The tokenizer that turned texts into token ids, and its settings.

    Attributes
    ----------
    name : str
        Name of its file, or of the folder around it.
    sha256 : str
        SHA-256 of its ``tokenizer.json``, in hexadecimal.
    library : str
        The library that ran it, with its version.
    vocabulary : int
        Number of its ids: the largest one, and 1.
    max_length : int or None
        Tokens to which longer texts were truncated, special ones included; null if none were.
    truncated : {"left", "right"}
        The end at which texts were truncated.
    """

    name: str
    sha256: str
    library: str
    vocabulary: int
    max_length: int | None = None
    truncated: Literal["left", "right"] = "right"


class Preprocessing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Preprocessing of a raw sample to the model's input.

    Resize and crop, then rearrange, then compute ``(x * scale - mean) / std``.

    Attributes
    ----------
    input : str
        The model's input.
    source_dtype, source_shape : str, tuple of int
        Type and shape of one raw sample, after ``geometry`` if that is not null.
    layout : str
        How its elements are rearranged: ``as is``, ``reshape``, or ``SOURCE->TARGET`` with
        ``chw``, ``hwc``, ``flat-chw``, ``flat-hwc``.
    shape, dtype : tuple of int, str
        Shape and type of one sample of the model's input.
    scale : float
        Factor applied first; by default 1/255 for 8-bit images.
    mean, std : tuple of float
        Empty, one value, or one value per channel; applied after the scale.
    geometry : Geometry or None
        How images are resized and cropped, and their colours changed; null if they are not.
    resized_by : str or None
        Library that resizes, with its version: results differ slightly between versions.
    ragged_axis : int
        Axis of ``shape`` along which samples differ in length: the model received each in its own
        length, and ``shape`` has a typical one. Absent if all have one shape.
    padding : float
        What samples were continued with, before all else, up to the length in ``source_shape``;
        absent if none was padded.
    tokenizer : TokenizerRecord
        What turned texts into token ids; absent for other samples.
    sound : SoundTransform
        How sound is resampled, cut and turned into a spectrogram; absent for other samples.
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
    # Absent, not null, so that other stores are those of earlier versions.
    ragged_axis: int | msgspec.UnsetType = msgspec.UNSET
    padding: float | msgspec.UnsetType = msgspec.UNSET
    tokenizer: TokenizerRecord | msgspec.UnsetType = msgspec.UNSET
    sound: SoundTransform | msgspec.UnsetType = msgspec.UNSET
