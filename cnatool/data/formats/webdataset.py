"""WebDataset: tar files in which the members of one sample share a name and follow each other."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool._util.text import list_names, one_line, printable
from cnatool.data.blocks import regroup_blocks
from cnatool.data.formats.npy import load_array
from cnatool.data.formats.tar import read_members
from cnatool.data.images.batch import (
    DecodedBatch,
    collect_model_arrays,
    decode_batch,
    decode_threads,
    describe_image,
    read_first_image,
)
from cnatool.data.images.decode import bytes_opener
from cnatool.data.labels import (
    LABELS_ADVICE,
    MAX_CLASSES,
    LabelEncoding,
    encode_labels,
    parse_whole_number,
)
from cnatool.data.source import (
    IMAGE_EXTENSIONS,
    Block,
    InputSpec,
    SampleError,
    check_sample,
    is_image,
    row_ranges,
)
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.data.images.batch import Each
    from cnatool.data.images.decode import Opener
    from cnatool.data.source import ArraySelection, ImageOptions

# Encoded pictures that wait to be decoded.
_WAITING_BYTES = 1 << 26
# So many first samples of an archive are known again where a member of theirs comes later.
_EARLY = 1 << 14
_LABEL_KEYS = ("label", "labels", "cls", "class", "y")
_LABEL_BYTES = 1 << 10  # of a label


@dataclass(slots=True)
class _Sample:
    """The members of one sample that were asked for."""

    key: str
    where: str
    contents: dict[str, bytes]
    # Extensions of all members.
    fields: set[str]


@dataclass(frozen=True, slots=True)
class _Label:
    """Where labels are: a member with a number, or a key of a member of JSON."""

    field: str
    key: str | None

    def text(self, sample: _Sample) -> str:
        """Read a sample's label as it is written."""
        where, content = _content(sample, self.field)
        found: Any = None
        if self.key is None:
            with suppress(UnicodeError):
                found = content[:_LABEL_BYTES].decode("utf-8")
        else:
            try:
                found = json.loads(content)[self.key]
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise SampleError(
                    f"{where} has no {self.key!r} that can be read ({printable(one_line(error))})."
                ) from error
        if isinstance(found, int | float) and not isinstance(found, bool):
            found = str(found)
        if not isinstance(found, str) or not found.strip():
            raise SampleError(
                f"{where} holds the label {printable(repr(found)[:60])}: labels are whole numbers "
                "of 64 bits, or names of classes."
            )
        return found

    def number(self, sample: _Sample, numbering: LabelEncoding) -> int:
        """Read a sample's label as the number of its class."""
        text = self.text(sample)
        if text not in numbering.numbers:
            raise SampleError(
                f"{sample.where}.{self.field} holds the label {printable(repr(text)[:60])}: labels "
                "are whole numbers of 64 bits, or names of classes."
            )
        return numbering.numbers[text]


