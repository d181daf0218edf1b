"""Networks of PyTorch: random weights, both exporters, and what PyTorch itself computes."""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode

from zoo.case import BuiltModel

# By exporter: whether it is the one of torch.export, and the version of the operators.
EXPORTERS = {"torchscript-17": (False, 17), "dynamo-18": (True, 18)}
SAMPLES = 3
# Larger networks have the same operators, only more of them.
_MOST_PARAMETERS = 60_000_000
# Names of normalisations that compute their statistics from their inputs have no running ones.
_RUNNING = ("running_mean", "running_var")
# Products of two tensors: convolutions, and matrix products with the places of both factors.
_PRODUCTS = {
    "aten::convolution": (0, 1),
    "aten::mm": (0, 1),
    "aten::bmm": (0, 1),
    "aten::addmm": (1, 2),
    "aten::addbmm": (1, 2),
    "aten::baddbmm": (1, 2),
    "aten::mv": (0, 1),
    "aten::addmv": (1, 2),
}
# They read a tensor's shape and type alone.
_EMPTY = {
    f"aten::{name}"
    for name in (
        *("empty_like", "full_like", "ones_like", "zeros_like", "rand_like", "randn_like"),
        *("new_empty", "new_empty_strided", "new_full", "new_ones", "new_zeros"),
    )
}
# Products of queries with keys, and of the scores with values, in one operation.
_ATTENTION = {
    "aten::_scaled_dot_product_attention_math",
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "aten::scaled_dot_product_attention",
}


def preload_exporter() -> None:
    """Import what an exporter imports when it is first used, once for all networks."""
    for name in (
        "onnxscript.optimizer",
        "torch._dynamo",
        "torch.export",
        "torch.onnx._internal.exporter._compat",
        "torch.onnx._internal.exporter._torchlib._torchlib_registry",
        "torch.onnx._internal.exporter._torchlib.ops",
    ):
        importlib.import_module(name)


def list_in_rounds(
    sizes: Mapping[str, tuple[str, int]],
) -> Iterator[tuple[str, str, str]]:
    """List family, network and exporter: the smallest networks of all families, then the next.

    ``sizes`` are the family and the number of parameters of each network.
    """
    families: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name, (family, parameters) in sizes.items():
        if parameters <= _MOST_PARAMETERS:
            families[family].append((parameters, name))
    names = ([(family, name) for _, name in sorted(each)] for family, each in families.items())
    for members in zip_longest(*names):
        for exporter in EXPORTERS:
            for family, name in filter(None, members):
                yield family, name, exporter


