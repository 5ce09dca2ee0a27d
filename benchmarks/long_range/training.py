"""Training and asking one contestant, by the toolkit's own optimiser, schedule, loss and aggregation of windows."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from long_range.contestants import Contestant
from long_range.footage import FEATURES, TOKENS, Movies
from vis4mer.training.config import TrainConfig
from vis4mer.training.data import window_starts
from vis4mer.training.metrics import Evaluation, window_loss
from vis4mer.training.optim import build_optimizer, build_scheduler

_TASK = "classification"
BATCH = 16
"""Movies in a step of training."""

_STRIDE = 2  # seconds between windows of a movie that is not seen at once
_WINDOWS = 256  # asked about at once


def train(contestant: Contestant, d_output: int, movies: Movies, tokens: Tensor, config: TrainConfig) -> nn.Module:
    """Trains a model from random weights, on one random window of every movie an epoch.

    Args:
        contestant: to train.
        d_output: number of labels.
        movies: to learn from.
        tokens: the footage [rows, P, D].
        config: determines the result on one thread of one kind of CPU.

    Returns:
        The model in evaluation mode.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    model = contestant.build(d_output)
    steps = len(movies) // config.batch_size
    optimizer = build_optimizer(model, config)  # type: ignore[arg-type]  # all a head needs is ssm_parameters
    scheduler = build_scheduler(optimizer, config, _TASK, steps)
    for _ in range(config.epochs):
        for batch in torch.from_numpy(rng.permutation(len(movies)))[: steps * config.batch_size].split(
            config.batch_size
        ):
            starts = rng.integers(movies.rows.shape[1] - contestant.frames + 1, size=len(batch))
            features = _windows(movies.rows[batch], torch.from_numpy(starts), contestant.frames, tokens)
            loss = window_loss(model(features), movies.targets[batch].float(), _TASK)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            scheduler.step()
    return model.eval()


@torch.inference_mode()
def right(model: nn.Module, contestant: Contestant, movies: Movies, tokens: Tensor) -> Tensor:
    """Asks a trained model about all windows of every movie.

    Returns:
        Whether its answer to each movie is right, bool [M].
    """
    starts = window_starts(movies.rows.shape[1], contestant.frames, _STRIDE)
    movie = torch.arange(len(movies)).repeat_interleave(len(starts))
    start = torch.tensor(starts).repeat(len(movies))
    outputs = [
        model(_windows(movies.rows[m], s, contestant.frames, tokens))
        for m, s in zip(movie.split(_WINDOWS), start.split(_WINDOWS), strict=True)
    ]
    evaluation = Evaluation.from_windows(torch.cat(outputs), movies.targets[movie].float(), movie, _TASK)
    return evaluation.scores.argmax(dim=1) == movies.targets


def training_step(contestant: Contestant, d_output: int) -> Callable[[], None]:
    """One forward and backward pass over a batch of random tokens, to be measured."""
    model = contestant.build(d_output)
    features = torch.randn(BATCH, contestant.frames * TOKENS, FEATURES)
    targets = torch.zeros(BATCH)

    def step() -> None:
        model.zero_grad()
        window_loss(model(features), targets, _TASK).backward()

    return step


def _windows(rows: Tensor, starts: Tensor, frames: int, tokens: Tensor) -> Tensor:
    """Features [B, frames * P, D] of the windows of movies [B, T] that begin at starts [B]."""
    chosen = rows.gather(1, starts[:, None] + torch.arange(frames))
    return tokens[chosen].flatten(1, 2)
