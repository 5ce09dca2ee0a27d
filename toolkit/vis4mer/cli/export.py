"""`vis4mer export`: from a checkpoint to a bundle that a serving machine runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

import vis4mer
from vis4mer.cli.console import say, with_options
from vis4mer.errors import ConfigError
from vis4mer_export.longconv import Lowering, RequestedLowering
from vis4mer_export.options import ExportOptions
from vis4mer_export.targets import registry
from vis4mer_export.targets.base import TargetOption

if TYPE_CHECKING:
    from vis4mer.runtime.manifest import Precision

_PATH = click.Path(path_type=Path)


class _ExportCommand(click.Command):
    """A command whose ``--format`` and target-specific options are those of the registered targets."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        formats = click.Option(
            ["--format", "format_"], required=True, type=click.Choice(registry.names()), help="Format of the graphs."
        )
        checkpoint, *common, help_option = super().get_params(ctx)
        return [checkpoint, formats, *common, *map(_click_option, _target_options().values()), help_option]


def _target_options() -> dict[str, TargetOption]:
    targets = map(registry.target, registry.names())
    return {option.name: option for target in targets for option in target.options}


def _click_option(option: TargetOption) -> click.Option:
    formats = [name for name in registry.names() if option in registry.target(name).options]
    listed = " or ".join(filter(None, (", ".join(formats[:-1]), formats[-1])))
    text = f"{option.help} Only with --format {listed}."
    # Click must not apply the default itself: an option that was not given has to remain distinguishable.
    default = f"  [default: {option.default}]" if option.default else ""
    return click.Option(
        [f"--{option.name.replace('_', '-')}", option.name], metavar=option.metavar, help=text + default
    )


def _class_names(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    names = tuple(name for part in (value or "").split(",") if (name := part.strip()))
    if value is not None and not names:
        raise click.BadParameter(f"{value!r} must hold names, separated by commas")
    return names


def _named_path(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, Path]:
    heads = {}
    for value in values:
        name, equals, path = value.partition("=")
        if not (name and equals and path):
            raise click.BadParameter(f"{value!r} must be NAME=CHECKPOINT")
        if name in heads:
            raise click.BadParameter(f"the name {name!r} occurs twice")
        heads[name] = Path(path)
    return heads


@click.command(cls=_ExportCommand, short_help="Export a checkpoint to a verified bundle.")
@click.option(
    "--checkpoint", required=True, type=_PATH, help="Checkpoint folder, or .pt state dict of the published ViS4mer."
)
@click.option("-o", "--output", required=True, type=_PATH, help="Folder for the bundle.")
@click.option(
    "--head",
    "heads",
    multiple=True,
    metavar="NAME=CKPT",
    callback=_named_path,
    help="Head to add under this name, from a checkpoint with the same encoder; may be repeated.",
)
@click.option("--encoder", metavar="NAME", help="Frame encoder's name in timm, for a checkpoint of decoders only.")
@click.option(
    "--encoder-weights",
    type=click.Path(),  # 'hub' and 'random' are no paths, but a shell completes files after this option
    metavar="FILE|hub|random",
    help="Weight file of --encoder; 'hub' downloads timm's weights.  [default: hub]",
)
@click.option(
    "--labels",
    metavar="A,B,...",
    callback=_class_names,
    help="Class names, in the order of the checkpoint's outputs.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "bf16"]),
    help="Precision of weights and matrix products.  [default: fp32; fp16 with trt and trt-rtx, where fp32 would not "
    "run on tensor cores]",
)
@click.option(
    "--length",
    type=click.IntRange(min=1),
    metavar="L",
    help="Tokens in a head's input; by default those of the model's window.",
)
@click.option(
    "--lowering",
    type=click.Choice(["auto", *get_args(Lowering)]),
    default="auto",
    show_default=True,
    help="Form of the long convolutions; auto takes the fastest accurate one, matmul_dft makes the smallest files.",
)
@click.option(
    "--movie",
    type=_PATH,
    help="Movie to compare on, besides random input.  [default: the sample movie, in a source checkout]",
)
@click.option(
    "--unverified",
    is_flag=True,
    help="Write graphs even if this machine cannot run them as they are written; an equivalent graph is compared.",
)
@click.option("--force", is_flag=True, help="Replace a bundle that is in the folder of --output.")
def export(
    checkpoint: Path,
    output: Path,
    heads: dict[str, Path],
    encoder: str | None,
    encoder_weights: str | None,
    labels: tuple[str, ...],
    precision: "Precision | None",
    length: int | None,
    lowering: RequestedLowering,
    movie: Path | None,
    unverified: bool,
    force: bool,
    format_: str,
    **target_options: str | None,
) -> None:
    """Export a checkpoint to a bundle that is verified before it is written.

    The SSM convolution kernels are computed once and become constants. Every graph runs in its backend and is compared
    with the model, on random input and on frames of a movie; if they differ, nothing is written.
    """
    from vis4mer.cli.parity_table import print_parity

    if encoder_weights is not None and encoder is None:
        raise click.UsageError("--encoder-weights requires --encoder")
    given: dict[str, Any] = {name: value for name, value in target_options.items() if value is not None}
    try:
        ExportOptions(format_, precision, lowering, length, given)
    except ConfigError as error:
        raise click.UsageError(with_options(str(error))) from None
    bundle = vis4mer.export(
        checkpoint,
        output,
        format=format_,
        precision=precision,
        length=length,
        lowering=lowering,
        heads=heads,
        encoder=encoder,
        encoder_weights=encoder_weights,
        labels=labels,
        movie=movie,
        unverified=unverified,
        force=force,
        **given,
    )
    print_parity(bundle, bundle.parity)
    if not any("movie" in graph["kinds"] for graph in bundle.parity.values()) and bundle.model.encoder is not None:
        say(
            "info",
            "the graphs were compared on random input only; pass --movie to compare them on a movie's frames too",
        )
    click.echo(f"wrote {output}")
