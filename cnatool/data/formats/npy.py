"""``.npz`` and ``.npy``: headers are parsed, rows are streamed, and nothing is ever unpickled."""

from __future__ import annotations

import io
import struct
import threading
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

import numpy as np
from numpy.lib import format as npy

from cnatool._util.text import list_names, printable
from cnatool.data.formats.ragged_rows import list_arrays, open_array
from cnatool.data.formats.row_source import make_row_source
from cnatool.data.formats.streamed_rows import READ_ERRORS, StreamedRows
from cnatool.data.read_errors import read_error
from cnatool.data.selection import SINGLE_INPUT
from cnatool.data.source import check_sample
from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedIOBase
    from pathlib import Path
    from zipfile import ZipInfo

    from cnatool.data.formats.row_source import RowReader, RowSource
    from cnatool.data.formats.streamed_rows import Opener
    from cnatool.data.selection import ArraySelection

    _Header = tuple[tuple[int, ...], bool, np.dtype[Any]]

# A header describes one array in some hundred bytes; NumPy's own limit is the same.
_MAX_HEADER = 10_000
# Bytes of a label that is a text.
_MAX_TEXT = 1 << 12
# NumPy reads headers with `ast`, which CPython up to 3.12 may fail in when several threads parse
# at once ("AST constructor recursion depth mismatch"); a good file would be called no array.
_PARSING = threading.Lock()


def open_npz(path: Path, selection: ArraySelection = SINGLE_INPUT) -> RowSource:
    """Open an archive that ``numpy.savez`` or ``numpy.savez_compressed`` wrote."""
    try:
        with path.open("rb") as file, ZipFile(file) as archive:
            members = archive.infolist()
    except (*READ_ERRORS, NotImplementedError, ValueError, struct.error) as error:
        problem = "cannot be read as an .npz archive"
        raise read_error(path, error, "Save it again with numpy.savez.", problem=problem) from error
    arrays = list_arrays(member.filename.removesuffix(".npy") for member in members)
    available = list(arrays)
    selection = selection.among(str(path), available)
    selection.check_available(str(path), available)
    samples: dict[str, RowReader] = {}
    for names in selection.input_names():
        pair = next((name for name in names if len(arrays.get(name, ())) > 1), None)
        if pair is not None and sum(name in arrays for name in names) == 1:
            samples[pair] = open_array(arrays[pair], partial(_open_named, path, members))
            continue
        member = _find_member(path, members, names)
        if member is None:
            raise _missing_array(path, names, available)
        samples[member[0]] = member[1]
    labels = _find_member(path, members, selection.label_names(samples), texts=True)
    if labels is None and selection.labels is not None:
        raise DataError(
            f"`labels={selection.labels}`: {path} has no such array; it has "
            f"{list_names(available)}."
        )
    return make_row_source(path.name, samples, None if labels is None else labels[1])


def _open_named(path: Path, members: list[ZipInfo], name: str) -> StreamedRows:
    """Open a member that is there."""
    member = _find_member(path, members, (name,))
    assert member is not None
    return member[1]


def open_npy(path: Path, selection: ArraySelection = SINGLE_INPUT) -> RowSource:
    """Open an array of samples (n, …); labels are read from ``<stem>_labels.npy``."""
    beside = path.with_name(f"{path.stem}_labels.npy")
    samples = _open_file(path)
    labels = _open_file(beside, texts=True) if beside.is_file() else None
    return make_row_source(path.name, {path.stem: samples}, labels)


def _missing_array(path: Path, names: tuple[str, ...], available: list[str]) -> DataError:
    shown = [printable(name) for name in available[:20]]
    tests = {name.removesuffix("_train") + "_test" for name in shown if "_train" in name}
    if tests & set(shown):
        return DataError(
            f"{path} holds the parts of several splits ({', '.join(shown)}): save each in a file "
            "of its own, as with numpy.savez('data/train.npz', x=x_train, y=y_train), and dump the "
            "folder."
        )
    return DataError(
        f"{path} needs an array called {' or '.join(names)} and holds "
        f"{', '.join(shown) or 'nothing'}: save the samples under that name, or choose an array "
        "with `inputs={'INPUT': ARRAY}`, or set a constant with `constants={'INPUT': VALUE}`."
    )


def _open_file(path: Path, *, texts: bool = False) -> StreamedRows:
    rows = _open_rows(str(path), lambda: path.open("rb"), texts=texts)
    rows.check_size(path.stat().st_size)
    return rows


def _find_member(
    path: Path, members: list[ZipInfo], names: tuple[str, ...], *, texts: bool = False
) -> tuple[str, StreamedRows] | None:
    """Open the only member with one of some names; None if there is none."""
    by_name = [(member.filename.removesuffix(".npy"), member) for member in members]
    matches = [(name, member) for name, member in by_name if name in names]
    if not matches:
        return None
    if len(matches) > 1:
        raise DataError(
            f"{path} holds {' and '.join(name for name, _ in matches)}, which could be the same "
            f"array: keep one array called {' or '.join(names)}."
        )
    [(name, member)] = matches
    where = f"{path}, array '{name}',"
    if member.flag_bits & 1 or member.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise DataError(
            f"{where} is encrypted or compressed in a way that NumPy does not write: save it again "
            "with numpy.savez_compressed."
        )
    rows = _open_rows(where, partial(_open_member, path, member.filename), texts=texts)
    rows.check_size(member.file_size)
    rows = replace(rows, outline=f"{member.CRC:08x}")
    return name, rows


@contextmanager
def _open_member(path: Path, name: str) -> Iterator[BufferedIOBase]:
    with path.open("rb") as content, ZipFile(content) as archive:
        try:
            file = archive.open(name)
        except (KeyError, NotImplementedError, RuntimeError) as error:
            raise BadZipFile(str(error)) from error
        with file:
            yield cast("BufferedIOBase", file)


def _open_rows(where: str, opener: Opener, *, texts: bool = False) -> StreamedRows:
    try:
        with opener() as file:
            offset, parse = _read_header(file)
        shape, fortran, dtype = parse()
    except READ_ERRORS as error:
        raise read_error(where, error) from error
    except DataError:
        raise
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
    # Before sizes are compared: those of objects mean nothing, and need other advice.
    if not (texts and dtype.kind in "US" and 0 < dtype.itemsize <= _MAX_TEXT and len(shape) == 1):
        check_sample(where, dtype, shape[1:])
    if fortran:
        raise DataError(
            f"{where} is in Fortran order, which cannot be read sample by sample: save it as "
            "numpy.ascontiguousarray(x)."
        )
    return StreamedRows(where, dtype, shape[0], shape[1:], offset, opener)


def _read_header(file: BufferedIOBase) -> tuple[int, Callable[[], _Header]]:
    """Read the bytes of a header, bounded; return where the data start, and how to parse it.

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
    """Load the bytes of a file as `numpy.load` does, without unpickling."""
    with _PARSING:
        return np.load(io.BytesIO(content), allow_pickle=False)
