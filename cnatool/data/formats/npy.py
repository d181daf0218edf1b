"""``.npz`` and ``.npy``: headers are parsed here, rows are streamed, nothing is ever unpickled."""

from __future__ import annotations

import io
import struct
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

import numpy as np
from numpy.lib import format as npy

from cnatool._util.text import list_names, one_line, printable
from cnatool.data.formats.rows import RowSource, check_labels, encode_texts
from cnatool.data.formats.streams import READ_ERRORS, StreamedRows
from cnatool.data.source import SINGLE_INPUT, ArraySelection, InputSpec, check_sample
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedIOBase
    from pathlib import Path
    from zipfile import ZipInfo

    from cnatool.data.formats.rows import RowReader
    from cnatool.data.formats.streams import Opener

    _Header = tuple[tuple[int, ...], bool, np.dtype[Any]]

# A header describes one array in some hundred bytes; NumPy's own limit is the same.
_MAX_HEADER = 10_000
_MAX_TEXT = 1 << 12  # bytes of a label that is a text
# NumPy reads headers with `ast`, which CPython up to 3.12 may fail in when several threads parse
# at once ("AST constructor recursion depth mismatch"); a good file would be called no array.
_PARSING = threading.Lock()


def open_npz(path: Path, wanted: ArraySelection = SINGLE_INPUT) -> RowSource:
    """Open an archive that ``numpy.savez`` or ``numpy.savez_compressed`` wrote."""
    try:
        with ZipFile(path) as archive:
            members = archive.infolist()
    except (*READ_ERRORS, NotImplementedError, ValueError, struct.error) as error:
        raise DataError(
            f"{path} cannot be read as an .npz archive ({printable(one_line(error))}). Save it "
            "again with numpy.savez."
        ) from error
    specs: list[InputSpec] = []
    samples: list[StreamedRows] = []
    wanted.check_all_held(str(path), (m.filename.removesuffix(".npy") for m in members))
    for names in wanted.names():
        found = _member(path, members, names)
        if found is None:
            held = [printable(member.filename.removesuffix(".npy")) for member in members[:20]]
            both = [name.removesuffix("_train") + "_test" for name in held if "_train" in name]
            if set(both) & set(held):
                raise DataError(
                    f"{path} holds the parts of several splits ({', '.join(held)}): save each in a "
                    "file of its own, as with numpy.savez('data/train.npz', x=x_train, "
                    "y=y_train), and dump the folder."
                )
            raise DataError(
                f"{path} needs an array called {' or '.join(names)} and holds "
                f"{', '.join(held) or 'nothing'}: save the "
                "samples under that name, or say which array is which with --input INPUT=ARRAY, or "
                "what is the same for every sample with --constant INPUT=VALUE."
            )
        name, rows = found
        if samples and rows.rows != samples[0].rows:
            raise DataError(
                f"{path} holds {samples[0].rows} samples in {specs[0].name} and {rows.rows} in "
                f"{name}: they must be equally many."
            )
        specs.append(InputSpec(name, rows.dtype.newbyteorder("="), rows.shape))
        samples.append(rows)
    label_names = wanted.label_names(spec.name for spec in specs)
    labels = _member(path, members, label_names, texts=True)
    if labels is None and wanted.labels is not None:
        there = list_names(member.filename.removesuffix(".npy") for member in members)
        raise DataError(f"--labels {wanted.labels}: {path} has no such array; it has {there}.")
    targets = None if labels is None else _targets(labels[1], samples[0])
    return RowSource(path.name, tuple(specs), tuple(samples), targets)


def open_npy(path: Path) -> RowSource:
    """Open an array of samples (n, …); integer labels are taken from ``<stem>_labels.npy``."""
    inputs = _file(path)
    beside = path.with_name(f"{path.stem}_labels.npy")
    labels = _targets(_file(beside, texts=True), inputs) if beside.is_file() else None
    spec = InputSpec(path.stem, inputs.dtype.newbyteorder("="), inputs.shape)
    return RowSource(path.name, (spec,), (inputs,), labels)


def _targets(labels: StreamedRows, inputs: StreamedRows) -> RowReader:
    """Check labels against the samples, and number them where they are texts."""
    if labels.dtype.kind not in "US" or labels.shape:
        check_labels(labels, inputs)
        return labels
    numbered = encode_texts(labels)
    check_labels(numbered, inputs)
    return numbered


