"""Per-sample statistics of TensorFlow tensors, computed on their device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from cnatool._util.bfloat16 import is_bfloat16

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from cnatool.records.choices import Statistic


def samples_first(tensor: Any, axis: int) -> Any:
    """Move the sample axis to the front."""
    if axis == 0:
        return tensor
    order = [axis, *(place for place in range(len(tensor.shape)) if place != axis)]
    return tf.transpose(tensor, order)


def device_statistics(rows: Any, names: Sequence[Statistic]) -> NDArray[np.float64]:
    """Compute statistics over the elements of each row, (S, n), in float64."""
    flat = tf.cast(tf.reshape(rows, (rows.shape[0], -1)), tf.float64)
    values: NDArray[np.float64] = tf.stack([_statistic(flat, name) for name in names]).numpy()
    return values


def _statistic(flat: Any, name: Statistic) -> Any:
    if name == "min":
        return tf.reduce_min(flat, axis=1)
    if name == "max":
        return tf.reduce_max(flat, axis=1)
    terms = {
        "sum": lambda: flat,
        "abs_sum": lambda: tf.abs(flat),
        "square_sum": lambda: tf.square(flat),
        "positive_sum": lambda: tf.maximum(flat, 0),
        "nonzero_count": lambda: tf.cast(tf.not_equal(flat, 0), tf.float64),
    }
    return tf.reduce_sum(terms[name](), axis=1)


def arrays(batch: Any) -> dict[str, NDArray[Any]]:
    """Convert arrays or tensors to NumPy arrays by name."""
    if isinstance(batch, Mapping):
        named = dict(batch)
    elif isinstance(batch, (tuple, list)) and batch and np.ndim(batch[0]):
        named = {f"input{number or ''}": item for number, item in enumerate(batch)}
    else:
        named = {"input": batch}
    return {name: _array(item) for name, item in named.items()}


def _array(value: Any) -> NDArray[Any]:
    array = np.asarray(value)
    # Types that NumPy lacks: bfloat16 is stored as it is, float8 as float32.
    lacks = array.dtype.kind == "V" and not is_bfloat16(array.dtype)
    return array.astype(np.float32) if lacks else array
