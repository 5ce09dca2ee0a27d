"""`vis4mer.export`: the export as one function."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vis4mer.errors import ConfigError, ExportError
from vis4mer.packages import missing
from vis4mer_export.heads import naming_head
from vis4mer_export.longconv import RequestedLowering
from vis4mer_export.options import ExportOptions

if TYPE_CHECKING:
    from vis4mer.runtime.bundle import Bundle
    from vis4mer.runtime.manifest import Precision

_PathLike = str | os.PathLike[str]


def export(
    checkpoint: _PathLike,
    output: _PathLike,
    *,
    format: str = "onnx",
    precision: "Precision | None" = None,
    length: int | None = None,
    lowering: RequestedLowering = "auto",
    heads: Mapping[str, _PathLike] | None = None,
    encoder: str | None = None,
    encoder_weights: str | None = None,
    labels: Sequence[str] = (),
    movie: _PathLike | None = None,
    unverified: bool = False,
    force: bool = False,
    **target_options: object,
) -> "Bundle":
    """Exports a checkpoint to a bundle, which is verified before it is written.

    For example::

        bundle = vis4mer.export("runs/scene/best", "scene", format="trt-rtx", gpu="sm86,sm89")
        bundle.parity["encoder"]["relative_l2"]

    Args:
        checkpoint: Checkpoint folder, or .pt state dict of the published ViS4mer.
        output: Folder for the bundle.
        format: Name of a target: ``onnx``, ``torchscript``, ``pt2``, ``trt``, ``trt-rtx`` or a registered one.
        precision: Precision of the matrix products and of the weights' storage; by default ``fp16`` for ``trt`` and
            ``trt-rtx``, and ``fp32`` for the other built-in targets.
        length: L, number of tokens in a head's input; the model's window by default.
        lowering: How the long convolutions are computed: ``fft``, ``blocked_toeplitz``, ``matmul_dft``, or ``auto`` for
            the target's fastest accurate one.
        heads: Further checkpoints trained over the same encoder, by the new name of their head.
        encoder: Name of a timm encoder, for a checkpoint that has none.
        encoder_weights: Weights of `encoder`: a file, ``random`` or, by default, ``hub``.
        labels: Class names, in the order of the checkpoint's outputs; its own by default.
        movie: Movie whose frames are compared besides random ones; by default the sample movie, in a source checkout.
        unverified: Whether graphs are written that this machine cannot execute in the form in which they are written,
            such as ONNX in bf16, or engines for another machine's GPU. An equivalent graph is compared in their place.
        force: Whether a bundle at `output` is replaced.
        **target_options: Options that only some targets take, such as ``batch_size="1:8:32"`` (trt, trt-rtx),
            ``gpu="sm86,sm89"`` (trt-rtx) or ``device="cuda"`` (pt2, trt, trt-rtx).

    Returns:
        The bundle; its `parity` holds the distance of each graph from the checkpoint.

    Raises:
        BundleError: The bundle cannot be written to `output`, or there is one already.
        CheckpointError: A checkpoint cannot be read.
        ConfigError: The target does not take an option or a value.
        DeviceError: A device that the build needs is absent.
        ExportError: The model, or one of its graphs, cannot be exported, or cannot be executed here; or `movie` is
            set for a model without encoder.
        MissingDependencyError: A package that the export needs is not installed.
        ParityError: A graph's outputs differ from the checkpoint's; the message names the first stage that differs.
    """
    from vis4mer.runtime.model_path import require_checkpoint
    from vis4mer.runtime.output_folder import OutputFolder

    options = ExportOptions(format, precision, lowering, length, target_options, unverified)
    if encoder_weights is not None and encoder is None:
        raise ConfigError.of(
            "encoder_weights", encoder_weights, "applies only to an encoder", "name one, or leave it out"
        )
    further = {name: Path(path) for name, path in (heads or {}).items()}
    # What can fail at once is checked before PyTorch is imported, which takes seconds.
    OutputFolder(output, replace=force)
    require_checkpoint(Path(checkpoint))
    for name, path in further.items():
        with naming_head(name):
            require_checkpoint(path)
    try:
        from vis4mer_export.assemble import EncoderSource, assemble
        from vis4mer_export.exporter import export_model
    except ImportError as error:
        raise missing(error.name or "torch", "to export", "export") from None
    options.target.check(options.settings)
    options.require_executable(options.target.obstacle(options.precision, options.settings))
    source = None if encoder is None else EncoderSource(encoder, encoder_weights or "hub")
    model = assemble(Path(checkpoint), further, source, labels)
    if movie is not None and model.config.encoder is None:
        rule = "the model has no encoder, so it takes features and not a movie's frames"
        raise ExportError.of("movie", movie, rule, "leave it out, or name the encoder with --encoder")
    proof = _sample_movie() if movie is None else Path(movie)
    return export_model(model, Path(output), options, movie=proof, force=force)


def _sample_movie() -> Path | None:
    """Returns the path of the sample movie, which lies beside the sample bundle in a source tree only."""
    from vis4mer.runtime.loading import sample_bundle

    movie = sample_bundle().parent / "movie.mp4"
    return movie if movie.is_file() else None
