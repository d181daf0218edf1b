"""State and settings that the recorders of all frameworks share."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self, get_args

from cnatool._util.urls import parse_path
from cnatool.errors import UsageError
from cnatool.recording.recording import create_store
from cnatool.records.choices import Statistic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from cnatool.recorders.select import Modules, Selection
    from cnatool.recording.recording import Layer, Recording


class BaseRecorder:
    """A recorder of one network into one store; a context that is entered once."""

    def __init__(
        self,
        path: str | Path,
        *,
        modules: Modules,
        keep: str,
        statistics: str | Sequence[str],
        weights: bool,
        initial_state: Mapping[str, Any] | None,
        **options: Any,
    ) -> None:
        if keep not in ("statistics", "activations"):
            raise UsageError(f"keep={keep!r}: use 'statistics' or 'activations'.")
        if initial_state is not None and not weights:
            raise UsageError(
                "initial_state: give weights=True too, from which distances are measured."
            )
        self.path = parse_path(path)
        self.left_out: dict[str, str] = {}
        self._modules = modules
        self._whole = keep == "activations"
        self._statistics = parse_statistics(statistics)
        self._weights = weights
        self._initial_state = initial_state
        self._options = options
        self._context = ExitStack()
        self._store: Recording | None = None
        self._selection: Selection | None = None
        self._entered = False
        self._closed = False

    def __enter__(self) -> Self:
        if self._entered:
            raise UsageError(
                f"{self.path}: a recorder can be entered only once; create another one."
            )
        self._entered = True
        self._context.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed = True
        if error is None and self._store is None:
            raise UsageError(f"{self.path}: no batch was recorded, so there is no store.")
        self._context.__exit__(kind, error, trace)

    def _check_open(self) -> None:
        if not self._entered:
            raise UsageError("use the recorder as a context: with Recorder(…) as recorder.")
        if self._closed:
            raise UsageError(f"{self.path}: the recorder is closed; create another one.")

    def _create_store(
        self,
        selection: Selection,
        layers: Sequence[Layer],
        inputs: Sequence[str],
        arrays: Mapping[str, Any],
    ) -> None:
        """Create the store for selected tensors; ``arrays`` has the weights of `create_store`."""
        self._store = self._context.enter_context(
            create_store(
                self.path,
                tensors={tensor.name: tensor.operator for tensor in selection.tensors},
                layers=layers,
                inputs=inputs,
                outputs=[output.name for output in selection.outputs],
                keep="full" if self._whole else "statistics",
                statistics=self._statistics,
                shapes={tensor.name: tensor.shape for tensor in selection.tensors},
                **self._options,
                **arrays,
            )
        )


def parse_statistics(names: str | Sequence[str]) -> tuple[Statistic, ...]:
    """Parse names of statistics; ``sum`` is always among them."""
    wanted = [names] if isinstance(names, str) else list(names)
    known = get_args(Statistic)
    unknown = next((name for name in wanted if name not in (*known, "all")), None)
    if unknown is not None:
        raise UsageError(f"statistics: {unknown!r} is none of {', '.join(known)}.")
    return tuple(name for name in known if name == "sum" or name in wanted or "all" in wanted)
