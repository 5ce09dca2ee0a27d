"""`vis4mer verify`: checks that a bundle is complete and computes what its model computed."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vis4mer.cli.options import device_option, json_option
from vis4mer.cli.rows import print_wrapped
from vis4mer.errors import BundleError
from vis4mer.text import printable

if TYPE_CHECKING:
    from vis4mer.devices.device import RequestedDevice


@click.command(short_help="Check a bundle's files and graphs.")
@click.argument("bundle", type=click.Path(path_type=Path))
@device_option("Device to run the graphs on.")
@json_option
def verify(bundle: Path, device: "RequestedDevice", as_json: bool) -> None:
    """Check every file of BUNDLE against its manifest, and every graph against the stored outputs of the model.

    Labels and preprocessing are compared with the stored answers, in words, and pictures of the model. An ONNX bundle
    is verified without PyTorch.
    """
    from vis4mer.cli.parity_table import print_parity
    from vis4mer.devices.device import on_device
    from vis4mer.runtime.bundle import Bundle
    from vis4mer.runtime.loading import is_bundle
    from vis4mer.runtime.meaning import not_compared
    from vis4mer.runtime.parity import check_bundle, not_executed

    if not is_bundle(bundle):
        raise BundleError.of("bundle", bundle, "is a checkpoint, and only bundles can be verified", "export it first")
    opened = Bundle.open(bundle)
    results, used, reason_of_device = on_device(device, lambda candidate: check_bundle(opened, candidate))
    graphs = {graph: dataclasses.asdict(result) for graph, result in results.items()}
    extra, open_points = opened.extra_files, not_compared(opened)
    if as_json:
        values = {"bundle": str(bundle), "device": str(used), "graphs": graphs}
        values |= {"extra_files": extra, "not_compared": open_points}
        click.echo(json.dumps(values, indent=2))
        return
    click.echo(f"{len(opened.files)} files match the manifest")
    for name in extra:
        print_wrapped(f"not part of the bundle: {printable(name)}", indent=4)
    print_parity(opened, graphs)
    for graph, reason in not_executed(opened).items():
        print_wrapped(f"{graph} ran here as it is written, but not on the machine that exported it: {reason}", indent=4)
    for point in open_points:
        print_wrapped(f"not compared: {point}", indent=4)
    print_wrapped(f"verified on {used} ({reason_of_device})", indent=4)
