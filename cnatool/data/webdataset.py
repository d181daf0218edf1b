"""WebDataset: tar files in which the members of one sample share a name and follow each other."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.data.blocks import resized
from cnatool.data.decoding import decode_bytes, decoders, differs, picture_spec
from cnatool.data.source import Block, InputSpec, check_sample, is_picture, spans
from cnatool.data.tarred import members
from cnatool.errors import DataError
from cnatool.text import one_line, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.data.decoding import Fill
    from cnatool.data.source import Wanted

__all__ = ["WebDataset", "open_webdataset"]

# Encoded pictures that wait to be decoded.
_WAITING_BYTES = 1 << 26
_LABEL_KEYS = ("label", "labels", "cls", "class", "y")
_INTEGER = re.compile(rb"\s*[+-]?\d{1,19}\s*")


@dataclass(slots=True)
class _Sample:
    """The members of one sample that were asked for."""

    key: str
    where: str
    contents: dict[str, bytes]


@dataclass(frozen=True, slots=True)
class _Label:
    """Where labels are: a member with a number, or a key of a member of JSON."""

    field: str
    key: str | None

    def value(self, sample: _Sample) -> int:
        content = sample.contents[self.field]
        found: Any = None
        if self.key is None:
            found = int(content) if _INTEGER.fullmatch(content) else content[:40]
        else:
            try:
                found = json.loads(content)[self.key]
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise DataError(
                    f"{sample.where}.{self.field} has no {self.key!r} that can be read "
                    f"({printable(one_line(error))})."
                ) from error
        if type(found) is not int or not -(1 << 63) <= found < 1 << 63:
            raise DataError(
                f"{sample.where}.{self.field} holds the label {printable(repr(found)[:60])}: "
                "labels are whole numbers of 64 bits."
            )
        return found


@dataclass(frozen=True, slots=True)
class WebDataset:
    """Samples of one archive or several; ids are keys, after the archive's name if several."""

    name: str
    paths: tuple[Path, ...]
    counts: tuple[int, ...]
    id_bytes: int
    inputs: tuple[InputSpec, ...]
    fields: tuple[str, ...]
    label: _Label | None

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
        """None: labels are numbers."""
        return None

    def blocks(self, rows: int, limit: int | None = None) -> Iterator[Block]:
        """Give blocks of ``rows`` samples in order, ``limit`` samples in all.

        Raises
        ------
        DataError
            Naming the sample that is damaged, lacks a member, or differs from the first.
        UsageError
            If ``rows`` or ``limit`` cannot be meant.
        """
        ranges = list(spans(self.rows, rows, limit))
        with decoders() as fill:
            yield from resized(self._pieces(rows, fill), ranges)

    def _pieces(self, rows: int, fill: Fill) -> Iterator[Block]:
        wanted = {*self.fields, *([self.label.field] if self.label else [])}
        for path, count in zip(self.paths, self.counts, strict=True):
            held: list[_Sample] = []
            ids: list[str] = []
            size = done = 0
            for sample in _samples(path, wanted):
                missing = sorted(wanted.difference(sample.contents))
                if missing:
                    raise DataError(
                        f"{sample.where} has no .{missing[0]}, which the first sample has: add it, "
                        "or leave the sample out."
                    )
                held.append(sample)
                ids.append(_id(path, sample.key, several=len(self.paths) > 1))
                size += sum(map(len, sample.contents.values()))
                if len(held) == rows or size > _WAITING_BYTES:
                    yield self._block(ids, held, fill)
                    done, held, ids, size = done + len(held), [], [], 0
            if held:
                yield self._block(ids, held, fill)
            if done + len(held) != count:
                raise DataError(f"{path} changed while it was read.")

    def _block(self, ids: list[str], samples: list[_Sample], fill: Fill) -> Block:
        inputs = []
        for field, spec in zip(self.fields, self.inputs, strict=True):

            def one(row: int, field: str = field, spec: InputSpec = spec) -> NDArray[Any]:
                return _like(samples[row], field, spec)

            values = np.empty((len(samples), *spec.shape), spec.dtype)
            fill(values, one)
            inputs.append(values)
        labels = None
        if self.label is not None:
            labels = np.array([self.label.value(sample) for sample in samples], np.int64)
        return Block(ids, tuple(inputs), labels)


