"""The former place of `cnatool.recorders.torch.Checkpoints`."""

from cnatool.recorders.torch.checkpoints import Checkpoints as Checkpoints
