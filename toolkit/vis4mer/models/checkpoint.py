"""Loads checkpoints: folders of this project, and state dicts of the published ViS4mer."""

from pathlib import Path

from vis4mer.config import CONFIG_FILE, HeadConfig, ModelConfig
from vis4mer.errors import CheckpointError, ConfigError
from vis4mer.models import original
from vis4mer.models.config_file import read_config
from vis4mer.models.vis4mer import WEIGHTS_FILE, Vis4mer
from vis4mer.models.weights import fill, read_state_dict
from vis4mer.text import first_line

# Head name for checkpoints that do not name their head.
DEFAULT_HEAD = "decoder"


def load_checkpoint(path: str | Path) -> Vis4mer:
    """Loads a model in evaluation mode on the CPU.

    Args:
        path: Folder with `config.json` and `model.safetensors`; or file with a state dict of the published code in
            fp32, fp16 or bf16: plain, of DataParallel (``module.``), or nested under ``state_dict`` with any common
            prefix. A file makes a model without encoder and with one head named "decoder", which is a regression
            where it has a single output.

    Raises:
        CheckpointError: The path is not a checkpoint, or the checkpoint is damaged or inconsistent.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError.of(
            "checkpoint", path, "no such file or folder", "pass a checkpoint folder or a .pt state dict"
        )
    model = _load_folder(path) if path.is_dir() else _load_original(path)
    return model.eval()


def _load_folder(path: Path) -> Vis4mer:
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (path / name).is_file():
            raise CheckpointError.of(
                "checkpoint", path, f"has no {name}; a checkpoint folder holds {CONFIG_FILE} and {WEIGHTS_FILE}"
            )
    weights = path / WEIGHTS_FILE
    config = read_config(path)
    try:
        model = Vis4mer(config)
    except ValueError as error:  # valid by itself, but not a model that can be built
        raise CheckpointError.of("config", path / CONFIG_FILE, first_line(error), "restore the file") from None
    fill(model, read_state_dict(weights), weights)
    return model


def _load_original(path: Path) -> Vis4mer:
    state = read_state_dict(path)
    prefix = original.find_prefix(state)
    if prefix is None:
        raise CheckpointError.of(
            "checkpoint",
            path,
            "has no key 's4_layers.0.D', so it is not a state dict of the published ViS4mer",
            "a checkpoint of this project is a folder: pass the folder",
        )
    if foreign := sorted(name for name in state if not name.startswith(prefix)):
        raise CheckpointError.of(
            "checkpoint", path, f"key {foreign[0]!r} lacks the prefix {prefix!r} of the model's keys", "remove it"
        )
    try:
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        decoder = original.infer_config(state)
        head = HeadConfig(decoder, "regression" if decoder.d_output == 1 else "classification")
        model = Vis4mer(ModelConfig({DEFAULT_HEAD: head}, encoder=None))
        converted = original.convert(state, decoder)
    except (CheckpointError, ConfigError) as error:
        raise CheckpointError.of("checkpoint", path, str(error)) from None
    names = {ours: prefix + theirs for ours, theirs in converted.names.items()}
    fill(model.heads[DEFAULT_HEAD], converted.state, path, names)
    return model
