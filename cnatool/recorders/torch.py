"""Stores from PyTorch: hooks on a network's modules, while it runs.

>>> from cnatool.recorders.torch import Recorder
>>> with Recorder(network, "net.zarr") as recorder:  # doctest: +SKIP
...     for pictures, labels in loader:
...         with recorder.batch("train", inputs=pictures, labels=labels):
...             network(normalised(pictures))
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from cnatool.errors import DataError, UsageError
from cnatool.recorders.statistics import statistic_names
from cnatool.recording import create_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    import torch
    from numpy.typing import ArrayLike

    from cnatool.recorders.choice import Choice, Modules
    from cnatool.recorders.torch_taps import Taps
    from cnatool.recording import Codec, Recording, Statistic

__all__ = ["Recorder", "check_installed", "record"]


class Recorder:
    """Records what a PyTorch network computes into a store; a context.

    The network's first call is watched on a few of its samples, to find which values are layers
    and which axis is the samples'. From then on hooks take what is recorded, in whatever mode and
    precision the network runs; statistics are computed on its device, and only they leave it.

    Parameters
    ----------
    network : torch.nn.Module
        Not compiled; it may be a ``DataParallel``, whose module is then recorded.
    path : str or Path
        Where the store goes; its ending chooses the format.
    modules : str, type, or sequence of these
        What is recorded. ``preactivation``: of each linear operator its result and what enters the
        nonlinearity, as `cnatool.dump` finds them. ``linear``: its result alone, which then stands
        for both. ``all``: these, and what every module gives. Or globs of the modules' names, and
        types of modules: each of their results is then a layer.
    keep : {"statistics", "activations"}
        Whether statistics of each sample are stored, or whole tensors too.
    statistics : str or sequence of str
        As of `cnatool.create_store`. By absolute sums `cnatool.compare` tells rounding from error.
    weights : bool
        Store norms of the layers' weights, for the baselines of `cnatool.score`. In ``eval`` mode
        a BatchNorm behind a layer is folded into them.
    initial_state : mapping of str to Tensor, optional
        The network's ``state_dict`` before training, for distances from it.
    tags, classes, codec, overwrite
        As of `cnatool.create_store`.

    Attributes
    ----------
    path : Path
        Where the store is.
    left_out : dict of str to str
        With ``modules="all"``, the modules whose results are not recorded, and why.

    Raises
    ------
    UsageError
        If PyTorch is not installed, or an option cannot be meant.
    NotAStoreError
        If the path is taken.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        path: str | Path,
        *,
        modules: Modules = "preactivation",
        keep: str = "statistics",
        statistics: str | Sequence[str] = ("sum", "abs_sum"),
        weights: bool = False,
        initial_state: Mapping[str, torch.Tensor] | None = None,
        tags: Mapping[str, str] | None = None,
        classes: Sequence[str] | None = None,
        codec: Codec | None = None,
        overwrite: bool = False,
    ) -> None:
        check_installed()
        if keep not in ("statistics", "activations"):
            raise UsageError(f"keep={keep!r}: statistics or activations.")
        if hasattr(network, "_orig_mod"):
            raise UsageError("a compiled network hides its steps: record it before torch.compile.")
        if initial_state is not None and not weights:
            raise UsageError(
                "initial_state: give weights=True too, from which distances are taken."
            )
        self.path = Path(path)
        self.left_out: dict[str, str] = {}
        self._network = network
        self._modules = modules
        self._keep = keep
        self._statistics: tuple[Statistic, ...] = statistic_names(statistics)
        self._weights = weights
        self._initial_state = initial_state
        self._options: dict[str, Any] = {
            "tags": tags,
            "classes": classes,
            "codec": codec,
            "overwrite": overwrite,
        }
        self._held = ExitStack()
        self._store: Recording | None = None
        self._taps: Taps | None = None
        self._entered = False

    def __enter__(self) -> Self:
        if self._entered:
            raise UsageError(f"{self.path}: a recorder is one context; make another for more.")
        self._entered = True
        self._held.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and self._store is None:
            raise UsageError(f"{self.path}: no batch was recorded, so there is no store.")
        self._held.__exit__(kind, error, trace)

    @contextmanager
    def batch(
        self,
        split: str,
        *,
        inputs: ArrayLike | Mapping[str, ArrayLike] | None = None,
        labels: ArrayLike | None = None,
        ids: Sequence[str] | None = None,
    ) -> Iterator[None]:
        """Record what happens within this context: one call of the network.

        Parameters
        ----------
        split : str
            The split that its samples belong to.
        inputs : array_like or Tensor, or mapping of str to these, optional
            The raw samples as they were before any preprocessing, (n, …), from which α is taken; by
            default what the network is called with.
        labels, ids
            As of `cnatool.Recording.append`.

        Raises
        ------
        DataError
            If the network is called never or twice, or gives other tensors than in the first batch.
        """
        if not self._entered:
            raise UsageError("use the recorder as a context: with Recorder(…) as recorder.")
        from cnatool.recorders.torch_taps import RootCall, arrays

        raw = None if inputs is None else arrays(inputs)
        with RootCall(self._network) as call:
            call.before = lambda args, kwargs: self._begin(call, raw, args, kwargs)
            call.after = self._end
            try:
                yield
            finally:
                if self._taps is not None:
                    self._taps.stop()
        if call.count == 0:
            raise DataError(f"split {split!r}: the network was not called within this batch.")
        assert self._taps is not None
        assert self._store is not None
        given = self._taps.taken()
        self._store.append(
            split,
            inputs=call.raw,
            outputs=given.outputs,
            activations=given.activations,
            statistics=given.statistics,
            labels=None if labels is None else arrays({"": labels})[""],
            ids=ids,
        )

    def _begin(
        self,
        call: Any,
        raw: dict[str, Any] | None,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> None:
        """Prepare for a call of the network; find out what to record at the first."""
        from cnatool.recorders.torch_taps import arrays, called_with

        if call.count > 1:
            raise DataError(
                "the network was called twice within one batch: give each call its own."
            )
        call.raw = arrays(called_with(args, kwargs)) if raw is None else raw
        rows = len(next(iter(call.raw.values())))
        if self._taps is None:
            self._prepare(args, kwargs, rows, list(call.raw))
        assert self._taps is not None
        self._taps.start(rows)

    def _end(self, result: Any) -> None:
        if self._taps is not None:
            self._taps.take_outputs(result)

    def _prepare(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], rows: int, inputs: list[str]
    ) -> None:
        import torch

        from cnatool.recorders.choice import choose
        from cnatool.recorders.torch_taps import Taps, slow_attention
        from cnatool.recorders.torch_trace import traced
        from cnatool.recorders.torch_weights import layer_arrays

        wrappers = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
        parallel = isinstance(self._network, wrappers)
        inner: Any = self._network.module if parallel else self._network
        self._held.enter_context(slow_attention())
        choice = choose(
            dict(inner.named_modules()), traced(inner, args, kwargs, rows), self._modules
        )
        self.left_out = choice.left_out
        options = dict(self._options)
        if self._weights:
            options |= layer_arrays(inner, choice, self._initial_state)
        self._store = self._held.enter_context(self._created(choice, inputs, options))
        self._taps = Taps(
            inner,
            choice,
            self._statistics,
            whole=self._keep == "activations",
            parallel=parallel,
        )
        self._held.callback(self._taps.remove)

    def _created(self, choice: Choice, inputs: list[str], options: dict[str, Any]) -> Recording:
        return create_store(
            self.path,
            tensors={one.name: one.operator for one in choice.tensors},
            layers=choice.layers,
            inputs=inputs,
            outputs=list(choice.outputs.values()),
            keep="full" if self._keep == "activations" else "statistics",
            statistics=self._statistics,
            shapes={one.name: one.shape for one in choice.tensors},
            **options,
        )


