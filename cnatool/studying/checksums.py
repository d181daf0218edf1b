"""Checksums of the files of a result, in a list beside them that ``sha256sum -c`` reads as well."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Literal, TypeAlias

from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["ResultKind", "checked_bytes", "checksum_list", "list_name", "listing_of", "read_list"]

ResultKind: TypeAlias = Literal["study", "trajectory", "landscape"]

_KINDS: tuple[ResultKind, ...] = ("study", "trajectory", "landscape")
# As sha256sum writes it.
_LINE = re.compile(r"([0-9a-f]{64})  ([^/\n]+)\n")


def list_name(kind: ResultKind) -> str:
    """Name the list of a result's checksums."""
    return f"{kind}.sha256"


def checksum_list(files: Mapping[str, Path]) -> str:
    """Write the list of some files.

    Parameters
    ----------
    files : mapping of str to Path
        Where each file's bytes are now, by the name that it will have.
    """
    digests = {}
    for name, path in files.items():
        with path.open("rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return _text(digests)


def read_list(folder: Path, kind: ResultKind) -> dict[str, str] | None:
    """Read the SHA-256 of each file of a result; None where no list is there.

    Raises
    ------
    DataError
        If the list cannot be read.
    """
    path = folder / list_name(kind)
    try:
        text = path.read_bytes().decode("ascii")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, kind, error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise _unreadable(path, kind, "it is damaged") from error
    found = {name: digest for digest, name in _LINE.findall(text)}
    if _text(found) != text:
        raise _unreadable(path, kind, "it is damaged")
    return found


def _text(digests: Mapping[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def checked_bytes(path: Path, kind: ResultKind, digests: Mapping[str, str] | None) -> bytes:
    """Read a file of a result, whose checksum must be the listed one.

    Parameters
    ----------
    path : Path
    kind : {"study", "trajectory", "landscape"}
        The command that wrote it.
    digests : mapping of str to str or None
        As `read_list` gives them; None reads the file unchecked.

    Raises
    ------
    DataError
        If the file cannot be read, is not listed, or is not the one that was written.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, kind, error.strerror or str(error)) from error
    if digests is None:
        return content
    listed = digests.get(path.name)
    if listed is None:
        raise _unreadable(path, kind, f"{list_name(kind)} does not list it")
    if hashlib.sha256(content).hexdigest() != listed:
        raise _unreadable(
            path,
            kind,
            f"its SHA-256 is not the one in {list_name(kind)}, so it has changed since or is of "
            "another run",
        )
    return content


def listing_of(path: Path) -> tuple[ResultKind, dict[str, str]] | None:
    """Find the list beside a file that has its checksum; None where none has.

    Raises
    ------
    DataError
        If a list cannot be read.
    """
    for kind in _KINDS:
        digests = read_list(path.parent, kind)
        if digests is not None and path.name in digests:
            return kind, digests
    return None


def _unreadable(path: Path, kind: ResultKind, why: str) -> DataError:
    return DataError(
        f"{path} cannot be read: {why}. Run `cnatool {kind} … -o {path.parent}` again."
    )
