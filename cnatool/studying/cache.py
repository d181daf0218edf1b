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


class ScoreCache:
    """A folder with one JSON file a score.

    Parameters
    ----------
    folder : Path
        Is made when the first score is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str) -> ScoreResult | None:
        """Give the score of this name; None where there is none that can be read."""
        try:
            return _SCORE.decode(self._path(key).read_bytes())
        except (OSError, msgspec.DecodeError, UnicodeError):
            return None

    def put(self, key: str, score: ScoreResult) -> None:
        """Keep a score.

        Raises
        ------
        StoreWriteError
            If the operating system refuses.
        """
        path = self._path(key)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with replaced_file(path) as partial:
                partial.write_bytes(msgspec.json.encode(score))
        except OSError as error:
            raise StoreWriteError(
                f"{path} cannot be written: {error.strerror or error}. Name another folder with -o."
            ) from error

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.json"
