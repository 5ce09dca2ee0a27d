"""Video Swin: torchvision's network as an encoder of segments, and the names in its published checkpoints.

ViS4mer uses its features of 32 frames, averaged over time.

Reference: Liu et al., Video Swin Transformer (CVPR 2022).
"""

import re
from collections.abc import Mapping
from typing import cast

from einops import rearrange, reduce
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights
from torchvision.models.video import SwinTransformer3d

NAMES = ("swin3d_t", "swin3d_s", "swin3d_b")
SEGMENT_FRAMES = 32

# Patterns that turn names of the published code, and of mmaction2, into torchvision's. mmaction2 calls the last norm
# norm3, after the fourth stage.
_RENAMED = (
    # torchvision keeps stages and downsampling layers in one list, in turn: stage i is entry 2 i.
    (re.compile(r"layers\.(\d+)\.blocks\."), lambda match: f"features.{2 * int(match[1])}."),
    (re.compile(r"layers\.(\d+)\.downsample\."), lambda match: f"features.{2 * int(match[1]) + 1}."),
    (re.compile(r"^norm3\."), "norm."),
    # torchvision's MLP is a sequence of linear layer, activation, dropout, linear layer and dropout.
    (re.compile(r"(?<=\.mlp\.)fc1\."), "0."),
    (re.compile(r"(?<=\.mlp\.)fc2\."), "3."),
)
_CLASSIFIERS = ("head.", "cls_head.")


class VideoSwin(nn.Module):
    """Segments in, tokens out: the network without its classifier, averaged over a segment's time.

    Args:
        network: Network whose layers are shared, not copied.
    """

    def __init__(self, network: SwinTransformer3d) -> None:
        super().__init__()
        self.patch_embed, self.features, self.norm = network.patch_embed, network.features, network.norm

    def forward_features(self, images: Tensor) -> Tensor:
        """Encodes segments.

        Args:
            images: Normalised segments [N, F, 3, H, W] of F frames each.

        Returns:
            tokens [N, P, D], one per 32 x 32 pixels.
        """
        patches = self.patch_embed(rearrange(images, "n f c h w -> n c f h w"))
        volume = self.norm(self.features(patches))  # [N, F / 2, rows, columns, D]
        tokens: Tensor = reduce(volume, "n time rows columns d -> n (rows columns) d", "mean")
        return tokens


def create(name: str, *, pretrained: bool = False) -> VideoSwin:
    """Creates one of `NAMES`, with random weights or torchvision's default ones, which it downloads.

    Raises:
        OSError: The weights cannot be downloaded.
    """
    swin = VideoSwin(cast(SwinTransformer3d, get_model(name)))
    if pretrained:
        state, _ = convert(get_model_weights(name).DEFAULT.get_state_dict(check_hash=True))
        swin.load_state_dict(state)
    return swin


def weights_url(name: str) -> str:
    """Returns the address of torchvision's default weights of one of `NAMES`."""
    url: str = get_model_weights(name).DEFAULT.url
    return url


def convert(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Renames a checkpoint's tensors to torchvision's names and drops its classifier.

    Args:
        state: Tensors by the names of torchvision, of the published code or of mmaction2, with or without the prefix
            ``backbone.``.

    Returns:
        The tensors by `VideoSwin`'s names, and the checkpoint's name of each of those.
    """
    names = {_rename(name.removeprefix("backbone.")): name for name in state if not name.startswith(_CLASSIFIERS)}
    return {ours: state[theirs] for ours, theirs in names.items()}, names


def _rename(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = pattern.sub(replacement, name)
    return name
