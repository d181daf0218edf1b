"""Sound of a block, decoded in threads: what is stored, and what the model receives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from cnatool.data.audio.decode import (
    decode_sound,
    describe_channels,
    describe_reader,
    read_header,
)
from cnatool.data.audio.spectrograms import spectrogram_shape
from cnatool.data.audio.transform import fixed_length, transform_sound
from cnatool.data.images.batch import FIRST_READABLE, DecodedBatch
from cnatool.data.source import InputSpec, SampleError
from cnatool.errors import DataError
from cnatool.records.ragged import Ragged
from cnatool.records.sound import SoundRecord, SoundTransform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.data.audio.decode import Content, Sound, SoundHeader
    from cnatool.data.images.batch import Each
    from cnatool.data.selection import SoundOptions
    from cnatool.records.ragged import Rows

    # Finds a sound by its number: its name for messages, and its file or its bytes.
    Finder = Callable[[int], tuple[str, Content]]


class FirstSound(NamedTuple):
    """The first sound of a source that can be read."""

    where: str  # its name, for messages
    header: SoundHeader


@dataclass(frozen=True, slots=True)
class SoundReader:
    """How the sounds of one source are decoded.

    Attributes
    ----------
    spec : InputSpec
        What is stored of each, and what the model receives.
    options : SoundOptions
    first : FirstSound
        Rate and channels of the others are compared with it.
    """

    spec: InputSpec
    options: SoundOptions
    first: FirstSound

    def decode(self, rows: int, find: Finder, each: Each) -> DecodedBatch:
        """Decode the sounds of a block.

        Raises
        ------
        DataError
            If one has another rate than the first, or several channels, and must not.
        SampleError
            If one cannot be decoded, unless such samples are skipped.
        """
        transformed = self.spec.transformed is not None
        stored: list[NDArray[np.float32] | None] = [None] * rows
        for_model: list[NDArray[np.float32] | None] = [None] * rows

        def decode_row(row: int) -> None:
            where, content = find(row)
            sound = decode_sound(where, content, mono=self.options.mono)
            fault = _describe_rate(self.options.transform, self.first, where, sound.rate)
            if fault is not None:
                raise DataError(fault)
            if transformed:
                for_model[row] = _transform(where, sound, self.options.transform)
            stored[row] = sound.amplitudes

        faults = each(rows, decode_row, False)
        amplitudes = _join(stored, self.spec)
        if not transformed:
            return DecodedBatch(amplitudes, amplitudes, faults)
        return DecodedBatch(amplitudes, _join(for_model, self.spec.for_model), faults)


def open_reader(
    name: str,
    find: Finder,
    rows: int,
    looked_at: Iterable[int],
    options: SoundOptions,
    *,
    skip: bool,
) -> SoundReader:
    """Describe the sounds of a source by the first that can be read.

    The headers of the sounds ``looked_at`` are read as well: their rates and channels are those of
    the first, and their mean length is the typical one.

    Raises
    ------
    SampleError
        If the first sound cannot be read and not ``skip``, or if none can be read.
    DataError
        If the rates or channels of these sounds do not fit the options.
    """
    first = _find_first(find, rows, skip=skip)
    headers = [first.header]
    faults: dict[str, list[str]] = {"another rate": [], "several channels": []}
    for row in (None, *looked_at):
        where, header = first
        if row is not None:
            try:
                where, content = find(row)
                header = read_header(where, content)
            except SampleError:
                # An error when it is decoded.
                continue
            headers.append(header)
        rate_fault = _describe_rate(options.transform, first, where, header.rate)
        channels_fault = None if options.mono else describe_channels(where, header)
        for what, fault in zip(faults, (rate_fault, channels_fault), strict=True):
            faults[what] += [] if fault is None else [fault]
    _refuse_faults(faults, len(headers))
    rate, transform = first.header.rate, options.transform
    record = SoundRecord(
        rate if transform.sample_rate is None else None, options.mono, describe_reader()
    )
    shape = (round(sum(header.frames for header in headers) / len(headers)),)
    dtype = np.dtype(np.float32)
    spec = InputSpec(name, dtype, shape, ragged_axis=0, kind="sound", sound=record)
    if transform != SoundTransform():
        spec = replace(spec, transformed=_describe_transformed(spec, headers, transform))
    return SoundReader(spec, options, first)


def _find_first(find: Finder, rows: int, *, skip: bool) -> FirstSound:
    first_error: SampleError | None = None
    for row in range(min(rows, FIRST_READABLE) if skip else 1):
        try:
            where, content = find(row)
            return FirstSound(where, read_header(where, content))
        except SampleError as error:
            first_error = first_error or error
    assert first_error is not None
    raise first_error


def _describe_transformed(
    spec: InputSpec, headers: Sequence[SoundHeader], transform: SoundTransform
) -> InputSpec:
    """Describe what the model receives, by the headers of some sounds."""
    if transform.spectrogram is not None:
        return InputSpec(spec.name, spec.dtype, spectrogram_shape(transform.spectrogram))
    rate = transform.sample_rate or headers[0].rate
    assert spec.sound is not None
    record = msgspec.structs.replace(spec.sound, sample_rate=rate)
    length = fixed_length(transform, rate)
    if length is not None:
        return replace(spec, shape=(length,), ragged_axis=None, sound=record)
    frames = sum(h.frames * (transform.sample_rate or h.rate) / h.rate for h in headers)
    return replace(spec, shape=(max(1, round(frames / len(headers))),), sound=record)


def _describe_rate(
    transform: SoundTransform, first: FirstSound, where: str, rate: int
) -> str | None:
    """Describe that a sound has another rate than the first; None if that is right."""
    if transform.sample_rate is not None or rate == first.header.rate:
        return None
    return (
        f"{where} has {rate:,} samples a second and the first {first.header.rate:,} "
        f"({first.where.rstrip(',')}): resample all of them to the rate that the model was "
        "trained with by `sample_rate=HZ`."
    )


def _refuse_faults(faults: Mapping[str, Sequence[str]], count: int) -> None:
    """Refuse sounds for all that their headers tell at once: the first of each kind of fault."""
    texts = []
    for what, found in faults.items():
        if found:
            others = len(found) - 1
            has = "has" if others == 1 else "have"
            more = f" {others} more of the first {count} {has} {what}." if others else ""
            texts.append(found[0] + more)
    if texts:
        raise DataError(" ".join(texts))


def _transform(where: str, sound: Sound, transform: SoundTransform) -> NDArray[np.float32]:
    """Transform a sound, which is named in errors."""
    try:
        return transform_sound(sound, transform)
    except DataError as error:
        raise SampleError(f"{where.rstrip(',')}: {error}") from error


def _join(rows: list[NDArray[np.float32] | None], spec: InputSpec) -> Rows:
    """Put rows into one array; those that could not be decoded are empty, or zero.

    Each is freed once it is copied.
    """
    if spec.ragged_axis is None:
        array = np.zeros((len(rows), *spec.shape), spec.dtype)
        for number, values in enumerate(rows):
            if values is not None:
                array[number] = values
                rows[number] = None
        return array
    lengths = [0 if values is None else len(values) for values in rows]
    joined = Ragged.from_lengths(np.empty(sum(lengths), spec.dtype), lengths)
    for number, values in enumerate(rows):
        if values is not None:
            joined.values[joined.offsets[number] : joined.offsets[number + 1]] = values
            rows[number] = None
    return joined
