"""SHA-256 checksums of a result's files, in a list that ``sha256sum -c`` reads."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from cnatool.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ResultKind: TypeAlias = Literal["study", "trajectory", "landscape"]

# Commands that write results of several files.
RESULT_KINDS: tuple[ResultKind, ...] = get_args(ResultKind)
# A line of sha256sum.
_LINE = re.compile(r"([0-9a-f]{64})  ([^/\n]+)\n")


def list_name(kind: ResultKind) -> str:
    """Name the file that lists the checksums of a result."""
    return f"{kind}.sha256"


def list_checksums(files: Mapping[str, Path]) -> str:
    """Compute the SHA-256 of each file, and write them as the text of a list."""
    digests = {}
    for name, path in files.items():
        with path.open("rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return _text(digests)


def read_list(folder: Path, kind: ResultKind) -> dict[str, str] | None:
    """Read the SHA-256 of each file of a result, by name; None if there is no list."""
    path = folder / list_name(kind)
    try:
        text = path.read_bytes().decode("ascii")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, kind, error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise _unreadable(path, kind, "it is damaged") from error
    digests = {name: digest for digest, name in _LINE.findall(text)}
    if _text(digests) != text:
        raise _unreadable(path, kind, "it is damaged")
    return digests


def _text(digests: Mapping[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items())


def read_checked(path: Path, kind: ResultKind, digests: Mapping[str, str] | None) -> bytes:
    """Read a file of a result, and check it against its list of checksums, if there is one.

    Raises
    ------
    DataError
        If the file cannot be read, is not listed, or does not match its checksum.
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
            f"its SHA-256 is not the one in {list_name(kind)}, so it was changed or comes from "
            "another run",
        )
    return content


def find_list(path: Path) -> tuple[ResultKind, dict[str, str]] | None:
    """Find the list in a file's folder that has the file's checksum."""
    for kind in RESULT_KINDS:
        digests = read_list(path.parent, kind)
        if digests is not None and path.name in digests:
            return kind, digests
    return None


def _unreadable(path: Path, kind: ResultKind, why: str) -> DataError:
    return DataError(f"{path} cannot be read: {why}. {write_again(kind, path.parent)}")


def write_again(kind: ResultKind, folder: Path) -> str:
    """Advise to write the results of a folder again."""
    return f"Run `{kind}(..., folder={str(folder)!r})` again."
