"""Checks that a path is local: no URL, and no pointer to a file that was not downloaded."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from cnatool.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

# ``pathlib`` makes one slash of two. A scheme of one letter is a drive of Windows.
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]+):/{1,2}(?P<rest>[^/].*|/.*|)", re.DOTALL)
_COPY = {
    "s3": "aws s3 cp{recursive} {url} .",
    "gs": "gcloud storage cp{recursive} {url} .",
    "http": "curl -LO {url}",
    "https": "curl -LO {url}",
    "hf": "hf download …",
}
LFS_SIGNATURE = b"version https://git-lfs.github.com/spec/"
# A pointer is three short lines.
_LFS_BYTES = 1024
LFS_ADVICE = "Run `git lfs pull` in its repository, or download the file itself"
_MOST_FILES = 1000


def check_local(given: str | Path) -> None:
    """Refuse a URL.

    Parameters
    ----------
    given : str or Path
        A path, or ``NAME=PATH``; of a URL, ``pathlib`` may have dropped a slash.

    Raises
    ------
    UsageError
        If it is a URL.
    """
    found = _URL.fullmatch(str(given))
    if found is None:
        return
    scheme, rest = found["scheme"].lower(), found["rest"]
    url = f"{scheme}://{rest}"
    if scheme == "file":
        raise UsageError(f"{url} is a URL, and paths are expected: give /{rest.lstrip('/')}.")
    command = _COPY.get(scheme, "").format(
        url=url, recursive=" --recursive" * ("." not in rest.rpartition("/")[2])
    )
    example = f", for example with `{command}`" if command else ""
    raise UsageError(
        f"{url} is a URL, and only local files are read and written: download it first{example}, "
        "and give the path of the copy. A store is written to a local path and uploaded afterwards."
    )


def real_path(path: Path) -> Path:
    """Resolve symbolic links; those in a loop are left as they are.

    `Path.resolve` raises RuntimeError for them before Python 3.13.
    """
    return Path(os.path.realpath(path))


def is_lfs_pointer(path: Path) -> bool:
    """Whether a file is what Git LFS leaves in place of a large file that was not downloaded."""
    try:
        if not path.is_file() or path.stat().st_size > _LFS_BYTES:
            return False
        with path.open("rb") as file:
            return file.read(len(LFS_SIGNATURE)) == LFS_SIGNATURE
    except OSError:
        return False


def find_lfs_pointers(path: Path) -> Iterator[Path]:
    """Give the Git LFS pointers at a path: the file itself, or files in a folder, two levels deep.

    No more than some thousand files are looked at.
    """
    if not path.is_dir():
        files: Iterator[Path] = iter((path,))
    else:
        files = (file for pattern in ("*", "*/*", "*/*/*") for file in path.glob(pattern))
    for file, _ in zip(files, range(_MOST_FILES), strict=False):
        if is_lfs_pointer(file):
            yield file


def check_downloaded(path: Path) -> None:
    """Refuse a Git LFS pointer, or a folder with one."""
    for file in find_lfs_pointers(path):
        raise DataError(
            f"{file} is a Git LFS pointer, not the file that it stands for. {LFS_ADVICE}."
        )
