"""Scores that are kept, so that a study that was cut off goes on, and one that grows scores new."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from cnatool._version import __version__
from cnatool.errors import StoreWriteError
from cnatool.results import ConventionResult, ScoreResult
from cnatool.store.durable import replaced_file
from cnatool.store.layout import split_arrays

if TYPE_CHECKING:
    from pathlib import Path

    from cnatool.store.reader import Store

__all__ = ["ScoreCache", "score_key"]

# Built on import: msgspec crashes the process where threads build the first decoder of a type.
_SCORE = msgspec.json.Decoder(ScoreResult)


def score_key(
    store: Store, test: Store | None, convention: ConventionResult, output: str | None
) -> str | None:
    """Name a score by all that it depends on, in hexadecimal; None where that cannot be named.

    That is what the attributes of the stores say (the checksums of all chunks, the fingerprints of
    inputs that other stores have, the tensors, …), cnatool's version, every field of the
    convention, and the output. A store without checksums of all its arrays has no such name: times
    and sizes of files do not tell one store from another.
    """
    stores = [store] if test is None else [store, test]
    if not all(map(_has_checksums, stores)):
        return None
    what: list[Any] = [__version__, [each.record for each in stores], convention, output]
    return hashlib.sha256(msgspec.json.encode(what, order="deterministic")).hexdigest()


def _has_checksums(store: Store) -> bool:
    """Say whether a store's attribute names the content of every array that has any."""
    for split in store.record.splits.values():
        held = split.inputs_from is None
        arrays = split_arrays(store.record, labels=split.labels, inputs=held)
        if {each.key for each in arrays if each.row_bytes} - (split.checksums or {}).keys():
            return False
    return True


class _Kept(msgspec.Struct, frozen=True):
    """A file of a kept score: the score as JSON, and the SHA-256 of its key and of these bytes."""

    sha256: str
    score: msgspec.Raw


_KEPT = msgspec.json.Decoder(_Kept)


class ScoreCache:
    """A folder with one JSON file a score, each with a checksum.

    Parameters
    ----------
    folder : Path
        Is made when the first score is kept.

    Attributes
    ----------
    damaged : list of Path
        Files that were found not to be what was written; their scores count as missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.damaged: list[Path] = []

    def get(self, key: str) -> ScoreResult | None:
        """Give the score of this name; None where there is none, or its file is damaged."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        try:
            kept = _KEPT.decode(content)
            if kept.sha256 == _digest(key, bytes(kept.score)):
                return _SCORE.decode(kept.score)
        except (msgspec.MsgspecError, UnicodeError):
            pass
        self.damaged.append(path)
        return None

    def put(self, key: str, score: ScoreResult) -> None:
        """Keep a score.

        Raises
        ------
        StoreWriteError
            If the operating system refuses.
        """
        path = self._path(key)
        encoded = msgspec.json.encode(score)
        kept = _Kept(_digest(key, encoded), msgspec.Raw(encoded))
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with replaced_file(path) as partial:
                partial.write_bytes(msgspec.json.encode(kept))
        except OSError as error:
            raise StoreWriteError(
                f"{path} cannot be written: {error.strerror or error}. Name another folder with -o."
            ) from error

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"


def _digest(key: str, score: bytes) -> str:
    """Compute the checksum of a kept score, which is no other's, by its key."""
    return hashlib.sha256(key.encode() + b"\n" + score).hexdigest()
