"""A series of stores of one network as it is trained, for `cnatool study`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cnatool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Unit = Literal["step", "epoch"]

# Names of stores sort as their steps do.
_DIGITS = {"step": 8, "epoch": 5}


class Series:
    """When to record, where, and with which tags.

    Parameters
    ----------
    folder : str or Path
        Where the stores go, one a checkpoint.
    probe : mapping of str to iterable of (raw, labels)
        Batches of each split, the same at every checkpoint.
    every : int
        Record at every so many steps or epochs, and at 0.
    unit : {"step", "epoch"}
        What is counted.
    run : str
        Name of the run; the tag ``run`` and the beginning of the stores' names.
    tags : mapping of str to str, optional
        Words of your own in every store.

    Raises
    ------
    UsageError
        If one of these cannot be meant.
    """

    def __init__(
        self,
        folder: str | Path,
        probe: Mapping[str, Iterable[Any]],
        *,
        every: int = 1,
        unit: Unit = "epoch",
        run: str = "run",
        tags: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(every, int) or every < 1:
            raise UsageError(f"every={every!r}: a whole number from 1 on.")
        if unit not in _DIGITS:
            raise UsageError(f"unit={unit!r}: step or epoch.")
        if not run or "/" in run or "\\" in run or run.startswith("."):
            raise UsageError(f"run={run!r}: a name that can begin a file's name.")
        for split, batches in probe.items():
            if iter(batches) is batches:
                raise UsageError(
                    f"probe[{split!r}]: it can be read once only; give a list or a loader, which "
                    "begins anew at each checkpoint."
                )
        self.folder = Path(folder)
        self.probe = probe
        self._every = every
        self._unit = unit
        self._run = run
        self._tags = dict(tags or {})
        self._last: int | None = None

    def record(
        self, write: Callable[[Path, dict[str, str]], object], step: int, epoch: int | None
    ) -> Path | None:
        """Write a store if one is due, and give its path; the same count is recorded once.

        Parameters
        ----------
        write : callable
            Given the store's path and its tags.
        step, epoch : int, int or None
            How far the training is.
        """
        count = step if self._unit == "step" else epoch
        if count is None:
            raise UsageError("checkpoints count epochs: give epoch=…, or unit='step'.")
        if count % self._every or count == self._last:
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self._run}-{self._unit}{count:0{_DIGITS[self._unit]}d}.zarr"
        tags = {"run": self._run, "step": str(step)}
        if epoch is not None:
            tags["epoch"] = str(epoch)
        write(path, tags | self._tags)
        self._last = count
        return path
