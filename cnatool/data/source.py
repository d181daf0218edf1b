"""What a source of samples is: the types that pass from ``data`` to the dump.

A source knows at opening how many samples it has and what one looks like, and then gives them in
order, block by block, in memory that does not grow with their number.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from cnatool._util.text import list_names, printable
from cnatool.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from cnatool.records.choices import KeptInputs
    from cnatool.records.image_transform import Geometry

# Here and not beside the decoder: telling splits from classes needs no Pillow.
IMAGE_EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})

# Tables of file names and labels, beside pictures.
LABEL_TABLES = ("labels.csv", "metadata.csv")

# What systems and programs leave in folders of data, in lower case.
_LITTER = frozenset(
    {
        "__macosx",
        "@eadir",
        "#recycle",
        "#snapshot",
        "__pycache__",
        "system volume information",
        "$recycle.bin",
        "lost+found",
        "thumbs.db",
        "desktop.ini",
    }
)

# Names become ids: undecodable bytes (lone surrogates) cannot be written, and control characters
# should not reach a terminal.
UNSAFE_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")

_INPUT_NAMES = ("x", "inputs", "images", "data", "image", "img")
# What labels are called in a file that holds several arrays by name.
_LABEL_NAMES = ("y", "label", "labels")

# NumPy's own limit is 64, the axis of samples among them.
_MAX_AXES = 32
# A header of a few bytes can promise any size; nothing is allocated for a sample beyond this.
MAX_SAMPLE_BYTES = 2**30


class SampleError(DataError):
    """One sample cannot be read; those beside it may be.

    Parameters
    ----------
    reason : str
        What is wrong with it, which is kept where it is skipped.
    advice : str
        What to do besides skipping it.
    """

    def __init__(self, reason: str, advice: str = "") -> None:
        skip = f"{advice}; --on-error skip" if advice else "--on-error skip"
        super().__init__(f"{reason} {skip} leaves such samples out.")
        self.reason = reason
        self.advice = advice


class ManySamplesError(SampleError):
    """One sample cannot be read, nor can many others: to skip them is no advice.

    Parameters
    ----------
    error : SampleError
        The first one.
    unreadable, samples : int
        How many cannot be read, of the first so many.
    """

    def __init__(self, error: SampleError, unreadable: int, samples: int) -> None:
        super().__init__(error.reason, error.advice)
        advice = f" {error.advice}." if error.advice else ""
        self.args = (
            f"{error.reason}{advice} {unreadable:,} of the first {samples:,} samples "
            f"({unreadable / samples:.0%}) cannot be read, and --on-error skip leaves such samples "
            "out, all of them.",
        )


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One raw input: its name, and the dtype and shape of one sample as it is stored.

    Attributes
    ----------
    name, dtype, shape : str, numpy.dtype, tuple of int
    layout : "hwc" or None
        Where the source knows that the axes are height, width, channels.
    levels : bool
        Whether not the 8-bit sample itself is stored but how often each value occurs in it.
    transformed : InputSpec or None
        What the sample became that the model is fed from, where that is not itself.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    layout: Literal["hwc"] | None = None
    levels: bool = False
    transformed: InputSpec | None = None

    @property
    def for_model(self) -> InputSpec:
        """What the model is fed from."""
        return self.transformed or self


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """What a source makes of its samples before it gives them.

    Attributes
    ----------
    geometry : Geometry or None
        How pictures are resized, cropped, and turned into colour or grey.
    kept : {"values", "levels"} or None
        What is given to be stored of a picture; None leaves it open: the values, unless pictures
        pass through a geometry and may have any size.
    skip : bool
        Samples that cannot be read are left out.
    axes : {"hwc", "chw"} or None
        How arrays hold pictures, where their shape leaves it open.
    links : bool
        Symbolic links may lead out of a folder of pictures.
    """

    geometry: Geometry | None = None
    keep_inputs: KeptInputs | None = None
    skip_unreadable: bool = False
    axes: Literal["hwc", "chw"] | None = None
    follow_links: bool = False


# Samples as they are, and all of them.
PLAIN_IMAGES = ImageOptions()


@dataclass(frozen=True, slots=True)
class ArraySelection:
    """Which arrays of a file that holds several by name become the inputs of a model.

    Attributes
    ----------
    inputs : tuple of str
        The model's inputs that data feed.
    arrays : dict of str to str
        Names of arrays, by model input, where the user gave them; another has its input's name.
    labels : str or None
        Name of the array of labels, where the user gave it.
    unlabelled : bool
        Whether labels are left out, if there are any.
    split_column : str or None
        Name of the column that says which split a row is of.
    view : View
        What is made of samples as they are read.
    advice : dict of str to str
        For each model input, as Python, a value that feeds it the same for every sample.
    texts : dict of str to tuple of int
        Shape of one sample of each input that takes strings.
    """

    inputs: tuple[str, ...] = ("x",)
    arrays: dict[str, str] = field(default_factory=dict)
    labels: str | None = None
    split_column: str | None = None
    images: ImageOptions = PLAIN_IMAGES
    constant_advice: Mapping[str, str] = field(default_factory=dict)
    text_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    ignore_labels: bool = False

    def names(self) -> list[tuple[str, ...]]:
        """Give the names that an array may have, for each input.

        A model's only input is found under the usual names as well.
        """
        if len(self.inputs) == 1 and self.inputs[0] not in self.arrays:
            return [tuple(dict.fromkeys((*_INPUT_NAMES, self.inputs[0])))]
        return [(self.arrays.get(name, name),) for name in self.inputs]

    def label_names(self, fed: Iterable[str]) -> tuple[str, ...]:
        """Give the names that labels may have, where some arrays are samples already."""
        if self.ignore_labels:
            return ()
        if self.labels is not None:
            return (self.labels,)
        return tuple(name for name in _LABEL_NAMES if name not in set(fed))

    def chosen(
        self, where: str, held: Iterable[str], noun: str = "array"
    ) -> tuple[list[str], str | None]:
        """Say which of the names that a file holds are samples, and which one labels.

        Raises
        ------
        DataError
            If a name is missing, or there is a choice.
        """
        held = list(held)
        self.check_all_held(where, held, noun)
        inputs = [self._one(where, held, names, noun, "samples") for names in self.names()]
        names = self.label_names(inputs)
        if self.labels is None and not set(names).intersection(held):
            return inputs, None
        return inputs, self._one(where, held, names, noun, "labels")

    def constants_text(self, names: Iterable[str]) -> str:
        """Write the parameter that sets inputs to the same value for every sample."""
        pairs = (f"{name!r}: {self.constant_advice.get(name, 'VALUE')}" for name in names)
        return f"`constants={{{', '.join(pairs)}}}`"

    def check_all_held(self, where: str, held: Iterable[str], noun: str = "array") -> None:
        """Refuse data that lack arrays of several inputs, naming all that are missing.

        Raises
        ------
        DataError
            With the options that would feed these.
        """
        held = list(held)
        missing = [
            name
            for name, names in zip(self.inputs, self.names(), strict=True)
            if set(names).isdisjoint(held) and name not in self.arrays
        ]
        if not missing or len(self.inputs) == 1:
            return
        many = f"{len(missing)} of the model's {len(self.inputs)} inputs"
        raise DataError(
            f"{where} holds {list_names(held)}, and no {noun} for {many}: {', '.join(missing)}. "
            f"Say which {noun} each is with --input INPUT={noun.upper()}, or what is the same for "
            f"every sample: {self.constants_text(missing)}"
        )

    def _one(
        self, where: str, held: list[str], names: tuple[str, ...], noun: str, meaning: str
    ) -> str:
        found = [name for name in names if name in held]
        option = "--labels NAME"
        if meaning == "samples":
            option = (
                f"--input INPUT={noun.upper()}, or what is constant with --constant INPUT=VALUE"
            )
        if not found:
            raise DataError(
                f"{where} needs {'an' if noun[0] in 'aeiou' else 'a'} {noun} of {meaning} called "
                f"{' or '.join(map(printable, names))} and holds {list_names(held)}: say which one "
                f"it is with {option}."
            )
        if len(found) > 1:
            raise DataError(
                f"{where} holds {' and '.join(map(printable, found))}, and which are the {meaning} "
                f"is in doubt: say it with {option}."
            )
        return found[0]


# Of a model with one input.
SINGLE_INPUT = ArraySelection()


class SkippedRow(NamedTuple):
    """A sample that was left out.

    Attributes
    ----------
    id : str
        Where it came from.
    reason : str
        Why it could not be read.
    """

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive samples; every field has the same number of rows.

    Attributes
    ----------
    ids : list of str
        Where each sample came from: a relative path or a row number.
    inputs : tuple of ndarray
        One C-contiguous array (rows, *shape) for each of the source's inputs, native byte order.
    labels : ndarray of int64 or None
        Shape (rows,).
    made : tuple of ndarray
        What the model is fed from instead of ``inputs``, as many arrays; empty where it is fed
        from these.
    faults : dict of int to str
        Why some of the samples could not be read, by row; their values mean nothing.
    skipped : tuple of SkippedRow
        Samples just before these, or among them, that are left out.
    """

    ids: list[str]
    inputs: tuple[NDArray[Any], ...]
    labels: NDArray[np.int64] | None
    transformed: tuple[NDArray[Any], ...] = ()
    faults: Mapping[int, str] = field(default_factory=dict)
    skipped: tuple[SkippedRow, ...] = ()

    @property
    def for_model(self) -> tuple[NDArray[Any], ...]:
        """What the model is fed from."""
        return self.transformed or self.inputs