def randomise(network: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give weights that a network starts with as zeros or ones, and statistics, random values.

    Otherwise every residual branch that ends with a scale of zero would be zero.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.is_floating_point() and bool((parameter == parameter.flatten()[:1]).all()):
                noise = torch.rand(parameter.shape, generator=generator) * 0.2 - 0.1
                parameter.add_(noise.to(parameter.dtype))
        for name, statistic in network.named_buffers():
            if name.endswith(_RUNNING):
                low = 0.5 if name.endswith("var") else -0.1
                high = 1.5 if name.endswith("var") else 0.1
                noise = torch.rand(statistic.shape, generator=generator)
                statistic.copy_(noise * (high - low) + low)
    # What is computed from weights alone becomes a constant, which must not require a gradient.
    return network.requires_grad_(requires_grad=False).eval()


def export(
    network: torch.nn.Module, inputs: dict[str, torch.Tensor], exporter: str, folder: Path
) -> BuiltModel:
    """Export a network of positional inputs with a free number of samples, and run it."""
    dynamo, opset = EXPORTERS[exporter]
    path = folder / "model.onnx"
    torch.set_num_threads(1)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outputs = _flatten(network(*inputs.values()))
        names = [f"output{number}" for number in range(len(outputs))]
        ways: dict[str, Any]
        if dynamo:
            batch = torch.export.Dim("batch", max=64)
            ways = {"dynamic_shapes": _name_batch(network, batch, inputs), "external_data": False}
        else:
            ways = {"dynamic_axes": {name: {0: "batch"} for name in (*inputs, *names)}}
        torch.onnx.export(
            network,
            tuple(inputs.values()),
            path,
            input_names=[*inputs],
            output_names=names,
            opset_version=opset,
            dynamo=dynamo,
            verbose=False,
            **ways,
        )
    # An exporter drops inputs on which nothing depends.
    read = {value.name for value in onnx.load(path, load_external_data=False).graph.input}
    return BuiltModel(
        path,
        {name: value.numpy() for name, value in inputs.items() if name in read},
        outputs=[output.detach().numpy() for output in outputs],
        linear_calls=count_linear_calls(lambda: network(*inputs.values()), [*inputs.values()]),
        hooked=lambda: run_hooked(network, [*inputs.values()]),
    )


def _name_batch(network: torch.nn.Module, batch: Any, inputs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Name the first axis of all inputs, in the structure that the network's call has."""
    axes = tuple({0: batch} for _ in inputs)
    parameters = inspect.signature(network.forward).parameters.values()
    gathered = [each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters]
    return (axes,) if gathered == [True] else axes


def _flatten(value: Any) -> list[torch.Tensor]:
    """List the tensors of a network's result, as exporters do."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for each in value.values() for tensor in _flatten(each)]
    if isinstance(value, list | tuple):
        return [tensor for each in value for tensor in _flatten(each)]
    return []


def run_hooked(
    network: torch.nn.Module, inputs: Sequence[torch.Tensor]
) -> list[NDArray[np.generic]]:
    """Run a network; return the results of all its modules in order of execution."""
    seen: list[NDArray[np.generic]] = []

    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        seen.extend(tensor.detach().numpy() for tensor in _flatten(output))

    hooks = [module.register_forward_hook(keep) for module in network.modules()]
    with torch.no_grad():
        network(*inputs)
    for hook in hooks:
        hook.remove()
    return seen


class _LinearCalls(TorchDispatchMode):
    """Counts products of what depends on an input with what does not."""

    def __init__(self, inputs: Sequence[torch.Tensor]) -> None:
        super().__init__()
        # Kept, so that their addresses are not given to others.
        self._tensors = [*inputs]
        self._dynamic = {_address(tensor) for tensor in inputs}
        # Of each operation on them: its products, what it reads and what it computes.
        self._operations: list[tuple[int, set[int], set[int]]] = []

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = operator(*args, **(kwargs or {}))
        name = operator.name().partition(".")[0]
        if name in _EMPTY:
            return result
        leaves = torch.utils._pytree.tree_leaves((args, kwargs))
        tensors = [each for each in leaves if isinstance(each, torch.Tensor)]
        reads = {_address(tensor) for tensor in tensors} & self._dynamic
        if reads:
            made = _flatten(result)
            products = self._count_products(name, args)
            self._tensors += made
            writes = set(map(_address, made))
            self._operations.append((products, reads, writes))
            self._dynamic |= writes
        return result

    def _count_products(self, name: str, args: Sequence[Any]) -> int:
        if name in _ATTENTION:
            query, key, value = (_address(tensor) in self._dynamic for tensor in args[:3])
            return (query != key) + ((query or key) != value)
        places = _PRODUCTS.get(name, ())
        return int(sum(_address(args[place]) in self._dynamic for place in places) == 1)

    def count(self, outputs: Sequence[torch.Tensor]) -> int:
        """Count the products on which outputs depend: an exporter drops the others."""
        total, needed = 0, set(map(_address, outputs))
        for products, reads, writes in reversed(self._operations):
            if not needed.isdisjoint(writes):
                total += products
                needed |= reads
        return total


def count_linear_calls(run: Callable[[], Any], inputs: Sequence[torch.Tensor]) -> int:
    """Count how often PyTorch multiplies data by weights while it runs a network."""
    # One fused kernel for all of an encoder layer would hide its products.
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), _LinearCalls(inputs) as calls:
            outputs = _flatten(run())
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return calls.count(outputs)


def _address(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata
