"""Trace of a PyTorch network: its values, the modules that return them, and the operators."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import combinations, islice
from threading import local
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from cnatool._util.text import count_text
from cnatool.errors import DataError
from cnatool.recorders.layer_rule import Step
from cnatool.recorders.torch.operators import read_operation
from cnatool.recorders.torch.preserve import preserve_buffers, preserve_random_state
from cnatool.recorders.trace import PROBES, Origin, Place, Trace, Value, sample_axis

if TYPE_CHECKING:
    from collections.abc import Mapping

# Memory and layout of a tensor; views of the whole with the same shape are one value.
_Key = tuple[int, int, torch.dtype, tuple[int, ...], tuple[int, ...]]

# Most guesses of the arguments that have the sample axis.
_MOST_GUESSES = 16
_thread = local()


def is_watching() -> bool:
    """Whether a network is traced in this thread, so that its calls are not the user's."""
    return getattr(_thread, "watching", False)


@dataclass(slots=True)
class _Call:
    module: str
    number: int
    operators: Counter[str] = field(default_factory=Counter)


def operator_name(function: Any) -> str:
    """Name an operator without its overload."""
    name: str = function.overloadpacket.__name__
    return name


def tensors_by_name(result: Any) -> dict[str, torch.Tensor]:
    """Return the tensors of a module's result by name; the name of a single tensor is empty."""
    if isinstance(result, torch.Tensor):
        return {"": result}
    if hasattr(result, "items"):
        parts = [(str(name), part) for name, part in result.items()]
    elif isinstance(result, (tuple, list)):
        names = getattr(result, "_fields", map(str, range(len(result))))
        parts = list(zip(names, result, strict=True))
    else:
        return {}
    return {
        f"{name}.{inner}" if inner else name: tensor
        for name, part in parts
        for inner, tensor in tensors_by_name(part).items()
    }


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Numbers the values of one run, and records the operators between them."""

    def __init__(self, inputs: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.steps: list[Step] = []
        self.values: list[Value] = []
        self.stack: list[_Call] = []
        self.calls: Counter[str] = Counter()
        self._atomic: str | None = None
        self._known: dict[_Key, int] = {}
        self._kept: list[Any] = []  # so that no other tensor gets the memory
        for tensor in tree_flatten(inputs)[0]:
            if isinstance(tensor, torch.Tensor):
                self._new(tensor)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = operator_name(func)
        for call in self.stack:
            call.operators[name] += 1
        reads = self.read((args, kwargs))
        if reads and self._atomic is None:
            self._note(func, name, args, reads, result)
        return result

    def find(self, tensor: Any) -> int | None:
        """Return the number of a tensor's value; None if it does not depend on the input."""
        return self._known.get(_key(tensor)) if isinstance(tensor, torch.Tensor) else None

    def read(self, arguments: Any) -> list[int]:
        """Return the numbers of the values among arguments."""
        values = map(self.find, tree_flatten(arguments)[0])
        return [value for value in values if value is not None]

    def enter(self, name: str, module: torch.nn.Module) -> None:
        """Begin a call of a module."""
        self.stack.append(_Call(name, self.calls[name]))
        self.calls[name] += 1
        if self._atomic is None and isinstance(module, (torch.nn.RMSNorm, torch.nn.RNNBase)):
            self._atomic = name

    def leave(self, name: str, module: torch.nn.Module, arguments: Any, result: Any) -> None:
        """End a call of a module."""
        call = self.stack.pop()
        tensors = tensors_by_name(result)
        if self._atomic == name:
            # Several operators that are one for ONNX; a call within another has ended before.
            self._atomic = None
            norm = isinstance(module, torch.nn.RMSNorm)
            kind, operator = (
                ("norm", "RMSNormalization") if norm else ("other", _recurrent_operator(module))
            )
            for tensor in tensors.values():
                result_number = self._new(tensor, operator)
                self.steps.append(Step(kind, operator, tuple(self.read(arguments)), result_number))  # type: ignore[arg-type]
        for part, tensor in tensors.items():
            value = self.find(tensor)
            if value is not None:
                self.values[value].places.append(Place(name, call.number, part))

    def _note(
        self, func: Any, name: str, args: tuple[Any, ...], reads: list[int], result: Any
    ) -> None:
        results = [part for part in tree_flatten(result)[0] if isinstance(part, torch.Tensor)]
        writes = any(arg.alias_info and arg.alias_info.is_write for arg in func._schema.arguments)
        does = read_operation(name, args, result, lambda argument: self.find(argument) is not None)
        first_read = self.find(does.first)
        if does.kind in ("norm", "pool"):
            # The others are saved moments and similar, which no network reads.
            results = results[:1]
        for number, tensor in enumerate(results):
            if not writes and self.find(tensor) is not None:
                continue  # the same value under another name
            before = self.find(tensor)
            value = self._new(tensor, does.operator)
            call = self.stack[-1]
            self.values[value].origin = Origin(
                call.module, call.number, name, call.operators[name] - 1
            )
            if writes and before is not None:
                # Other views of the memory now hold what was written.
                memory = _key(tensor)[0]
                for key in self._known:
                    if key[0] == memory:
                        self._known[key] = value
            first = number == 0
            self.steps.append(
                Step(
                    kind=does.kind if first else "other",
                    operator=does.operator,
                    reads=tuple(reads) if first_read is None else (first_read,),
                    makes=value,
                    one_number=does.one_number,
                    biased=does.biased,
                    pointwise=does.pointwise,
                )
            )

    def _new(self, tensor: torch.Tensor, operator: str = "") -> int:
        self._kept.append(tensor)
        value = Value(tuple(tensor.shape), tensor.is_floating_point(), operator=operator)
        self.values.append(value)
        self._known[_key(tensor)] = len(self.values) - 1
        return len(self.values) - 1


