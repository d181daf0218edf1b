"""WebDataset: tar archives in which the members of one sample share a name."""

from __future__ import annotations

import hashlib
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from cnatool._util.text import list_names, printable
from cnatool.data.audio.batch import open_reader
from cnatool.data.blocks import regroup_blocks
from cnatool.data.file_names import IMAGES, describe_files, row_id
from cnatool.data.formats.webdataset_samples import (
    Sample,
    find_label_field,
    is_class_field,
    is_image_field,
    is_sound_field,
    read_samples,
)
from cnatool.data.images.batch import (
    DecodedBatch,
    collect_model_arrays,
    decode_batch,
    decode_threads,
    describe_image,
    read_first_image,
)
from cnatool.data.labels import check_class_count, encode_labels, parse_whole_number
from cnatool.data.source import Block, InputSpec, SampleError, SourceDefaults, row_ranges
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from cnatool.data.audio.batch import SoundReader
    from cnatool.data.formats.webdataset_samples import LabelField
    from cnatool.data.images.batch import Each
    from cnatool.data.images.decode import Opener
    from cnatool.data.labels import LabelEncoding
    from cnatool.data.selection import ArraySelection, ImageOptions

# Bytes of encoded images that wait to be decoded.
_WAITING_BYTES = 1 << 26
# Samples of sound whose length is looked at.
_HEARD = 16
# First samples of an archive of which a later member is recognised.
_EARLY = 1 << 14


@dataclass(frozen=True, slots=True)
class WebDataset(SourceDefaults):
    """Samples of one archive or several; ids are keys, after the archive's name if several.

    Attributes
    ----------
    paths : tuple of Path
    counts : tuple of int
        Number of samples in each archive.
    id_bytes : int
    inputs : tuple of InputSpec
    fields : tuple of str
        Extension of the members of each input.
    other_fields : frozenset of str
        Extensions of other image formats, for samples without that of ``fields``.
    label : LabelField or None
    encoding : LabelEncoding
    options : ImageOptions
    first : str
        The first sample, for messages.
    readers : mapping of str to SoundReader
        How the sounds of an extension are decoded.
    outline : str
        SHA-256 of the keys and sizes of all samples.
    """

    paths: tuple[Path, ...]
    counts: tuple[int, ...]
    id_bytes: int
    inputs: tuple[InputSpec, ...]
    fields: tuple[str, ...]
    other_fields: frozenset[str]
    label: LabelField | None
    encoding: LabelEncoding
    options: ImageOptions
    first: str
    readers: Mapping[str, SoundReader]
    outline: str

    @property
    def name(self) -> str:
        """Name of the archive, or of the first of several."""
        return describe_files(self.paths)

    @property
    def rows(self) -> int:
        """Number of samples in all archives."""
        return sum(self.counts)

    @property
    def labelled(self) -> bool:
        """Whether blocks carry labels."""
        return self.label is not None

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, if labels are names."""
        return self.encoding.classes

    def blocks(self, rows: int, limit: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield blocks of ``rows`` samples from ``start`` on, ``limit`` samples in all."""
        ranges = list(row_ranges(self.rows, rows, limit, start))
        with decode_threads(skip=self.options.skip_unreadable) as each:
            yield from regroup_blocks(self._pieces(rows, start, each), ranges)

    def _pieces(self, rows: int, start: int, each: Each) -> Iterator[Block]:
        fields = {*self.fields, *self.other_fields, *([self.label.field] if self.label else [])}
        for path, count in zip(self.paths, self.counts, strict=True):
            # The samples before the first that is asked for are not decoded.
            skipped, start = min(start, count), max(0, start - count)
            if skipped == count:
                continue
            held: list[Sample] = []
            size, done = 0, skipped
            for sample in islice(read_samples(path, fields), skipped, None):
                held.append(sample)
                size += sum(map(len, sample.contents.values()))
                if len(held) == rows or size > _WAITING_BYTES:
                    yield self._decode(path, held, each)
                    done, held, size = done + len(held), [], 0
            if held:
                yield self._decode(path, held, each)
            if done + len(held) != count:
                raise _changed_error(path)

    def _decode(self, path: Path, samples: list[Sample], each: Each) -> Block:
        inputs = []
        for field, spec in zip(self.fields, self.inputs, strict=True):
            first = f"{self.first}.{field}"
            if is_image_field(field):
                find = partial(_find_image, samples, field)
                inputs.append(decode_batch(spec, self.options, len(samples), find, each, first))
            elif field in self.readers:
                find_sound = partial(_find_sound, samples, field)
                inputs.append(self.readers[field].decode(len(samples), find_sound, each))
            else:
                inputs.append(_decode_arrays(samples, field, spec, each, first))
        faults = {row: text for batch in reversed(inputs) for row, text in batch.faults.items()}
        labels = None
        if self.label is not None:
            labels = np.zeros(len(samples), np.int64)
            for row, sample in enumerate(samples):
                try:
                    labels[row] = self.label.read_number(sample, self.encoding)
                except SampleError as error:
                    if not self.options.skip_unreadable:
                        raise
                    faults[row] = error.reason
        return Block(
            [row_id(self.paths, path, sample.key) for sample in samples],
            tuple(batch.stored for batch in inputs),
            labels,
            collect_model_arrays(inputs),
            faults,
        )


