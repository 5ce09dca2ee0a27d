"""Running a head over every window of a data set."""

import torch
from torch import nn
from torch.utils.data import DataLoader

from vis4mer.config import Task
from vis4mer.training.data import AllWindows, EvenSamples
from vis4mer.training.metrics import Evaluation


@torch.inference_mode()
def evaluate(
    head: nn.Module, windows: AllWindows | EvenSamples, task: Task, *, batch_size: int, device: torch.device
) -> Evaluation:
    """Predicts every window and aggregates the windows of each movie.

    Args:
        head: features [B, L, d_input] to outputs [B, d_output], on `device`; its training mode is restored afterwards.
        windows: of the movies.
        task: of the head.
        batch_size: windows per pass.
        device: to compute on.
    """
    training = head.training
    head.eval()
    outputs, targets, movies = [], [], []
    for batch in DataLoader(windows, batch_size):
        outputs.append(head(batch.features.to(device).float()).float().cpu())
        targets.append(batch.target)
        movies.append(batch.movie)
    head.train(training)
    return Evaluation.from_windows(torch.cat(outputs), torch.cat(targets), torch.cat(movies), task)