def record(
    network: torch.nn.Module,
    path: str | Path,
    splits: Mapping[str, Iterable[Any]],
    *,
    prepare: Callable[[Any], Any] | None = None,
    **options: Any,
) -> None:
    """Run a network over data, in ``eval`` mode and without gradients, and record it.

    Parameters
    ----------
    network : torch.nn.Module
        Left in the mode that it was in.
    path : str or Path
        Where the store goes.
    splits : mapping of str to iterable of (raw, labels)
        Batches of each split: raw samples, and labels or None.
    prepare : callable, optional
        Makes of raw samples what the network is called with; by default they are that. It is moved
        to the device of the network's parameters.
    **options
        Of `Recorder`.

    Raises
    ------
    UsageError, DataError, NotAStoreError
        As of `Recorder`.
    """
    check_installed()
    import torch

    modes = {module: module.training for module in network.modules()}
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    try:
        network.eval()
        with Recorder(network, path, **options) as recorder, torch.no_grad():
            for split, batches in splits.items():
                for raw, labels in batches:
                    x = raw if prepare is None else prepare(raw)
                    with recorder.batch(split, inputs=raw, labels=labels):
                        network(torch.as_tensor(x).to(device))
    finally:
        for module, training in modes.items():
            module.training = training


def check_installed() -> None:
    """Say what to install where there is no PyTorch.

    Raises
    ------
    UsageError
        If there is none.
    """
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise UsageError("recording from PyTorch needs it: python -m pip install torch") from error
