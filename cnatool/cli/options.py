"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXIT_CODES = (
    "Exit codes: 0 success; 1 a check failed (compare, verify), or a store was left out (study, "
    "trajectory, landscape, plot); 2 wrong usage, or data "
    "or a model that cannot be used; 3 a store that is damaged, in use, or cannot be written; 4 "
    "the runtime failed, memory ran out, or an internal error; 129 the terminal was closed; 130 "
    "interrupted; 141 the reader of the output is gone; 143 terminated."
)


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