def trace_network(
    network: torch.nn.Module,
    args: Any,
    kwargs: Mapping[str, Any],
    rows: int,
    *,
    alone: bool = False,
) -> tuple[Trace, list[torch.Tensor]]:
    """Run a network on a few samples; return its trace, and the arguments that have samples.

    Buffers and random states are preserved.
    """
    arguments = args, dict(kwargs)
    failure: Exception | None = None
    for guessed in _guesses(arguments, rows):
        chosen = {id(tensor) for tensor in guessed}
        try:
            probes = (1, 1) if alone else PROBES
            small, large = (
                _run(network, *_take_samples(arguments, chosen, rows, n)) for n in probes
            )
        except Exception as error:
            failure = failure or error
            continue
        break
    else:
        assert failure is not None
        raise failure
    if [step.operator for step in small.steps] != [step.operator for step in large.steps]:
        raise DataError(
            "the network takes different steps for different samples, so its tensors differ from "
            "batch to batch: record the modules inside that are always called."
        )
    for value, smaller in zip(large.values, small.values, strict=True):
        value.axis = sample_axis(smaller.shape, value.shape)
        if alone and 1 in value.shape:
            value.axis = value.shape.index(1)
    return large, list(guessed)


def _guesses(arguments: Any, rows: int) -> list[tuple[torch.Tensor, ...]]:
    """List sets of arguments that may have the sample axis: all of them, then fewer.

    The mask of a sequence as long as the batch has none.
    """
    tensors = {
        id(tensor): tensor
        for tensor in tree_flatten(arguments)[0]
        if isinstance(tensor, torch.Tensor) and rows in tensor.shape
    }
    if not tensors:
        raise DataError(
            f"{'there is' if rows == 1 else 'there are'} {count_text(rows, 'sample')}, and no "
            "tensor that the network is called with has an axis "
            "of that length: pass the raw samples of this call as inputs=…, one per row."
        )
    fewer = (
        guess
        for count in range(len(tensors), 0, -1)
        for guess in combinations(tensors.values(), count)
    )
    return list(islice(fewer, _MOST_GUESSES))


def _run(network: torch.nn.Module, args: Any, kwargs: Any) -> Trace:
    device = next((p.device for p in network.parameters()), None)
    if device is not None:
        args, kwargs = tree_map(
            lambda leaf: leaf.to(device) if isinstance(leaf, torch.Tensor) else leaf, (args, kwargs)
        )
    watch = _Watch((args, kwargs))
    with ExitStack() as stack:
        for name, module in network.named_modules():
            before = module.register_forward_pre_hook(
                lambda module, given, name=name: watch.enter(name, module)
            )
            after = module.register_forward_hook(
                lambda module, given, kwargs, result, name=name: watch.leave(
                    name, module, (given, kwargs), result
                ),
                with_kwargs=True,
            )
            stack.callback(before.remove)
            stack.callback(after.remove)
        stack.enter_context(preserve_random_state(network))
        stack.enter_context(preserve_buffers(network))
        stack.callback(setattr, _thread, "watching", is_watching())
        _thread.watching = True
        stack.enter_context(watch)
        result = network(*args, **kwargs)
    outputs = {name: watch.find(tensor) for name, tensor in tensors_by_name(result).items()}
    values = {name: value for name, value in outputs.items() if value is not None}
    return Trace(watch.steps, watch.values, values)


def _take_samples(arguments: Any, chosen: set[int], rows: int, count: int) -> Any:
    """Return ``count`` samples of the chosen tensors, repeated if there are fewer."""

    def part(leaf: Any) -> Any:
        if id(leaf) not in chosen:
            return leaf
        rows_taken = torch.arange(count, device=leaf.device) % rows
        return leaf.detach().index_select(list(leaf.shape).index(rows), rows_taken)

    return tree_map(part, arguments)


def _key(tensor: torch.Tensor) -> _Key:
    return (
        tensor.untyped_storage()._cdata,
        int(tensor.storage_offset()),
        tensor.dtype,
        tuple(tensor.shape),
        tuple(tensor.stride()),
    )


def _recurrent_operator(module: torch.nn.Module) -> str:
    return type(module).__name__
