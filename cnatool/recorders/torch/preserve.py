"""Running a PyTorch network without side effects on buffers and random states."""

from __future__ import annotations

import random
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

_WITH_GENERATORS = ("cuda", "xpu")


@contextmanager
def preserve_buffers(network: torch.nn.Module) -> Iterator[None]:
    """Let a network write to copies of its buffers; shared buffers share their copy."""
    buffers = [
        (module, name, buffer)
        for module in network.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    copies = {id(buffer): buffer for _, _, buffer in buffers}
    copies = {key: buffer.clone() for key, buffer in copies.items()}
    for module, name, buffer in buffers:
        module._buffers[name] = copies[id(buffer)]
    try:
        yield
    finally:
        for module, name, buffer in buffers:
            module._buffers[name] = buffer


@contextmanager
def preserve_random_state(network: torch.nn.Module) -> Iterator[None]:
    """Restore the random states of PyTorch, Python and NumPy afterwards."""
    devices = {parameter.device for parameter in network.parameters()}
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng([]))
        for kind in _WITH_GENERATORS:
            own = sorted({device.index or 0 for device in devices if device.type == kind})
            if own:
                stack.enter_context(torch.random.fork_rng(own, device_type=kind))
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002
