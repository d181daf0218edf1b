"""Importing torchvision beside a build of PyTorch that its compiled operators do not fit."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import torch

_DECLARED = re.compile(r'(?:register_meta\(|register_fake\()"(?:torchvision::)?(\w+)"')
_libraries: list[torch.library.Library] = []


def declare_operators() -> None:
    """Declare torchvision's compiled operators, whose shapes it describes when it is imported.

    Wheels of torchvision are built for one build of PyTorch. Beside another one the compiled
    operators are not loaded, and the import fails for want of their declarations alone: no
    classifier uses them.
    """
    found = importlib.util.find_spec("torchvision")
    if _libraries or found is None or not found.submodule_search_locations:
        return
    source = Path(found.submodule_search_locations[0], "_meta_registrations.py").read_text("utf-8")
    library = torch.library.Library("torchvision", "DEF")
    for name in sorted({*_DECLARED.findall(source)}):
        library.define(f"{name}(Tensor x) -> Tensor")
    _libraries.append(library)
