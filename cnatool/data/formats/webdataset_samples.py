"""The samples of a WebDataset archive: members that share a name and follow each other."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool._util.text import one_line, printable
from cnatool.data.file_names import IMAGES, SOUNDS
from cnatool.data.formats.npy import load_array
from cnatool.data.formats.tar import read_members
from cnatool.data.images.decode import bytes_opener
from cnatool.data.source import SampleError, check_sample
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.data.images.decode import Opener
    from cnatool.data.labels import LabelEncoding
    from cnatool.data.selection import ArraySelection

_LABEL_KEYS = ("label", "labels", "cls", "class", "y")
# Bytes of a label.
_LABEL_BYTES = 1 << 10


@dataclass(slots=True)
class Sample:
    """The members of one sample."""

    key: str  # the name that the members share
    where: str  # archive and key, for messages
    contents: dict[str, bytes]  # by extension, of the members that are read
    fields: set[str]  # extensions of all members
    size: int = 0  # of all members, in bytes

    def content(self, field: str) -> tuple[str, bytes]:
        """Return the name of a member for messages, and its content."""
        content = self.contents.get(field)
        if content is None:
            raise SampleError(
                f"{self.where} has no .{field}, which the first sample has: add it, or leave the "
                "sample out."
            )
        return f"{self.where}.{field}", content

    def find_image(self, field: str) -> tuple[str, Opener]:
        """Find the image of an extension, or of another image format."""
        if field not in self.contents:
            # Only this extension and those that may replace it are read.
            field = next((other for other in self.contents if is_image_field(other)), field)
        where, content = self.content(field)
        return where, bytes_opener(content)

    def decode_array(self, field: str) -> tuple[str, NDArray[Any]]:
        """Decode the array of an extension."""
        where, content = self.content(field)
        try:
            values = load_array(content)
        # NumPy's parser evaluates a literal, and raises anything on a hostile one.
        except Exception as error:
            raise SampleError(
                f"{where} is no array that NumPy wrote, or one of objects, which are never "
                f"unpickled ({printable(one_line(error))})."
            ) from error
        if not isinstance(values, np.ndarray):
            raise SampleError(f"{where} is an archive of arrays: save one array with numpy.save.")
        check_sample(where, values.dtype, values.shape)
        native = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
        return where, native.reshape(values.shape)


def read_samples(path: Path, fields: set[str], *, whole_first: bool = False) -> Generator[Sample]:
    """Yield the samples of an archive with the members of some extensions.

    With ``whole_first``, the first sample has all its members.
    """
    sample: Sample | None = None
    count = 0
    for member in read_members(path):
        if sample is None or member.key != sample.key:
            if sample is not None:
                yield sample
                count += 1
            sample = Sample(member.key, f"{path}, sample {member.key}", {}, set())
        if member.field in sample.fields:
            raise DataError(f"{member.where} occurs twice: keep one.")
        sample.fields.add(member.field)
        sample.size += member.size
        if member.field in fields or (whole_first and not count):
            sample.contents[member.field] = member.read()
    if sample is not None:
        yield sample


def is_image_field(field: str) -> bool:
    """Whether members with an extension are images."""
    return IMAGES.matches(f"x.{field}")


def is_sound_field(field: str) -> bool:
    """Whether members with an extension are sound files."""
    return SOUNDS.matches(f"x.{field}")


@dataclass(frozen=True, slots=True)
class LabelField:
    """Where labels are: in a member, or under a key of a member of JSON."""

    field: str
    key: str | None

    def read_text(self, sample: Sample) -> str:
        """Read a sample's label as it is written."""
        where, content = sample.content(self.field)
        value: Any = None
        if self.key is None:
            with suppress(UnicodeError):
                value = content[:_LABEL_BYTES].decode("utf-8")
        else:
            try:
                value = json.loads(content)[self.key]
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise SampleError(
                    f"{where} has no {self.key!r} that can be read ({printable(one_line(error))})."
                ) from error
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not value.strip():
            raise _bad_label(where, value)
        return value

    def read_number(self, sample: Sample, encoding: LabelEncoding) -> int:
        """Read a sample's label as the number of its class."""
        text = self.read_text(sample)
        if text not in encoding.numbers:
            raise _bad_label(f"{sample.where}.{self.field}", text)
        return encoding.numbers[text]


def _bad_label(where: str, value: object) -> SampleError:
    return SampleError(
        f"{where} holds the label {printable(repr(value)[:60])}: labels are whole numbers of 64 "
        "bits, or names of classes."
    )


def find_label_field(first: Sample, selection: ArraySelection) -> LabelField | None:
    """Find where labels are, by the first sample, which has all its members."""
    fields = first.contents
    keys: dict[str, Any] = {}
    if "json" in fields:
        with suppress(ValueError, RecursionError):
            document = json.loads(fields["json"])
            keys = document if isinstance(document, dict) else {}
    if selection.labels is not None:
        if selection.labels in fields:
            return LabelField(selection.labels, None)
        if selection.labels in keys:
            return LabelField("json", selection.labels)
        available = ", ".join([*(f".{field}" for field in fields), *map(str, keys)][:20])
        raise DataError(
            f"`labels={selection.labels}`: {first.where} has no such member or key of .json; it "
            f"has {printable(available)}."
        )
    # A dot within the key makes "5.cls" of the extension.
    members = [field for field in fields if is_class_field(field)]
    if len(members) == 1:
        return LabelField(members[0], None)
    matches = [key for key in _LABEL_KEYS if key in keys]
    if len(matches) > 1:
        raise DataError(
            f"{first.where}.json holds {' and '.join(matches)}, each of which could be the label: "
            "choose one with `labels=NAME`."
        )
    return LabelField("json", matches[0]) if matches else None


def is_class_field(field: str) -> bool:
    """Whether members with an extension are labels by the format's convention."""
    return field.split(".")[-1] == "cls"
