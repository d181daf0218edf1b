"""From a place to a source: which formats there are, and which of them a file or folder is in."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnatool._util.local_paths import check_downloaded
from cnatool._util.text import printable
from cnatool.data.formats.text import open_texts
from cnatool.data.location import Location, locate
from cnatool.data.source import LABEL_TABLES, SINGLE_INPUT, ArraySelection, holds_images, is_ignored
from cnatool.errors import DataError, UsageError
from cnatool.store.format_table import holds_store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cnatool.data.source import Source

# A source's module is imported where it is needed: arrays should not wait for Pillow.


@dataclass(frozen=True, slots=True)
class Format:
    """One form that samples come in.

    Attributes
    ----------
    name : str
        As in ``--format``.
    text : str
        What it is, for messages.
    fits : callable
        Tells by names, and a few bytes at most, whether a place looks like it.
    open : callable
        Opens a place as it.
    labels : bool
        Whether ``--labels`` can say which labels are meant.
    labelled : str
        Where labels are read from if it cannot, for messages.
    arrays : bool
        Whether ``::`` can say which array is meant.
    """

    name: str
    text: str
    fits: Callable[[Location], bool]
    open: Callable[[Location, ArraySelection], Source]
    labels: bool = False
    labelled: str = ""
    arrays: bool = False


def open_source(
    place: Path | Location, wanted: ArraySelection = SINGLE_INPUT, form: str | None = None
) -> Source:
    """Open the samples of one split."""
    at = place if isinstance(place, Location) else locate(place)
    try:
        if at.array is None and holds_store(at.path):
            raise DataError(
                f"{at} is a store that cnatool wrote, not samples. For the raw inputs in it give "
                f"{at}::splits/SPLIT/inputs/0."
            )
        if wanted.text_shapes:
            return _open_texts(at, wanted)
        found = _found(at) if form is None else find_format(form)
        if at.array is not None and not found.arrays:
            raise DataError(
                f"{at}: {found.text} has no arrays to choose with ::; give {at.path} alone."
            )
        if wanted.labels is not None and not found.labels:
            raise UsageError(
                f"--labels {wanted.labels}: {at} is {found.text}, where labels have no name. "
                f"Leave --labels out: {found.labelled}."
            )
        return found.open(at, wanted)
    except DataError:
        # Whatever a pointer was taken for.
        for path in at.files or (at.path,):
            check_downloaded(path)
        raise
    except OSError as error:
        where = error.filename or at
        raise DataError(f"{where} cannot be read ({error.strerror or error}).") from error


def _open_texts(at: Location, wanted: ArraySelection) -> Source:
    if len(at.files) > 1 or at.array is not None or wanted.split_column is not None:
        raise DataError(
            f"{at}: the model takes texts, which are read from one file a split: join the parts of "
            "each split, as in --split train=train.parquet --split test=test.parquet."
        )
    return open_texts(at.files[0] if at.files else at.path, wanted)


def find_format(name: str) -> Format:
    """Give the format of a name.

    Raises
    ------
    UsageError
        If there is none.
    """
    for form in FORMATS:
        if form.name == name:
            return form
    raise UsageError(f"--format {name}: there are {', '.join(form.name for form in FORMATS)}.")


def find_idx_files(folder: Path) -> dict[str, Path]:
    """Give a folder's IDX images files by what stands before ``images``; one of two copies."""
    from cnatool.data.formats.idx import images_stem

    found: dict[str, Path] = {}
    # Sorted, "X" comes before "X.gz": torchvision leaves both.
    for file in sorted(folder.iterdir()):
        stem = images_stem(file.name)
        if stem is None:
            continue
        # Kaggle's MNIST has each file in a folder of the same name.
        inner = file / file.name
        if file.is_file():
            found[stem] = found[stem] if stem in found and found[stem].parent == folder else file
        elif inner.is_file():
            found.setdefault(stem, inner)
    return found


