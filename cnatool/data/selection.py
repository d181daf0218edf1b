"""Which arrays or columns of the data are the inputs of a model, and which are labels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from cnatool._util.text import list_names, printable
from cnatool.errors import DataError
from cnatool.records.sound import SoundTransform

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from cnatool.records.choices import KeptInputs
    from cnatool.records.image_transform import Geometry

_INPUT_NAMES = ("x", "inputs", "images", "data", "image", "img", "audio", "sound")
_LABEL_NAMES = ("y", "label", "labels")
# What the names of two arrays for the same input have in common.
_KINDS = ("mask", "type", "segment", "position", "len", "past")


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How a source transforms the images that it reads, and what it does with unreadable ones."""

    # How images are resized, cropped, and converted to colour or grey
    geometry: Geometry | None = None
    # What is stored of an image; None stores the values, or the levels of image files that are
    # resized or cropped and so may have any size
    keep_inputs: KeptInputs | None = None
    skip_unreadable: bool = False  # whether samples that cannot be read are skipped
    # The order of the axes of images in arrays, where it does not follow from their shape
    axes: Literal["hwc", "chw"] | None = None
    follow_links: bool = False  # whether symbolic links may lead out of a folder of images


PLAIN_IMAGES = ImageOptions()


@dataclass(frozen=True, slots=True)
class SoundOptions:
    """How a source transforms the sound that it reads."""

    mono: bool = False  # whether several channels are replaced by their mean
    transform: SoundTransform = field(default_factory=SoundTransform)


PLAIN_SOUND = SoundOptions()


