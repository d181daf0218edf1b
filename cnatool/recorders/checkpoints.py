"""A series of stores of one network during training, for `cnatool study`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cnatool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Unit = Literal["step", "epoch"]

# So many digits make names of stores sort by step.
_DIGITS = {"step": 8, "epoch": 5}


class Series:
    """When to record, where, and with which tags.

    Parameters
    ----------
    folder : str or Path
        Folder of the stores, one per checkpoint.
    probe : mapping of str to iterable of (raw, labels)
        Batches of each split, the same at every checkpoint.
    every : int
        Interval of checkpoints in steps or epochs; 0 is recorded too.
    unit : {"step", "epoch"}
        Unit of the interval.
    run : str
        Name of the run: the tag ``run``, and the prefix of the stores' names.
    tags : mapping of str to str, optional
        Further tags of every store.

    Raises
    ------
    UsageError
        If a parameter is invalid.
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
            raise UsageError(f"every={every!r}: use a positive integer.")
        if unit not in _DIGITS:
            raise UsageError(f"unit={unit!r}: use 'step' or 'epoch'.")
        if not run or "/" in run or "\\" in run or run.startswith("."):
            raise UsageError(f"run={run!r}: use a name that a file's name can begin with.")
        for split, batches in probe.items():
            if iter(batches) is batches:
                raise UsageError(
                    f"probe[{split!r}]: an iterator can be read only once; give a list or a "
                    "loader, which each checkpoint reads again."
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
        """Write a store if a checkpoint is due, once per count, and return its path.

        Parameters
        ----------
        write : callable
            Writes a store, given its path and tags.
        step, epoch : int, int or None
            Steps and epochs of training so far.
        """
        count = step if self._unit == "step" else epoch
        if count is None:
            raise UsageError("checkpoints count epochs: give epoch=…, or use unit='step'.")
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
