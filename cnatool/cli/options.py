"""Arguments and options that several commands share."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cnatool.cli.completion import complete_from, complete_override, complete_store

if TYPE_CHECKING:
    from contextlib import AbstractContextManager


EXIT_CODES = (
    "Exit codes: 0 success; 1 a check failed (compare, verify), or a store was skipped (study, "
    "trajectory, landscape, plot); 2 wrong usage, or data or a model that cannot be used; 3 a "
    "store that is damaged, in use, or cannot be written, or a bucket that does not respond or "
    "refuses access; 4 the runtime failed, memory ran out, or an internal error; 129 the terminal "
    "was closed; 130 interrupted; 141 the reader of the output is gone; 143 terminated."
)


# Panels of the help.
STORES = "Stores"
DEFINITIONS = "Definitions"
OUTPUT = "Output"


CONVENTIONS = ("paper", "reference", "legacy")


ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="The ONNX file.")]
DataArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="DATA",
        help="Samples: .npz, .npy, Parquet, CSV, HDF5, Zarr or safetensors files, a folder of "
        "images, WebDataset archives, the files of MNIST or CIFAR, or a folder with train and "
        "test parts of any of these; FILE.h5::NAME names an array inside a file. DATA may also be "
        "the URL of a bucket (s3://, gs://, az://).",
    ),
]
StoreArgument = Annotated[
    Path, typer.Argument(metavar="STORE", help="The store.", autocompletion=complete_store)
]
StoresArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="STORE", help="Stores, and folders of stores.", autocompletion=complete_store
    ),
]
TestOption = Annotated[
    Path | None,
    typer.Option(
        metavar="STORE2",
        autocompletion=complete_store,
        help="Store of the test split; STORE then contains the training split.",
        rich_help_panel=STORES,
    ),
]
TestFolderOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR2",
        help="Folder that contains the stores of the test split, with the same names as STORE.",
        rich_help_panel=STORES,
    ),
]
InputsOption = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="STORE",
        autocompletion=complete_store,
        help="Store that contains the raw inputs that another store refers to, if it has moved. "
        "Repeatable.",
        rich_help_panel=STORES,
    ),
]
StrictOption = Annotated[
    bool,
    typer.Option(
        "--strict",
        help="Stop at the first store that cannot be used, with its error and exit code; by "
        "default such stores are skipped, and the exit code is 1.",
        rich_help_panel=STORES,
    ),
]
OrderOption = Annotated[
    str | None,
    typer.Option(
        metavar="TAG",
        help="Tag whose value is the step, a number; by default the only tag that differs in "
        "every store of a run, or otherwise the order of the stores.",
        rich_help_panel=STORES,
    ),
]
RunTagOption = Annotated[
    str | None,
    typer.Option(metavar="TAG", help="Tag that distinguishes runs.", rich_help_panel=STORES),
]
ConventionOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Convention to follow: paper, reference or legacy.",
        autocompletion=complete_from(*CONVENTIONS),
        rich_help_panel=DEFINITIONS,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        autocompletion=complete_override,
        help="Override a field of the convention, as for `cnatool score`. Repeatable.",
        rich_help_panel=DEFINITIONS,
    ),
]
ScoresOutputOption = Annotated[
    str | None,
    typer.Option(
        "--scores-output",
        metavar="NAME",
        help="Model output that contains the class scores; by default the one that the last layer "
        "leads to.",
        rich_help_panel=DEFINITIONS,
    ),
]
UnitsOutputOption = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE.parquet|csv",
        help="Write one row per unit to a file. In CSV, text that a spreadsheet would evaluate is "
        "preceded by a single quote.",
        rich_help_panel=OUTPUT,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print one JSON document instead.", rich_help_panel=OUTPUT)
]
OverwriteOption = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace an existing store.", rich_help_panel=OUTPUT),
]
QuietOption = Annotated[
    bool,
    typer.Option("-q", "--quiet", help="Print neither notes nor progress.", rich_help_panel=OUTPUT),
]
DaskOption = Annotated[
    str | None,
    typer.Option(
        "--dask",
        metavar="ADDRESS|FILE|local[:N]",
        help="Run on a Dask cluster: the address of its scheduler, its scheduler file, or local, "
        "which starts N worker processes on this machine.",
        rich_help_panel="How it runs",
    ),
]
FolderOption = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        "--folder",
        metavar="DIR",
        help="Write all results to this folder, and keep scores there for later runs to reuse.",
        rich_help_panel=OUTPUT,
    ),
]
SampleOption = Annotated[
    list[str] | None,
    typer.Option(
        "--sample",
        metavar="ID",
        help="Show the sample with this id as well. Repeatable.",
        rich_help_panel=OUTPUT,
    ),
]


def connect_client(address: str | None) -> AbstractContextManager[Any]:
    """Return the context of a client for ``--dask``; None in it without."""
    if address is None:
        return nullcontext()
    from cnatool._util.cluster_client import connect

    return connect(address)
