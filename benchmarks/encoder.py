"""Frames per second of the frame encoder, in every form that runs on the device.

    python -m benchmarks.encoder [--device cuda] [--precision bf16]

ViT-L/16 with random weights on frames of 224 x 224 pixels, one and eight at once. The limit is the encoder's
multiplications and additions, 123.1 GFLOP for each frame, at the rate at which the faster of PyTorch's libraries
computes the linear layers of one of its blocks, in the same process, dtype and number of threads. The alternatives run
in turn within one process, each measurement after a run that does not count; figures are medians of 5. "drift" is the
relative L2 error of the tokens against the module in fp32. bf16 is `encoder.bfloat16()` for the module and `vis4mer
export --precision bf16` for the exports; ONNX Runtime has no bf16 products on a CPU.

On a GPU, 32 frames at once and fp16 are measured too, and engines of TensorRT and TensorRT for RTX where these are
installed. Frames and tokens stay in its memory, each run is timed until the GPU is idle, and the limit is the rate of
the linear layers of all blocks, for fp32 without TF32. "device_bytes" is the memory that a form holds after its largest
batch, weights included. A form that cannot be built or run is left out with the reason.

Writes results/encoder.json; on a GPU, the file name includes the GPU's name. Takes a quarter of an hour and 10 GB of
memory on two cores.
"""

import argparse
import copy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

try:
    import torch
except ImportError:
    sys.exit("error: package='torch': must be installed; run pip install '.[export]'")

import numpy as np
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness.benchmark import Benchmark, Result
from benchmarks.harness.progress import progress, show
from benchmarks.measure.devices import device_of, held_bytes, place, run_once, waiting
from benchmarks.measure.graphs import ExportedGraph, export_graph
from benchmarks.measure.products import Product, run_products
from benchmarks.measure.timing import medians
from vis4mer.config import Preprocessing
from vis4mer.devices.arrays import Array, on_host
from vis4mer.devices.device import CPU, Device
from vis4mer.errors import Vis4merError
from vis4mer.models.encoder import FrameEncoder
from vis4mer.runtime.backends.base import Runner
from vis4mer.runtime.backends.eager import EagerRunner
from vis4mer.runtime.interface import ENCODER
from vis4mer.runtime.manifest import Precision
from vis4mer_export.precision import DTYPES, in_precision

_ON_GPU = ("torchscript", "pt2", "onnx", "trt", "trt-rtx")
# Formats by the kind of device and the precision.
WAYS: dict[str, dict[Precision, tuple[str, ...]]] = {
    "cpu": {"fp32": ("torchscript", "pt2", "onnx"), "bf16": ("torchscript", "pt2")},
    "cuda": {"bf16": _ON_GPU, "fp16": _ON_GPU, "fp32": _ON_GPU},
}
BATCHES = {"cpu": (1, 8), "cuda": (1, 8, 32)}  # frames


def flop_per_frame(encoder: FrameEncoder) -> int:
    """Counts the multiplications and additions of all matrix products and convolutions, those of attention included."""
    size = encoder.vit.patch_embed.img_size
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        copy.deepcopy(encoder).to("meta")(torch.empty(1, *size, 3, dtype=torch.uint8))
    return int(counter.get_total_flops())


def block_products(encoder: FrameEncoder, frames: int) -> list[Product]:
    """Returns the linear layers of one block: queries, keys and values; output; and the two of the MLP."""
    block = next(encoder.vit.get_submodule("blocks").children())
    layers = [module for module in block.modules() if isinstance(module, torch.nn.Linear)]
    return [Product(frames * encoder.config.tokens, layer.in_features, layer.out_features) for layer in layers]


def eager(encoder: FrameEncoder, precision: Precision, device: Device = CPU) -> Runner:
    """Returns the encoder as PyTorch runs the module: frames uint8 [N, H, W, 3] to tokens float32 [N, P, D]."""
    return EagerRunner(copy.deepcopy(encoder).to(str(device), DTYPES[precision]), ENCODER, device)


