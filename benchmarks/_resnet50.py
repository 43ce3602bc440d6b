"""ResNet-50 of He et al. (arXiv 1512.03385, table 1) in PyTorch, with random weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["resnet50"]


def _convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False)
    return [convolution, nn.BatchNorm2d(outputs)]


class _Block(nn.Module):  # type: ignore[misc]
    """Three convolutions beside a shortcut, which is a fourth one where the shape changes."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *_convolution(inputs, width, 1),
            nn.ReLU(),
            *_convolution(width, width, 3, stride),
            nn.ReLU(),
            *_convolution(width, 4 * width, 1),
        )
        same = inputs == 4 * width
        self.shortcut = nn.Sequential(*([] if same else _convolution(inputs, 4 * width, 1, stride)))

    def forward(self, x: torch.Tensor) -> Any:
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet50(classes: int = 1000) -> nn.Sequential:
    """Return the network, for images of 3 channels and any size; it has 53 convolutions."""
    parts = [*_convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            parts.append(_Block(inputs, width, 2 if block == 0 and width > 64 else 1))
            inputs = 4 * width
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))
