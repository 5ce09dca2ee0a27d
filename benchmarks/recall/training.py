"""Training and testing of one entrant with the toolkit's optimiser, schedule, loss and aggregation of windows."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.harness.progress import progress
from benchmarks.recall.entrants import Entrant
from benchmarks.recall.tokens import FEATURES, TOKENS, Movies
from vis4mer.config import Task
from vis4mer.training.config import TrainConfig
from vis4mer.training.evaluation.metrics import Predictions, window_loss
from vis4mer.training.fit.optim import build_optimizer, build_scheduler
from vis4mer.training.tokens.windows import window_starts

_TASK: Task = "classification"
BATCH = 16
"""Movies in one step of training."""

_STRIDE = 2  # seconds between the windows of an entrant that does not see whole movies
_WINDOWS = 256  # classified at once


def train(entrant: Entrant, d_output: int, movies: Movies, tokens: Tensor, config: TrainConfig) -> nn.Module:
    """Trains a model from random weights on one random window of every movie in every epoch.

    Args:
        entrant: Model to train.
        d_output: Number of labels.
        movies: Training movies.
        tokens: Tokens of all scenes [rows, P, D].
        config: Training configuration. It determines the result on one thread of one kind of CPU.

    Returns:
        The model in predictions mode.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    model = entrant.build(d_output)
    steps = len(movies) // config.batch_size
    optimizer = build_optimizer(model, config)  # type: ignore[arg-type]  # it only uses ssm_parameters
    scheduler = build_scheduler(optimizer, config, _TASK, steps)
    for _ in progress(range(config.epochs), lambda epoch: f"epoch {epoch + 1} of {config.epochs}"):
        order = torch.from_numpy(rng.permutation(len(movies)))
        for batch in torch.split(order[: steps * config.batch_size], config.batch_size):
            starts = rng.integers(movies.rows.shape[1] - entrant.frames + 1, size=len(batch))
            features = _windows(movies.rows[batch], torch.from_numpy(starts), entrant.frames, tokens)
            loss = window_loss(model(features), movies.targets[batch].float(), _TASK)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            scheduler.step()  # type: ignore[call-arg]  # a plateau schedule, which takes the metric, is not used here
    return model.eval()


@torch.inference_mode()
def correct(model: nn.Module, entrant: Entrant, movies: Movies, tokens: Tensor) -> Tensor:
    """Classifies all windows of every movie with a trained model.

    Returns:
        Whether the label of each movie is correct, bool [M].
    """
    starts = window_starts(movies.rows.shape[1], entrant.frames, _STRIDE)
    movie = torch.arange(len(movies)).repeat_interleave(len(starts))
    start = torch.tensor(starts).repeat(len(movies))
    outputs = [
        model(_windows(movies.rows[m], s, entrant.frames, tokens))
        for m, s in zip(torch.split(movie, _WINDOWS), torch.split(start, _WINDOWS), strict=True)
    ]
    predictions = Predictions.from_windows(torch.cat(outputs), movies.targets[movie].float(), movie, _TASK)
    return predictions.scores.argmax(dim=1) == movies.targets


def training_step(entrant: Entrant, d_output: int) -> Callable[[], None]:
    """Returns a call to measure: one forward and backward pass over a batch of random tokens."""
    model = entrant.build(d_output)
    features = torch.randn(BATCH, entrant.frames * TOKENS, FEATURES)
    targets = torch.zeros(BATCH)

    def step() -> None:
        model.zero_grad()
        window_loss(model(features), targets, _TASK).backward()  # type: ignore[no-untyped-call]

    return step


def _windows(rows: Tensor, starts: Tensor, frames: int, tokens: Tensor) -> Tensor:
    """Returns features [B, frames * P, D] of the windows of movies [B, T] that begin at starts [B]."""
    chosen = rows.gather(1, starts[:, None] + torch.arange(frames))
    return tokens[chosen].flatten(1, 2)
