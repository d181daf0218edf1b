"""The way from the last layer to a model's output, for every source of a network."""

from __future__ import annotations

from dataclasses import dataclass, replace

MEAN_POOLING = frozenset(
    {
        "AveragePool",
        "GlobalAveragePool",
        "QLinearAveragePool",
        "QLinearGlobalAveragePool",
        "ReduceMean",
    }
)
# What a model may put behind its last layer without giving it another meaning.
OUTPUT_FUNCTIONS = frozenset(
    {"ArgMax", "LogSoftmax", "QLinearSigmoid", "QLinearSoftmax", "Sigmoid", "Softmax", "ZipMap"}
)
RECTIFIERS = frozenset({"Relu"})


@dataclass(frozen=True, slots=True)
class OutputPath:
    """What lies between a layer and a tensor behind it, shape changes and scales left out.

    A layer whose result reaches an output through nothing else, or through softmax, sigmoid and
    means over positions, is the output layer. A fully convolutional classifier may rectify its
    scores before it averages them (SqueezeNet, Network in Network). That is a feature extractor's
    last hidden layer as well, so a rectified layer counts only where a softmax follows the mean or
    the layer is a 1×1 convolution, and never where no mean follows.

    Attributes
    ----------
    function : bool
        A softmax, sigmoid or the like.
    rectified, averaged : bool
        A rectifier, and a mean over positions behind it.
    """

    function: bool = False
    rectified: bool = False
    averaged: bool = False

    def through_function(self) -> OutputPath:
        """Go on behind a softmax or the like."""
        return replace(self, function=True)

    def through_mean(self) -> OutputPath:
        """Go on behind a mean over positions."""
        return replace(self, averaged=self.rectified)

    def through_rectifier(self) -> OutputPath | None:
        """Go on behind a rectifier; None where the scores have been read already."""
        return None if self.function or self.rectified else replace(self, rectified=True)

    def leads_on(self, *, pointwise: bool) -> bool:
        """Whether the layer is the output layer where this path ends at an output."""
        return not self.rectified or (self.averaged and (self.function or pointwise))
