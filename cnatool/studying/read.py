"""Results of studies, trajectories and landscapes, read from their folders."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from cnatool._util.observer import Silent
from cnatool._util.text import one_line
from cnatool.errors import DataError
from cnatool.studying.checksums import list_name, read_checked, read_list, write_again
from cnatool.studying.landscape import Landscape
from cnatool.studying.replace import check_finished
from cnatool.studying.results import LandscapeResult, StudyResult, TrajectoryResult
from cnatool.studying.study import Study
from cnatool.studying.trajectory import Trajectory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import polars

    from cnatool._util.observer import Observer
    from cnatool.studying.checksums import ResultKind

_Result = TypeVar("_Result")

# Built on import: msgspec crashes the process if threads build the first decoder of a type.
_STUDY = msgspec.json.Decoder(StudyResult)
_TRAJECTORY = msgspec.json.Decoder(TrajectoryResult)
_LANDSCAPE = msgspec.json.Decoder(LandscapeResult)


def list_results(folder: str | Path) -> list[ResultKind]:
    """List the kinds of results in a folder: ``study``, ``trajectory``, ``landscape``."""
    check_finished(Path(folder))
    return [name for name in _READERS if (Path(folder) / f"{name}.json").is_file()]


def read_results(
    folder: str | Path, kind: ResultKind, observer: Observer | None = None
) -> Study | Trajectory | Landscape:
    """Read the results that a command wrote to a folder.

    Each file must match its SHA-256 in the list of checksums.
    """
    where = Path(folder)
    digests = read_list(where, kind)
    if digests is None:
        (observer or Silent()).note(
            f"{where} has no {list_name(kind)}, so its files are not checked: "
            f"`{kind}(..., folder={str(where)!r})` writes the checksums"
        )
    return _READERS[kind](_Files(where, kind, digests))


@dataclass(frozen=True, slots=True)
class _Files:
    """The files of one result."""

    folder: Path
    kind: ResultKind
    digests: Mapping[str, str] | None

    def document(self, decoder: msgspec.json.Decoder[_Result]) -> _Result:
        """Read the JSON document."""
        path = self.folder / f"{self.kind}.json"
        content = read_checked(path, self.kind, self.digests)
        try:
            return decoder.decode(content)
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise self._error(path, error) from error

    def frame(self, name: str, columns: Sequence[str]) -> polars.DataFrame:
        """Read a frame, and check that it has these columns."""
        import polars as pl

        path = self.folder / f"{name}.parquet"
        content = read_checked(path, self.kind, self.digests)
        try:
            frame = pl.read_parquet(BytesIO(content))
        except Exception as error:  # polars has its own exceptions
            raise self._error(path, error) from error
        for column in columns:
            if column not in frame.columns:
                raise DataError(f"{path} has no column {column}. {self.advice}")
        return frame

    @property
    def advice(self) -> str:
        return write_again(self.kind, self.folder)

    def _error(self, path: Path, error: Exception) -> DataError:
        return DataError(f"{path} cannot be read: {one_line(error)}. {self.advice}")


def _read_study(files: _Files) -> Study:
    result = files.document(_STUDY)
    networks = files.frame("networks", ("id",))
    if len(networks) != result.networks:
        raise DataError(
            f"{files.folder / 'networks.parquet'} has {len(networks)} networks, but study.json has "
            f"{result.networks}. {files.advice}"
        )
    return Study(networks, result, 0)


def _read_trajectory(files: _Files) -> Trajectory:
    result = files.document(_TRAJECTORY)
    steps = files.frame("steps", ("run", "step", "id"))
    errors = files.frame(
        "error_by_alpha",
        ("run", "step", "split", "group", "alpha_min", "alpha_max", "error"),
    )
    return Trajectory(steps, errors, result, 0)


def _read_landscape(files: _Files) -> Landscape:
    return Landscape(
        files.frame("landscape_points", ("run", "step", "id", "x", "y", "cna")),
        files.frame("landscape_grid", ("x", "y", "cna")),
        files.document(_LANDSCAPE),
    )


_READERS: Mapping[ResultKind, Callable[[_Files], Study | Trajectory | Landscape]] = {
    "study": _read_study,
    "trajectory": _read_trajectory,
    "landscape": _read_landscape,
}
