"""Running a head over every window of a data set."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset

from vis4mer.config import Task
from vis4mer.training.config import Precision
from vis4mer.training.data import AllWindows, EvenSamples
from vis4mer.training.distributed import ALONE, Processes
from vis4mer.training.metrics import Evaluation


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context in which a head computes at the given precision."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


@torch.inference_mode()
def evaluate(
    head: nn.Module,
    windows: AllWindows | EvenSamples,
    task: Task,
    *,
    batch_size: int,
    device: torch.device,
    precision: Precision = "fp32",
    workers: int = 0,
    processes: Processes = ALONE,
) -> Evaluation:
    """Predicts every window and aggregates the windows of each movie.

    Args:
        head: features [B, L, d_input] to outputs [B, d_output], on `device`; its training mode is restored afterwards.
        windows: of the movies.
        task: of the head.
        batch_size: windows per pass.
        device: to compute on.
        precision: to compute in.
        workers: processes that read tokens; 0 reads them in this one.
        processes: that share the windows; each returns the whole evaluation.
    """
    training = head.training
    head.eval()
    part = Subset(windows, processes.part(len(windows)))
    pieces = []
    for batch in DataLoader(part, batch_size, num_workers=workers, pin_memory=device.type == "cuda"):
        with autocast(device, precision):
            outputs = head(batch.features.to(device, non_blocking=True).float())
        pieces.append((outputs.float().cpu(), batch.target, batch.movie))
    head.train(training)
    columns = zip(*(piece for part in processes.gather(pieces) for piece in part), strict=True)
    outputs, targets, movies = (torch.cat(column) for column in columns)
    return Evaluation.from_windows(outputs, targets, movies, task)
