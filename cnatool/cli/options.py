"""Arguments and options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnatool._util.local_paths import check_downloaded, check_local
from cnatool.cli.console import key_values
from cnatool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_CODES = (
    "Exit codes: 0 success; 1 a check failed (compare, verify), or a store was left out (study, "
    "trajectory, landscape, plot); 2 wrong usage, or data "
    "or a model that cannot be used; 3 a store that is damaged, in use, or cannot be written; 4 "
    "the runtime failed, memory ran out, or an internal error; 129 the terminal was closed; 130 "
    "interrupted; 141 the reader of the output is gone; 143 terminated."
)


class _Codec(StrEnum):
    none = "none"
    lz4 = "lz4"
    zstd = "zstd"
    gzip = "gzip"


ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="The ONNX file.")]
DataArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="DATA",
        help="Samples: .npz, .npy, Parquet, CSV, HDF5, Zarr or safetensors files, a folder of "
        "pictures, WebDataset archives, the files of MNIST or CIFAR, or a folder with train and "
        "test parts of any of these; FILE.h5::NAME means an array inside.",
    ),
]
TestOption = Annotated[
    Path | None,
    typer.Option(metavar="STORE2", help="The test split's store; STORE is the training split."),
]
ConventionOption = Annotated[
    str,
    typer.Option(metavar="NAME", help="Definitions to use: paper, reference or legacy."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Override a field of the convention, as for `cnatool score`. Repeatable.",
    ),
]
TestFolderOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR2",
        help="Folder with the stores of the test split, under the same names as STORES.",
    ),
]
ScoresOutputOption = Annotated[
    str | None,
    typer.Option(
        "--scores-output", metavar="NAME", help="The model output that holds the class scores."
    ),
]
StrictOption = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Stop at the first store that cannot be used, with its error and exit code; by "
        "default it is left out, and the exit code is 1.",
    ),
]
OrderOption = Annotated[
    str | None,
    typer.Option(
        metavar="TAG",
        help="The tag that holds the step as a number; by default the only tag that differs in "
        "every store of a run, else the order in which the stores are given.",
    ),
]
RunTagOption = Annotated[
    str | None, typer.Option(metavar="TAG", help="The tag that distinguishes runs.")
]
InputsOption = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="STORE",
        help="The store with the raw inputs that a store refers to, if it was moved. Repeatable.",
    ),
]
CodecOption = Annotated[
    _Codec | None,
    typer.Option(
        help="Compression of arrays; by default lz4 in Zarr, none in HDF5, which also has gzip."
    ),
]
ConstantOption = Annotated[
    list[str] | None,
    typer.Option(
        "--constant",
        metavar="INPUT=VALUE",
        help="An input that is the same for every sample: a number, numbers with commas, a "
        "number and a shape (0:1x8x64), or FILE.npy. Repeatable.",
    ),
]
CustomOpsOption = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="A library of custom operators. Repeatable."),
]


def read_constants(words: Sequence[str]) -> dict[str, Any]:
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
        check_local(text)
        check_downloaded(Path(text))
        try:
            return np.load(Path(text), allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UsageError(f"--constant {name}={text}: cannot be read ({error}).") from None
    try:
        number, colon, shape = text.partition(":")
        if colon:
            # A view of one number: an array of this shape may not fit into memory.
            return np.broadcast_to(_number(number), [_length(word) for word in shape.split("x")])
        numbers = [_number(word) for word in text.split(",")]
    except ValueError:
        raise UsageError(
            f"--constant {name}={text}: a number, numbers with commas between them, a number and "
            "a shape as in 0:1x8x64, or FILE.npy."
        ) from None
    return numbers[0] if len(numbers) == 1 else numbers


def _length(word: str) -> int:
    if not word.isdecimal() or int(word) > 1 << 24:
        raise ValueError
    return int(word)


def _number(word: str) -> float | int | bool:
    known = {"true": True, "false": False}
    if word.strip().lower() in known:
        return known[word.strip().lower()]
    try:
        return int(word)
    except ValueError:
        return float(word)
