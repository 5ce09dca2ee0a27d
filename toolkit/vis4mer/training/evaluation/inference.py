"""Runs a head over all windows of a data set."""

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from vis4mer.config import Task
from vis4mer.training.config import TrainPrecision
from vis4mer.training.distributed import ALONE, Processes
from vis4mer.training.evaluation.metrics import Predictions
from vis4mer.training.tokens.windows import AllWindows, EvenSamples


def autocast(device: torch.device, precision: TrainPrecision) -> torch.autocast:
    """Returns the context in which a head computes at a precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


@torch.inference_mode()
def predict_windows(
    head: nn.Module,
    windows: AllWindows | EvenSamples,
    task: Task,
    *,
    batch_size: int,
    device: torch.device,
    precision: TrainPrecision = "fp32",
    class_order: Sequence[int] | None = None,
    loader_workers: int = 0,
    processes: Processes = ALONE,
    on_batch: Callable[[int, int], None] | None = None,
) -> Predictions:
    """Predicts all windows and aggregates the windows of each movie.

    Args:
        head: Module on `device` from features [B, L, d_input] to outputs [B, d_output]; keeps its training mode.
        windows: Windows of the movies.
        task: Task of the head.
        batch_size: Windows per pass.
        device: Device to compute on.
        precision: Precision to compute at.
        class_order: Index of the head's output for each class of the data set; None if their order is the same.
        loader_workers: Processes that read tokens; 0 reads them in this process.
        processes: Processes that share the windows; each returns the predictions of all.
        on_batch: Callback after each pass, with the number of finished windows and of all windows of this process.
    """
    was_training = head.training
    head.eval()
    share = Subset(windows, processes.part(len(windows)))
    batches = []
    n_done = 0
    for batch in DataLoader(share, batch_size, num_workers=loader_workers, pin_memory=device.type == "cuda"):
        with autocast(device, precision):
            outputs = head(batch.features.to(device, non_blocking=True).float())
        if class_order is not None:
            outputs = outputs[:, class_order]
        batches.append((outputs.float().cpu(), batch.target, batch.movie))
        n_done += len(outputs)
        if on_batch:
            on_batch(n_done, len(share))
    head.train(was_training)
    all_batches = [batch for share in processes.gather(batches) for batch in share]
    outputs, targets, movies = (torch.cat(parts) for parts in zip(*all_batches, strict=True))
    return Predictions.from_windows(outputs, targets, movies, task)
