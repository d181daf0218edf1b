"""Checkpoints of a PyTorch network as stores during training.

>>> from cnatool.recorders.torch.checkpoints import Checkpoints
>>> checkpoints = Checkpoints(network, "series", {"train": probe, "test": held_out})
>>> checkpoints(step=0, epoch=0)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnatool.recorders.checkpoints import Series
from cnatool.recorders.torch.recorder import check_installed, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    import torch

    from cnatool.recorders.checkpoints import Unit


class Checkpoints:
    """A callable for a training loop that records a probe at regular intervals.

    The mode of the network and the random states are preserved, so that training is unaffected.

    Parameters
    ----------
    network : torch.nn.Module
        The network. With ``weights=True``, distances are measured from its present weights.
    folder, probe, every, unit, run, tags
        As in `cnatool.recorders.checkpoints.Series`.
    prepare : callable, optional
        As in `cnatool.recorders.torch.record`.
    **options
        Parameters of `cnatool.recorders.torch.Recorder`.

    Raises
    ------
    UsageError
        If PyTorch is not installed, or a parameter is invalid.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        folder: str | Path,
        probe: Mapping[str, Iterable[Any]],
        *,
        every: int = 1,
        unit: Unit = "epoch",
        run: str = "run",
        tags: Mapping[str, str] | None = None,
        prepare: Callable[[Any], Any] | None = None,
        **options: Any,
    ) -> None:
        check_installed()
        self._series = Series(folder, probe, every=every, unit=unit, run=run, tags=tags)
        self._network = network
        self._prepare = prepare
        self._options = options
        if options.get("weights") and "initial_state" not in options:
            state = {k: v.detach().cpu().clone() for k, v in network.state_dict().items()}
            self._options = options | {"initial_state": state}

    def __call__(self, step: int, epoch: int | None = None) -> Path | None:
        """Record if a checkpoint is due, and return the store's path.

        Parameters
        ----------
        step, epoch : int, int or None
            Steps and epochs of training so far.

        Raises
        ------
        UsageError, DataError, NotAStoreError
            As in `cnatool.recorders.torch.record`.
        """
        return self._series.record(self._write, step, epoch)

    def _write(self, path: Path, tags: dict[str, str]) -> None:
        from cnatool.recorders.torch.preserve import preserve_random_state

        # A loader draws random numbers too.
        with preserve_random_state(self._network):
            record(
                self._network,
                path,
                self._series.probe,
                prepare=self._prepare,
                tags=tags,
                **self._options,
            )
