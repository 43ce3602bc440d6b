"""How many parameters PyTorch modules have."""

from __future__ import annotations

from torch import nn
from torch.nn.parameter import is_lazy

from tensorstate.storage import Parameters

__all__ = ["parameters_of"]


def parameters_of(module: nn.Module) -> Parameters | None:
    """Count the parameters of a module, each once; None while some have no shape yet."""
    found = list(module.parameters())
    if any(map(is_lazy, found)):
        return None
    trainable = sum(some.numel() for some in found if some.requires_grad)
    return Parameters(sum(some.numel() for some in found), trainable)
