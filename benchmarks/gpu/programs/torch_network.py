"""Vision transformer in PyTorch with random weights, which cost as much as trained ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

PATCH, HEAD = 14, 64
SHARPNESS = 20.0  # random weights hardly separate classes; this factor spreads the scores

Array = Any


class Block(nn.Module):  # type: ignore[misc]
    """Attention and a perceptron, each with a residual connection."""

    def __init__(self, width: int, **kind: Any) -> None:
        super().__init__()
        self.heads = max(1, width // HEAD)
        self.first, self.second = nn.LayerNorm(width, **kind), nn.LayerNorm(width, **kind)
        self.mixed, self.joined = nn.Linear(width, 3 * width, **kind), nn.Linear(width, width, **kind)
        self.perceptron = nn.Sequential(
            nn.Linear(width, 4 * width, **kind), nn.GELU(), nn.Linear(4 * width, width, **kind)
        )

    def forward(self, x: Any) -> Any:
        rows, tokens, width = x.shape
        parts = self.mixed(self.first(x)).reshape(rows, tokens, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value)
        x = x + self.joined(seen.transpose(1, 2).reshape(rows, tokens, width))
        return x + self.perceptron(self.second(x))


class VisionTransformer(nn.Module):  # type: ignore[misc]
    """Network from UINT8 [n,side,side,3] to logits [n,classes]."""

    def __init__(self, width: int, depth: int, classes: int, **kind: Any) -> None:
        super().__init__()
        self.dtype = kind["dtype"]
        self.patches = nn.Conv2d(3, width, PATCH, PATCH, **kind)
        self.blocks = nn.Sequential(*(Block(width, **kind) for _ in range(depth)))
        self.last, self.head = nn.LayerNorm(width, **kind), nn.Linear(width, classes, **kind)

    def forward(self, pixels: Any) -> Any:
        x = self.patches(pixels.permute(0, 3, 1, 2).to(self.dtype) / 127.5 - 1)
        x = self.blocks(x.flatten(2).transpose(1, 2))
        return SHARPNESS * self.head(self.last(x).mean(1)).float()


def make(device: str, width: int, depth: int, classes: int) -> Callable[[Array], Array]:
    """Build the network as a function of numpy arrays. It computes in bfloat16 on a GPU."""
    torch.manual_seed(0)
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    network = VisionTransformer(width, depth, classes, device=device, dtype=dtype).eval()

    def run(pixels: Array) -> Array:
        with torch.inference_mode():
            return network(torch.from_numpy(pixels).to(device)).cpu().numpy()

    return run
