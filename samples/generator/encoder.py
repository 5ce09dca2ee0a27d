"""Training of the sample model's frame encoder on single frames.

The label of a frame follows from its story: the character at the cottage's door, if there is one. It reveals nothing
about the label of the movie, which the S4 decoder has to find by comparing two such moments.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from samples.generator.dataset import movie_path
from samples.generator.scenes import CHARACTERS
from samples.generator.story import Story
from vis4mer.config import Preprocessing
from vis4mer.devices.arrays import on_host
from vis4mer.models.encoder import FrameEncoder
from vis4mer.video.reader import open_video

logger = logging.getLogger(__name__)

_STEPS = 600
_BATCH = 64  # half of them from door scenes, which are one frame in eight
_LR = 1e-3
_CLIP_NORM = 1.0


def train_encoder(
    name: str, preprocessing: Preprocessing, folder: Path, seeds: Iterable[int], seed: int
) -> FrameEncoder:
    """Trains a timm Vision Transformer to recognise the character at the door.

    The loss covers every token, not only the class token, because the S4 decoder reads all of them.

    Args:
        name: Model name in timm.
        preprocessing: Preprocessing of the frames.
        folder: Folder of the dataset.
        seeds: Seeds of the training movies.
        seed: Seed of the initial weights and of the batches.

    Returns:
        The encoder in evaluation mode.
    """
    frames, targets = read_frames(folder, seeds, preprocessing)
    encoder = FrameEncoder.build(name, preprocessing, "random", seed)
    torch.manual_seed(seed)
    classifier = nn.Linear(encoder.config.features, len(CHARACTERS) + 1)
    parameters = [*encoder.parameters(), *classifier.parameters()]
    optimizer = torch.optim.AdamW(parameters, _LR, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LR, total_steps=_STEPS, pct_start=0.1)
    rng = np.random.default_rng(seed)
    doors, others = np.flatnonzero(targets), np.flatnonzero(targets == 0)
    for step in range(1, _STEPS + 1):
        chosen = np.concatenate([rng.choice(doors, _BATCH // 2), rng.choice(others, _BATCH // 2)])
        logits = classifier(encoder(torch.from_numpy(frames[chosen])))
        target = torch.from_numpy(targets[chosen])
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), target.repeat_interleave(encoder.config.tokens))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, _CLIP_NORM)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            logger.info("encoder step %d of %d: loss %.4f", step, _STEPS, loss.item())
    return encoder.eval()


def read_frames(folder: Path, seeds: Iterable[int], preprocessing: Preprocessing) -> tuple[np.ndarray, np.ndarray]:
    """Reads frames uint8 [N, H, W, 3] and their labels int64 [N]: 0 for nobody, else 1 + the index of the character."""
    frames, targets = [], []
    for seed in seeds:
        story = Story.from_seed(seed)
        with open_video(movie_path(folder, seed), preprocessing) as reader:
            for batch in reader:
                frames.append(on_host(batch.frames))
                guests = [story.at_door(seconds) for seconds in batch.pts_seconds]
                targets += [0 if guest is None else 1 + CHARACTERS.index(guest) for guest in guests]
    return np.concatenate(frames), np.array(targets, dtype=np.int64)
