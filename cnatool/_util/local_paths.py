"""Checks that a path is local: neither a URL nor a Git LFS pointer."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from cnatool._util.urls import SCHEMES, ObjectURL
from cnatool.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

# ``pathlib`` turns two slashes into one. A scheme of one letter is a drive on Windows.
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/{1,2}(?P<rest>[^/].*|/.*|)", re.DOTALL)
_SECRETS = re.compile(r"^[^/]*@|[?#].*", re.DOTALL)
_COPY = {
    "s3": "aws s3 cp{recursive} {url} .",
    "gs": "gcloud storage cp{recursive} {url} .",
    "http": "curl -LO {url}",
    "https": "curl -LO {url}",
    "hf": "hf download …",
}
LFS_SIGNATURE = b"version https://git-lfs.github.com/spec/"
# A pointer has three short lines.
_LFS_BYTES = 1024
LFS_ADVICE = "Run `git lfs pull` in its repository, or download the file itself"
_MOST_FILES = 1000


def check_local(path: str | Path, *, written: bool = False) -> None:
    """Refuse a URL, also one from which ``pathlib`` dropped a slash.

    The advice is for a path that would be read or, with ``written``, for one that would be written.
    The message does not repeat a user, a password or a query, which may be a signature.
    """
    match = _URL.fullmatch(str(path))
    if match is None:
        return
    scheme, rest = match["scheme"].lower(), _SECRETS.sub("", match["rest"])
    url = f"{scheme}://{rest}"
    if scheme == "file":
        raise UsageError(f"{url} is a URL, not a path: use /{rest.lstrip('/')}.")
    reason = (
        f"{url} is a URL, and only models, data, and stores in .zarr can be in a bucket (s3://, "
        "gs://, az://); anything else is a local file."
    )
    if written:
        raise UsageError(
            f"{reason} Name a local path, and copy the result from there; or, for a store in a "
            "bucket, a name in .zarr."
        )
    folder = "." not in rest.rpartition("/")[2]
    command = _COPY.get(scheme, "").format(url=url, recursive=" --recursive" * folder)
    example = f", for example with `{command}`" if command else ""
    store = f"Name a store in it, such as {url.rstrip('/')}/NAME.zarr. Or download"
    download = f"{store} other data" if folder and scheme in SCHEMES else "Download it"
    raise UsageError(f"{reason} {download}{example} and use the path of the copy.")


def real_path(path: Path) -> Path:
    """Resolve symbolic links; leave those that form a loop.

    `Path.resolve` raises RuntimeError for them before Python 3.13. There are no links in a bucket.
    """
    if isinstance(path, ObjectURL):
        return path
    return Path(os.path.realpath(path))


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is the pointer that Git LFS leaves in place of a file not downloaded."""
    try:
        if not path.is_file() or path.stat().st_size > _LFS_BYTES:
            return False
        with path.open("rb") as file:
            return file.read(len(LFS_SIGNATURE)) == LFS_SIGNATURE
    except OSError:
        return False


def find_lfs_pointers(path: Path) -> Iterator[Path]:
    """List the Git LFS pointers at a path: the file itself, or files in a folder, two levels deep.

    At most a thousand files are examined.
    """
    if isinstance(path, ObjectURL) or not path.is_dir():
        files: Iterator[Path] = iter((path,))
    else:
        files = (file for pattern in ("*", "*/*", "*/*/*") for file in path.glob(pattern))
    for file, _ in zip(files, range(_MOST_FILES), strict=False):
        if is_lfs_pointer(file):
            yield file


def check_downloaded(path: Path) -> None:
    """Refuse a Git LFS pointer, or a folder with one."""
    for file in find_lfs_pointers(path):
        raise DataError(f"{file} is a Git LFS pointer instead of the file. {LFS_ADVICE}.")
