"""Runs on a device with memory of its own: what is copied there and back, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from cnatool._util.memory import return_free_memory
from cnatool.backend.session import RunOptions, Session

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import onnx
    from numpy.typing import NDArray

    from cnatool.backend.graph.graph import Graph

# Providers whose sessions run several batches at a time, each in a stream of its own.
DEVICE_PROVIDERS: Final = frozenset(
    {
        "CUDAExecutionProvider",
        "MIGraphXExecutionProvider",
        "NvTensorRTRTXExecutionProvider",
        "ROCMExecutionProvider",
        "TensorrtExecutionProvider",
    }
)
# One batch is copied while another runs.
BATCHES_IN_FLIGHT: Final = 2
# Operators named in a message.
_LISTED = 4


class DeviceSession(Session):
    """A session of a provider whose device has memory of its own.

    Inputs are copied before the run, each to where the operators that read it are. Of the results,
    only those asked for are copied back. Threads may run batches at the same time: while the
    operators of one work, another is copied.
    """

    def _run(self, names: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[Any]:
        if any(value.dtype.kind in "OSU" for value in feeds.values()):
            return super()._run(names, feeds)  # text cannot be bound
        # Not shared between threads, as a session is.
        binding = self._session.io_binding()
        for name, value in feeds.items():
            binding.bind_cpu_input(name, value)
        bound = list(dict.fromkeys(names))
        for name in bound:
            binding.bind_output(name)  # in the host's memory; the runtime knows its size
        binding.synchronize_inputs()
        # Returns when its operators and copies are done.
        self._session.run_with_iobinding(binding)
        values = dict(zip(bound, binding.get_outputs(), strict=True))
        return [values[name].numpy() for name in names]


def open_session(
    model: onnx.ModelProto, graph: Graph, run: RunOptions, appended: Collection[str] = ()
) -> Session:
    """Open a session for many runs, of the kind that suits the provider.

    ``appended`` are the results of nodes that were appended to the model.
    """
    if run.provider in DEVICE_PROVIDERS:
        return DeviceSession(model, graph, run)
    session = Session(model, graph, run, appended=appended)
    # Rearranging the weights, the runtime freed about as much memory as they take.
    return_free_memory()
    return session


def describe_fallback(session: Session) -> str | None:
    """Describe the nodes that a device leaves to the CPU; None if there are none."""
    placed = session.operators_by_provider if isinstance(session, DeviceSession) else {}
    left = placed.get("CPUExecutionProvider")
    if not left:
        return None
    named = [f"{operator} {count}" for operator, count in left.most_common(_LISTED)]
    more = ["…"] if len(left) > _LISTED else []
    count, total = left.total(), sum(each.total() for each in placed.values())
    return (
        f"{session.provider} leaves {count} of {total} nodes to the CPU "
        f"({', '.join([*named, *more])}); unless they only compute shapes, their tensors are "
        "copied there and back in every batch"
    )
