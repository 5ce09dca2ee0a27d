"""The multi-scale decoder with multi-head self-attention where ViS4mer has S4, everything else alike.

Reference: Islam & Bertasius, ViS4mer (ECCV 2022), section 4.3, which names self-attention as the alternative to S4.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from vis4mer.config import DecoderConfig

Attention = Literal["softmax", "fused"]

# Few, wide heads keep the score matrices small, which favours attention: one of L = 11820 tokens is 0.56 GB in fp32.
HEADS = 4


class AttentionDecoder(nn.Module):
    """Features [B, L, d_input] to logits [B, d_output], block by block in the shapes of S4Decoder.

    Args:
        config: sizes; d_state and nodes, which attention has not, are ignored.
        attention: ``softmax`` writes out ``softmax(Q K^T / sqrt(d)) V``; ``fused`` is PyTorch's
            scaled_dot_product_attention, which holds no L x L matrix where it has a fused form.
    """

    def __init__(self, config: DecoderConfig, attention: Attention) -> None:
        super().__init__()
        project = config.d_input != config.d_model
        self.input = nn.Linear(config.d_input, config.d_model) if project else nn.Identity()
        widths = [config.d_model >> i for i in range(config.n_layers)]
        self.blocks = nn.ModuleList(_Block(width, attention, config.dropout) for width in widths)
        self.output = nn.Linear(config.d_model >> config.n_layers, config.d_output)

    def forward(self, features: Tensor) -> Tensor:
        """Classifies features [B, L, d_input]."""
        x = self.input(features)
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.output(x.mean(dim=1))
        return logits


class _Block(nn.Module):
    def __init__(self, width: int, attention: Attention, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, attention)
        self.dropout = nn.Dropout1d(dropout)
        self.pool = nn.AvgPool1d(2)
        self.reduce = nn.Linear(width, width // 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.dropout(self.attention(self.norm(x)).transpose(1, 2))
        x = self.pool(x.transpose(1, 2) + y).transpose(1, 2)
        return nn.functional.gelu(self.reduce(x))


class SelfAttention(nn.Module):
    """Multi-head self-attention of `HEADS` heads, [B, L, width] to [B, L, width].

    Reference: Vaswani et al., Attention Is All You Need (NeurIPS 2017), section 3.2.
    """

    def __init__(self, width: int, attention: Attention) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.attend = _softmax if attention == "softmax" else nn.functional.scaled_dot_product_attention

    def forward(self, x: Tensor) -> Tensor:
        """Every token of x attends to all."""
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        mixed: Tensor = self.output(self.attend(q, k, v).transpose(1, 2).flatten(2))
        return mixed


def _softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ (k / math.sqrt(k.shape[-1])).transpose(-2, -1)
    return torch.softmax(scores, dim=-1) @ v