@dataclass(frozen=True, slots=True)
class WebDataset:
    """Samples of one archive or several; ids are keys, after the archive's name if several.

    ``others`` are extensions of other picture formats, which stand for that of ``fields`` where
    samples lack it.
    """

    name: str
    paths: tuple[Path, ...]
    counts: tuple[int, ...]
    id_bytes: int
    inputs: tuple[InputSpec, ...]
    fields: tuple[str, ...]
    others: frozenset[str]
    label: _Label | None
    numbering: LabelEncoding
    view: ImageOptions
    first: str

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
        """Names of the classes, where labels are names."""
        return self.numbering.classes

    def blocks(self, rows: int, limit: int | None = None) -> Iterator[Block]:
        """Give blocks of ``rows`` samples in order, ``limit`` samples in all.

        Raises
        ------
        DataError
            Naming the sample that is damaged, lacks a member, or differs from the first.
        UsageError
            If ``rows`` or ``limit`` cannot be meant.
        """
        ranges = list(row_ranges(self.rows, rows, limit))
        with decode_threads(skip=self.view.skip_unreadable) as each:
            yield from regroup_blocks(self._pieces(rows, each), ranges)

    def _pieces(self, rows: int, each: Each) -> Iterator[Block]:
        wanted = {*self.fields, *self.others, *([self.label.field] if self.label else [])}
        for path, count in zip(self.paths, self.counts, strict=True):
            held: list[_Sample] = []
            ids: list[str] = []
            size = done = 0
            for sample in _samples(path, wanted):
                held.append(sample)
                ids.append(_id(path, sample.key, several=len(self.paths) > 1))
                size += sum(map(len, sample.contents.values()))
                if len(held) == rows or size > _WAITING_BYTES:
                    yield self._block(ids, held, each)
                    done, held, ids, size = done + len(held), [], [], 0
            if held:
                yield self._block(ids, held, each)
            if done + len(held) != count:
                raise DataError(f"{path} changed while it was read.")

    def _block(self, ids: list[str], samples: list[_Sample], each: Each) -> Block:
        inputs = []
        for field, spec in zip(self.fields, self.inputs, strict=True):
            first = f"{self.first}.{field}"
            if is_image(f"x.{field}"):
                found = partial(_picture, samples, field)
                made = decode_batch(spec, self.view, len(samples), found, each, first)
            else:
                made = _arrays(samples, field, spec, each, first)
            inputs.append(made)
        faults = {row: text for one in reversed(inputs) for row, text in one.faults.items()}
        labels = None
        if self.label is not None:
            labels = np.zeros(len(samples), np.int64)
            for row, sample in enumerate(samples):
                try:
                    labels[row] = self.label.number(sample, self.numbering)
                except SampleError as error:
                    if not self.view.skip_unreadable:
                        raise
                    faults[row] = error.reason
        return Block(
            ids, tuple(one.stored for one in inputs), labels, collect_model_arrays(inputs), faults
        )


def open_webdataset(paths: Sequence[Path], wanted: ArraySelection) -> WebDataset:
    """Open archives, plain or gzipped, as one split.

    Each is read once here, to count its samples.
    """
    first: _Sample | None = None
    counts, longest = [], 0
    held: Counter[str] = Counter()
    label: _Label | None = None
    labels: set[str] = set()
    found: set[str] = set()
    for path in paths:
        count = 0
        early: set[str] = set()
        for sample in _samples(path, labels, whole_first=first is None):
            if first is None:
                first = sample
                label = _label(first, wanted)
                labels.update([label.field] if label else [])
            if label is not None:
                # What is no label is said when its sample is read.
                with suppress(SampleError):
                    found.add(label.text(sample))
            _check_together(path, sample, early)
            held.update(sample.fields)
            id_ = _id(path, sample.key, several=len(paths) > 1)
            longest = max(longest, len(id_.encode()))
            count += 1
        counts.append(count)
    if first is None:
        raise DataError(f"{paths[0]} holds no samples.")
    if not any(map(_readable, first.fields)) and any(map(_readable, held)):
        there = list_names(f".{field}" for field in sorted(first.fields))
        raise DataError(
            f"{first.where}, the first, is no sample: it has {there} and no picture or .npy. Leave "
            "it out of the archive."
        )
    if label is None:
        _check_unlabelled(first, held)
    if len(found) > MAX_CLASSES:
        raise DataError(
            f"{paths[0]}: there are more than {MAX_CLASSES:,} different labels, which are no "
            f"classes: {LABELS_ADVICE}"
        )
    numbers = {text for text in found if parse_whole_number(text) is not None}
    if 2 * len(numbers) > len(found):
        found = numbers  # a label that is none is said when its sample is read
    numbering = encode_labels(found, f"{paths[0]}, the labels of its samples,", LABELS_ADVICE)
    chosen = _inputs(first, wanted, label)
    fields = tuple(field for _, field in chosen)
    others = _other_formats(first, fields)
    several = len(wanted.inputs) > 1
    specs = tuple(
        _spec(name if several else field, paths[0], counts[0], field, others, wanted.images)
        for name, field in chosen
    )
    name = paths[0].name if len(paths) == 1 else f"{paths[0].name} and {len(paths) - 1} more"
    return WebDataset(
        name,
        tuple(paths),
        tuple(counts),
        longest,
        specs,
        fields,
        others,
        label,
        numbering,
        wanted.images,
        first.where,
    )