def measure(
    encoder: FrameEncoder,
    batches: Sequence[int],
    repeats: int = 5,
    device: Device = CPU,
    precisions: Sequence[Precision] | None = None,
) -> Result:
    """Returns a row for each precision, batch size and form of the encoder, and the forms that are left out.

    Args:
        encoder: Encoder on the CPU, in evaluation mode.
        batches: Numbers of frames at once.
        repeats: Number of measurements of each form.
        device: Device to run on.
        precisions: Precisions to measure; by default those of `WAYS`.
    """
    size = encoder.vit.patch_embed.img_size
    images = np.random.default_rng(0).integers(0, 256, (max(2, *batches), *size, 3), dtype=np.uint8)
    expected = eager(encoder, "fp32")(images[:1])
    flop = flop_per_frame(encoder)
    rows: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    for precision in progress(precisions or list(WAYS[device.kind]), str):
        # The forms of one precision at a time, because together they might not fit into a GPU's memory.
        forms = dict(_forms(encoder, precision, images, device, left_out))
        for frames in progress(batches, lambda batch: f"batch {batch}", weight=float):
            batch = place(images[:frames], device)
            runs = {way: waiting(partial(form.run, batch), device) for way, form in forms.items()}
            seconds = _seconds(encoder, precision, runs, frames, repeats, device)
            limit = seconds.pop("limit")  # FLOP/s
            for way, taken in seconds.items():
                row = {
                    "way": way,
                    "dtype": precision,
                    "batch": frames,
                    "threads": torch.get_num_threads(),
                    "frames_per_second": frames / taken,
                    "limit_frames_per_second": limit / flop,
                    "share_of_limit": frames / taken * flop / limit,
                    "drift": _relative_l2(forms[way].run(place(images[:1], device)), expected),
                }
                if device.kind != "cpu":
                    row["device_bytes"] = forms[way].device_bytes
                rows.append(row)
                show(
                    f"{way:<12} {precision}  batch {frames:<3} {row['frames_per_second']:8.2f} frames/s  "
                    f"{row['share_of_limit']:5.0%} of {row['limit_frames_per_second']:.2f}  drift {row['drift']:.1e}"
                )
    return {"rows": rows} | ({"left_out": left_out} if left_out else {})


def _forms(
    encoder: FrameEncoder,
    precision: Precision,
    images: NDArray[np.uint8],
    device: Device,
    left_out: list[dict[str, str]],
) -> Iterator[tuple[str, ExportedGraph]]:
    """Yields the forms of the encoder by name; adds those that cannot be built or run to `left_out`."""
    example, batch = torch.from_numpy(images[:2]), place(images, device)
    for way in progress(("eager", *WAYS[device.kind].get(precision, ())), lambda way: f"building {way}"):
        try:
            if way == "eager":
                opened = partial(eager, encoder, precision, device)
                run, held = held_bytes(partial(run_once, opened, batch), device)
                yield way, ExportedGraph(run, 0, held)
            else:
                yield way, export_graph(in_precision(encoder, precision), way, example, precision, device, batch)
        except Vis4merError as error:
            left_out.append({"way": way, "dtype": precision, "reason": str(error)})
            show(f"{way:<12} {precision}  left out: {error}")


def _seconds(
    encoder: FrameEncoder,
    precision: Precision,
    ways: Mapping[str, Callable[[], Any]],
    frames: int,
    repeats: int,
    device: Device,
) -> dict[str, float]:
    """Times every form of the encoder on the same frames; ``limit`` is the rate of the bare products, in FLOP/s."""
    # A GPU needs the products of all blocks, because those of one take hardly longer than their launch.
    blocks = 1 if device.kind == "cpu" else len(list(encoder.vit.get_submodule("blocks").children()))
    products = block_products(encoder, frames) * blocks
    limit = waiting(run_products(products, DTYPES[precision], device.kind), device)
    runs = dict(ways)
    # The limit must not follow ONNX Runtime, which is last: its idle threads keep the cores busy for a while.
    first = {name: runs.pop(name) for name in ("eager",) if name in runs}
    seconds = medians({**first, "limit": limit, **runs}, repeats, settled=True)
    return seconds | {"limit": sum(each.flop for each in products) / seconds["limit"]}


def _relative_l2(tokens: Array, expected: Array) -> float:
    return float(np.linalg.norm(on_host(tokens) - on_host(expected)) / np.linalg.norm(on_host(expected)))


def run(options: argparse.Namespace) -> Result:
    """Measures ViT-L/16, or with --tiny a small encoder."""
    name, preprocessing = "vit_large_patch16_224", Preprocessing()
    if options.tiny:
        name, preprocessing = "test_vit", Preprocessing(height=32, width=32)
    encoder = FrameEncoder.build(name, preprocessing, "random").eval().requires_grad_(False)
    gigaflop = flop_per_frame(encoder) / 1e9
    show(f"{torch.get_num_threads()} threads, {gigaflop:.1f} GFLOP per frame")
    device = device_of(options.device)
    precisions = options.precision and [options.precision]
    measured = measure(encoder, BATCHES[device.kind], device=device, precisions=precisions)
    return {"gigaflop_per_frame": gigaflop, **measured}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the choice of one precision."""
    parser.add_argument("--precision", choices=DTYPES, help="measure this precision only")


BENCHMARK = Benchmark("encoder", __doc__, run, add_options=add_options, on_gpu=True)

if __name__ == "__main__":
    BENCHMARK.main()
