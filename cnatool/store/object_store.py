"""Objects in a bucket: the one interface to obstore.

A put is atomic, and can be made to depend on the version of the object that it replaces.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from cnatool.store.object_client import connect
from cnatool.store.object_errors import (
    ConflictError,
    MissingObjectError,
    RangeError,
    ThrottledError,
    make_missing_bucket_error,
    translate_errors,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from obstore import GetOptions

    from cnatool._util.files import Buffer
    from cnatool._util.urls import ObjectURL

# Identifies the content of an object: its entity tag, and in some clouds a number.
Version: TypeAlias = "dict[str, str]"
# Keys that are deleted by one request.
_DELETED = 1000
# Seconds before each further attempt of a put that came too soon after another.
_PAUSES = (1, 2, 4, 8, 16)
# Ranges closer than this are read together: a request costs as much as so many bytes.
_COALESCED = 1 << 20


class ObjectInfo(NamedTuple):
    """What a server says of an object."""

    size: int
    version: Version


class Objects:
    """The objects whose keys begin with that of a URL; thread-safe."""

    __slots__ = ("_prefix", "_store", "url")

    def __init__(self, url: ObjectURL) -> None:
        self.url = url
        self._prefix = url.key
        self._store = connect(url.scheme, url.bucket)

    def _key(self, name: str) -> str:
        return f"{self._prefix}/{name}" if self._prefix and name else self._prefix or name

    def get(self, name: str) -> tuple[bytes, Version]:
        """Read an object; raise MissingObjectError if it does not exist."""
        import obstore

        with translate_errors(self.url):
            got = obstore.get(self._store, self._key(name))
            return bytes(got.bytes()), _version(got.meta)

    def info(self, name: str) -> ObjectInfo:
        """Return size and version of an object; raise MissingObjectError if it does not exist."""
        import obstore

        with translate_errors(self.url):
            return _info(obstore.head(self._store, self._key(name)))

    def version(self, name: str) -> Version:
        """Return the version of an object; raise MissingObjectError if it does not exist."""
        return self.info(name).version

    def get_head(self, name: str, size: int) -> bytes:
        """Read the first bytes of an object, fewer if it is shorter."""
        import obstore

        with suppress(RangeError), translate_errors(self.url):
            return bytes(obstore.get_range(self._store, self._key(name), start=0, length=size))
        return b""

    def get_range(self, name: str, start: int, stop: int, version: Version) -> memoryview:
        """Read a range of a version of an object, less of it where the object ends early.

        Raises ConflictError if the object has another version by now, and MissingObjectError if it
        does not exist.
        """
        import obstore

        options: GetOptions = {"range": (start, stop)}
        tag = entity_tag(version)
        if tag:
            options["if_match"] = f'"{tag}"'
        try:
            with translate_errors(self.url):
                got = obstore.get(self._store, self._key(name), options=options)
                content = memoryview(got.bytes())
        except RangeError:
            return memoryview(b"")
        # A server may ignore the condition.
        if entity_tag(_version(got.meta)) != tag:
            raise ConflictError
        return content

    def get_ranges(self, name: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Read ranges of an object, by their starts and ends; adjacent ones in one request.

        If the object is too short for one of them, any may be cut short.
        """
        import obstore

        starts, ends = zip(*ranges, strict=True)
        with suppress(RangeError), translate_errors(self.url):
            got = obstore.get_ranges(
                self._store, self._key(name), starts=starts, ends=ends, coalesce=_COALESCED
            )
            return list(map(bytes, got))
        return [b""] * len(ranges)

    def create(self, name: str, content: Buffer) -> Version:
        """Put a new object whole; raise ConflictError if there is one already."""
        return self._put(name, content, "create")

    def replace(self, name: str, content: Buffer, version: Version) -> Version:
        """Replace a version of an object; raise ConflictError if it has another by now."""
        return self._put(name, content, version)

    def put(self, name: str, content: Buffer) -> Version:
        """Put an object, whatever there is."""
        return self._put(name, content, "overwrite")

    def _put(self, name: str, content: Buffer, mode: Any) -> Version:
        # The client repeats a request after any other error of a server.
        for pause in _PAUSES:
            try:
                return self._put_once(name, content, mode)
            except ThrottledError:
                time.sleep(pause)
        return self._put_once(name, content, mode)

    def _put_once(self, name: str, content: Buffer, mode: Any) -> Version:
        import obstore

        try:
            with translate_errors(self.url):
                # In parts, a put could not depend on what is there, and a killed process would
                # leave parts that cost money and that no listing shows.
                return _version(
                    obstore.put(
                        self._store, self._key(name), content, mode=mode, use_multipart=False
                    )
                )
        except MissingObjectError:
            # Without a version, what is missing can only be the bucket.
            if isinstance(mode, dict):
                raise
            raise make_missing_bucket_error(self.url) from None

    def names(self) -> set[str]:
        """List the names directly below the URL, of objects and of folders."""
        objects, folders = self.list_level()
        return objects | folders

    def list_level(self) -> tuple[set[str], set[str]]:
        """List the names of objects directly below the URL, and those that further keys share."""
        import obstore

        with translate_errors(self.url):
            listed = obstore.list_with_delimiter(self._store, self._prefix or None)
        keys = [each["path"] for each in listed["objects"]], listed["common_prefixes"]
        objects, folders = ({key.rstrip("/").rpartition("/")[2] for key in level} for level in keys)
        return objects, folders

    def walk(self) -> Iterator[str]:
        """List the names of all objects below the URL."""
        return (name for name, _ in self.walk_infos())

    def walk_infos(self) -> Iterator[tuple[str, ObjectInfo]]:
        """List the names of all objects below the URL, with their sizes and versions."""
        import obstore

        start = len(self._prefix) + 1 if self._prefix else 0
        pages = iter(obstore.list(self._store, self._prefix or None))
        while True:
            # A caller's own exceptions are not those of obstore.
            with translate_errors(self.url):
                page = next(pages, None)
            if page is None:
                return
            yield from ((each["path"][start:], _info(each)) for each in page)

    def delete(self, name: str) -> None:
        """Delete an object, if it exists."""
        # As a text, because not every server deletes several by one request.
        self._delete(self._key(name))

    def delete_all(self) -> None:
        """Delete all objects below the URL."""
        keys = [self._key(name) for name in self.walk()]
        for start in range(0, len(keys), _DELETED):
            self._delete(keys[start : start + _DELETED])

    def _delete(self, keys: str | Sequence[str]) -> None:
        import obstore

        with suppress(MissingObjectError), translate_errors(self.url):
            obstore.delete(self._store, keys)


def entity_tag(version: Version) -> str:
    """Return the entity tag of a version, without the marks that only some listings have."""
    return version.get("e_tag", "").strip('"')


def _info(meta: Any) -> ObjectInfo:
    return ObjectInfo(int(meta["size"]), _version(meta))


def _version(meta: Any) -> Version:
    return {key: meta[key] for key in ("e_tag", "version") if meta.get(key) is not None}
