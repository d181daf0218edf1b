"""Words of the command line that more than one command reads."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnatool.cli.console import key_values
from cnatool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "CodecOption",
    "ColourOption",
    "ConstantOption",
    "CropOption",
    "CustomOpsOption",
    "InterpolationOption",
    "PreprocessOption",
    "ResizeOption",
    "constants",
]


class _Codec(StrEnum):
    none = "none"
    lz4 = "lz4"
    zstd = "zstd"
    gzip = "gzip"


CodecOption = Annotated[
    _Codec | None,
    typer.Option(
        help="How arrays are compressed; by default lz4 in Zarr, and none in HDF5, which offers "
        "gzip beside it."
    ),
]
ConstantOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="INPUT=VALUE",
        help="An input that is the same for every sample: a number, numbers with commas, or "
        "FILE.npy. Repeat it.",
    ),
]
PreprocessOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.json|yaml|toml",
        help="How samples are prepared: a file of docs/preprocessing.md, or of transformers or "
        "timm; the options below replace what it says.",
    ),
]
ResizeOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIDE|HxW", help="Resize pictures: the shorter side, or height and width."
    ),
]
CropOption = Annotated[
    str | None,
    typer.Option(metavar="SIDE|HxW", help="Then take the middle: a square, or height and width."),
]
InterpolationOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="How to resize: nearest, box, bilinear (by default), hamming, bicubic, lanczos.",
    ),
]
ColourOption = Annotated[
    str | None,
    typer.Option(metavar="as-is|rgb|bgr|grey", help="What the channels are turned into."),
]
CustomOpsOption = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="A library of custom operators. Repeat it."),
]


def constants(words: Sequence[str]) -> dict[str, Any]:
    """Read ``INPUT=VALUE`` words: a number, numbers with commas between them, or ``FILE.npy``.

    Raises
    ------
    UsageError
        If a word is none of these, or the file cannot be read.
    """
    return {
        name: _value(name, text)
        for name, text in key_values("--constant", words, "INPUT=VALUE").items()
    }


def _value(name: str, text: str) -> Any:
    import numpy as np

    if text.endswith(".npy"):
        try:
            return np.load(Path(text), allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UsageError(f"--constant {name}={text}: cannot be read ({error}).") from None
    try:
        numbers = [_number(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(
            f"--constant {name}={text}: a number, numbers with commas between them, or FILE.npy."
        ) from None
    return numbers[0] if len(numbers) == 1 else numbers


def _number(word: str) -> float | int | bool:
    known = {"true": True, "false": False}
    if word.strip().lower() in known:
        return known[word.strip().lower()]
    try:
        return int(word)
    except ValueError:
        return float(word)
