"""The path from the last layer to a model's output."""

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
# Operators after the last layer that do not change the meaning of its result.
OUTPUT_FUNCTIONS = frozenset(
    {"ArgMax", "LogSoftmax", "QLinearSigmoid", "QLinearSoftmax", "Sigmoid", "Softmax", "ZipMap"}
)
RECTIFIERS = frozenset({"Relu"})


@dataclass(frozen=True, slots=True)
class OutputPath:
    """Operators between a layer and a later tensor, except changes of shape and scales.

    A layer whose result reaches an output through nothing else, or through softmax, sigmoid and
    means over positions, is the output layer. A fully convolutional classifier may rectify its
    scores before it averages them (SqueezeNet, Network in Network). That is a feature extractor's
    last hidden layer as well, so a rectified layer counts only if a softmax follows the mean or the
    layer is a 1×1 convolution, and never without a mean.
    """

    function: bool = False  # a softmax, sigmoid or similar
    rectified: bool = False
    averaged: bool = False  # a mean over positions after the rectifier

    def through_function(self) -> OutputPath:
        """Extend the path by a softmax or similar."""
        return replace(self, function=True)

    def through_mean(self) -> OutputPath:
        """Extend the path by a mean over positions."""
        return replace(self, averaged=self.rectified)

    def through_rectifier(self) -> OutputPath | None:
        """Extend the path by a rectifier; return None if that changes the meaning."""
        return None if self.function or self.rectified else replace(self, rectified=True)

    def leads_on(self, *, pointwise: bool) -> bool:
        """Whether the layer is the output layer if this path ends at an output.

        ``pointwise``: the layer is a 1×1 convolution.
        """
        return not self.rectified or (self.averaged and (self.function or pointwise))
