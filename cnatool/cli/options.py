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

    from cnatool.dumping.options import PreparedBy

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


class _KeepInputs(StrEnum):
    values = "values"
    levels = "levels"


class OnError(StrEnum):
    """What happens at a sample that cannot be read."""

    stop = "stop"
    skip = "skip"


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
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format", metavar="NAME", help="The format of DATA, where it could be read in two."
    ),
]
SplitOption = Annotated[
    list[str] | None,
    typer.Option(
        "--split", metavar="NAME=PATH", help="A split and its data, instead of DATA. Repeatable."
    ),
]
LabelsOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Name of the array or column of labels, or none to leave labels out."
    ),
]
LabelOffsetOption = Annotated[
    int,
    typer.Option(metavar="N", help="Add N to every label: -1 where labels start at 1."),
]
SplitColumnOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="The column that names the split of each row.")
]
HoldoutOption = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Hold out this share of the training samples, chosen at random, as test (or val).",
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
SeedOption = Annotated[
    int, typer.Option(metavar="N", min=0, help="Seed of --holdout and --flatness.")
]
LimitOption = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Take the first N samples of each split.")
]
KeepInputsOption = Annotated[
    _KeepInputs | None,
    typer.Option(
        help="Store raw pictures (values), or the counts of their 256 levels, which suffice for α "
        "(levels); by default levels where picture files are resized."
    ),
]
OnErrorOption = Annotated[
    OnError,
    typer.Option(help="What to do with a sample that cannot be read: stop, or skip and list it."),
]
FollowLinksOption = Annotated[
    bool,
    typer.Option(
        "--follow-links", help="Follow symbolic links that lead out of a folder of pictures."
    ),
]
InputOption = Annotated[
    list[str] | None,
    typer.Option(
        "--input",
        metavar="INPUT=ARRAY",
        help="The array or column that feeds an input, where their names differ. Repeatable.",
    ),
]
ScaleOption = Annotated[
    str | None,
    typer.Option(
        metavar="S|1/N",
        help="Factor for each value; by default 1/255 for 8-bit pictures, "
        "unless the model rescales them itself.",
    ),
]
MeanOption = Annotated[
    str | None,
    typer.Option(metavar="M[,M…]", help="Subtracted after scaling; one value, or one per channel."),
]
StdOption = Annotated[
    str | None,
    typer.Option(
        metavar="S[,S…]", help="Divisor after subtracting the mean; one value, or one per channel."
    ),
]
LayoutOption = Annotated[
    str | None,
    typer.Option(
        metavar="[FROM->]TO", help="How to arrange a sample: chw, hwc, flat, flat-chw, flat-hwc."
    ),
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
PreprocessOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.json|yaml|toml",
        help="How samples are prepared: a file as in docs/preprocessing.md, or one of transformers "
        "or timm; the options below override it.",
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
    typer.Option(metavar="SIDE|HxW", help="Then crop the centre: a square, or height and width."),
]
InterpolationOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Interpolation: nearest, box, bilinear (default), hamming, bicubic, lanczos.",
    ),
]
ColourOption = Annotated[
    str | None,
    typer.Option(metavar="as-is|rgb|bgr|grey", help="Convert the channels of pictures."),
]
CustomOpsOption = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", help="A library of custom operators. Repeatable."),
]


def prepared_by(
    preprocess: Path | None,
    resize: str | None,
    crop: str | None,
    interpolation: str | None,
    colour: str | None,
    scale: str | None,
    mean: str | None,
    std: str | None,
    layout: str | None,
) -> PreparedBy:
    """Read the words that say how samples are prepared."""
    # It needs Pillow, for which no help should wait.
    from cnatool.data.images.transform import (
        parse_colour,
        parse_crop,
        parse_interpolation,
        parse_resize,
    )

    return {
        "preprocess": preprocess,
        "resize": parse_resize(resize) if resize else None,
        "crop": parse_crop(crop) if crop else None,
        "interpolation": parse_interpolation(interpolation) if interpolation else None,
        "colour": parse_colour(colour) if colour else None,
        "scale": _fraction("--scale", scale),
        "mean": _numbers("--mean", mean),
        "std": _numbers("--std", std),
        "layout": layout,
    }


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


def _fraction(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    above, slash, below = text.partition("/")
    try:
        return float(above) / float(below) if slash else float(text)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"{option} {text}: a number, or a fraction as in 1/255.") from None


def _numbers(option: str, text: str | None) -> tuple[float, ...]:
    if text is None:
        return ()
    try:
        return tuple(float(word) for word in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text}: numbers with commas between them.") from None
