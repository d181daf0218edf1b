"""What a source of networks gives: cases, each of which builds a model file and its samples.

A source is a module of `zoo.sources` with two functions:

- ``list_cases() -> Iterable[Case]`` lists its cases, the most telling ones first. It builds
  nothing: it may import a library and look up names. It runs once, in the process from which the
  child of every case is forked, so nothing in it may start threads (no session of ONNX Runtime, no
  computation of PyTorch).
- ``list_packages() -> Sequence[str]`` lists the distributions whose versions matter to its results.

A case is known by its source, name and exporter, which are stored: results of a case with these
three are not computed again. ``build`` runs in a process of its own, limited in memory and time,
with an empty folder as its argument. What it raises is counted as a failure of the exporter, except
for `NoSamplesError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[np.generic]]


class NoSamplesError(Exception):
    """The model has no input that samples could be fed to."""


@dataclass(frozen=True)
class BuiltModel:
    """A model file, and what it is fed.

    Parameters
    ----------
    path : Path
        The model file.
    samples : mapping of str to array
        Values of each model input that takes samples, the samples first. Three samples or more,
        so that a batch of two leaves a smaller one; of a model with a fixed batch a multiple of it.
    constants : mapping of str to array
        Values of the other model inputs, the same in each run.
    outputs : sequence of array
        What the framework computes for these samples, in the order of the model's outputs; empty
        where that is not known. A difference is one of the exporter's, and only counted.
    linear_calls : int, optional
        How many times the framework multiplies data by constant weights, which is the number of
        layers that an export should have.
    hooked : callable, optional
        Computes the results of the framework's modules for these samples, in any order. A tensor
        that ONNX's reference evaluator cannot compute is looked for among them.
    """

    path: Path
    samples: Arrays
    constants: Arrays = field(default_factory=dict)
    outputs: Sequence[NDArray[np.generic]] = ()
    linear_calls: int | None = None
    hooked: Callable[[], Sequence[NDArray[np.generic]]] | None = None


@dataclass(frozen=True)
class Case:
    """One network, exported in one way.

    Parameters
    ----------
    source : str
        Name of the module of `zoo.sources`.
    family : str
        Architecture, as the library divides its networks.
    name : str
        Name of the network in its library.
    exporter : str
        What writes the model file, in a few letters, such as ``dynamo-18`` (the exporter and the
        version of the operators).
    build : callable
        Builds the network and writes its file into a folder.
    """

    source: str
    family: str
    name: str
    exporter: str
    build: Callable[[Path], BuiltModel]

    @property
    def key(self) -> tuple[str, str, str]:
        """What tells the case from all others."""
        return self.source, self.name, self.exporter
