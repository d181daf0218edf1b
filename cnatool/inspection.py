"""A look into a model without data: its tensors, found by running it on random numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnatool.backend.network import open_network
from cnatool.backend.session import provider_name
from cnatool.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnatool.backend.network import FeedSpec, Network
    from cnatool.store.records import SkippedTensor, TensorRecord

__all__ = ["ModelInspection", "inspect_model"]

_SAMPLES = 3


@dataclass(frozen=True, slots=True)
class ModelInspection:
    """What is in a model.

    Attributes
    ----------
    network : Network
        The model and its layers.
    tensors : list of TensorRecord
        Tensors with a sample axis, in execution order.
    skipped : list of SkippedTensor
        The others, each with its reason.
    """

    network: Network
    tensors: list[TensorRecord]
    skipped: list[SkippedTensor]


def inspect_model(path: str | Path, input_shape: Sequence[int] | None = None) -> ModelInspection:
    """List a model's tensors and layers.

    Parameters
    ----------
    path : str or Path
        An ONNX file.
    input_shape : sequence of int, optional
        Shape of one sample, for a model that leaves it open.

    Raises
    ------
    ModelError
        If the model cannot be read, does not load, or leaves a shape open.
    UsageError
        If ``input_shape`` does not fit the model.
    BackendError
        If the runtime fails.
    """
    network = open_network(Path(path))
    rng = np.random.default_rng(0)
    feeds = {}
    for feed in network.feeds:
        shape = _sample_shape(network, feed, input_shape)
        numbers = rng.random((feed.batch or _SAMPLES, *shape))
        feeds[feed.name] = numbers.astype(feed.dtype)
    tensors, skipped = network.probed(feeds, provider=provider_name("cpu"))
    return ModelInspection(network, tensors, skipped)


def _sample_shape(
    network: Network, feed: FeedSpec, wanted: Sequence[int] | None
) -> tuple[int, ...]:
    if wanted is None:
        if feed.shape is None or None in feed.shape:
            raise ModelError(
                f"{network.graph.path}: input {feed.name!r} leaves its shape open. "
                "Give the shape of one sample, as in --input-shape 3,224,224."
            )
        return tuple(size for size in feed.shape if size is not None)
    if feed.shape is not None:
        fits = len(wanted) == len(feed.shape) and all(
            size in (None, given) for size, given in zip(feed.shape, wanted, strict=True)
        )
        if not fits:
            raise UsageError(
                f"--input-shape {','.join(map(str, wanted))}: input {feed.name!r} of "
                f"{network.graph.path} takes {feed.shape}."
            )
    return tuple(wanted)
