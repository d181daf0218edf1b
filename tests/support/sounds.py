"""Sound files, written as their formats are described."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike


def wave_bytes(values: ArrayLike, rate: int = 16_000, bits: int = 16) -> bytes:
    """Encode whole numbers or floats, (frames,) or (frames, channels), as a WAV file."""
    frames = np.asarray(values)
    frames = frames[:, None] if frames.ndim == 1 else frames
    channels = frames.shape[1]
    floating = frames.dtype.kind == "f"
    if floating:
        data = frames.astype(f"<f{bits // 8}").tobytes()
    elif bits == 8:
        data = (frames + 128).astype(np.uint8).tobytes()
    else:
        wide = frames.astype("<i4").reshape(-1, 1).view(np.uint8)
        data = wide[:, : bits // 8].tobytes()
    size = channels * bits // 8
    form = struct.pack("<HHIIHH", 3 if floating else 1, channels, rate, rate * size, size, bits)
    chunks = b"fmt " + struct.pack("<I", len(form)) + form
    chunks += b"data" + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def write_wave(path: Path, values: ArrayLike, rate: int = 16_000, bits: int = 16) -> Path:
    """Write a WAV file, and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wave_bytes(values, rate, bits))
    return path


def noise(length: int, seed: int = 0, scale: int = 3000) -> np.ndarray:
    """Draw 16-bit amplitudes."""
    return (np.random.default_rng(seed).normal(size=length) * scale).astype(np.int16)
