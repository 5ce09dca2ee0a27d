"""`vis4mer export`: from a checkpoint to a bundle that a serving machine runs."""

from pathlib import Path

import click

from vis4mer.errors import MissingDependencyError


@click.command()
@click.option(
    "--checkpoint",
    required=True,
    type=click.Path(path_type=Path),
    help="A checkpoint folder, or a .pt state dict of the published ViS4mer.",
)
@click.option("--format", "format_", type=click.Choice(["onnx"]), required=True, help="What to export to.")
@click.option("--output", required=True, type=click.Path(path_type=Path), help="Directory of the bundle to write.")
def export(checkpoint: Path, format_: str, output: Path) -> None:
    """Export a checkpoint to a bundle, proved equal before it is written.

    The SSM convolution kernels are computed once and become constants. Every graph is run beside the model; where they
    differ, nothing is written.
    """
    try:
        from vis4mer_export.exporter import export_onnx
    except ImportError as error:
        raise MissingDependencyError(
            f"vis4mer export needs {error.name}, which is not installed; pip install 'vis4mer[export]'"
        ) from None
    bundle = export_onnx(checkpoint, output)
    click.echo(f"{'graph':<16} {'file':<24} {'MB':>8}  relative L2 error")
    for graph in bundle.graphs:
        name = bundle.file_of(graph)
        click.echo(
            f"{graph:<16} {name:<24} {bundle.files[name].bytes / 1e6:8.2f}  {bundle.parity[graph]['relative_l2']:.1e}"
        )
    click.echo(f"wrote {bundle.path}")
