"""Text files in UTF-8, whatever encoding they have by their byte order mark.

A file with bytes that are no UTF-8 has a copy in which `MARK` and two digits stand for each.
"""

from __future__ import annotations

import codecs
import hashlib
import re
from functools import cache
from typing import TYPE_CHECKING

from cnatool._util.text import one_line
from cnatool.data.scratch_files import scratch_path
from cnatool.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

_PIECE = 1 << 20
# Stands before the two hexadecimal digits of a byte that is no UTF-8, or of itself.
MARK = "\0"
# By the byte order mark at the start of the file; longer ones first.
_ENCODINGS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def utf8_copy(path: Path) -> Path:
    """Return the path of a text in UTF-8: the file itself, or a temporary copy."""
    with path.open("rb") as file:
        encoding = find_encoding(file.read(4))
        if encoding is None:
            return path
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return _copy(path, encoding, digest)


def find_encoding(start: bytes) -> str | None:
    """Find the encoding of a text by its first bytes; None for UTF-8."""
    return next((name for mark, name in _ENCODINGS if start.startswith(mark)), None)


@cache
def _copy(path: Path, encoding: str, digest: str) -> Path:
    """Copy a text to UTF-8, once for each content of the file."""
    copy = scratch_path(path.name)
    try:
        with (
            path.open(encoding=encoding, newline="") as file,
            copy.open("w", encoding="utf-8", newline="") as out,
        ):
            while piece := file.read(_PIECE):
                out.write(piece)
    except UnicodeError as error:
        raise encoding_error(path, encoding, error) from error
    return copy


def marked_copy(path: Path) -> Path | None:
    """Copy a text with a mark for each byte that is no UTF-8; None if there is no such byte."""
    copy = scratch_path(path.name)
    marked = False
    decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogateescape")
    with path.open("rb") as file, copy.open("w", encoding="utf-8", newline="") as out:
        while True:
            piece = file.read(_PIECE)
            text = decoder.decode(piece, final=not piece)
            if not text.isascii() and _ESCAPED.search(text):
                marked = True
            out.write(_MARKED.sub(_mark, text))
            if not piece:
                return copy if marked else None


# A byte that is no UTF-8 becomes half of a character.
_ESCAPED = re.compile("[\udc80-\udcff]")
_MARKED = re.compile("[\0\udc80-\udcff]")


def _mark(match: re.Match[str]) -> str:
    return f"{MARK}{ord(match[0]) & 0xFF:02x}"


def restore_bytes(text: str) -> bytes:
    """Return the bytes of a part of such a copy as they were."""
    before, *parts = text.encode().split(MARK.encode())
    return before + b"".join(bytes.fromhex(part[:2].decode()) + part[2:] for part in parts)


def encoding_error(path: Path, encoding: str, error: UnicodeError) -> DataError:
    """Return the error that a text is not in the encoding that its byte order mark names."""
    return DataError(
        f"{path} starts like {encoding.upper()}, but is not or is cut short ({one_line(error)}). "
        "Get a complete copy of the file, or save it in UTF-8."
    )
