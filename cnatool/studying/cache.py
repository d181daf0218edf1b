"""Scores that are kept, so that a study that was cut off goes on, and one that grows scores new."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import msgspec

from cnatool._version import __version__
from cnatool.errors import StoreWriteError
from cnatool.results import ConventionResult, ScoreResult
from cnatool.store.durable import replaced_file

if TYPE_CHECKING:
    from pathlib import Path

    from cnatool.store.reader import Store

__all__ = ["ScoreCache", "score_key"]

# Built on import: msgspec crashes the process where threads build the first decoder of a type.
_SCORE = msgspec.json.Decoder(ScoreResult)


def score_key(
    store: Store, test: Store | None, convention: ConventionResult, output: str | None
) -> str:
    """Name a score by all that it depends on, in hexadecimal.

    That is what the attributes of the stores say (the model's SHA-256, the fingerprints of the
    data, the tensors that are there, …), cnatool's version, every field of the convention, and the
    output.
    """
    what: list[Any] = [
        __version__,
        _identity(store),
        None if test is None else _identity(test),
        convention,
        output,
    ]
    return hashlib.sha256(msgspec.json.encode(what, order="deterministic")).hexdigest()


def _identity(store: Store) -> list[Any]:
    identity: list[Any] = [store.record]
    if store.record.model is None:
        # No model's digest tells one recording from another over the same data.
        root = store.path / "zarr.json" if store.path.is_dir() else store.path
        status = root.stat()
        identity += [status.st_mtime_ns, status.st_size]
    return identity


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