def open_webdataset(paths: Sequence[Path], selection: ArraySelection) -> WebDataset:
    """Open archives, plain or gzipped, as one split.

    Each is read once here, to count its samples.
    """
    first: Sample | None = None
    counts, id_bytes = [], 0
    field_counts: Counter[str] = Counter()
    label: LabelField | None = None
    label_fields: set[str] = set()
    labels: set[str] = set()
    outline = hashlib.sha256()
    for path in paths:
        count = 0
        early: set[str] = set()
        for sample in read_samples(path, label_fields, whole_first=first is None):
            if first is None:
                first = sample
                label = find_label_field(first, selection)
                label_fields.update([label.field] if label else [])
            if label is not None:
                # A missing label is an error when its sample is read.
                with suppress(SampleError):
                    labels.add(label.read_text(sample))
            _check_contiguous(path, sample, early)
            field_counts.update(sample.fields)
            outline.update(f"{sample.key} {sample.size}\n".encode())
            id_bytes = max(id_bytes, len(row_id(paths, path, sample.key).encode()))
            count += 1
        counts.append(count)
    if first is None:
        raise DataError(f"{paths[0]} holds no samples.")
    if not any(map(_is_input_field, first.fields)) and any(map(_is_input_field, field_counts)):
        available = list_names(f".{field}" for field in sorted(first.fields))
        raise DataError(
            f"{first.where}, the first, is not a sample: it has {available} and no image, sound "
            "file or .npy. "
            "Leave it out of the archive."
        )
    if label is None:
        _check_unlabelled(first, field_counts)
    selected = _select_fields(first, selection, label)
    fields = tuple(field for _, field in selected)
    others = _other_image_fields(first, fields)
    several = len(selected) > 1
    named = {field: name if several else field for name, field in selected}
    readers = {
        field: _open_sounds(name, paths[0], counts[0], field, selection)
        for field, name in named.items()
        if is_sound_field(field)
    }
    specs = tuple(
        readers[field].spec
        if field in readers
        else _describe(name, paths[0], counts[0], field, others, selection.images)
        for field, name in named.items()
    )
    return WebDataset(
        tuple(paths),
        tuple(counts),
        id_bytes,
        specs,
        fields,
        others,
        label,
        _encode_labels(paths[0], labels),
        selection.images,
        first.where,
        readers,
        outline.hexdigest(),
    )


def _find_image(samples: Sequence[Sample], field: str, row: int) -> tuple[str, Opener]:
    return samples[row].find_image(field)


def _find_sound(samples: Sequence[Sample], field: str, row: int) -> tuple[str, bytes]:
    return samples[row].content(field)


def _encode_labels(path: Path, labels: set[str]) -> LabelEncoding:
    where = f"{path}, the labels of its samples,"
    check_class_count(where, labels)
    numbers = {text for text in labels if parse_whole_number(text) is not None}
    # If most are numbers, the others are errors when their samples are read.
    return encode_labels(numbers if 2 * len(numbers) > len(labels) else labels, where)


def _changed_error(path: Path) -> DataError:
    return DataError(f"{path} changed while it was read.")


def _check_contiguous(path: Path, sample: Sample, early: set[str]) -> None:
    """Refuse an archive in which members of one sample are apart, among its first samples.

    Each part would be a sample of its own: one without a label, or without an image.
    """
    if sample.key in early:
        raise DataError(
            f"{path} has members of sample {printable(sample.key)} in two places, but those of one "
            "sample must be adjacent. Extract it into a new folder, and pack it there in "
            f"order of names: find . -type f | sort | tar -cf {path.name} -T -"
        )
    if len(early) < _EARLY:
        early.add(sample.key)


