"""The folders of studies, trajectories and landscapes, read again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import msgspec

from cnatool.errors import DataError
from cnatool.studying.landscape import Landscape
from cnatool.studying.landscape_results import LandscapeResult
from cnatool.studying.replacing import unfinished_results
from cnatool.studying.results import StudyResult
from cnatool.studying.study import Study
from cnatool.studying.trajectory import Trajectory
from cnatool.studying.trajectory_results import TrajectoryResult
from cnatool.text import one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import polars

__all__ = ["ResultKind", "read_results", "results_of"]

ResultKind: TypeAlias = Literal["study", "trajectory", "landscape"]

_Result = TypeVar("_Result")

# Built on import: msgspec crashes the process where threads build the first decoder of a type.
_STUDY = msgspec.json.Decoder(StudyResult)
_TRAJECTORY = msgspec.json.Decoder(TrajectoryResult)
_LANDSCAPE = msgspec.json.Decoder(LandscapeResult)


def results_of(folder: str | Path) -> list[ResultKind]:
    """Name the commands whose results are in a folder: ``study``, ``trajectory``, ….

    Raises
    ------
    DataError
        If a process was killed while it replaced some of them.
    """
    for name in _READERS:
        if unfinished_results(Path(folder), name):
            raise DataError(
                f"{folder}: a process was killed while it replaced the results of a {name}. "
                + _again(name, Path(folder))
            )
    return [name for name in _READERS if (Path(folder) / f"{name}.json").is_file()]


def read_results(folder: str | Path, name: ResultKind) -> Study | Trajectory | Landscape:
    """Read what a command wrote into a folder.

    Parameters
    ----------
    folder : str or Path
    name : {"study", "trajectory", "landscape"}
        One of those that `results_of` gives.

    Raises
    ------
    DataError
        If a file is missing or is not what the command writes.
    """
    return _READERS[name](Path(folder))


def _study(folder: Path) -> Study:
    result = _document(folder, "study", _STUDY)
    networks = _frame(folder, "study", "networks", ("id",))
    if len(networks) != result.networks:
        raise DataError(
            f"{folder / 'networks.parquet'} has {len(networks)} networks, and study.json is of "
            f"{result.networks}. {_again('study', folder)}"
        )
    return Study(networks, result, 0)


def _trajectory(folder: Path) -> Trajectory:
    result = _document(folder, "trajectory", _TRAJECTORY)
    steps = _frame(folder, "trajectory", "steps", ("run", "step", "id"))
    errors = _frame(
        folder,
        "trajectory",
        "error_by_alpha",
        ("run", "step", "split", "group", "alpha_min", "alpha_max", "error"),
    )
    return Trajectory(steps, errors, result, 0)


def _landscape(folder: Path) -> Landscape:
    return Landscape(
        _frame(folder, "landscape", "landscape_points", ("run", "step", "id", "x", "y", "cna")),
        _frame(folder, "landscape", "landscape_grid", ("x", "y", "cna")),
        _document(folder, "landscape", _LANDSCAPE),
    )


_READERS: Mapping[ResultKind, Callable[[Path], Study | Trajectory | Landscape]] = {
    "study": _study,
    "trajectory": _trajectory,
    "landscape": _landscape,
}


def _document(folder: Path, command: str, decoder: msgspec.json.Decoder[_Result]) -> _Result:
    path = folder / f"{command}.json"
    try:
        return decoder.decode(path.read_bytes())
    except (OSError, msgspec.MsgspecError) as error:
        raise _unreadable(path, command, error) from error


def _frame(folder: Path, command: str, name: str, columns: Sequence[str]) -> polars.DataFrame:
    import polars as pl

    path = folder / f"{name}.parquet"
    try:
        frame = pl.read_parquet(path)
    except Exception as error:  # polars raises its own kinds for what it cannot read
        raise _unreadable(path, command, error) from error
    for column in columns:
        if column not in frame.columns:
            raise DataError(f"{path} has no column {column}. {_again(command, folder)}")
    return frame


def _unreadable(path: Path, command: str, error: Exception) -> DataError:
    why: Any = error.strerror if isinstance(error, OSError) else None
    return DataError(
        f"{path} cannot be read: {why or one_line(error)}. {_again(command, path.parent)}"
    )


def _again(command: str, folder: Path) -> str:
    return f"Run `cnatool {command} … -o {folder}` again."