@dataclass(frozen=True, slots=True)
class ArraySelection:
    """Which of several named arrays, or columns, are inputs of the model and labels.

    Attributes
    ----------
    inputs : tuple of str
        The inputs of the model that are read from data.
    arrays : dict of str to str
        Names of arrays by model input, as chosen by the user; by default the name of the input.
    labels : str or None
        Name of the array of labels, as chosen by the user.
    split_column : str or None
        Name of the column that holds the split of each row.
    images : ImageOptions
    sound : SoundOptions
    optional : frozenset of str
        Inputs that are filled in by rule where the data have no array of their name.
    constant_advice : mapping of str to str
        For each model input, as Python, a value that is the same for every sample.
    hints : mapping of str to str
        A sentence about inputs that data must give, beside ``constant_advice``.
    text_shapes : mapping of str to tuple of int
        Shape of one sample of each input that takes strings.
    tokens : str or None
        The input that takes the ids of the tokens of texts; then it is the only one of ``inputs``.
    ignore_labels : bool
        Whether labels are ignored.
    any_length : frozenset of str
        Inputs of which the model takes samples of any length.
    """

    inputs: tuple[str, ...] = ("x",)
    arrays: dict[str, str] = field(default_factory=dict)
    labels: str | None = None
    split_column: str | None = None
    images: ImageOptions = PLAIN_IMAGES
    sound: SoundOptions = PLAIN_SOUND
    optional: frozenset[str] = frozenset()
    constant_advice: Mapping[str, str] = field(default_factory=dict)
    hints: Mapping[str, str] = field(default_factory=dict)
    text_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    tokens: str | None = None
    ignore_labels: bool = False
    any_length: frozenset[str] = frozenset()

    @property
    def takes_texts(self) -> bool:
        """Whether samples are texts."""
        return bool(self.text_shapes) or self.tokens is not None

    def text_forms(self) -> list[tuple[int, ...] | None]:
        """List the shape of each input's strings; None for texts that become tokens."""
        return [self.text_shapes.get(name) for name in self.inputs]

    @property
    def required(self) -> ArraySelection:
        """The same selection without inputs that can be filled in by rule."""
        return self._without(self.optional)

    def among(self, where: str, available: Iterable[str]) -> ArraySelection:
        """Leave out the inputs that are filled in by rule and that named data do not give.

        Raises
        ------
        DataError
            If an array of another name may be meant for one of them.
        """
        available = list(available)
        missing = self.optional.difference(available)
        if not missing:
            return self
        used = {*self.inputs, *self.arrays.values(), *_LABEL_NAMES, self.labels}
        for name in self.inputs:
            word = next((word for word in _KINDS if word in name.lower()), None)
            if name not in missing or word is None:
                continue
            for array in available:
                if word in array.lower() and array not in used:
                    raise DataError(
                        f"{where} holds {printable(array)}, but no array for the input {name!r}. "
                        f"If that is the one, pass `inputs={{{name!r}: {array!r}}}`; otherwise set "
                        f"{self.constants_text([name])}, or leave {printable(array)} out of the "
                        "data."
                    )
        return self._without(missing)

    def _without(self, names: Collection[str]) -> ArraySelection:
        return replace(
            self,
            inputs=tuple(name for name in self.inputs if name not in names),
            optional=self.optional.difference(names),
        )

    def input_names(self) -> list[tuple[str, ...]]:
        """List the names that the array of each input may have.

        The only input of a model may also have one of the usual names.
        """
        if len(self.inputs) == 1 and self.inputs[0] not in self.arrays:
            return [tuple(dict.fromkeys((*_INPUT_NAMES, self.inputs[0])))]
        return [(self.arrays.get(name, name),) for name in self.inputs]

    def label_names(self, inputs: Iterable[str]) -> tuple[str, ...]:
        """List the names that the array of labels may have, besides the arrays of inputs."""
        if self.ignore_labels:
            return ()
        if self.labels is not None:
            return (self.labels,)
        return tuple(name for name in _LABEL_NAMES if name not in set(inputs))

    def constants_text(self, names: Iterable[str]) -> str:
        """Write the parameter that sets inputs to the same value for every sample."""
        pairs = (f"{name!r}: {self.constant_advice.get(name, 'VALUE')}" for name in names)
        return f"`constants={{{', '.join(pairs)}}}`"

    def select(
        self, where: str, available: Iterable[str], noun: str = "array"
    ) -> tuple[list[str], str | None]:
        """Select the arrays of the inputs and that of the labels by name.

        Raises
        ------
        DataError
            If an array is missing, or several could be meant.
        """
        available = list(available)
        chosen = self.among(where, available)
        if chosen is not self:
            return chosen.select(where, available, noun)
        self.check_available(where, available, noun)
        article = "an" if noun[0] in "aeiou" else "a"
        advice = (
            f"choose one with `inputs={{'INPUT': {noun.upper()}}}`, or set a constant with "
            "`constants={'INPUT': VALUE}`"
        )
        inputs = [
            _select_one(where, available, names, f"{article} {noun} of samples", advice)
            for names in self.input_names()
        ]
        names = self.label_names(inputs)
        if self.labels is None and not set(names).intersection(available):
            return inputs, None
        advice = "choose one with `labels=NAME`"
        return inputs, _select_one(where, available, names, f"{article} {noun} of labels", advice)

    def check_available(self, where: str, available: Iterable[str], noun: str = "array") -> None:
        """Refuse data without the arrays of several inputs, with advice for all of them."""
        available = list(available)
        missing = [
            name
            for name, names in zip(self.inputs, self.input_names(), strict=True)
            if set(names).isdisjoint(available) and name not in self.arrays
        ]
        if not missing or len(self.inputs) == 1:
            return
        raise DataError(
            f"{where} holds {list_names(available)}, and no {noun} for {len(missing)} of the "
            f"model's {len(self.inputs)} inputs: {', '.join(missing)}. Name the {noun} of each "
            f"with `inputs={{'INPUT': {noun.upper()}}}`, or set those that are the same for every "
            f"sample: {self.constants_text(missing)}"
            + "".join(f". {self.hints[name]}" for name in missing if name in self.hints)
        )


def _select_one(
    where: str, available: list[str], names: tuple[str, ...], noun: str, advice: str
) -> str:
    matches = [name for name in names if name in available]
    if not matches:
        raise DataError(
            f"{where} needs {noun} called {' or '.join(map(printable, names))} and holds "
            f"{list_names(available)}: {advice}."
        )
    if len(matches) > 1:
        raise DataError(
            f"{where} holds {' and '.join(map(printable, matches))}, each of which could be "
            f"{noun}: {advice}."
        )
    return matches[0]


# For a model with one input.
SINGLE_INPUT = ArraySelection()
