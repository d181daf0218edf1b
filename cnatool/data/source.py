"""The protocol of a source of samples, and the types that it yields.

A source knows when it is opened how many samples it has and what one looks like. It yields them in
order, block by block, in memory that does not grow with their number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from cnatool.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from cnatool.records.choices import InputKind
    from cnatool.records.ragged import Rows
    from cnatool.records.run import TokenizerRecord
    from cnatool.records.sound import SoundRecord
    from cnatool.records.store import SourceObject

# NumPy's own limit is 64, the axis of samples among them.
_MAX_AXES = 32
# A header of a few bytes can promise any size; nothing is allocated for a sample beyond this.
MAX_SAMPLE_BYTES = 2**30
# What to do about a file that is cut short or damaged.
COPY_ADVICE = "Get a complete copy of the file."


class SampleError(DataError):
    """A sample cannot be read, though others of the same source may be.

    Parameters
    ----------
    reason : str
        What is wrong with the sample; recorded if the sample is skipped.
    advice : str
        What to do other than to skip it.
    """

    def __init__(self, reason: str, advice: str = "") -> None:
        skip = f"{advice}; `on_error=skip`" if advice else "`on_error=skip`"
        super().__init__(f"{reason} {skip} leaves such samples out.")
        self.reason = reason
        self.advice = advice


class ManySamplesError(SampleError):
    """A sample cannot be read, and nor can so many others that skipping them is no advice.

    Parameters
    ----------
    error : SampleError
        The first error.
    unreadable, samples : int
        How many cannot be read, of how many that were tried.
    """

    def __init__(self, error: SampleError, unreadable: int, samples: int) -> None:
        super().__init__(error.reason, error.advice)
        advice = f" {error.advice}." if error.advice else ""
        self.args = (
            f"{error.reason}{advice} {unreadable:,} of the first {samples:,} samples "
            f"({unreadable / samples:.0%}) cannot be read; `on_error=skip` leaves such samples "
            "out.",
        )


@dataclass(frozen=True, slots=True)
class InputSpec:
    """Name, dtype and shape of one raw input, for one sample, as it is stored.

    Attributes
    ----------
    name, dtype, shape : str, numpy.dtype, tuple of int
    layout : "hwc" or None
        Whether the axes are known to be height, width, channels.
    levels : bool
        Whether the counts of its 256 levels are stored instead of an 8-bit sample.
    transformed : InputSpec or None
        What the model receives, if it differs from what is stored.
    ragged_axis : int or None
        Axis of a sample along which samples differ in length; ``shape`` has there a length typical
        of the first samples. None if all samples have one shape.
    fed : bool
        Whether the model receives this input at all; a text is stored beside its tokens.
    padding : float or None
        What continues a sample where the model takes one length only; None if nothing is known.
    kind : {"text", "tokens", "sound"} or None
        What samples are: the bytes of a text's UTF-8, token ids, or amplitudes; None for
        others.
    tokenizer : TokenizerRecord or None
        What made the token ids, if samples are those.
    special : tuple of int
        Of token ids: those of special tokens.
    sound : SoundRecord or None
        Rate and decoder of sound, if that is what samples are.
    bfloat16 : bool
        Whether all values are bfloat16, as which they are stored; ``dtype`` is float32.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    layout: Literal["hwc"] | None = None
    levels: bool = False
    transformed: InputSpec | None = None
    ragged_axis: int | None = None
    fed: bool = True
    padding: float | None = None
    kind: InputKind | None = None
    tokenizer: TokenizerRecord | None = None
    special: tuple[int, ...] = ()
    sound: SoundRecord | None = None
    bfloat16: bool = False

    @property
    def for_model(self) -> InputSpec:
        """What the model receives."""
        return self.transformed or self

    @property
    def form(self) -> tuple[int | None, ...]:
        """Shape of one sample, None in place of a length that differs."""
        return tuple(None if i == self.ragged_axis else size for i, size in enumerate(self.shape))

    @property
    def form_text(self) -> str:
        """Shape of one sample, ``?`` in place of a length that differs."""
        sizes = ["?" if size is None else str(size) for size in self.form]
        return f"({', '.join(sizes)}{',' * (len(sizes) == 1)})"