def _found(at: Location) -> Format:
    fitting = [form for form in FORMATS if form.fits(at)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        ways = " or as ".join(form.text for form in fitting)
        options = " or ".join(f"--format {form.name}" for form in fitting)
        raise DataError(f"{at} can be read as {ways}: say which with {options}.")
    # Class folders without a picture: that source says best what they lack.
    if at.path.is_dir() and not at.files and _folders(at.path):
        return find_format("pictures")
    kind = "folder" if at.path.is_dir() else "file"
    raise DataError(
        f"{at} is not a {kind} of samples that is understood{_pickled(at.path)}. Understood are "
        f"{', '.join(form.text for form in FORMATS)}."
    )


def _pickled(path: Path) -> str:
    """Give the way out of pickled data, which are not read."""
    names = [file.name for file in path.iterdir()] if path.is_dir() else [path.name]
    if any(name == "batches.meta" or name.startswith("data_batch_") for name in names):
        return (
            " (pickled batches are never unpickled: take CIFAR's binary version, whose files end "
            "in .bin)"
        )
    if any(name.endswith((".pkl", ".pickle", ".pt", ".pth")) for name in names):
        return " (pickled files are never unpickled: save the arrays with numpy.savez)"
    return ""


def _folders(path: Path) -> list[str]:
    with os.scandir(path) as entries:
        return [entry.path for entry in entries if entry.is_dir() and not is_ignored(entry.name)]


def _suffix(*endings: str) -> Callable[[Location], bool]:
    def fits(at: Location) -> bool:
        files = at.files or ((at.path,) if at.path.is_file() else ())
        return bool(files) and all(file.name.lower().endswith(endings) for file in files)

    return fits


def _pieces(*endings: str) -> Callable[[Location], bool]:
    return lambda at: bool(at.pieces(*endings))


def _open_npz(at: Location, wanted: ArraySelection) -> Source:
    from cnatool.data.formats.npy import open_npz

    return open_npz(at.path, wanted)


def _open_npy(at: Location, wanted: ArraySelection) -> Source:
    from cnatool.data.formats.npy import open_npy

    return open_npy(at.path)


def _open_parquet(at: Location, wanted: ArraySelection) -> Source:
    from cnatool.data.formats.parquet import open_parquet

    return open_parquet(at.pieces(".parquet") or (at.path,), wanted)


def _open_csv(at: Location, wanted: ArraySelection) -> Source:
    from cnatool.data.formats.csv import open_csv

    return open_csv(at.files or (at.path,), wanted)


def _is_idx(at: Location) -> bool:
    from cnatool.data.formats.idx import looks_like_idx

    if at.path.is_dir():
        return bool(find_idx_files(at.path)) and not at.files
    # A pipe or a device has no size and cannot be read twice.
    return at.path.is_file() and looks_like_idx(at.path)


def _open_idx(at: Location, wanted: ArraySelection) -> Source:
    from cnatool.data.formats.idx import open_idx

    if not at.path.is_dir():
        return open_idx(at.path)
    files = find_idx_files(at.path)
    if len(files) != 1:
        names = ", ".join(printable(file.name) for file in files.values()) or "none"
        raise DataError(
            f"{at} holds several IDX images files ({names}): give one of them, or each split "
            "with --split NAME=PATH."
        )
    return open_idx(next(iter(files.values())))


def _is_cifar(name: str) -> Callable[[Location], bool]:
    def fits(at: Location) -> bool:
        from cnatool.data.formats.cifar import cifar_kind

        files = at.pieces(".bin")
        return bool(files) and cifar_kind(files) == name

    return fits


def _open_cifar10(at: Location, wanted: ArraySelection) -> Source:
    from cnatool.data.formats.cifar import open_cifar10

    return open_cifar10(at.pieces(".bin") or (at.path,), wanted.labels)


def _open_cifar100(at: Location, wanted: ArraySelection) -> Source:
    from cnatool.data.formats.cifar import open_cifar100

    return open_cifar100(at.pieces(".bin") or (at.path,), wanted.labels)


def _open_safetensors(at: Location, wanted: ArraySelection) -> Source:
    from cnatool.data.formats.safetensors import open_safetensors

    return open_safetensors(at.path, wanted)


def _open_hdf5(at: Location, wanted: ArraySelection) -> Source:
    from cnatool.data.formats.hdf5 import open_hdf5

    return open_hdf5(at, wanted)


def _is_zarr(at: Location) -> bool:
    if at.path.is_dir():
        return any((at.path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))
    return at.path.is_file() and at.path.name.lower().endswith(".zarr.zip")


def _open_zarr(at: Location, wanted: ArraySelection) -> Source:
    from cnatool.data.formats.zarr import open_zarr

    return open_zarr(at, wanted)


_TARS = (".tar", ".tar.gz", ".tgz")


def _open_webdataset(at: Location, wanted: ArraySelection) -> Source:
    from cnatool.data.formats.webdataset import open_webdataset

    return open_webdataset(at.pieces(*_TARS) or (at.path,), wanted)


def _is_pictures(at: Location) -> bool:
    if not at.path.is_dir() or at.files:
        return False
    if any(map(holds_images, _folders(at.path))):
        return True
    # Pictures without classes, if nothing lists them.
    return holds_images(str(at.path)) and not _is_listed(at)


def _open_pictures(at: Location, wanted: ArraySelection) -> Source:
    from cnatool.data.formats.image_folder import open_image_folder

    return open_image_folder(at.path, wanted.images)


def _is_listed(at: Location) -> bool:
    return at.path.is_dir() and any((at.path / name).is_file() for name in LABEL_TABLES)


def _open_listed(at: Location, wanted: ArraySelection) -> Source:
    from cnatool.data.formats.image_folder import open_image_table

    return open_image_table(at.path, wanted.images, wanted.labels, unlabelled=wanted.ignore_labels)


FORMATS: tuple[Format, ...] = (
    Format("npz", "a .npz archive", _suffix(".npz"), _open_npz, labels=True),
    Format(
        "npy",
        "a .npy file",
        _suffix(".npy"),
        _open_npy,
        labelled="they are read from NAME_labels.npy beside NAME.npy",
    ),
    Format("parquet", ".parquet files", _pieces(".parquet"), _open_parquet, labels=True),
    Format("csv", "a .csv or .tsv table", _suffix(".csv", ".tsv"), _open_csv, labels=True),
    Format(
        "idx",
        "IDX (MNIST's files, plain or .gz)",
        _is_idx,
        _open_idx,
        labelled="they are read from the IDX file of labels beside it",
    ),
    Format("cifar10", "CIFAR-10's .bin", _is_cifar("cifar10"), _open_cifar10, labels=True),
    Format("cifar100", "CIFAR-100's .bin", _is_cifar("cifar100"), _open_cifar100, labels=True),
    Format(
        "hdf5",
        "an HDF5 file",
        _suffix(".h5", ".hdf5", ".hdf"),
        _open_hdf5,
        labels=True,
        arrays=True,
    ),
    Format("zarr", "a Zarr folder or .zarr.zip", _is_zarr, _open_zarr, labels=True, arrays=True),
    Format("webdataset", "WebDataset .tar files", _pieces(*_TARS), _open_webdataset, labels=True),
    Format(
        "safetensors",
        "a .safetensors file",
        _suffix(".safetensors"),
        _open_safetensors,
        labels=True,
    ),
    Format(
        "pictures",
        "a folder of pictures by class",
        _is_pictures,
        _open_pictures,
        labelled="the folder of a picture is its class",
    ),
    Format(
        "listed",
        "a folder of pictures with a labels.csv",
        _is_listed,
        _open_listed,
        labels=True,
    ),
)