class Source(Protocol):
    """Samples in a fixed order."""

    @property
    def name(self) -> str:
        """File or folder name, for messages and provenance."""

    @property
    def rows(self) -> int:
        """Number of samples."""

    @property
    def id_bytes(self) -> int:
        """Bytes of UTF-8 that the longest id takes."""

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """What one sample consists of."""

    @property
    def labelled(self) -> bool:
        """Whether blocks carry labels."""

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the label values, where the source names them."""

    def blocks(self, rows: int, limit: int | None = None) -> Iterator[Block]:
        """Give blocks of ``rows`` samples in order (the last one shorter), ``limit`` in all."""


def row_ranges(total: int, rows: int, limit: int | None) -> Iterator[tuple[int, int]]:
    """Half-open row ranges of the blocks of a source.

    Parameters
    ----------
    total : int
        Samples in the source.
    rows : int
        Samples in a block, at least 1.
    limit : int or None
        Samples in all, at most.

    Raises
    ------
    UsageError
        If ``rows`` is below 1 or ``limit`` below 0.
    """
    if rows < 1:
        raise UsageError(f"blocks of {rows} samples cannot be read: ask for at least 1.")
    if limit is not None and limit < 0:
        raise UsageError(f"a limit of {limit} samples cannot be meant: give 0 or more.")
    end = total if limit is None else min(total, limit)
    for start in range(0, end, rows):
        yield start, min(start + rows, end)


def check_sample(where: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Refuse samples that are not plain numbers, are empty, or are absurdly large.

    Raises
    ------
    DataError
        Naming ``where``, what is wrong, and the way out.
    """
    if dtype.hasobject:
        raise DataError(
            f"{where} holds Python objects, which are never unpickled: save it as a numeric array."
        )
    if dtype.kind in "US":
        raise DataError(
            f"{where} has dtype {dtype}, which is not understood: save numbers. Names of classes "
            "become numbers, in alphabetical order, by numpy.unique(names, return_inverse=True)[1]."
        )
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise DataError(
            f"{where} has dtype {dtype}, which is not understood: save it as bool, integers, or "
            "floats of at most 64 bits."
        )
    if len(shape) > _MAX_AXES:
        raise DataError(
            f"{where} has samples of {len(shape)} axes; the limit is {_MAX_AXES}. Reshape them."
        )
    size = dtype.itemsize
    for dim in shape:
        size *= dim
    if size == 0:
        raise DataError(f"{where} has samples of shape {shape}, which hold no value.")
    if size > MAX_SAMPLE_BYTES:
        raise DataError(
            f"{where} has samples of shape {shape}, {size} bytes each; the limit is "
            f"{MAX_SAMPLE_BYTES}. Check that the first axis counts the samples."
        )


def is_ignored(name: str) -> bool:
    """Tell by its name whether a file or folder is hidden, or some program's own."""
    return name.startswith(".") or name.lower() in _LITTER


def holds_images(folder: str) -> bool:
    """Tell whether pictures lie directly in a folder."""
    with os.scandir(folder) as entries:
        return any(is_image(entry.name) and not is_ignored(entry.name) for entry in entries)


def is_image(name: str) -> bool:
    """Tell by its extension whether a file is meant to be a picture."""
    return Path(name).suffix.lower() in IMAGE_EXTENSIONS