def _check_together(path: Path, sample: _Sample, early: set[str]) -> None:
    """Refuse an archive that has members of one sample apart, as far as its first samples show.

    Each part would be taken for a sample of its own: one without a label, or without a picture.
    """
    if sample.key in early:
        raise DataError(
            f"{path} has members of the sample {printable(sample.key)} in two places, and those of "
            "one sample must follow each other. Pack it anew in order of names: tar -xf "
            f"{path.name} -C FOLDER, then tar --sort=name -cf {path.name} -C FOLDER ."
        )
    if len(early) < _EARLY:
        early.add(sample.key)


def _readable(field: str) -> bool:
    """Whether an input can be read from members with an extension."""
    return is_image(f"x.{field}") or field.endswith("npy")


def _check_unlabelled(first: _Sample, fields: Mapping[str, int]) -> None:
    """Refuse to take samples for unlabelled because the first one alone has no label."""
    labels = [field for field in fields if field.split(".")[-1] == "cls"]
    if labels:
        raise DataError(
            f"{first.where}, the first, has no label, and {fields[labels[0]]:,} others have a "
            f".{printable(labels[0])}: add it, or leave the sample out of the archive. --labels "
            "NAME says which member holds labels."
        )


def _id(path: Path, key: str, *, several: bool) -> str:
    return f"{path.name}:{key}" if several else key


def _samples(path: Path, wanted: set[str], *, whole_first: bool = False) -> Generator[_Sample]:
    """Return the samples of an archive with the members wanted, or all of the first one's."""
    held: _Sample | None = None
    seen: set[str] = set()
    given = 0
    for member in read_members(path):
        if held is None or member.key != held.key:
            if held is not None:
                yield held
                given += 1
            seen = set()
            held = _Sample(member.key, f"{path}, sample {member.key}", {}, seen)
        if member.field in seen:
            raise DataError(f"{member.where} is there twice: keep one.")
        seen.add(member.field)
        if member.field in wanted or (whole_first and not given):
            held.contents[member.field] = member.read()
    if held is not None:
        yield held


def _label(first: _Sample, wanted: ArraySelection) -> _Label | None:
    fields = first.contents
    keys: dict[str, Any] = {}
    if "json" in fields:
        try:
            found = json.loads(fields["json"])
        except (ValueError, RecursionError):
            found = None
        keys = found if isinstance(found, dict) else {}
    if wanted.labels is not None:
        if wanted.labels in fields:
            return _Label(wanted.labels, None)
        if wanted.labels in keys:
            return _Label("json", wanted.labels)
        held = ", ".join([*(f".{field}" for field in fields), *map(str, keys)][:20])
        raise DataError(
            f"--labels {wanted.labels}: {first.where} has no such member or key of .json, but "
            f"{printable(held)}."
        )
    # A dot within the key makes "5.cls" of the extension.
    numbered = [field for field in fields if field.split(".")[-1] == "cls"]
    if len(numbered) == 1:
        return _Label(numbered[0], None)
    found = [key for key in _LABEL_KEYS if key in keys]
    if len(found) > 1:
        raise DataError(
            f"{first.where}.json holds {' and '.join(found)}, and which is the label is in doubt: "
            "say it with --labels NAME."
        )
    return _Label("json", found[0]) if found else None


