"""The frame encoder of the sample model, trained from scratch on single frames.

A frame's label comes for free with its story: who is at the cottage's door, if anybody is. That says nothing about the
movie's label, which the S4 decoder has to find by comparing two such moments.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from cottage.dataset import movie_path
from cottage.story import CHARACTERS, Story
from vis4mer.config import Preprocessing
from vis4mer.models.encoder import FrameEncoder
from vis4mer.video.reader import open_video

_LOG = logging.getLogger(__name__)

_STEPS = 600
_BATCH = 64  # half of it door scenes, which are one frame in eight
_LR = 1e-3
_CLIP_NORM = 1.0


def train_encoder(
    name: str, preprocessing: Preprocessing, folder: Path, seeds: Iterable[int], seed: int
) -> FrameEncoder:
    """Trains a timm Vision Transformer to see who is at the door.

    Every token is asked, not only the class token, since the S4 decoder reads them all.

    Args:
        name: timm's model name.
        preprocessing: of the frames.
        folder: of the data set that holds the movies.
        seeds: of the movies to learn from.
        seed: of the initial weights and of the batches.
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
            _LOG.info("encoder step %d of %d: loss %.4f", step, _STEPS, loss.item())
    return encoder.eval()


def read_frames(folder: Path, seeds: Iterable[int], preprocessing: Preprocessing) -> tuple[np.ndarray, np.ndarray]:
    """Reads frames uint8 [N, H, W, 3], and who is at the door [N]: 0 for nobody, else 1 + the character's index."""
    frames, targets = [], []
    for seed in seeds:
        story = Story.from_seed(seed)
        with open_video(movie_path(folder, seed), preprocessing) as reader:
            for batch in reader:
                frames.append(batch.frames)
                guests = [story.at_door(seconds) for seconds in batch.pts_seconds]
                targets += [0 if guest is None else 1 + CHARACTERS.index(guest) for guest in guests]
    return np.concatenate(frames), np.array(targets, dtype=np.int64)
