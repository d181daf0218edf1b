"""The table of data formats, and the format that a file or folder is in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from cnatool._util.local_paths import check_downloaded
from cnatool.data.file_names import LABEL_TABLES, holds_images, is_ignored
from cnatool.data.formats.cifar import cifar_kind
from cnatool.data.formats.idx import find_idx_files, looks_like_idx
from cnatool.data.formats.text import open_texts
from cnatool.data.location import Location, locate
from cnatool.data.read_errors import read_error
from cnatool.data.selection import SINGLE_INPUT, ArraySelection
from cnatool.errors import DataError, UsageError
from cnatool.store.format_table import holds_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cnatool.data.source import Source


@dataclass(frozen=True, slots=True)
class Format:
    """A format of samples."""

    name: str  # as users choose it
    description: str  # what it is, for messages
    # Whether a location looks like the format, by names and a few bytes at most
    matches: Callable[[Location], bool]
    # Module and function of `cnatool.data.formats` that open it. The module is imported on use:
    # arrays should not wait for Pillow.
    reader: str
    # What the function takes first, from the location; an `ArraySelection` comes second
    argument: Callable[[Location], Any]
    labels: bool = False  # whether the array of labels can be chosen
    labels_from: str = ""  # where labels are read from otherwise, for messages
    arrays: bool = False  # whether ``::`` can choose an array

    def open(self, at: Location, selection: ArraySelection) -> Source:
        """Open samples."""
        module, function = self.reader.split(".")
        reader = getattr(import_module(f"cnatool.data.formats.{module}"), function)
        source: Source = reader(self.argument(at), selection)
        return source


def open_source(
    place: Path | Location, selection: ArraySelection = SINGLE_INPUT, format_name: str | None = None
) -> Source:
    """Open the samples of one split."""
    at = place if isinstance(place, Location) else locate(place)
    try:
        if at.array is None and holds_store(at.path):
            raise DataError(
                f"{at} is a store that cnatool wrote, not samples. To read the raw inputs in it, "
                f"give {at}::splits/SPLIT/inputs/0."
            )
        if selection.text_shapes:
            return _open_texts(at, selection)
        fmt = _detect(at) if format_name is None else find_format(format_name)
        if at.array is not None and not fmt.arrays:
            raise DataError(
                f"{at}: {fmt.description} has no arrays to choose with ::; give {at.path} alone."
            )
        if selection.labels is not None and not fmt.labels:
            raise UsageError(
                f"`labels={selection.labels}`: {at} is {fmt.description}, in which labels have no "
                f"name. Leave `labels` out: {fmt.labels_from}."
            )
        return fmt.open(at, selection)
    except DataError:
        # A pointer may have been taken for anything.
        for path in at.files or (at.path,):
            check_downloaded(path)
        raise
    except OSError as error:
        raise read_error(error.filename or at, error, "") from error


def _open_texts(at: Location, selection: ArraySelection) -> Source:
    if len(at.files) > 1 or at.array is not None or selection.split_column is not None:
        raise DataError(
            f"{at}: the model takes texts, which are read from one file per split: join the parts "
            "of each split, as in `splits={'train': train.parquet, 'test': test.parquet}`."
        )
    return open_texts(at.files[0] if at.files else at.path, selection)


def find_format(name: str) -> Format:
    """Return the format of a name; raise a UsageError if there is none."""
    for fmt in FORMATS:
        if fmt.name == name:
            return fmt
    raise UsageError(f"`format={name}`: choose from {', '.join(fmt.name for fmt in FORMATS)}.")


def _detect(at: Location) -> Format:
    matches = [fmt for fmt in FORMATS if fmt.matches(at)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        ways = " or as ".join(fmt.description for fmt in matches)
        options = " or ".join(f"`format={fmt.name}`" for fmt in matches)
        raise DataError(f"{at} can be read as {ways}: choose one with {options}.")
    # Class folders without images: the error of that format tells best what they lack.
    if at.path.is_dir() and not at.files and _list_folders(at.path):
        return find_format("pictures")
    kind = "folder" if at.path.is_dir() else "file"
    raise DataError(
        f"{at} is not a {kind} of samples in a known format{_pickle_advice(at.path)}. Known "
        f"formats are {', '.join(fmt.description for fmt in FORMATS)}."
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


def _list_folders(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        return [entry.path for entry in entries if entry.is_dir() and not is_ignored(entry.name)]


def _has_suffix(*endings: str) -> Callable[[Location], bool]:
    def matches(at: Location) -> bool:
        files = at.files or ((at.path,) if at.path.is_file() else ())
        return bool(files) and all(file.name.lower().endswith(endings) for file in files)

    return matches


def _holds_files(*endings: str) -> Callable[[Location], bool]:
    return lambda at: bool(at.files_ending_in(*endings))


def _is_idx(at: Location) -> bool:
    if at.path.is_dir():
        return bool(find_idx_files(at.path)) and not at.files
    # A pipe or a device has no size and cannot be read twice.
    return at.path.is_file() and looks_like_idx(at.path)


def _is_cifar(name: str) -> Callable[[Location], bool]:
    def matches(at: Location) -> bool:
        files = at.files_ending_in(".bin")
        return bool(files) and cifar_kind(files) == name

    return matches


def _is_zarr(at: Location) -> bool:
    if at.path.is_dir():
        return any((at.path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))
    return at.path.is_file() and at.path.name.lower().endswith(".zarr.zip")


def _is_image_folder(at: Location) -> bool:
    if not at.path.is_dir() or at.files:
        return False
    if any(map(holds_images, _list_folders(at.path))):
        return True
    # Images without classes, unless a table lists them.
    return holds_images(str(at.path)) and not _has_image_table(at)


def _has_image_table(at: Location) -> bool:
    return at.path.is_dir() and any((at.path / name).is_file() for name in LABEL_TABLES)


def _path(at: Location) -> Path:
    return at.path


def _whole(at: Location) -> Location:
    return at


def _files(*endings: str) -> Callable[[Location], tuple[Path, ...]]:
    return lambda at: at.files_ending_in(*endings) or (at.path,)


_TARS = (".tar", ".tar.gz", ".tgz")

FORMATS: tuple[Format, ...] = (
    Format("npz", "a .npz archive", _has_suffix(".npz"), "npy.open_npz", _path, labels=True),
    Format(
        "npy",
        "a .npy file",
        _has_suffix(".npy"),
        "npy.open_npy",
        _path,
        labels_from="they are read from NAME_labels.npy beside NAME.npy",
    ),
    Format(
        "parquet",
        ".parquet files",
        _holds_files(".parquet"),
        "parquet.open_parquet",
        _files(".parquet"),
        labels=True,
    ),
    Format(
        "csv",
        "a .csv or .tsv table",
        _has_suffix(".csv", ".tsv"),
        "csv.open_csv",
        lambda at: at.files or (at.path,),
        labels=True,
    ),
    Format(
        "idx",
        "IDX (MNIST's files, plain or .gz)",
        _is_idx,
        "idx.open_idx",
        _path,
        labels_from="they are read from the IDX file of labels beside it",
    ),
    Format(
        "cifar10",
        "CIFAR-10's .bin",
        _is_cifar("cifar10"),
        "cifar.open_cifar10",
        _files(".bin"),
        labels=True,
    ),
    Format(
        "cifar100",
        "CIFAR-100's .bin",
        _is_cifar("cifar100"),
        "cifar.open_cifar100",
        _files(".bin"),
        labels=True,
    ),
    Format(
        "hdf5",
        "an HDF5 file",
        _has_suffix(".h5", ".hdf5", ".hdf"),
        "hdf5.open_hdf5",
        _whole,
        labels=True,
        arrays=True,
    ),
    Format(
        "zarr",
        "a Zarr folder or .zarr.zip",
        _is_zarr,
        "zarr.open_zarr",
        _whole,
        labels=True,
        arrays=True,
    ),
    Format(
        "webdataset",
        "WebDataset .tar files",
        _holds_files(*_TARS),
        "webdataset.open_webdataset",
        _files(*_TARS),
        labels=True,
    ),
    Format(
        "safetensors",
        "a .safetensors file",
        _has_suffix(".safetensors"),
        "safetensors.open_safetensors",
        _path,
        labels=True,
    ),
    Format(
        "pictures",
        "a folder of images by class",
        _is_image_folder,
        "image_folder.open_image_folder",
        _path,
        labels_from="the folder of an image is its class",
    ),
    Format(
        "listed",
        "a folder of images with a labels.csv",
        _has_image_table,
        "image_table.open_image_table",
        _path,
        labels=True,
    ),
)
