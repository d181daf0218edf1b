"""The table of data formats, and the format that a file or folder is in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util.local_paths import check_downloaded
from cnatool._util.urls import ObjectURL
from cnatool.data.file_names import IMAGES, LABEL_TABLES, SOUNDS
from cnatool.data.format import (
    Format,
    files_of,
    has_suffix,
    holds_files,
    itself,
    list_folders,
    path_of,
)
from cnatool.data.formats.cifar import cifar_kind
from cnatool.data.formats.idx import find_idx_files, looks_like_idx
from cnatool.data.location import Location, locate
from cnatool.data.read_errors import read_error
from cnatool.data.selection import SINGLE_INPUT, ArraySelection
from cnatool.data.text_formats import TEXT_FORMATS
from cnatool.errors import DataError, UsageError
from cnatool.store.format_table import holds_store

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cnatool.data.file_names import FileKind
    from cnatool.data.source import Source


def open_source(
    place: Path | Location, selection: ArraySelection = SINGLE_INPUT, format_name: str | None = None
) -> Source:
    """Open the samples of one split."""
    location = place if isinstance(place, Location) else locate(place)
    try:
        if location.array is None and holds_store(location.path):
            raise DataError(
                f"{location} is a store that cnatool wrote, not samples. To read the raw inputs in "
                f"it, give {location}::splits/SPLIT/inputs/0."
            )
        formats = TEXT_FORMATS if selection.takes_texts else FORMATS
        if format_name is None:
            fmt = _detect(location, formats)
        else:
            fmt = find_format(format_name, texts=selection.takes_texts)
        if location.array is not None and not fmt.arrays:
            raise DataError(
                f"{location}: {fmt.description} has no arrays to choose with ::; give "
                f"{location.path} alone."
            )
        if selection.labels is not None and not fmt.labels:
            raise UsageError(
                f"`labels={selection.labels}`: {location} is {fmt.description}, in which labels "
                f"have no name. Leave `labels` out: {fmt.labels_from}."
            )
        if fmt.folder and isinstance(location.path, ObjectURL) and location.path.is_dir():
            raise DataError(
                f"{location} is {fmt.description}, which is read from a disk only: each file in it "
                "would be a request of its own. Pack it into a few files, images into .tar "
                "archives (WebDataset) or Parquet, or copy it to a disk."
            )
        return fmt.open(location, selection)
    except DataError:
        # The file may be a pointer to one that was not downloaded.
        for path in location.files or (location.path,):
            check_downloaded(path)
        raise
    except OSError as error:
        raise read_error(error.filename or location, error, "") from error


def find_format(name: str, *, texts: bool = False) -> Format:
    """Return the format of a name, of texts or of other samples; UsageError if there is none."""
    formats = TEXT_FORMATS if texts else FORMATS
    for fmt in formats:
        if fmt.name == name:
            return fmt
    why = ""
    if any(fmt.name == name for fmt in TEXT_FORMATS):
        why = (
            " gives texts, and the model does not take strings: `tokenizer=PATH` turns texts into "
            "token ids. For other samples,"
        )
    elif texts and any(fmt.name == name for fmt in FORMATS):
        why = " gives no texts, which the model takes:"
    names = ", ".join(fmt.name for fmt in formats)
    raise UsageError(f"`format={name}`{why or ':'} choose from {names}.")


def holds_texts(location: Location) -> bool:
    """Whether a location seems to hold texts, and no other samples."""
    return any(
        fmt.matches(location) for fmt in TEXT_FORMATS if fmt.name in ("txt", "jsonl", "texts")
    )


def _detect(location: Location, formats: Sequence[Format]) -> Format:
    matches = [fmt for fmt in formats if fmt.matches(location)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        ways = " or as ".join(fmt.description for fmt in matches)
        options = " or ".join(f"`format={fmt.name}`" for fmt in matches)
        raise DataError(f"{location} can be read as {ways}: choose one with {options}.")
    # Class folders without images: the error of that format names what is missing.
    if location.path.is_dir() and not location.files and list_folders(location.path):
        if isinstance(location.path, ObjectURL):
            raise DataError(
                f"{location} has no samples, only folders, and none is named after a split, such "
                "as train or test. Name the folder or file of the samples, or each split with "
                "`splits={'NAME': PATH}`."
            )
        return find_format("pictures") if formats is FORMATS else find_format("texts", texts=True)
    kind = "folder" if location.path.is_dir() else "file"
    pickled = _pickle_advice(location.path)
    samples = "samples" if formats is FORMATS else "texts, which the model takes,"
    raise DataError(
        f"{location} is not a {kind} of {samples} in a known format{pickled}. "
        f"Known formats are {', '.join(fmt.description for fmt in formats)}."
    )


def _pickle_advice(path: Path) -> str:
    """Return what to do about pickled data, which are never read."""
    names = [file.name for file in path.iterdir()] if path.is_dir() else [path.name]
    if any(name == "batches.meta" or name.startswith("data_batch_") for name in names):
        return (
            " (pickled batches are never unpickled: use CIFAR's binary version, whose files end in "
            ".bin)"
        )
    if any(name.endswith((".pkl", ".pickle", ".pt", ".pth")) for name in names):
        return " (pickled files are never unpickled: save the arrays with numpy.savez)"
    return ""


def _is_idx(location: Location) -> bool:
    if location.path.is_dir():
        return bool(find_idx_files(location.path)) and not location.files
    # A pipe or a device has no size and cannot be read twice.
    return location.path.is_file() and looks_like_idx(location.path)


def _is_cifar(name: str) -> Callable[[Location], bool]:
    def matches(location: Location) -> bool:
        files = location.files_ending_in(".bin")
        return bool(files) and cifar_kind(files) == name

    return matches


def _is_zarr(location: Location) -> bool:
    if location.path.is_dir():
        return any((location.path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))
    return location.path.is_file() and location.path.name.lower().endswith(".zarr.zip")


def _holds_kind(kind: FileKind) -> Callable[[Location], bool]:
    def matches(location: Location) -> bool:
        if not location.path.is_dir() or location.files:
            return False
        if any(map(kind.lies_in, list_folders(location.path))):
            return True
        # Files without classes, unless a table lists them.
        return kind.lies_in(location.path) and not _has_file_table(location)

    return matches


def _has_file_table(location: Location) -> bool:
    return location.path.is_dir() and any((location.path / name).is_file() for name in LABEL_TABLES)


_TARS = (".tar", ".tar.gz", ".tgz")

FORMATS: tuple[Format, ...] = (
    Format("npz", "a .npz archive", has_suffix(".npz"), "npy.open_npz", path_of, labels=True),
    Format(
        "npy",
        "a .npy file",
        has_suffix(".npy"),
        "npy.open_npy",
        path_of,
        labels_from="they are read from NAME_labels.npy beside NAME.npy",
    ),
    Format(
        "parquet",
        ".parquet files",
        holds_files(".parquet"),
        "parquet.open_parquet",
        files_of(".parquet"),
        labels=True,
    ),
    Format(
        "csv",
        "a .csv or .tsv table",
        has_suffix(".csv", ".tsv"),
        "csv.open_csv",
        lambda location: location.files or (location.path,),
        labels=True,
    ),
    Format(
        "idx",
        "IDX (MNIST's files, plain or .gz)",
        _is_idx,
        "idx.open_idx",
        path_of,
        labels_from="they are read from the IDX file of labels beside it",
    ),
    Format(
        "cifar10",
        "CIFAR-10's .bin",
        _is_cifar("cifar10"),
        "cifar.open_cifar10",
        files_of(".bin"),
        labels=True,
    ),
    Format(
        "cifar100",
        "CIFAR-100's .bin",
        _is_cifar("cifar100"),
        "cifar.open_cifar100",
        files_of(".bin"),
        labels=True,
    ),
    Format(
        "hdf5",
        "an HDF5 file",
        has_suffix(".h5", ".hdf5", ".hdf"),
        "hdf5.open_hdf5",
        itself,
        labels=True,
        arrays=True,
    ),
    Format(
        "zarr",
        "a Zarr folder or .zarr.zip",
        _is_zarr,
        "zarr.open_zarr",
        itself,
        folder=True,
        labels=True,
        arrays=True,
    ),
    Format(
        "webdataset",
        "WebDataset .tar files",
        holds_files(*_TARS),
        "webdataset.open_webdataset",
        files_of(*_TARS),
        labels=True,
    ),
    Format(
        "safetensors",
        "a .safetensors file",
        has_suffix(".safetensors"),
        "safetensors.open_safetensors",
        path_of,
        labels=True,
    ),
    Format(
        "pictures",
        "a folder of images by class",
        _holds_kind(IMAGES),
        "image_folder.open_image_folder",
        path_of,
        folder=True,
        labels_from="the folder of an image is its class",
    ),
    Format(
        "sounds",
        "a folder of sound files by class",
        _holds_kind(SOUNDS),
        "audio_folder.open_audio_folder",
        path_of,
        folder=True,
        labels_from="the folder of a sound file is its class",
    ),
    Format(
        "listed",
        "a folder of images or sound files with a labels.csv",
        _has_file_table,
        "file_table.open_file_table",
        path_of,
        folder=True,
        labels=True,
    ),
)
