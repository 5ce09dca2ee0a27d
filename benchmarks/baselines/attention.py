"""The multi-scale decoder with multi-head self-attention in place of S4, everything else unchanged.

Reference: Islam & Bertasius, ViS4mer (ECCV 2022), section 4.3, which names self-attention as the alternative to S4.
"""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from benchmarks.baselines.multiscale import MultiscaleBlock, MultiscaleDecoder
from vis4mer.config import DecoderConfig

Attention = Literal["softmax", "fused"]

# Few, wide heads keep the score matrices small, which favours attention: one of L = 11820 tokens is 0.56 GB in fp32.
HEADS = 4


class AttentionDecoder(MultiscaleDecoder):
    """Classifies features [B, L, d_input] as logits [B, d_output], in the shapes of S4Decoder.

    Args:
        config: Sizes of the decoder; `d_state` and `nodes` are ignored.
        attention: ``softmax`` computes ``softmax(Q K^T / sqrt(d)) V`` with separate operators. ``fused`` is PyTorch's
            scaled_dot_product_attention, which holds no L x L matrix where it has a fused form.
    """

    def __init__(self, config: DecoderConfig, attention: Attention) -> None:
        super().__init__(config, lambda width, length: _Block(width, attention, config.dropout))


class _Block(MultiscaleBlock):
    def __init__(self, width: int, attention: Attention, dropout: float) -> None:
        super().__init__(width, dropout)
        self.attention = SelfAttention(width, attention)

    def mix(self, x: Tensor) -> Tensor:
        mixed: Tensor = self.attention(x)
        return mixed


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
        """Attends from every token of x to all tokens."""
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        mixed: Tensor = self.output(self.attend(q, k, v).transpose(1, 2).flatten(2))
        return mixed


def _softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Computes attention of q, k and v [B, heads, L, d] with the scores [B, heads, L, L] in memory."""
    scores = q @ (k / math.sqrt(k.shape[-1])).transpose(-2, -1)
    return torch.softmax(scores, dim=-1) @ v
