"""Files of samples, written as their formats are described."""

from __future__ import annotations

import io
import json
import struct
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


def write_tar(
    path: Path, members: Iterable[tuple[str, bytes]], mode: Any = "w", **how: Any
) -> Path:
    """Write an archive of members by name, in their order."""
    with tarfile.open(path, mode, **how) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def as_idx(array: np.ndarray) -> bytes:
    """Encode an array of bytes as MNIST's files are."""
    array = array.astype(np.uint8)
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def as_safetensors(**arrays: np.ndarray) -> bytes:
    """Encode arrays of bytes as a safetensors file: a length, JSON, one array after the other."""
    header, body = {}, b""
    for name, array in arrays.items():
        place = [len(body), len(body) + array.size]
        header[name] = {"dtype": "U8", "shape": array.shape, "data_offsets": place}
        body += array.astype(np.uint8).tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body
