"""URLs of objects in a bucket, as paths."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from cnatool.errors import UsageError

# Paths of the system that this is.
if TYPE_CHECKING:
    _Path = Path
else:
    _Path = type(Path())

SCHEMES = ("s3", "gs", "az")
# ``pathlib`` turns two slashes into one.
_URL = re.compile(rf"(?P<scheme>{'|'.join(SCHEMES)}):/{{1,2}}(?P<rest>[^/].*)", re.DOTALL | re.I)


class ObjectURL(_Path):
    """The URL of an object, or of a prefix of objects, such as ``s3://bucket/folder/a.zarr``.

    It is a path by its names only (``name``, ``parent``, ``/``): methods that access files find
    nothing there.
    """

    # Without this, Python 3.11 gives every path a dictionary.
    __slots__ = ()

    def __str__(self) -> str:
        """Return the URL, with both of its slashes."""
        return f"{self.scheme}://{'/'.join(self.parts[1:])}"

    @property
    def scheme(self) -> str:
        """Which kind of storage: s3, gs or az."""
        return self.parts[0].removesuffix(":")

    @property
    def bucket(self) -> str:
        """The bucket, called container in Azure."""
        return self.parts[1] if len(self.parts) > 1 else ""

    @property
    def key(self) -> str:
        """Key of the object in the bucket."""
        key = posixpath.normpath("/".join(self.parts[2:]))
        return "" if key == "." else key


def parse_path(path: str | Path) -> Path:
    """Turn text into a path, or into an `ObjectURL` if it is the URL of an object.

    Raises UsageError, which repeats no secret, if the URL has a user, a password or a query.
    """
    match = _URL.fullmatch(str(path))
    if match is None:
        return Path(path)
    rest = match["rest"]
    if "@" in rest.partition("/")[0] or "?" in rest or "#" in rest:
        raise UsageError(
            f"a URL that begins with {match['scheme'].lower()}:// has a user, a password, a query "
            "or a fragment. Credentials are read from the environment, never from a URL: leave it "
            "out."
        )
    return ObjectURL(f"{match['scheme'].lower()}:", rest)


def is_url(path: Path) -> bool:
    """Whether a path is the URL of an object."""
    return isinstance(path, ObjectURL)