def open_webdataset(paths: Sequence[Path], wanted: Wanted) -> WebDataset:
    """Open archives, plain or gzipped, as one split.

    Each is read once here, to count its samples.

    Parameters
    ----------
    paths : sequence of Path
        A sample is a picture or a ``.npy`` array, and a ``.cls`` with a number or a ``.json`` with
        a label.
    wanted : Wanted
        ``arrays`` name the extension of each input; ``labels`` an extension, or a key of ``.json``.

    Raises
    ------
    DataError
        If an archive is damaged, or what the first sample holds leaves a choice.
    """
    first: _Sample | None = None
    counts, longest = [], 0
    for path in paths:
        count = 0
        for sample in _samples(path, None if first is None else set()):
            if first is None:
                first = sample
            id_ = _id(path, sample.key, several=len(paths) > 1)
            longest = max(longest, len(id_.encode()))
            count += 1
        counts.append(count)
    if first is None:
        raise DataError(f"{paths[0]} holds no samples.")
    label = _label(first, wanted)
    chosen = _inputs(first, wanted, label)
    specs = tuple(
        _spec(name if len(wanted.inputs) > 1 else field, field, _decoded(first, field))
        for name, field in chosen
    )
    name = paths[0].name if len(paths) == 1 else f"{paths[0].name} and {len(paths) - 1} more"
    fields = tuple(field for _, field in chosen)
    return WebDataset(name, tuple(paths), tuple(counts), longest, specs, fields, label)


def _id(path: Path, key: str, *, several: bool) -> str:
    return f"{path.name}:{key}" if several else key


def _samples(path: Path, wanted: set[str] | None) -> Iterator[_Sample]:
    """Give the samples of an archive; of the first, all members are read where none are named."""
    held: _Sample | None = None
    seen: set[str] = set()
    given = 0
    for member in members(path):
        if held is None or member.key != held.key:
            if held is not None:
                yield held
                given += 1
            held, seen = _Sample(member.key, f"{path}, sample {member.key}", {}), set()
        if member.field in seen:
            raise DataError(f"{member.where} is there twice: keep one.")
        seen.add(member.field)
        if member.field in wanted if wanted is not None else not given:
            held.contents[member.field] = member.read()
    if held is not None:
        yield held


def _label(first: _Sample, wanted: Wanted) -> _Label | None:
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
    if "cls" in fields:
        return _Label("cls", None)
    found = [key for key in _LABEL_KEYS if key in keys]
    if len(found) > 1:
        raise DataError(
            f"{first.where}.json holds {' and '.join(found)}, and which is the label is in doubt: "
            "say it with --labels NAME."
        )
    return _Label("json", found[0]) if found else None


def _inputs(first: _Sample, wanted: Wanted, label: _Label | None) -> list[tuple[str, str]]:
    """Give the model's inputs, and the extension that feeds each."""
    readable = [
        field for field in first.contents if is_picture(f"x.{field}") or field.endswith("npy")
    ]
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


def _spec(name: str, field: str, values: NDArray[Any]) -> InputSpec:
    if is_picture(f"x.{field}"):
        return picture_spec(name, values)
    return InputSpec(name, values.dtype, values.shape)


def _decoded(sample: _Sample, field: str, area: int | None = None) -> NDArray[Any]:
    where = f"{sample.where}.{field}"
    content = sample.contents[field]
    if is_picture(f"x.{field}"):
        return decode_bytes(where, content, area)
    try:
        values = np.load(io.BytesIO(content), allow_pickle=False)
    # NumPy's parser evaluates a literal; see arrays.py.
    except Exception as error:
        raise DataError(
            f"{where} is no array that NumPy wrote, or one of objects, which are never unpickled "
            f"({printable(one_line(error))})."
        ) from error
    if not isinstance(values, np.ndarray):
        raise DataError(f"{where} is an archive of arrays: save one array with numpy.save.")
    check_sample(where, values.dtype, values.shape)
    return np.ascontiguousarray(values, values.dtype.newbyteorder("=")).reshape(values.shape)


def _like(sample: _Sample, field: str, spec: InputSpec) -> NDArray[Any]:
    area = spec.shape[0] * spec.shape[1] if is_picture(f"x.{field}") else None
    values = _decoded(sample, field, area)
    if differs(values, spec):
        raise DataError(
            f"{sample.where}.{field} is {values.shape} of {values.dtype} and the first sample "
            f"{spec.shape} of {spec.dtype}; all must have the same shape and type. Convert them "
            "first."
        )
    return values