class SkippedRow(NamedTuple):
    """A sample that was skipped.

    Attributes
    ----------
    id : str
        The id that it would have had.
    reason : str
        Why it could not be read.
    """

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive samples; all fields have the same number of rows."""

    ids: list[str]  # the origin of each sample: a relative path or a row number
    # For each input of the source an array (rows, *shape), C-contiguous, in native byte order, or
    # its samples as `Ragged` where they differ in length
    inputs: tuple[Rows, ...]
    labels: Rows | None  # int64, shape (rows,), or a list for each sample
    # What the model receives in place of each of ``inputs``; empty if it receives these
    transformed: tuple[Rows, ...] = ()
    # Why samples cannot be read, by row; their values are undefined
    faults: Mapping[int, str] = field(default_factory=dict)
    # Samples that are skipped just before these, or among them
    skipped: tuple[SkippedRow, ...] = ()
    # How many tokens truncation took from each sample, shape (rows,); None of other samples
    cut: NDArray[np.int64] | None = None

    @property
    def for_model(self) -> tuple[Rows, ...]:
        """What the model receives."""
        return self.transformed or self.inputs


class Source(Protocol):
    """Samples in a fixed order."""

    @property
    def name(self) -> str:
        """Name of the file or folder, for messages and provenance."""

    @property
    def rows(self) -> int:
        """Number of samples."""

    @property
    def id_bytes(self) -> int:
        """Length of the longest id, in bytes of UTF-8."""

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        """The arrays of one sample."""

    @property
    def labelled(self) -> bool:
        """Whether blocks carry labels."""

    @property
    def label_lists(self) -> bool:
        """Whether a sample has a list of labels, one for each token or several of its own."""

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, if the source has them."""

    @property
    def numbered_by_name(self) -> bool:
        """Whether class numbers follow from the names of the classes in this source alone."""

    @property
    def empty_classes(self) -> tuple[str, ...]:
        """Names of classes without a sample, which ``classes`` leaves out."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know, such as files that are ignored."""

    @property
    def objects(self) -> tuple[SourceObject, ...]:
        """The objects in a bucket that samples are read from."""

    @property
    def outline(self) -> str:
        """What differs between files with other samples, such as their sizes and checksums.

        It is read without the samples. Empty if it would say little, and a sample anywhere is read
        without those before it.
        """

    def blocks(self, rows: int, limit: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield blocks of ``rows`` samples in order, ``limit`` samples in all.

        The first sample is number ``start``, and the last block may be shorter. What lies before
        is not decoded.
        """


class SourceDefaults:
    """What most sources have in common."""

    __slots__ = ()

    @property
    def label_lists(self) -> bool:
        """False: a sample has one label."""
        return False

    @property
    def numbered_by_name(self) -> bool:
        """False: class numbers are part of the data."""
        return False

    @property
    def empty_classes(self) -> tuple[str, ...]:
        """No classes."""
        return ()

    @property
    def notes(self) -> tuple[str, ...]:
        """No notes."""
        return ()

    @property
    def objects(self) -> tuple[SourceObject, ...]:
        """No objects: samples are on a disk."""
        return ()

    @property
    def outline(self) -> str:
        """None: a sample anywhere is read without those before it."""
        return ""


def row_ranges(
    total: int, rows: int, limit: int | None, start: int = 0
) -> Iterator[tuple[int, int]]:
    """Yield the half-open row ranges of blocks.

    Parameters
    ----------
    total : int
        Number of samples in the source.
    rows : int
        Number of samples in a block.
    limit : int or None
        Largest number of samples in all.
    start : int
        First row of the first block.
    """
    if rows < 1:
        raise UsageError(f"blocks of {rows} samples cannot be read: ask for at least 1.")
    if limit is not None and limit < 0:
        raise UsageError(f"a limit of {limit} samples is negative: give 0 or more.")
    end = total if limit is None else min(total, start + limit)
    for first in range(start, end, rows):
        yield first, min(first + rows, end)


def check_sample(where: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Refuse samples that are not plain numbers, are empty, or are too large."""
    if dtype.hasobject:
        raise DataError(
            f"{where} holds Python objects, which are never unpickled: save it as a numeric array; "
            "samples that differ in length as two, x/values and x/offsets, in an .npz file, or as "
            "lists in Parquet."
        )
    if dtype.kind in "US":
        raise DataError(
            f"{where} has dtype {dtype}, which is not supported: save numbers. Names of classes "
            "become numbers, in alphabetical order, by numpy.unique(names, return_inverse=True)[1]."
        )
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise DataError(
            f"{where} has dtype {dtype}, which is not supported: save it as bool, integers, or "
            "floats of at most 64 bits."
        )
    if len(shape) > _MAX_AXES:
        raise DataError(
            f"{where} has samples of {len(shape)} axes; the limit is {_MAX_AXES}. Reshape them."
        )
    size = dtype.itemsize * math.prod(shape)
    if size == 0:
        raise DataError(f"{where} has samples of shape {shape}, which hold no values.")
    if size > MAX_SAMPLE_BYTES:
        raise DataError(
            f"{where} has samples of shape {shape}, {size} bytes each; the limit is "
            f"{MAX_SAMPLE_BYTES}. Check that the first axis counts the samples."
        )
