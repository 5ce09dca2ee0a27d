"""The whole export: checkpoint in, verified bundle out, or nothing."""

import dataclasses
import platform
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor, nn

from vis4mer import __version__
from vis4mer.models.checkpoint import load_checkpoint
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.runtime.bundle import ENCODER, Bundle, BundleWriter
from vis4mer_export.freeze import freeze
from vis4mer_export.onnx import OPSET, export_graph
from vis4mer_export.verify import BATCH_SIZES, check_parity

_SEED = 0


def export_onnx(checkpoint: Path, output: Path) -> Bundle:
    """Exports a checkpoint's encoder and heads as an ONNX bundle, proved equal to it.

    Args:
        checkpoint: whatever `vis4mer.models.checkpoint.load_checkpoint` reads; one without encoder gives a bundle
            with heads only, whose sequences have l_max tokens.
        output: the bundle's directory; an older bundle there is replaced.

    Raises:
        CheckpointError: the checkpoint cannot be read.
        ExportError: a graph cannot be exported or is not equal to the model.
        BundleError: `output` is not to be written.
    """
    model = load_checkpoint(checkpoint)
    parity = {}
    with BundleWriter(output) as writer:

        def write(name: str, module: nn.Module, eager: nn.Module, examples: Tensor, names: tuple[str, str]) -> None:
            path = writer.path(f"{name}.onnx")
            export_graph(module, examples[:2], path, *names)
            parity[name] = dataclasses.asdict(check_parity(name, eager, path, examples))

        if model.encoder is not None:
            write(ENCODER, model.encoder, model.encoder, _example_frames(model), ("frames", "tokens"))
        for name in model.heads:
            decoder, features = model.head(name), _example_features(model, name)
            write(name, freeze(decoder, features.shape[1]), decoder, features, ("features", "logits"))
        return writer.commit(
            format="onnx",
            precision="fp32",
            model=model.config,
            tools=_tool_versions(),
            parity=parity,
            lowering={name: {"long_convolution": "matmul_dft"} for name in model.heads},
        )


def _example_frames(model: Vis4mer) -> Tensor:
    size = model.config.preprocessing
    generator = torch.Generator().manual_seed(_SEED)
    shape = (max(BATCH_SIZES), size.height, size.width, 3)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def _example_features(model: Vis4mer, head: str) -> Tensor:
    """Random tokens [B, L, d_input], L being what the head will be given when it serves."""
    decoder, encoder = model.config.heads[head].decoder, model.config.encoder
    length = decoder.l_max if encoder is None else model.config.window_frames * encoder.tokens
    generator = torch.Generator().manual_seed(_SEED)
    return torch.randn(max(BATCH_SIZES), length, decoder.d_input, generator=generator)


def _tool_versions() -> dict[str, str]:
    packages = ("torch", "onnx", "onnxscript")
    return {
        "vis4mer": __version__,
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "opset": str(OPSET),
    }
