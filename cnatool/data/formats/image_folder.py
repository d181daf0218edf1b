"""Folders of images: a sub-folder for each class, or images without classes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cnatool.data.file_names import IMAGES
from cnatool.data.formats.class_folders import list_classes
from cnatool.data.formats.sample_files import FileSource, find_file
from cnatool.data.images.batch import (
    collect_model_arrays,
    decode_batch,
    decode_threads,
    describe_image,
    read_first_image,
)
from cnatool.data.images.decode import file_opener
from cnatool.data.selection import SINGLE_INPUT
from cnatool.data.source import Block

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from cnatool.data.formats.sample_files import SampleFiles
    from cnatool.data.images.decode import Opener
    from cnatool.data.selection import ArraySelection, ImageOptions
    from cnatool.data.source import InputSpec

# First images of classes that are decoded at a time.
_COMPARED = 32


@dataclass(frozen=True, slots=True)
class ImageFolder(FileSource):
    """Images in a fixed order; ``first`` is the first that can be read, for messages."""

    inputs: tuple[InputSpec]
    options: ImageOptions
    first: str

    def blocks(self, rows: int, limit: int | None = None, start: int = 0) -> Iterator[Block]:
        """Yield blocks of ``rows`` images from ``start`` on, ``limit`` in all."""
        [spec] = self.inputs
        with decode_threads(skip=self.options.skip_unreadable) as each:
            for names, labels in self.parts(rows, limit, start):
                find = partial(_find_image, self.folder, names)
                batch = decode_batch(spec, self.options, len(names), find, each, self.first)
                arrays = collect_model_arrays([batch])
                yield Block(names, (batch.stored,), labels, arrays, batch.faults)


def open_image_folder(folder: Path, selection: ArraySelection = SINGLE_INPUT) -> ImageFolder:
    """Open a folder whose sub-folders are classes, or one of images without classes.

    Sub-folders whose names are all whole numbers are the classes of these numbers; others are
    sorted by name and numbered from 0. Sub-folders without an image are no classes. Hidden files
    and files that are not images by their extension are ignored. The first image of each class is
    decoded here, the others as they are read.
    """
    found = list_classes(folder, IMAGES, links=selection.images.follow_links)
    return make_image_source(folder, found, selection.images)


def make_image_source(folder: Path, found: SampleFiles, options: ImageOptions) -> ImageFolder:
    """Make a source, described by the first image that can be read.

    The first image of each class is compared with it at once.
    """
    names, firsts = found.names(), found.firsts
    first, pixels = read_first_image(partial(_find_image, folder, names), len(names), options)
    # The name of the input is part of stores.
    spec = describe_image("pictures", first, pixels, options)
    if spec.levels and options.geometry is not None and options.geometry.is_fixed:
        # They may differ, and need not be decoded before their turn.
        firsts = ()
    with decode_threads(skip=options.skip_unreadable) as each:
        # A few at a time: there may be thousands of classes.
        for start in range(0, len(firsts), _COMPARED):
            part = firsts[start : start + _COMPARED]
            decode_batch(spec, options, len(part), partial(_find_image, folder, part), each, first)
    return ImageFolder(folder, found, (spec,), options, first)


def _find_image(folder: Path, names: Sequence[str], row: int) -> tuple[str, Opener]:
    path = find_file(folder, names, row)
    # A file and not its name: by name Pillow maps uncompressed TIFFs into memory, and then mixes
    # up the rows of those that are to be turned by 90 degrees (Pillow 13.0).
    return str(path), file_opener(path)
