"""Reduced tensors: the forms that they take, and the records of how they were made.

A form is a word, such as ``mean`` or ``project:64``, or two of them, as in ``last+pca:64``: what is
kept of the positions of a tensor, then K numbers that its remaining elements are projected to.
"""

from __future__ import annotations

import math
import re
from typing import Final, Literal

import msgspec

from cnatool.errors import UsageError
from cnatool.records.limits import LARGEST, SHA256

Positions = Literal["mean", "max", "cls", "last", "index", "sample"]
Projected = Literal["project", "pca"]

FORMS: Final = "mean, max, cls, last, the number of a position, sample:K, project:K, pca:K"
_NUMBER = re.compile(r"0|[1-9][0-9]{0,11}")
# Between the two words of a form, and between the name of a tensor and its form.
_THEN = "+"
_NAMED = ":"


class Reduction(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A form that a tensor is reduced to: of its positions, then by a projection.

    Attributes
    ----------
    positions : {"mean", "max", "cls", "last", "index", "sample"} or None
        What is kept of positions: their mean or maximum, the first, the last real one, one by its
        number, or some of them; null if all elements are projected.
    place : int
        Number of the position, or how many positions a sample keeps.
    projected : {"project", "pca"} or None
        Whether the elements are projected at random or to principal components; null if neither.
    size : int
        How many numbers they are projected to.
    """

    positions: Positions | None = None
    place: int = 0
    projected: Projected | None = None
    size: int = 0

    def __str__(self) -> str:
        words = []
        if self.positions == "index":
            words.append(str(self.place))
        elif self.positions == "sample":
            words.append(f"sample:{self.place}")
        elif self.positions is not None:
            words.append(self.positions)
        if self.projected is not None:
            words.append(f"{self.projected}:{self.size}")
        return _THEN.join(words)

    @property
    def draws(self) -> bool:
        """Whether the form depends on a seed."""
        return self.positions == "sample" or self.projected is not None

    def name(self, source: str) -> str:
        """Return the name of a tensor in this form."""
        return f"{source}{_NAMED}{self}"


def parse_form(pattern: str, text: str) -> Reduction:
    """Parse the form that a pattern of tensors is reduced to; UsageError if it is none.

    Examples
    --------
    >>> str(parse_form("*", "last+pca:64"))
    'last+pca:64'
    """
    words = text.split(_THEN) if isinstance(text, str) else []
    parsed = [_parse_word(word) for word in words]
    known = [form for form in parsed if form is not None]
    if known and len(known) == len(words):
        if len(known) == 1:
            return known[0]
        first, second = known[:2]
        if len(known) == 2 and first.positions is not None and second.projected is not None:
            return Reduction(first.positions, first.place, second.projected, second.size)
    raise UsageError(
        f"`reduce={{{pattern!r}: {text!r}}}`: the forms are {FORMS}, where K is at least 1; one of "
        "the last two may follow one of the others, as in mean+pca:16."
    )


def _parse_word(word: str) -> Reduction | None:
    name, colon, number = word.partition(_NAMED)
    if _NUMBER.fullmatch(word):
        return Reduction("index", int(word))
    if word in ("mean", "max", "cls", "last"):
        return Reduction(positions=word)  # type: ignore[arg-type]
    if not colon or not _NUMBER.fullmatch(number) or int(number) < 1:
        return None
    if name == "sample":
        return Reduction("sample", int(number))
    if name in ("project", "pca"):
        return Reduction(projected=name, size=int(number))  # type: ignore[arg-type]
    return None


class Distortion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a projection changed the distances between the first samples, on all pairs of them.

    Attributes
    ----------
    samples : int
        Samples whose distances were measured.
    pairs : int
        Pairs of them that differ before the projection.
    mean : float
        Mean of |d′ / d − 1|, where d is the Euclidean distance of a pair before the projection and
        d′ that afterwards.
    largest : float
        The largest of these.
    """

    samples: int
    pairs: int
    mean: float
    largest: float


class PrincipalComponents(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The principal components that a tensor is projected to.

    Attributes
    ----------
    split : str
        Split of the samples from which they were computed.
    samples : int
        How many samples these were.
    explained : tuple of float
        Variance along each component, in descending order, over n − 1.
    variance : float
        Sum of the variances of all elements.
    sha256 : str
        SHA-256, in hexadecimal, of the bytes of the mean and the components, C-contiguous,
        little-endian.
    """

    split: str
    samples: int
    explained: tuple[float, ...]
    variance: float
    sha256: str

    @property
    def share(self) -> float:
        """Share of the variance that the components explain together."""
        return sum(self.explained) / self.variance if self.variance else 1.0


class ReductionRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a tensor of a store was made from another one of the network.

    Attributes
    ----------
    source : str
        Name of the tensor that was reduced, whether or not the store holds it.
    form : str
        The form, such as ``mean`` or ``last+pca:64``.
    shape : tuple of int
        Shape of one sample of the source.
    unit_axis : int
        The axis of the source's units; the others are its positions. Absent if all elements are
        projected.
    seed : int
        Seed of the positions of ``sample``, of the projection, or of the samples from which
        components were computed; absent for other forms.
    kept_positions : tuple of int
        The positions that ``sample`` keeps of every sample, counted over all axes of positions in
        their order; absent if samples differ in length, and for other forms.
    method : {"gaussian", "sparse"}
        Of a random projection: a matrix of independent normal numbers, or one of a few ±1 in each
        row; absent for other forms.
    sha256 : str
        SHA-256 of the random matrix, which the seed makes again; absent for other forms.
    distortion : Distortion
        What a random projection does to distances; absent for other forms.
    components : PrincipalComponents
        The components of ``pca``; absent for other forms. Their mean is the array
        ``reductions/<number>/mean`` of the store, (D,), and they are
        ``reductions/<number>/components``, (K, D).
    """

    source: str
    form: str
    shape: tuple[int, ...]
    unit_axis: int | msgspec.UnsetType = msgspec.UNSET
    seed: int | msgspec.UnsetType = msgspec.UNSET
    kept_positions: tuple[int, ...] | msgspec.UnsetType = msgspec.UNSET
    method: Literal["gaussian", "sparse"] | msgspec.UnsetType = msgspec.UNSET
    sha256: str | msgspec.UnsetType = msgspec.UNSET
    distortion: Distortion | msgspec.UnsetType = msgspec.UNSET
    components: PrincipalComponents | msgspec.UnsetType = msgspec.UNSET

    @property
    def reduction(self) -> Reduction:
        """The form, parsed."""
        return parse_form(self.source, self.form)

    @property
    def elements(self) -> int:
        """How many numbers of a sample are projected."""
        if self.unit_axis is msgspec.UNSET:
            return math.prod(self.shape)
        units, form = self.shape[self.unit_axis] if self.shape else 1, self.reduction
        return units * (form.place if form.positions == "sample" else 1)

    @property
    def plan(self) -> ReductionRecord:
        """What was decided before the model ran: the record without what was measured."""
        return msgspec.structs.replace(self, distortion=msgspec.UNSET, components=msgspec.UNSET)

    def find_obstacle(self, other: ReductionRecord) -> str | None:
        """Describe why values reduced alike cannot be compared; None if they can."""
        if (self.form, self.shape) != (other.form, other.shape):
            return "their forms differ"
        if self.seed != other.seed:
            return "their seeds differ"
        if self.sha256 != other.sha256 or self.kept_positions != other.kept_positions:
            return "their random numbers differ"
        if self.components is msgspec.UNSET or other.components is msgspec.UNSET:
            return None if self.components is other.components else "one has no components"
        if self.components.sha256 != other.components.sha256:
            return "each has principal components of its own"
        return None


def find_contradiction(name: str, record: ReductionRecord, shape: tuple[int, ...]) -> str | None:
    """Find what contradicts itself in the record of a reduced tensor of a shape."""
    try:
        form = record.reduction
    except UsageError:
        return f"{name} has the unknown form {record.form!r}"
    if not all(0 <= size <= LARGEST for size in record.shape):
        return f"{name} was reduced from the impossible shape {record.shape}"
    axis = 0 if record.unit_axis is msgspec.UNSET else record.unit_axis
    if not 0 <= axis < max(1, len(record.shape)):
        return f"{name} was reduced from {len(record.shape)} axes, but axis {axis} has its units"
    if form.projected is not None and shape != (form.size,):
        return f"{name} is {shape}, but was projected to {form.size} numbers"
    components = record.components
    if components is not msgspec.UNSET:
        if form.projected != "pca" or len(components.explained) != form.size:
            return f"{name} has {len(components.explained)} components in the form {record.form}"
        if not SHA256.fullmatch(components.sha256):
            return f"{name}: {components.sha256!r} is not a SHA-256"
    return None
