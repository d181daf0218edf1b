"""Refusal of URLs that cannot be read or written, before any is taken for a path."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cnatool._util.local_paths import check_local
from cnatool._util.urls import ObjectURL, parse_path

if TYPE_CHECKING:
    from collections.abc import Sequence

# Options whose values are free text, or addresses.
_FREE = ("--tag", "--dask")
# Options whose values are paths that are written.
_WRITTEN = ("-o", "--output", "--samples")
# Commands that read models or data, and their options whose values are local files.
_READING = ("dump", "inspect", "preprocess")
_LOCAL = ("--constant", "--custom-ops", "--preprocess")
# Names of stores; those that cannot be in a bucket are refused later, with the reason.
_STORES = (".zarr", ".zarr/", ".zarr.zip", ".h5", ".hdf5")
# Commands that search a folder for stores, or list those in it.
_SEARCHING = (
    *("compare", "drift", "inspect", "landscape", "layers", "plot", "report", "score", "study"),
    *("trajectory", "verify"),
)
_NAMED = re.compile(r"^(?:--[\w-]+=)?(?:[\w.:/-]+=)?(?=[A-Za-z][A-Za-z0-9+.-]+://)")


def refuse_urls(words: Sequence[str]) -> None:
    """Refuse a command line with a URL where a local path belongs.

    Models, data and stores may be in a bucket. A folder of stores is told from a file by its name,
    which has no extension.
    """
    command = next((word for word in words if not word.startswith("-")), "")
    for before, word in zip(("", *words), words, strict=False):
        if before in _FREE or word.startswith(tuple(f"{option}=" for option in _FREE)):
            continue
        if named := _NAMED.match(word):
            url = word[named.end() :]
            option = word.partition("=")[0] if word.startswith("-") else before
            written = option in _WRITTEN
            path = parse_path(url)
            if isinstance(path, ObjectURL):
                folder = "." not in path.key.rpartition("/")[2]
                reads = command in _READING and option not in _LOCAL
                reads = reads or (command in _SEARCHING and folder)
                if url.endswith(_STORES) or (reads and not written):
                    continue
            check_local(url, written=written)
