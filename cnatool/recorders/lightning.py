"""Checkpoints as stores from Lightning's trainer.

>>> from cnatool.recorders.lightning import store_callback
>>> trainer = Trainer(callbacks=[store_callback("series", {"test": loader})])  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnatool.errors import UsageError
from cnatool.recorders.torch.checkpoints import Checkpoints

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


def store_callback(folder: str | Path, probe: Mapping[str, Iterable[Any]], **options: Any) -> Any:
    """Make a Lightning ``Callback`` that records the module at the start of and during training.

    The module's ``forward`` is recorded. If there are several processes, only the first one
    records.

    Parameters
    ----------
    folder, probe, **options
        As in `cnatool.recorders.torch.Checkpoints`.

    Returns
    -------
    lightning.pytorch.Callback

    Raises
    ------
    UsageError
        If Lightning is not installed.
    """
    callback = _callback_type()

    class StoreCallback(callback):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            self._checkpoints: Checkpoints | None = None

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self._checkpoints = Checkpoints(pl_module, folder, probe, **options)
            self._record(trainer, trainer.current_epoch)

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            if options.get("unit") == "step":
                self._record(trainer, trainer.current_epoch)

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            if options.get("unit") != "step":
                self._record(trainer, trainer.current_epoch + 1)

        def _record(self, trainer: Any, epoch: int) -> None:
            if trainer.is_global_zero and self._checkpoints is not None:
                self._checkpoints(trainer.global_step, epoch)

    return StoreCallback()


def _callback_type() -> Any:
    try:
        from lightning.pytorch import Callback
    except ImportError:
        try:
            from pytorch_lightning import Callback
        except ImportError as error:
            raise UsageError(
                "recording from Lightning requires it: python -m pip install lightning"
            ) from error
    return Callback
