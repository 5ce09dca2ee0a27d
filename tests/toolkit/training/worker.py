"""Trains the model of a folder on the folder's movies, and saves the gradients of each step and the history."""

import sys
from pathlib import Path

import torch

from vis4mer.models.vis4mer import Vis4mer
from vis4mer.training.config import TrainConfig
from vis4mer.training.distributed import join_processes
from vis4mer.training.fit.loop import Trainer
from vis4mer.training.fit.state import RunFolder
from vis4mer.training.tokens.files import TokenFile
from vis4mer.training.tokens.windows import TrainingMovie

torch.set_num_threads(1)
folder, output, epochs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
movies = {
    split: [TrainingMovie(TokenFile.open(Path(path)), target) for path, target in targets]
    for split, targets in torch.load(folder / "targets.pt").items()
}
with join_processes() as processes:
    # These rates leave the weights unchanged, so the gradients of all steps are comparable. Nothing is clipped.
    config = TrainConfig(epochs=epochs, batch_size=3, lr=1e-20, ssm_lr=1e-20, weight_decay=0, clip_norm=1e9)
    model = Vis4mer.from_pretrained(folder / "model")
    run = RunFolder(output, resume=True)
    trainer = Trainer(model, "decoder", movies["train"], movies["val"], config, run, processes=processes)
    head, gradients = model.heads["decoder"], []
    trainer._optimizer.register_step_pre_hook(
        lambda *_: gradients.append([parameter.grad.clone() for parameter in head.parameters()])
    )
    history = [{name: value for name, value in record.items() if name != "seconds"} for record in trainer.run()]
    torch.save({"gradients": gradients, "history": history}, folder / f"{output.name}-{processes.rank}.pt")
