"""Video Swin: torchvision's network as an encoder of segments, and the names its published checkpoints use.

Reference: Liu et al., Video Swin Transformer (CVPR 2022). ViS4mer takes its features of 32 frames, averaged over time.
"""

import re
from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights
from torchvision.models.video import SwinTransformer3d

NAMES = ("swin3d_t", "swin3d_s", "swin3d_b")
SEGMENT_FRAMES = 32

# From the names of the published code, and of mmaction2, whose last norm is its fourth stage's, to torchvision's.
_RENAMED = (
    (re.compile(r"layers\.(\d+)\.blocks\."), lambda match: f"features.{2 * int(match[1])}."),
    (re.compile(r"layers\.(\d+)\.downsample\."), lambda match: f"features.{2 * int(match[1]) + 1}."),
    (re.compile(r"^norm3\."), "norm."),
    (re.compile(r"(?<=\.mlp\.)fc1\."), "0."),
    (re.compile(r"(?<=\.mlp\.)fc2\."), "3."),
)
_CLASSIFIERS = ("head.", "cls_head.")


class VideoSwin(nn.Module):
    """Segments in, tokens out: the network without its classifier, averaged over a segment's time.

    Args:
        network: whose layers are taken.
    """

    def __init__(self, network: SwinTransformer3d) -> None:
        super().__init__()
        self.patch_embed, self.features, self.norm = network.patch_embed, network.features, network.norm

    def forward_features(self, images: Tensor) -> Tensor:
        """Encodes segments.

        Args:
            images: [N, F, 3, H, W], F frames each.

        Returns:
            tokens [N, P, D], one per 32 x 32 pixels.
        """
        tokens: Tensor = self.norm(
            self.features(self.patch_embed(images.movedim(1, 2)))
        )  # [N, F / 2, rows, columns, D]
        return tokens.mean(1).flatten(1, 2)


def create(name: str, *, pretrained: bool = False) -> VideoSwin:
    """Creates one of `NAMES`, with random weights or torchvision's best ones, which it downloads.

    Raises:
        OSError: the weights cannot be downloaded.
    """
    swin = VideoSwin(cast(SwinTransformer3d, get_model(name)))
    if pretrained:
        state, _ = convert(get_model_weights(name).DEFAULT.get_state_dict(check_hash=True))
        swin.load_state_dict(state)
    return swin


def convert(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Gives a checkpoint's tensors torchvision's names and leaves out its classifier.

    Args:
        state: names and tensors of torchvision, or of the published code or mmaction2, where ``backbone.`` may stand
            before each name.

    Returns:
        The tensors by `VideoSwin`'s names, and what the checkpoint calls each of those.
    """
    names = {_rename(name.removeprefix("backbone.")): name for name in state if not name.startswith(_CLASSIFIERS)}
    return {ours: state[theirs] for ours, theirs in names.items()}, names


def _rename(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name