def _is_input_field(field: str) -> bool:
    """Whether members with an extension can be an input."""
    return is_image_field(field) or is_sound_field(field) or field.endswith("npy")


def _check_unlabelled(first: Sample, fields: Mapping[str, int]) -> None:
    """Refuse samples as unlabelled if only the first one has no label."""
    labels = [field for field in fields if is_class_field(field)]
    if labels:
        raise DataError(
            f"{first.where}, the first, has no label, and {fields[labels[0]]:,} others have a "
            f".{printable(labels[0])}: add it, or leave the sample out of the archive, or choose "
            "the member that holds labels with `labels=NAME`."
        )


def _select_fields(
    first: Sample, selection: ArraySelection, label: LabelField | None
) -> list[tuple[str, str]]:
    """Select the extension that feeds each input of the model."""
    candidates = [field for field in first.contents if _is_input_field(field)]
    selection = selection.among(first.where, (field.partition(".")[0] for field in candidates))
    selected = []
    for name in selection.inputs:
        wanted = selection.arrays.get(name, name).lower()
        fields = [f for f in candidates if f == wanted or f.startswith(f"{wanted}.")]
        if not fields and len(selection.inputs) == 1 and not selection.arrays:
            fields = [field for field in candidates if label is None or field != label.field]
        if len(fields) != 1:
            available = ", ".join(f".{field}" for field in first.contents)
            raise DataError(
                f"{first.where} needs one image, sound file or .npy for the input {name!r} and has "
                f"{printable(available)}: choose one with `inputs={{{name!r}: EXTENSION}}`."
            )
        selected.append((name, fields[0]))
    return selected


def _other_image_fields(first: Sample, fields: Sequence[str]) -> frozenset[str]:
    """List the extensions that an image may have instead, if the first sample has only one."""
    images = [field for field in first.contents if is_image_field(field)]
    if len(images) != 1 or images[0] not in fields:
        return frozenset()
    stem, dot, ending = images[0].rpartition(".")
    return frozenset(
        f"{stem}{dot}{other[1:]}" for other in IMAGES.extensions if other != f".{ending}"
    )


def _describe(
    name: str, path: Path, rows: int, field: str, others: frozenset[str], options: ImageOptions
) -> InputSpec:
    """Describe an input by the first sample of an archive that can be read."""
    # Rows are asked for in order, and one sample is held at a time.
    with closing(read_samples(path, {field, *others})) as samples:
        if is_image_field(field):
            where, pixels = read_first_image(
                lambda _: _next_sample(samples, path).find_image(field), rows, options
            )
            return describe_image(name, where, pixels, options)
        _, values = read_first_image(
            lambda _: _next_sample(samples, path).decode_array(field), rows, options
        )
        return InputSpec(name, values.dtype, values.shape)


def _open_sounds(
    name: str, path: Path, rows: int, field: str, selection: ArraySelection
) -> SoundReader:
    """Describe an input of sound by the first samples of an archive."""
    with closing(read_samples(path, {field})) as samples:

        def find(_: int) -> tuple[str, bytes]:
            sample = next(samples, None)
            if sample is None:
                raise SampleError(f"{path} holds no more samples.")
            return sample.content(field)

        skip = selection.images.skip_unreadable
        return open_reader(name, find, rows, range(_HEARD), selection.sound, skip=skip)


def _next_sample(samples: Generator[Sample], path: Path) -> Sample:
    sample = next(samples, None)
    if sample is None:
        raise _changed_error(path)
    return sample


def _decode_arrays(
    samples: Sequence[Sample], field: str, spec: InputSpec, each: Each, first: str
) -> DecodedBatch:
    rows = np.empty((len(samples), *spec.shape), spec.dtype)

    def decode(row: int) -> None:
        where, values = samples[row].decode_array(field)
        if values.shape != spec.shape or values.dtype != spec.dtype:
            raise SampleError(
                f"{where} is {values.shape} of {values.dtype} and {first}, the first, "
                f"{spec.shape} of {spec.dtype}: all must have the same shape and type.",
                "Pad or crop them alike",
            )
        rows[row] = values

    return DecodedBatch(rows, rows, each(len(samples), decode, True))
