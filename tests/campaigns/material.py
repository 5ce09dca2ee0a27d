"""Small movies and a small checkpoint for the campaigns about endurance and determinism."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def write_movie(path: Path, seconds: int, height: int = 72, width: int = 128) -> Path:
    """Encodes a moving pattern, two frames a second, as H.264."""
    y, x = np.mgrid[:height, :width]
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=2, options={"preset": "veryfast", "g": "8"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.thread_count = 1
        for number in range(2 * seconds):
            waves = [np.sin((x + speed * number) / 9 + y / 7) * 100 + 120 for speed in (1, 2, 3)]
            frame = av.VideoFrame.from_ndarray(np.stack(waves, -1).astype(np.uint8), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 2)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def write_damaged_movie(path: Path, intact: Path) -> Path:
    """Writes a copy of a movie with noise in the middle of its pictures, which can still be read."""
    data = bytearray(intact.read_bytes())
    middle = data.index(b"mdat") + 200
    data[middle : middle + 300] = np.random.default_rng(0).bytes(300)
    path.write_bytes(data)
    return path


def write_checkpoint(folder: Path) -> Path:
    """Writes a checkpoint with random weights: a small Vision Transformer, two heads, windows of four seconds."""
    import torch

    from vis4mer.config import DecoderConfig, HeadConfig, ModelConfig, Preprocessing, WindowConfig
    from vis4mer.models.encoder import FrameEncoder
    from vis4mer.models.vis4mer import Vis4mer

    frames = Preprocessing(fps=1.0, height=32, width=32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    encoder = FrameEncoder.build("test_vit", frames, weights="random", seed=0)
    tokens, features = encoder.config.tokens, encoder.config.features
    heads = {
        "scene": HeadConfig(DecoderConfig(features, 4 * tokens, 3, d_model=16, n_layers=2), labels=("in", "out", "on")),
        "likes": HeadConfig(DecoderConfig(features, 4 * tokens, 1, d_model=16, n_layers=1), task="regression"),
    }
    torch.manual_seed(0)
    config = ModelConfig(heads, encoder.config, frames, WindowConfig(seconds=4, stride=2))
    Vis4mer(config, encoder).save_pretrained(folder)
    return folder
