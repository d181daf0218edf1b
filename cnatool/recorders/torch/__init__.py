"""Record networks that run in PyTorch."""

from cnatool.recorders.torch.checkpoints import Checkpoints
from cnatool.recorders.torch.recorder import Recorder, record

__all__ = ["Checkpoints", "Recorder", "record"]
