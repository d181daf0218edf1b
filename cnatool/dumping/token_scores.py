"""What a dump computes of the tokens of each sample, and what it notes about that."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cnatool._util.text import bytes_text
from cnatool.records.store import StoreRecord, TensorRecord, TokensRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnatool.backend.probe.token_outputs import TokenOutput


def plan_scores(output: TokenOutput | None) -> TokensRecord | None:
    """Decide whether the loss of each token is computed while the model runs."""
    if output is None or output.direction != "next":
        return None
    return TokensRecord("next", output.ids, output.name, output.classes, output.kind, output.mask)


def list_scores(output: TokenOutput | None, tensors: Sequence[TensorRecord]) -> list[str]:
    """List the output and the tensors of its shape that lead to it, or follow it."""
    if output is None:
        return []
    return [
        tensor.name
        for tensor in tensors
        if tensor.name == output.name or (tensor.role == "output" and tensor.shape == output.shape)
    ]


def describe_scores(output: TokenOutput, record: StoreRecord) -> str:
    """Describe in a line what an output says of the next token, and whether it is stored."""
    scores = f"output {output.name!r} has {output.classes:,} scores at each token"
    if output.direction == "both":
        return (
            f"{scores}, which depend on later tokens as well, as in a masked language model: there "
            "is no loss of the next token"
        )
    if output.direction == "unknown":
        return (
            f"{scores}, and two runs do not show whether they depend on later tokens: there is no "
            "loss of the next token"
        )
    text = (
        f"{scores} of {output.ids!r}, and none of them depends on later tokens: loss and accuracy "
        "of the next token are stored"
    )
    if output.mask is not None:
        text += f", without padding by {output.mask!r}"
    if any(array.name == output.name for array in record.outputs):
        return text
    size = bytes_text(math.prod(output.shape) * np.dtype(output.dtype).itemsize)
    return (
        f"{text}, and not the scores, which take {size} for a sample of "
        f"{output.shape[0]:,} tokens (`tensors={output.name!r}` stores them)"
    )
