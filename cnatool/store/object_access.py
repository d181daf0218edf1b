"""Whether a process can read the buckets of some URLs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from cnatool._util.urls import ObjectURL
from cnatool.store.object_store import Objects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


def make_access_check(paths: Iterable[Path]) -> Callable[[], None]:
    """Make a check for other processes, which raises an error if one cannot read these URLs."""
    urls = [path for path in paths if isinstance(path, ObjectURL)]
    # Access is to a bucket: one URL of each will do.
    return partial(_check_access, [*{(url.scheme, url.bucket): url for url in urls}.values()])


def _check_access(urls: Iterable[ObjectURL]) -> None:
    for url in urls:
        # One request, whatever is there.
        next(Objects(url).walk(), None)
