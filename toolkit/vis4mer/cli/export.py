"""`vis4mer export`: from a checkpoint to a bundle that a serving machine runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from vis4mer.cli.console import say
from vis4mer.errors import MissingDependencyError

if TYPE_CHECKING:
    from vis4mer.runtime.bundle import Format, Precision
    from vis4mer.runtime.parity import GraphParity
    from vis4mer_export.longconv.lower import Lowering

_PATH = click.Path(path_type=Path)


def _named_path(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, Path]:
    heads = {}
    for value in values:
        name, equals, path = value.partition("=")
        if not (name and equals and path):
            raise click.BadParameter(f"{value!r} must be NAME=CHECKPOINT")
        if name in heads:
            raise click.BadParameter(f"the name {name!r} is given twice")
        heads[name] = Path(path)
    return heads


@click.command(short_help="Export a checkpoint to a bundle, proved equal to it.")
@click.option(
    "--checkpoint", required=True, type=_PATH, help="Checkpoint folder, or .pt state dict of the published ViS4mer."
)
@click.option(
    "--head",
    "heads",
    multiple=True,
    metavar="NAME=CKPT",
    callback=_named_path,
    help="Add the head of another checkpoint over the same encoder; may be repeated.",
)
@click.option(
    "--encoder", metavar="NAME", help="Put a checkpoint of decoders only on this encoder of timm's, for whole movies."
)
@click.option(
    "--encoder-weights",
    metavar="FILE|hub|random",
    help="Weights of --encoder; hub downloads timm's.  [default: hub]",
)
@click.option("--labels", default="", metavar="A,B,...", help="Names of the checkpoint's classes, in their order.")
@click.option(
    "--format",
    "format_",
    required=True,
    type=click.Choice(["torchscript", "pt2", "onnx", "trt", "trt-rtx"]),
    help="What to export to.",
)
@click.option("--output", required=True, type=_PATH, help="Directory of the bundle to write.")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "bf16"]),
    default="fp32",
    show_default=True,
    help="Of weights and matrix products.",
)
@click.option(
    "--length", type=click.IntRange(min=1), metavar="L", help="Tokens in a head's input; the model's window by default."
)
@click.option(
    "--batch-size",
    default="1:1:32",
    show_default=True,
    metavar="N|MIN:OPT:MAX",
    help="Batch sizes an engine is built for; other formats take any.",
)
@click.option(
    "--lowering",
    type=click.Choice(["auto", "fft", "blocked_toeplitz", "matmul_dft"]),
    default="auto",
    show_default=True,
    help="How long convolutions are computed; auto takes the fastest that is exact enough, matmul_dft is the smallest.",
)
@click.option("--gpu", default="", metavar="smXX,...", help="GPUs to build for, with --format trt-rtx.")
@click.option(
    "--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True, help="With --format pt2."
)
@click.option("--movie", type=_PATH, help="Movie to prove the export on; the sample movie where it is at hand.")
def export(
    checkpoint: Path,
    heads: dict[str, Path],
    encoder: str | None,
    encoder_weights: str | None,
    labels: str,
    format_: "Format",
    output: Path,
    precision: "Precision",
    length: int | None,
    batch_size: str,
    lowering: "Lowering | Literal['auto']",
    gpu: str,
    device: Literal["cpu", "cuda"],
    movie: Path | None,
) -> None:
    """Export a checkpoint to a bundle, proved equal before it is written.

    The SSM convolution kernels are computed once and become constants. Every graph is run in its backend beside the
    model, on random input and on a movie's; where they differ, nothing is written.
    """
    if encoder_weights is not None and encoder is None:
        raise click.UsageError("--encoder-weights goes with --encoder")
    try:
        from vis4mer_export.assemble import EncoderSource, assemble
        from vis4mer_export.exporter import ExportOptions, export_model
        from vis4mer_export.targets.tensorrt import BatchProfile
    except ImportError as error:
        rule = "is needed to export; pip install 'vis4mer[export]'"
        raise MissingDependencyError(f"package={error.name!r}: {rule}") from None
    from vis4mer.cli.parity_table import print_parity
    from vis4mer.runtime.loading import sample_bundle

    if movie is None:
        beside = sample_bundle().parent / "movie.mp4"
        movie = beside if beside.is_file() else None
    if movie is None:
        say("info", "no sample movie at hand, so the export is proved on random input only; --movie names one")
    options = ExportOptions(
        format_,
        precision,
        lowering,
        length,
        BatchProfile.parse(batch_size),
        tuple(name for name in gpu.split(",") if name),
        device,
    )
    source = None if encoder is None else EncoderSource(encoder, encoder_weights or "hub")
    model = assemble(checkpoint, heads, source, [label.strip() for label in labels.split(",") if label.strip()])
    results: dict[str, GraphParity] = {}
    bundle = export_model(model, output, options, movie=movie, report=results.__setitem__)
    print_parity(bundle, results)
    if format_ in ("trt", "trt-rtx"):
        say("info", "the figures are of the ONNX graphs the engines were built from; `vis4mer verify` runs the engines")
    click.echo(f"wrote {bundle.path}")
