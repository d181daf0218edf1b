"""PyTorch's exporter, made ready once a process."""

from __future__ import annotations

from contextlib import suppress
from copy import copy
from functools import cache
from typing import Any


def keep_operators() -> None:
    """Let the exporter keep its translations of PyTorch's operators.

    It parses some 500 functions anew for each export, which is two thirds of a small network's.
    Each export gets a copy of the table that they end in, as it may add its own.
    """
    # A version of PyTorch with another exporter is slower, and no worse.
    with suppress(ImportError, AttributeError):
        from torch.onnx._internal.exporter._registration import ONNXRegistry

        read = cache(ONNXRegistry.from_torchlib)

        def from_torchlib(*version: int, **options: int) -> Any:
            table = copy(read(*version, **options))
            table.functions = {name: [*each] for name, each in table.functions.items()}
            return table

        ONNXRegistry.from_torchlib = staticmethod(from_torchlib)
