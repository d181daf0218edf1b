"""Objects in a bucket as files: paths that can be listed and opened, read by ranges.

Whatever is read of an object is of the version that was there when its bucket was first asked.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

from cnatool._util.threads import fetch_beside
from cnatool._util.urls import ObjectURL
from cnatool.errors import DataError, NotAStoreError
from cnatool.records.store import SourceObject
from cnatool.store.object_errors import ConflictError, MissingObjectError
from cnatool.store.object_store import ObjectInfo, Objects, entity_tag

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from concurrent.futures import Future
    from pathlib import Path
    from typing import Self

# More objects below a prefix are not listed: it would take minutes, and their list memory.
MOST_OBJECTS = 100_000
# Bytes of the first range that is read somewhere, and of the largest: those of ranges that follow
# each other double.
_FIRST, _LARGEST = 1 << 18, 1 << 23
# Ranges at the edges of objects that are kept: headers and directories are read several times.
_KEPT = 32


class BucketView:
    """The objects of a bucket in the versions that they have when they are first asked for."""

    def __init__(self, scheme: str, bucket: str) -> None:
        self.url = ObjectURL(f"{scheme}:", bucket)
        # Objects whose size or content was asked for.
        self.read: dict[str, ObjectInfo] = {}
        self._objects = Objects(self.url)
        self._infos: dict[str, ObjectInfo | None] = {}
        self._listed: set[str] = set()
        self._children: dict[str, dict[str, None]] = {}
        self._edges: dict[tuple[str, int], memoryview] = {}
        self._lock = Lock()

    def path(self, url: ObjectURL) -> ObjectPath:
        """Return the path of an object, or of a folder of objects."""
        return ObjectPath.of(self, url.key)

    def info(self, key: str) -> ObjectInfo | None:
        """Return size and version of an object; None if it does not exist."""
        if key not in self._infos and not self._covers(key):
            try:
                self._infos[key] = self._objects.info(key) if key else None
            except MissingObjectError:
                self._infos[key] = None
        return self._infos.get(key)

    def children(self, key: str) -> list[str]:
        """List the names in a folder, sorted; there are none if it does not exist."""
        if not self._covers(f"{key}/"):
            self._list(key)
        return sorted(self._children.get(key, ()))

    def _covers(self, key: str) -> bool:
        """Whether everything at a key has been listed."""
        return any(not prefix or key.startswith(f"{prefix}/") for prefix in self._listed)

    def _list(self, key: str) -> None:
        """List all objects below a key at once: a request brings a thousand."""
        below = Objects(ObjectURL(*self.url.parts, key)) if key else self._objects
        for count, (name, info) in enumerate(below.walk_infos()):
            if count == MOST_OBJECTS:
                raise DataError(
                    f"{below.url} holds more than {MOST_OBJECTS:,} objects. Move the samples into "
                    "a folder of their own; pack single images into .tar archives (WebDataset) or "
                    "Parquet."
                )
            # An empty object may stand for the folder itself.
            if not name:
                continue
            whole = f"{key}/{name}" if key else name
            self._infos[whole] = info
            while whole != key:
                folder, _, last = whole.rpartition("/")
                self._children.setdefault(folder, {})[last] = None
                whole = folder
        self._listed.add(key)

    def fetch(self, key: str, start: int, stop: int) -> memoryview:
        """Read a range of an object, in the version in which it was first seen."""
        where, info = f"{self.url}/{key}", self.use(key)
        try:
            content = self._objects.get_range(key, start, stop, info.version)
        except ConflictError:
            raise DataError(
                f"{where} was replaced while it was read. Start again when nothing writes to it."
            ) from None
        except MissingObjectError:
            raise DataError(f"{where} was deleted while it was read.") from None
        if len(content) != stop - start:
            raise DataError(
                f"{where}: the server sent {len(content)} of {stop - start} bytes. Try again, and "
                "upload the object again if the error recurs."
            )
        return content

    def fetch_edge(self, key: str, start: int, stop: int) -> memoryview:
        """Read a range at the start or the end of an object; it is kept for the next time."""
        edge = key, start
        content = self._edges.get(edge)
        if content is None:
            content = self.fetch(key, start, stop)
            with self._lock:
                if len(self._edges) >= _KEPT:
                    del self._edges[next(iter(self._edges))]
                self._edges[edge] = content
        return content

    def use(self, key: str) -> ObjectInfo:
        """Return size and version of an object that is read."""
        info = self.info(key)
        if info is None:
            raise FileNotFoundError(2, "no such object", f"{self.url}/{key}")
        self.read[key] = info
        return info


class ObjectPath(ObjectURL):
    """The path of an object or of a folder of objects, which can be opened and listed.

    Of the methods of a path that access files it has those below; paths made from it have them too
    if they are its parent, are joined to it or beside it.
    """

    __slots__ = ("view",)

    view: BucketView

    @classmethod
    def of(cls, view: BucketView, key: str) -> Self:
        """Return the path of a key."""
        path = cls(*view.url.parts, *filter(None, [key]))
        path.view = view
        return path

    def _at(self, path: ObjectURL) -> ObjectPath:
        return ObjectPath.of(self.view, "/".join(path.parts[2:]))

    def __truediv__(self, name: Any) -> ObjectPath:
        """Return the path of a name in this folder."""
        return self._at(ObjectURL(*self.parts, name))

    def with_name(self, name: str) -> ObjectPath:
        """Return the path of another name in the same folder."""
        return self.parent / name

    @property
    def parent(self) -> ObjectPath:
        """The folder of the object."""
        return self._at(ObjectURL(*self.parts[:-1]))

    def exists(self, **_: Any) -> bool:
        """Whether there is an object, or a folder with objects."""
        return self.is_file() or self.is_dir()

    def is_file(self, **_: Any) -> bool:
        """Whether there is an object that is not the mark of a folder."""
        info = self.view.info(self.key)
        return info is not None and (info.size > 0 or not self.is_dir())

    def is_dir(self, **_: Any) -> bool:
        """Whether there are objects in it."""
        return bool(self.view.children(self.key))

    def is_symlink(self) -> bool:
        """Return False: there are no links in a bucket."""
        return False

    def iterdir(self) -> Generator[ObjectPath]:
        """Yield what is in the folder, sorted by name."""
        return (self / name for name in self.view.children(self.key))

    def stat(self, **_: Any) -> os.stat_result:
        """Return the size of the object, as the system does for files."""
        return os.stat_result((stat.S_IFREG, *[0] * 5, self.view.use(self.key).size, 0, 0, 0))

    def open(self, mode: str = "r", *_: Any, **__: Any) -> Any:
        """Open the object for reading, in binary mode only."""
        if mode != "rb":
            raise io.UnsupportedOperation(f"{self} is read in binary mode only")
        return io.BufferedReader(_ObjectFile(self.view, self.key))

    def read_bytes(self) -> bytes:
        """Read the whole object into memory."""
        with self.open("rb") as file:
            return bytes(file.read())

    def read_range(self, start: int, stop: int) -> memoryview:
        """Read a range of bytes by one request."""
        return self.view.fetch(self.key, start, stop)


def open_bucket(url: ObjectURL) -> ObjectPath:
    """Return the path of a URL, for reading what is there now.

    Raises DataError if the bucket does not exist, if there is nothing, or if there is an object and
    also a folder.
    """
    path = BucketView(url.scheme, url.bucket).path(url)
    try:
        is_folder = path.is_dir()
        if path.is_file() and is_folder:
            raise DataError(
                f"{url} is an object and also a folder of objects: name an object in the folder, "
                "or move one of them."
            )
        if not path.exists():
            raise DataError(f"no such object or folder: {url}")
    except NotAStoreError as error:
        # There is no bucket.
        raise DataError(*error.args) from None
    return path


@contextmanager
def track_objects(path: Path) -> Iterator[list[SourceObject]]:
    """Collect the objects that are read in the bucket of a path, sorted by URL."""
    objects: list[SourceObject] = []
    if not isinstance(path, ObjectPath):
        yield objects
        return
    view = path.view
    view.read.clear()
    yield objects
    for key, info in sorted(view.read.items()):
        tag = entity_tag(info.version)
        objects.append(SourceObject(f"{view.url}/{key}", info.size, tag))


class _ObjectFile(io.RawIOBase):
    """An object that is read by ranges, which double in length as long as they follow each other.

    The next range is read ahead, so that not more than two of the largest are held.
    """

    def __init__(self, view: BucketView, key: str) -> None:
        self._view = view
        self._key = key
        self._size = view.use(key).size
        self._position = self._start = 0
        self._block = memoryview(b"")
        self._ahead: Future[memoryview] | None = None
        self._ahead_start = 0
        self._length = _FIRST

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._position >= self._size:
            return 0
        if not 0 <= self._position - self._start < len(self._block):
            self._load()
        offset = self._position - self._start
        content = self._block[offset : offset + len(buffer)]
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def _load(self) -> None:
        """Read the range at the position."""
        gap = self._position - self._start - len(self._block)
        # A short way on, what lies between costs less than another request.
        follows = bool(self._block) and 0 <= gap < self._length
        ahead, self._ahead = self._ahead, None
        if self._position == 0 or (not follows and self._position >= self._size - _FIRST):
            self._start = 0 if self._position == 0 else max(0, self._size - _FIRST)
            stop = min(self._start + _FIRST, self._size)
            self._block = self._view.fetch_edge(self._key, self._start, stop)
        elif ahead is not None and 0 <= self._position - self._ahead_start < self._length:
            self._start, self._block = self._ahead_start, ahead.result()
        else:
            self._length = self._length if follows else _FIRST
            self._start, self._block = self._position, self._fetch(self._position, self._length)
        self._length = min(2 * self._length, _LARGEST) if follows else _FIRST
        self._ahead_start = self._start + len(self._block)
        if follows and self._ahead_start < self._size:
            self._ahead = fetch_beside(self._fetch, self._ahead_start, self._length)

    def _fetch(self, begin: int, length: int) -> memoryview:
        return self._view.fetch(self._key, begin, min(begin + length, self._size))

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.cancel()
        self._block = memoryview(b"")
        super().close()
