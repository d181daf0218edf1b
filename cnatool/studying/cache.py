"""Keeping scores, so that a study can be continued, or extended by new stores."""

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
    """Compute a key of everything that a score depends on.

    It covers the attributes of the stores (the checksums of all chunks, the fingerprints of inputs
    in other stores, the tensors, …), cnatool's version, every field of the convention, and the
    output. Times and sizes of files do not identify a store, so one without the checksums of all
    its arrays has no key.

    Returns
    -------
    str or None
        SHA-256 in hexadecimal; None if a store lacks checksums.
    """
    stores = [store] if test is None else [store, test]
    if not all(map(_has_checksums, stores)):
        return None
    what: list[Any] = [__version__, [each.record for each in stores], convention, output]
    return hashlib.sha256(msgspec.json.encode(what, order="deterministic")).hexdigest()


def _has_checksums(store: Store) -> bool:
    """Say whether a store's attribute has checksums of every array that is not empty."""
    for split in store.record.splits.values():
        held = split.inputs_from is None
        arrays = split_arrays(store.record, labels=split.labels, inputs=held)
        if {each.key for each in arrays if each.row_bytes} - (split.checksums or {}).keys():
            return False
    return True


class _Kept(msgspec.Struct, frozen=True):
    """A kept score: the score as JSON, and the SHA-256 of its key and that JSON."""

    sha256: str
    score: msgspec.Raw


_KEPT = msgspec.json.Decoder(_Kept)


class ScoreCache:
    """A folder with one JSON file per score, each with a checksum.

    Parameters
    ----------
    folder : Path
        Created when the first score is kept.

    Attributes
    ----------
    damaged : list of Path
        Files that did not match their checksums; their scores count as missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.damaged: list[Path] = []

    def get(self, key: str) -> ScoreResult | None:
        """Give the score with this key; None if there is none, or its file is damaged."""
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
    """Compute the checksum of a kept score; with the key, so that files cannot be exchanged."""
    return hashlib.sha256(key.encode() + b"\n" + score).hexdigest()