def _file(path: Path, *, texts: bool = False) -> StreamedRows:
    rows = _row_array(str(path), lambda: path.open("rb"), texts=texts)
    rows.check_size(path.stat().st_size)
    return rows


def _member(
    path: Path, members: list[ZipInfo], names: tuple[str, ...], *, texts: bool = False
) -> tuple[str, StreamedRows] | None:
    """Find the one member with one of these names, or None where there is none."""
    found = [(member.filename.removesuffix(".npy"), member) for member in members]
    found = [(name, member) for name, member in found if name in names]
    if not found:
        return None
    if len(found) > 1:
        raise DataError(
            f"{path} holds {' and '.join(name for name, _ in found)}, and which is meant is in "
            f"doubt: keep one array called {' or '.join(names)}."
        )
    [(name, member)] = found
    where = f"{path}, array '{name}',"
    if member.flag_bits & 1 or member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise DataError(
            f"{where} is encrypted or compressed in a way that NumPy does not write: save it again "
            "with numpy.savez_compressed."
        )
    rows = _row_array(where, partial(_open_member, path, member.filename), texts=texts)
    rows.check_size(member.file_size)
    return name, rows


@contextmanager
def _open_member(path: Path, name: str) -> Iterator[BufferedIOBase]:
    with ZipFile(path) as archive:
        try:
            file = archive.open(name)
        except (KeyError, NotImplementedError, RuntimeError) as error:
            raise BadZipFile(str(error)) from error
        with file:
            yield cast("BufferedIOBase", file)


def _row_array(where: str, opener: Opener, *, texts: bool = False) -> StreamedRows:
    try:
        with opener() as file:
            offset, header = _raw_header(file)
        shape, fortran, dtype = header()
    except READ_ERRORS as error:
        raise DataError(
            f"{where} cannot be read ({printable(one_line(error))}). Get a whole copy of the file."
        ) from error
    # What NumPy's parser raises on a hostile header is not limited to ValueError: it evaluates a
    # literal, and that can be nested, cut, or name a dtype that does not exist.
    except Exception as error:
        raise DataError(
            f"{where} is not an array that NumPy wrote: {printable(error)[:200]}"
        ) from error
    if not shape or min(shape) < 0:
        raise DataError(f"{where} has shape {shape}: the first axis must count the samples.")
    if shape[0] == 0:
        raise DataError(f"{where} holds no samples: its shape is {shape}.")
    # Before sizes are compared: those of objects say nothing, and the way out is another one.
    if not (texts and dtype.kind in "US" and 0 < dtype.itemsize <= _MAX_TEXT and len(shape) == 1):
        check_sample(where, dtype, shape[1:])
    if fortran:
        raise DataError(
            f"{where} is in Fortran order, which cannot be read sample by sample: save it as "
            "numpy.ascontiguousarray(x)."
        )
    return StreamedRows(where, dtype, shape[0], shape[1:], offset, opener)


def _raw_header(
    file: BufferedIOBase,
) -> tuple[int, Callable[[], _Header]]:
    """Read the bytes of a header, bounded; give where the data starts, and how to parse them.

    NumPy would read as many bytes as the header claims to have before it compares with its limit,
    and in a compressed member four gigabytes of spaces cost nothing.
    """
    major, _ = npy.read_magic(file)
    width = 2 if major == 1 else 4
    length = file.read(width)
    if len(length) < width:
        raise EOFError("the file ends in its header")
    [size] = struct.unpack("<H" if major == 1 else "<I", length)
    if size > _MAX_HEADER:
        raise ValueError(f"its header has {size} bytes, and the limit is {_MAX_HEADER}.")
    text = io.BytesIO(length + file.read(size))
    # Version 3 differs from 2 in the names of fields alone, and structured arrays are refused.
    parse = npy.read_array_header_1_0 if major == 1 else npy.read_array_header_2_0
    return npy.MAGIC_LEN + width + size, partial(_parse_alone, cast("Any", parse), text)


def _parse_alone(parse: Callable[[io.BytesIO], _Header], text: io.BytesIO) -> _Header:
    """Parse a header while no other thread does."""
    with _PARSING:
        return parse(text)


def load_array(content: bytes) -> Any:
    """Return what `numpy.load` makes of a file's bytes, of any type but Python objects."""
    with _PARSING:
        return np.load(io.BytesIO(content), allow_pickle=False)