def _inputs(first: _Sample, wanted: ArraySelection, label: _Label | None) -> list[tuple[str, str]]:
    """Give the model's inputs, and the extension that feeds each."""
    readable = [field for field in first.contents if _readable(field)]
    chosen = []
    for name in wanted.inputs:
        given = wanted.arrays.get(name, name).lower()
        found = [field for field in readable if field == given or field.startswith(f"{given}.")]
        if not found and len(wanted.inputs) == 1 and not wanted.arrays:
            found = [field for field in readable if label is None or field != label.field]
        if len(found) != 1:
            held = ", ".join(f".{field}" for field in first.contents)
            raise DataError(
                f"{first.where} needs one picture or .npy for the input {name!r} and has "
                f"{printable(held)}: say which with --input {name}=EXTENSION."
            )
        chosen.append((name, found[0]))
    return chosen


def _other_formats(first: _Sample, fields: Sequence[str]) -> frozenset[str]:
    """Name the extensions that a picture may have instead, where the first sample has only one."""
    pictures = [field for field in first.contents if is_image(f"x.{field}")]
    if len(pictures) != 1 or pictures[0] not in fields:
        return frozenset()
    stem, dot, ending = pictures[0].rpartition(".")
    return frozenset(
        f"{stem}{dot}{other[1:]}" for other in IMAGE_EXTENSIONS if other != f".{ending}"
    )


def _spec(
    name: str, path: Path, rows: int, field: str, others: frozenset[str], view: ImageOptions
) -> InputSpec:
    """Describe an input by the first sample of an archive that can be read."""
    with closing(_samples(path, {field, *others})) as samples:
        # Rows are asked for in order, and one sample is held at a time.
        def following() -> list[_Sample]:
            found = next(samples, None)
            if found is None:
                raise DataError(f"{path} changed while it was read.")
            return [found]

        if is_image(f"x.{field}"):
            where, pixels = read_first_image(lambda _: _picture(following(), field, 0), rows, view)
            return describe_image(name, where, pixels, view)
        _, values = read_first_image(lambda _: _array(following(), field, 0), rows, view)
        return InputSpec(name, values.dtype, values.shape)


def _content(sample: _Sample, field: str) -> tuple[str, bytes]:
    content = sample.contents.get(field)
    if content is None:
        raise SampleError(
            f"{sample.where} has no .{field}, which the first sample has: add it, or leave the "
            "sample out."
        )
    return f"{sample.where}.{field}", content


def _picture(samples: Sequence[_Sample], field: str, row: int) -> tuple[str, Opener]:
    sample = samples[row]
    if field not in sample.contents:
        # Contents are read of the field and of what may stand for it alone.
        field = next((one for one in sample.contents if is_image(f"x.{one}")), field)
    where, content = _content(sample, field)
    return where, bytes_opener(content)


def _array(samples: Sequence[_Sample], field: str, row: int) -> tuple[str, NDArray[Any]]:
    where, content = _content(samples[row], field)
    try:
        values = load_array(content)
    # NumPy's parser evaluates a literal; see arrays.py.
    except Exception as error:
        raise SampleError(
            f"{where} is no array that NumPy wrote, or one of objects, which are never unpickled "
            f"({printable(one_line(error))})."
        ) from error
    if not isinstance(values, np.ndarray):
        raise SampleError(f"{where} is an archive of arrays: save one array with numpy.save.")
    check_sample(where, values.dtype, values.shape)
    whole = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    return where, whole.reshape(values.shape)


def _arrays(
    samples: Sequence[_Sample], field: str, spec: InputSpec, each: Each, first: str
) -> DecodedBatch:
    rows = np.empty((len(samples), *spec.shape), spec.dtype)

    def one(row: int) -> None:
        where, values = _array(samples, field, row)
        if values.shape != spec.shape or values.dtype != spec.dtype:
            raise SampleError(
                f"{where} is {values.shape} of {values.dtype} and {first}, the first, "
                f"{spec.shape} of {spec.dtype}: all must have the same shape and type.",
                "Pad or crop them alike",
            )
        rows[row] = values

    return DecodedBatch(rows, rows, each(len(samples), one, True))
